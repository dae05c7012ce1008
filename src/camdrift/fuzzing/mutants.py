"""An iteration of the frameworks that mutate: one parent, some mutants, one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from camdrift.errors import UserError
from camdrift.fuzzing.candidates import Candidates
from camdrift.fuzzing.constraints import NO_LEAK, Leak, size_of_change
from camdrift.fuzzing.design import ATTEMPTS, MOST_IDLE
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.operators import OPERATORS, matrix_of, mutate
from camdrift.fuzzing.parents import ParentRule
from camdrift.fuzzing.pixelwise import clipped
from camdrift.fuzzing.trial import Trial


@dataclass(frozen=True)
class Mutating:
    """The step of a framework that mutates images.

    Attributes:
        parent: The rule that chooses the parent.
        mutants: Mutants of an iteration.
        operators: Names of the operators; empty for the campaign's.
        is_projected: Are mutants brought back into the constraint, where that is a box or a ball?
    """

    parent: ParentRule
    mutants: int
    operators: tuple[str, ...] = ()
    is_projected: bool = False

    def __call__(self, trial: Trial) -> None:
        """Choose a parent, mutate it, and judge the mutants that are valid."""
        rng = trial.rng()
        place = self.parent(trial, rng)
        trial.corpus.entries[place].times += 1
        size = trial.affordable(trial.cost, self.mutants)
        candidates = self._candidates(trial, place, size, rng)
        trial.counts.idle = 0 if len(candidates) else trial.counts.idle + 1
        if trial.counts.idle == MOST_IDLE:
            raise UserError(
                f"`constraint` must leave valid mutants, got: {trial.design.constraint.spec}, and none in {MOST_IDLE} "
                f"iterations of {trial.framework}",
                "allow more, or choose other --mutators",
            )
        if len(candidates):
            trial.judge(candidates)

    def _candidates(self, trial: Trial, place: int, size: int, rng: np.random.Generator) -> Candidates:
        """The valid mutants of a parent; an invalid one is drawn again, but not for ever."""
        waiting, parts = list(range(size)), list[tuple[list[int], Candidates]]()
        rejects = dict[int, Leak]()
        for attempt in range(ATTEMPTS):
            if not waiting:
                break
            mutations = [self._draw(trial, place, rng, f"mutant {number} attempt {attempt}") for number in waiting]
            trial.count_tries(mutations)
            leaks = [rejects.get(number, NO_LEAK) for number in waiting]
            batch = self._mutants(trial, place, mutations, leaks)
            are_valid = trial.design.constraint.holds(batch.use).tolist()
            if trial.design.leaks:
                rejects |= _rejects(trial, batch, waiting, are_valid)
            rows = [row for row, is_valid in enumerate(are_valid) if is_valid]
            parts.append(([waiting[row] for row in rows], batch.part(rows)))
            waiting = [number for number, is_valid in zip(waiting, are_valid, strict=True) if not is_valid]
        return _in_order(parts)

    def _draw(self, trial: Trial, place: int, rng: np.random.Generator, purpose: str) -> Mutation:
        """A random mutation of an entry. A picture is moved once at most on its way from the seed."""
        names = self.operators or trial.design.operators
        if trial.corpus.entries[place].matrix is not None:
            names = tuple(name for name in names if not OPERATORS[name].is_affine) or names
        name = names[int(rng.integers(len(names)))]
        stream = trial.design.stream(trial.number, trial.counts.iterations, purpose)
        return Mutation(name, OPERATORS[name].draw(rng), stream)

    def _mutants(self, trial: Trial, place: int, mutations: Sequence[Mutation], leaks: Sequence[Leak]) -> Candidates:
        """Mutants of a parent; as released, one that moves the picture takes over the leak of a rejected one."""
        parent, constraint = trial.corpus.entries[place], trial.design.constraint
        matrices = [parent.matrix or matrix_of(mutation) for mutation in mutations]
        parents = [place] * len(mutations)
        seeds = trial.seeds_of(parents, matrices)
        images = mutate(trial.corpus.read([place]).expand(len(mutations), -1, -1, -1), mutations)
        if self.is_projected:
            images = clipped(constraint.project(images, seeds))
        if not trial.design.leaks:
            return Candidates(images, parents, mutations, matrices, constraint.use(images, seeds))
        # What a parent has on its account counts against its children; what its own first tries left does not.
        own = [
            leak if OPERATORS[m.operator].is_affine else parent.leak for m, leak in zip(mutations, leaks, strict=True)
        ]
        use = constraint.use_with([parent.leak] * len(mutations), images, seeds)
        return Candidates(images, parents, mutations, matrices, use, own)


def _rejects(trial: Trial, batch: Candidates, numbers: Sequence[int], are_valid: Sequence[bool]) -> dict[int, Leak]:
    """What each rejected mutant leaves: the size of its change."""
    seeds = trial.seeds_of(batch.parents, batch.matrices)
    return {
        number: size_of_change(batch.images[row], seeds[row])
        for row, (number, is_valid) in enumerate(zip(numbers, are_valid, strict=True))
        if not is_valid
    }


def _in_order(parts: Sequence[tuple[list[int], Candidates]]) -> Candidates:
    """Join candidates in the order of their numbers."""
    numbers = [number for rows, _ in parts for number in rows]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return Candidates.joined([candidates for _, candidates in parts]).part(order)
