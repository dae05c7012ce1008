"""Guidance: which mutants join the corpus, to be mutated further."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.coverage.criteria import Criterion, NeuronBatch
from camdrift.fuzzing.corpus import ALL, CHANCE, COVERAGE, UNCERTAIN
from camdrift.tables.arrays import Flags, Floats


class Guidance(Protocol):
    """Decides what is kept of a batch of mutants, in their order: how they are cut into batches changes nothing.

    Attributes:
        reason: Why it keeps what it keeps, one of the words of a corpus.
        is_of_scaled: Does it read scaled outputs?
    """

    reason: str
    is_of_scaled: bool

    def keep(self, batch: NeuronBatch, is_admitted: Flags, parents: Floats, rng: np.random.Generator) -> Flags:
        """Return which mutants join the corpus.

        Args:
            batch: What the network does on the mutants.
            is_admitted: Which may join: they are valid and no failures.
            parents: Uncertainty of the network on each mutant's parent.
            rng: Random numbers of this iteration.
        """
        ...

    def uncertainties(self, batch: NeuronBatch) -> Floats:
        """Return the network's uncertainty on each image, 0 where the guidance does not ask for it."""
        ...

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return its state."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Take up a state."""
        ...


class _Stateless:
    """A guidance that remembers nothing and asks for no uncertainty."""

    reason = ""
    is_of_scaled = False

    def uncertainties(self, batch: NeuronBatch) -> Floats:
        """As `Guidance`."""
        return np.zeros(len(batch.logits))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As `Guidance`."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """As `Guidance`."""


class Nothing(_Stateless):
    """Keeps no mutant: every one is made of a seed."""

    def keep(self, batch: NeuronBatch, is_admitted: Flags, parents: Floats, rng: np.random.Generator) -> Flags:
        """As `Guidance`."""
        return np.zeros_like(is_admitted)


class Everything(_Stateless):
    """Keeps every mutant that is admitted."""

    reason = ALL

    def keep(self, batch: NeuronBatch, is_admitted: Flags, parents: Floats, rng: np.random.Generator) -> Flags:
        """As `Guidance`."""
        return is_admitted.copy()


@dataclass(frozen=True)
class ByChance(_Stateless):
    """Keeps admitted mutants at random.

    Attributes:
        rate: The share of them that it keeps: the control for a guided run keeps as many as that does.
    """

    rate: float
    reason = CHANCE

    def keep(self, batch: NeuronBatch, is_admitted: Flags, parents: Floats, rng: np.random.Generator) -> Flags:
        """As `Guidance`."""
        return is_admitted & (rng.random(len(is_admitted)) < self.rate)


class ByCriterion:
    """Keeps admitted mutants that add to a coverage criterion.

    Args:
        criterion: The criterion, whose state the mutants that join change.
    """

    reason = COVERAGE

    def __init__(self, criterion: Criterion) -> None:
        self.is_of_scaled = criterion.is_of_scaled
        self._state = criterion.start()

    def keep(self, batch: NeuronBatch, is_admitted: Flags, parents: Floats, rng: np.random.Generator) -> Flags:
        """As `Guidance`."""
        return is_admitted & (self._state.fold(batch, is_admitted) > 0)

    def uncertainties(self, batch: NeuronBatch) -> Floats:
        """As `Guidance`."""
        return np.zeros(len(batch.logits))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As `Guidance`."""
        return dict(self._state.arrays())

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """As `Guidance`."""
        self._state.restore(arrays)


MARGIN, GINI = "margin", "gini"
# A mutant that the network takes for its parent may differ by so much.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class ByUncertainty(_Stateless):
    """Keeps admitted mutants of which the network is less certain than of their parents.

    Attributes:
        measure: `margin`: 1 less the difference of the two largest probabilities; `gini`: 1 less the sum of squared
            probabilities (DeepGini, Feng et al., ISSTA 2020).
    """

    measure: str
    reason = UNCERTAIN

    def keep(self, batch: NeuronBatch, is_admitted: Flags, parents: Floats, rng: np.random.Generator) -> Flags:
        """As `Guidance`."""
        return is_admitted & (self.uncertainties(batch) > parents + _ROUNDING)

    def uncertainties(self, batch: NeuronBatch) -> Floats:
        """As `Guidance`."""
        probabilities = batch.logits.double().softmax(1)
        if self.measure == GINI:
            return np.asarray((1 - probabilities.square().sum(1)).cpu().numpy())
        largest = torch.topk(probabilities, min(2, probabilities.shape[1]), dim=1).values
        return np.asarray((1 - (largest[:, 0] - largest[:, -1])).cpu().numpy())
