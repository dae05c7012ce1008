"""Mutants that may be judged, and what the models do on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from camdrift.coverage.base import NeuronBatch, joined
from camdrift.fuzzing.affine import Matrix
from camdrift.fuzzing.constraints import Leak
from camdrift.fuzzing.mutations import Mutation
from camdrift.tensors import Images, Logits, Values


@dataclass(frozen=True)
class Candidates:
    """Mutants that may be judged.

    Attributes:
        images: The mutants, in pixel space.
        parents: Places of their parents in the corpus.
        mutations: What was done to the parents.
        matrices: The affine mutation on the way of each; None for none.
        use: How much of the constraint each uses.
        leaks: What rejected mutants have left on the account of each; empty for nothing.
    """

    images: Images
    parents: Sequence[int]
    mutations: Sequence[Mutation]
    matrices: Sequence[Matrix | None]
    use: Values
    leaks: Sequence[Leak] = ()

    def __len__(self) -> int:
        return len(self.parents)

    def part(self, rows: Sequence[int]) -> "Candidates":
        """Return some of them."""
        return Candidates(
            self.images[list(rows)],
            [self.parents[row] for row in rows],
            [self.mutations[row] for row in rows],
            [self.matrices[row] for row in rows],
            self.use[list(rows)],
            [self.leaks[row] for row in rows] if self.leaks else (),
        )

    @classmethod
    def joined(cls, parts: "Sequence[Candidates]") -> "Candidates":
        """Return all candidates of some parts, at least one."""
        return cls(
            torch.cat([part.images for part in parts]),
            [parent for part in parts for parent in part.parents],
            [mutation for part in parts for mutation in part.mutations],
            [matrix for part in parts for matrix in part.matrices],
            torch.cat([part.use for part in parts]),
            [leak for part in parts for leak in part.leaks],
        )


@dataclass(frozen=True)
class PassOutputs:
    """One pass of all models over some images.

    Attributes:
        neurons: The fuzzed classifier's neurons and logits.
        others: Logits of the oracle's other models.
    """

    neurons: NeuronBatch
    others: Sequence[Logits] = ()

    @property
    def logits(self) -> list[Logits]:
        """Logits of all models."""
        return [self.neurons.logits, *self.others]


def join_outputs(observations: Sequence[PassOutputs]) -> PassOutputs:
    """Return the observations of some batches as one."""
    others = [torch.cat(logits) for logits in zip(*(each.others for each in observations), strict=True)]
    return PassOutputs(joined([each.neurons for each in observations]), others)
