"""The maps of a chunk on their way to those who collect them while its images are explained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from camdrift.pipeline.variants import VariantBatch
from camdrift.tensors import Maps

_T = TypeVar("_T")


@dataclass(frozen=True)
class TargetMaps:
    """One map per image, layer and target.

    Attributes:
        maps: For every target its maps by layer.
        same_as: For every target the first one that has the same maps.
    """

    maps: tuple[Mapping[str, Maps], ...]
    same_as: tuple[int, ...]

    def each(self, compute: Callable[[Mapping[str, Maps]], _T]) -> list[_T]:
        """For every target the result of `compute`, which is called once for targets that share their maps."""
        results = {target: compute(self.maps[target]) for target in dict.fromkeys(self.same_as)}
        return [results[target] for target in self.same_as]


class MapReceiver(Protocol):
    """Receives the maps of a chunk while its images are explained."""

    def add_clean(self, maps: TargetMaps) -> None:
        """Take the maps of the clean images, of all seeds of the chunk at once."""
        ...

    def add_variants(self, batch: VariantBatch, maps: TargetMaps) -> None:
        """Take the maps of a batch of variants."""
        ...
