"""The corpus of a campaign: seeds and the mutants that were kept, each with its way there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.fuzzing.affine import IDENTITY, Matrix
from camdrift.fuzzing.constraints import NO_LEAK, Leak
from camdrift.fuzzing.mutations import Mutation

# Why an entry is in the corpus.
SEED, COVERAGE, UNCERTAIN, CHANCE, ALL = "seed", "coverage", "less certain than its parent", "chance", "everything"


class ImageStack(Protocol):
    """Images one behind the other, on a disk or in memory."""

    def __len__(self) -> int: ...

    def append(self, images: NDArray[np.float32]) -> None:
        """Add images, (n, 3, height, width), behind the others."""
        ...

    def read(self, places: Sequence[int]) -> NDArray[np.float32]:
        """Return images by their places, (n, 3, height, width)."""
        ...

    def truncate(self, size: int) -> None:
        """Keep the first `size` images."""
        ...


class MemoryStack:
    """An `ImageStack` in memory."""

    def __init__(self) -> None:
        self._images: list[NDArray[np.float32]] = []

    def __len__(self) -> int:
        return len(self._images)

    def append(self, images: NDArray[np.float32]) -> None:
        """As `ImageStack`."""
        self._images += [image.copy() for image in images]

    def read(self, places: Sequence[int]) -> NDArray[np.float32]:
        """As `ImageStack`."""
        return np.stack([self._images[place] for place in places])

    def truncate(self, size: int) -> None:
        """As `ImageStack`."""
        del self._images[size:]


@dataclass
class Entry:
    """One image of the corpus.

    Attributes:
        seed: Place of its seed among the seeds.
        parent: Place of its parent in the corpus; None for a seed.
        mutation: What was done to the parent; None for a seed.
        matrix: The one affine mutation on its way, by which its seed has to be moved too; None for none.
        leak: What rejected mutants have left on its account, as released.
        uncertainty: The network's, by the guidance that looks at it; 0 for others.
        gain: What it added to the guidance's criterion.
        reason: Why it is in the corpus.
        iteration: Iteration that made it; 0 for a seed.
        passes: Passes spent by then.
        times: How often it was chosen as a parent.
    """

    seed: int
    parent: int | None = None
    mutation: Mutation | None = None
    matrix: Matrix | None = None
    leak: Leak = NO_LEAK
    uncertainty: float = 0.0
    gain: float = 0.0
    reason: str = SEED
    iteration: int = 0
    passes: int = 0
    times: int = 0


@dataclass
class Corpus:
    """The entries, seeds first, and their images.

    Attributes:
        images: Their images, in the same order.
        device: Where images are wanted.
        entries: What is known of each.
    """

    images: ImageStack
    device: torch.device
    entries: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry, image: Tensor) -> None:
        """Add one image."""
        self.images.append(image[None].detach().cpu().numpy())
        self.entries.append(entry)

    def read(self, places: Sequence[int]) -> Tensor:
        """Return images by their places in the corpus."""
        return torch.as_tensor(self.images.read(places)).to(self.device)

    def chain(self, place: int) -> list[Mutation]:
        """Return the mutations from the seed to an entry."""
        return [m for entry in reversed(list(self._ancestry(place))) if (m := entry.mutation) is not None]

    def _ancestry(self, place: int) -> Iterator[Entry]:
        step: int | None = place
        while step is not None:
            yield self.entries[step]
            step = self.entries[step].parent

    def matrices(self, places: Sequence[int]) -> list[Matrix]:
        """Return the matrices by which the seeds of some entries have to be moved."""
        return [self.entries[place].matrix or IDENTITY for place in places]
