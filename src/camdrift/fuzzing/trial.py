"""One trial of one framework: its corpus, its counts, and what becomes of each mutant."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.coverage.base import full_precision, joined
from camdrift.coverage.criteria import CoverageState, NeuronBatch, observe_batch
from camdrift.errors import UserError
from camdrift.fuzzing.affine import Matrix, moved
from camdrift.fuzzing.budget import FORWARD
from camdrift.fuzzing.candidates import Candidates, PassOutputs
from camdrift.fuzzing.constraints import NO_LEAK
from camdrift.fuzzing.corpus import Corpus, Entry, ImageStack
from camdrift.fuzzing.design import CampaignDesign
from camdrift.fuzzing.guidance import Guidance
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.oracles import Verdicts
from camdrift.fuzzing.passes import in_groups
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas
from camdrift.streams import stream_seed
from camdrift.tables.table import Row
from camdrift.tensors import Images, Logits, rounded_to_bytes

# What is counted of every operator.
TALLY: Final = ("tried", "valid", "kept", "failures")
GROWTH_MARKS: Final = 100


@dataclass
class Spending:
    """What a trial has spent and met so far; plain numbers, for a checkpoint."""

    passes: int = 0
    iterations: int = 0
    seconds: float = 0.0
    mutants: int = 0
    cursor: int = 0
    mark: int = 0
    failures: int = 0
    # Iterations in a row without a valid mutant.
    idle: int = 0
    # Admitted mutants and those that were kept, for the control that keeps as many by chance.
    admitted: int = 0
    kept: int = 0


@dataclass
class Trial:
    """One trial, which changes as it goes on.

    Attributes:
        design: What all trials share.
        framework: Spec of its framework.
        number: Number of the trial.
        guidance: Says what is kept.
        corpus: What was kept.
        failing: Images of new failures.
        measure: State of the campaign's criterion over seeds and valid mutants; None without one.
        tally: Numbers of `TALLY` by operator.
        failures: Rows of the failures so far.
        growth: Rows of the growth so far.
        state: Further arrays of the framework, by name.
    """

    design: CampaignDesign
    framework: str
    number: int
    guidance: Guidance
    corpus: Corpus
    failing: ImageStack
    measure: CoverageState | None
    counts: Spending = field(default_factory=Spending)
    tally: dict[str, list[int]] = field(default_factory=dict)
    failures: list[Row] = field(default_factory=list)
    growth: list[Row] = field(default_factory=list)
    state: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The device of the classifier."""
        return self.design.classifier.device

    @property
    def cost(self) -> int:
        """Passes that an image costs."""
        return FORWARD * len(self.design.models)

    @property
    def is_spent(self) -> bool:
        """Is the budget spent, but for less than one image?"""
        left = self.design.budget.passes_left(self.counts.passes)
        return self.share >= 1 if left is None else left < self.cost

    @property
    def share(self) -> float:
        """Share of the budget that is spent."""
        return self.design.budget.share(self.counts.passes, self.counts.iterations, self.counts.seconds)

    def affordable(self, cost: int, most: int) -> int:
        """Return how many images of a cost the budget allows, at most `most`."""
        left = self.design.budget.passes_left(self.counts.passes)
        return most if left is None else min(most, left // cost)

    def give_up(self) -> None:
        """Spend the passes that are left, which are too few for what the framework does."""
        self.counts.passes += self.design.budget.passes_left(self.counts.passes) or 0

    def begin(self, images: Sequence[NDArray[np.float32]]) -> None:
        """Make the dry run: every seed joins the corpus.

        Args:
            images: The images of the design's starts, (3, height, width) each.

        Raises:
            UserError: The budget does not allow it.
        """
        begin, cost = monotonic(), self.cost * len(images)
        left = self.design.budget.passes_left(0)
        if left is not None and left <= cost:
            raise UserError(
                f"`budget` must allow more than the dry run of {len(images)} seeds, which takes {cost} passes, got: "
                f"{self.design.budget.spec}",
                "raise --budget, or fuzz fewer images with --limit",
            )
        for batch in batches(range(len(images)), self.design.group):
            pixels = torch.as_tensor(np.stack([images[place] for place in batch])).to(self.device)
            neurons, is_admitted = self.observe(pixels).neurons, np.ones(len(batch), dtype=np.bool_)
            gains = self._measured(neurons, is_admitted)
            self.guidance.keep(neurons, is_admitted, np.zeros(len(batch)), self._rng("dry run"))
            doubts = self.guidance.uncertainties(neurons)
            for row, place in enumerate(batch):
                entry = Entry(place, uncertainty=float(doubts[row]), gain=float(gains[row]), passes=cost)
                self.corpus.add(entry, pixels[row])
        self.counts.seconds += monotonic() - begin
        self.note_growth()

    def _rng(self, purpose: str) -> np.random.Generator:
        words = f"trial {self.number} iteration {self.counts.iterations}"
        return np.random.default_rng(stream_seed(self.design.rng_seed, words, purpose))

    def rng(self) -> np.random.Generator:
        """Return the random numbers of this iteration."""
        return self._rng("fuzz")

    def seeds_of(self, parents: Sequence[int], matrices: Sequence[Matrix | None]) -> Images:
        """Return the seeds of some mutants, each moved as its picture was."""
        seeds = self.corpus.read([self.corpus.entries[parent].seed for parent in parents])
        return moved(seeds, matrices)

    def seed_classes(self, parents: Sequence[int]) -> Tensor:
        """Return the class that the mutants of some parents should have."""
        classes = [self.design.starts[self.corpus.entries[parent].seed].seed_class for parent in parents]
        return torch.tensor(classes, device=self.device)

    @property
    def is_of_scaled(self) -> bool:
        """Does guidance or criterion read scaled outputs?"""
        criterion = self.design.criterion
        return self.guidance.is_of_scaled or (criterion is not None and criterion.is_of_scaled)

    def observe(self, images: Images, *, is_scaled: bool = False) -> PassOutputs:
        """Return what all models do on some images, and charge for it.

        Args:
            images: Images in pixel space.
            is_scaled: Are outputs scaled, though neither guidance nor criterion reads that?
        """
        is_scaled = is_scaled or self.is_of_scaled
        self.counts.passes += self.cost * len(images)
        groups = [*in_groups(images, self.design.group)]

        def look(replica: Classifier, group: tuple[Images, int]) -> NeuronBatch:
            return observe_batch(replica, group[0], is_scaled=is_scaled).first(group[1])

        # Another precision than that of the neurons is set for the whole process.
        full = full_precision(self.design.classifier)
        with on_replicas(full, look, groups) as results:
            neurons = joined([*results])
        return PassOutputs(neurons, self.other_logits(groups))

    def other_logits(self, groups: Sequence[tuple[Images, int]]) -> list[Logits]:
        """Return the logits of the oracle's other models.

        Args:
            groups: Images of each group, and how many of them count.
        """
        look = lambda replica, group: replica(group[0])[: group[1]]  # noqa: E731
        logits = list[Logits]()
        for other in self.design.oracle.others:
            with torch.no_grad(), on_replicas(other, look, groups) as results:
                logits.append(torch.cat([*results]))
        return logits

    def judge(self, candidates: Candidates) -> None:
        """Pass valid candidates through the network, and take up what comes of them."""
        self.take_up(candidates, self.observe(candidates.images))

    def take_up(self, candidates: Candidates, observation: PassOutputs) -> Verdicts:
        """Note failures, and keep what the guidance keeps.

        Args:
            candidates: Mutants.
            observation: What the models do on them.

        Returns:
            What the oracle says; invalid mutants are no failures.
        """
        verdicts = self.design.oracle.judge(observation.logits, self.seed_classes(candidates.parents))
        are_valid = self.design.constraint.holds(candidates.use).cpu().numpy()
        are_failures = verdicts.are_failures & are_valid
        verdicts = Verdicts(are_failures, verdicts.classes, verdicts.alone)
        are_finite = torch.isfinite(observation.neurons.logits).all(1).cpu().numpy()
        gains = self._measured(observation.neurons, are_valid & are_finite)
        is_admitted = are_valid & are_finite & ~are_failures
        parents = np.array([self.corpus.entries[parent].uncertainty for parent in candidates.parents])
        is_kept = self.guidance.keep(observation.neurons, is_admitted, parents, self._rng("keep"))
        self.counts.mutants += int(are_valid.sum())
        self.counts.admitted += int(is_admitted.sum())
        self._count(candidates, are_valid, is_kept, are_failures)
        self._keep(candidates, observation.neurons, np.flatnonzero(is_kept), gains)
        self._note_failures(candidates, observation, verdicts, gains)
        return verdicts

    def _measured(self, neurons: NeuronBatch, is_admitted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each image adds to the campaign's criterion; NaN without one."""
        return np.full(len(is_admitted), np.nan) if self.measure is None else self.measure.fold(neurons, is_admitted)

    def _count(self, candidates: Candidates, *flags: NDArray[np.bool_]) -> None:
        for row, mutation in enumerate(candidates.mutations):
            tally = self.tally.setdefault(mutation.operator, [0] * len(TALLY))
            for place, each in enumerate(flags, 1):
                tally[place] += int(each[row])

    def count_tries(self, mutations: Sequence[Mutation]) -> None:
        """Count mutants that were made, whether or not they are valid."""
        for mutation in mutations:
            self.tally.setdefault(mutation.operator, [0] * len(TALLY))[0] += 1

    def _keep(
        self, candidates: Candidates, neurons: NeuronBatch, rows: NDArray[np.int64], gains: NDArray[np.float64]
    ) -> None:
        self.counts.kept += len(rows)
        doubts = self.guidance.uncertainties(neurons)
        for row in rows.tolist():
            parent = candidates.parents[row]
            entry = Entry(
                seed=self.corpus.entries[parent].seed,
                parent=parent,
                mutation=candidates.mutations[row],
                matrix=candidates.matrices[row],
                leak=candidates.leaks[row] if candidates.leaks else NO_LEAK,
                uncertainty=float(doubts[row]),
                gain=float(gains[row]),
                reason=self.guidance.reason,
                iteration=self.counts.iterations,
                passes=self.counts.passes,
            )
            self.corpus.add(entry, candidates.images[row])

    def _note_failures(
        self, candidates: Candidates, observation: PassOutputs, verdicts: Verdicts, gains: NDArray[np.float64]
    ) -> None:
        rows = np.flatnonzero(verdicts.are_failures).tolist()
        if not rows:
            return
        keys = {(row["seed_id"], row["wrong_class"], row["is_moved"]) for row in self.failures if row["is_new"]}
        part = candidates.part(rows)
        seeds = self.seeds_of(part.parents, part.matrices)
        change = (part.images - seeds).flatten(1)
        numbers = torch.stack(
            [
                torch.linalg.vector_norm(change.double(), dim=1),
                change.abs().amax(1).double(),
                (change != 0).double().mean(1),
                observation.neurons.logits[rows].double().softmax(1).amax(1),
                part.use.double(),
            ],
            1,
        ).tolist()
        for place, row in enumerate(rows):
            entry = self._failure(part, place, numbers[place])
            wrong, alone = int(verdicts.classes[row]), int(verdicts.alone[row])
            entry |= {"wrong_class": None if wrong < 0 else wrong, "alone": None if alone < 0 else alone}
            entry["gain"] = None if np.isnan(gains[row]) else float(gains[row])
            key = (entry["seed_id"], entry["wrong_class"], entry["is_moved"])
            entry["is_new"] = key not in keys
            if entry["is_new"]:
                keys.add(key)
                entry["survives_uint8"] = self._survives(part.images[place : place + 1], part.parents[place])
                entry["image"] = f"{len(self.failing):05d}"
                self.failing.append(part.images[place : place + 1].detach().cpu().numpy())
            self.failures.append(entry)
        self.counts.failures = len(self.failures)

    def _failure(self, part: Candidates, place: int, numbers: Sequence[float]) -> Row:
        """The columns of a failure that do not depend on the oracle."""
        parent, mutation = part.parents[place], part.mutations[place]
        start = self.design.starts[self.corpus.entries[parent].seed]
        chain = [*self.corpus.chain(parent), mutation]
        names = ("l2", "linf", "changed", "probability", "constraint_use")
        return {
            "framework": self.framework,
            "trial": self.number,
            "failure": len(self.failures),
            "seed_id": start.seed_id,
            "parent": parent,
            "operator": mutation.operator,
            "parameters": mutation.spec,
            "chain": [step.spec for step in chain],
            "streams": [step.stream for step in chain],
            "clean_class": start.seed_class,
            "is_moved": part.matrices[place] is not None,
            "survives_uint8": None,
            "image": None,
            "iteration": self.counts.iterations,
            "passes": self.counts.passes,
            **dict(zip(names, numbers, strict=True)),
        }

    def _survives(self, image: Images, parent: int) -> bool:
        """Does an image fail as 8 bits store it? This pass is not charged: it guides nothing."""
        with torch.no_grad():
            logits = [model(rounded_to_bytes(image)) for model in self.design.models]
        return bool(self.design.oracle.judge(logits, self.seed_classes([parent])).are_failures[0])

    def close(self) -> None:
        """Add the rows of growth that a trial which ends early lacks."""
        self._note_growth(GROWTH_MARKS)

    def note_growth(self) -> None:
        """Add rows of growth up to the hundredth of the budget that is reached."""
        self._note_growth(GROWTH_MARKS if self.is_spent else min(GROWTH_MARKS, int(self.share * GROWTH_MARKS + 1e-9)))

    def _note_growth(self, last: int) -> None:
        if self.counts.mark > last:
            return
        unique = [row for row in self.failures if row["is_new"]]
        while self.counts.mark <= last:
            self.growth.append(
                {
                    "framework": self.framework,
                    "trial": self.number,
                    "mark": self.counts.mark,
                    "passes": self.counts.passes,
                    "iterations": self.counts.iterations,
                    "seconds": self.counts.seconds,
                    "criterion": None if self.measure is None else self.measure.reading().value,
                    "corpus": len(self.corpus),
                    "mutants": self.counts.mutants,
                    "failures": len(self.failures),
                    "failing_seeds": len({row["seed_id"] for row in unique}),
                    "seed_classes": len({(row["seed_id"], row["wrong_class"]) for row in unique}),
                    "class_pairs": len({(row["clean_class"], row["wrong_class"]) for row in unique}),
                    "unmoved_seed_classes": sum(not row["is_moved"] for row in unique),
                }
            )
            self.counts.mark += 1
