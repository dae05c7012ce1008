"""Layers of one network that correspond to layers of another: by name, else by relative depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from camdrift.errors import UserError

Places = NDArray[np.int64]

Way = Literal["auto", "name", "depth"]
BY_NAME: Final = "name"
BY_DEPTH: Final = "depth"
AUTO: Final = "auto"
WAYS: Final[tuple[Way, ...]] = get_args(Way)


@dataclass(frozen=True)
class Alignment:
    """Pairs of layers.

    Attributes:
        by: name or depth.
        a: Positions of the layers in the first network, (pairs,).
        b: Positions of their partners in the second, (pairs,).
    """

    by: str
    a: Places
    b: Places


def align(a: Sequence[str], b: Sequence[str], *, by: str = AUTO) -> Alignment:
    """Pair the layers of two networks, in the order of the first.

    Layers are paired by name where at least half of the names of the network with fewer layers occur in both; the
    others are left out. Otherwise they are paired by depth: every layer of the shallower network with the nearest
    layer of the deeper one. A depth is the position in execution order over the last position; a tie goes to the
    deeper layer. Both orders are kept, and no layer occurs twice.

    Args:
        a: Names of the layers in execution order, at least one.
        b: Names of the layers of the other network.
        by: auto, or name or depth to insist.

    Raises:
        UserError: An unknown way, or `name` without any shared name.

    Example:
        >>> align(["stem", "conv", "head"], ["c1", "c2", "c3", "c4", "c5"]).b
        array([0, 2, 4])
    """
    if by not in WAYS:
        raise UserError(f"`align` must be one of {', '.join(WAYS)}, got: {by}")
    positions = {name: i for i, name in enumerate(b)}
    namesakes = [(i, positions[name]) for i, name in enumerate(a) if name in positions]
    if by == BY_NAME and not namesakes:
        raise UserError("`align` name must have layers of the same name on both sides, got: none", "depth aligns any")
    if by == BY_NAME or (by == AUTO and 2 * len(namesakes) >= min(len(a), len(b))):
        pairs = np.array(namesakes, np.int64)
        return Alignment(BY_NAME, pairs[:, 0], pairs[:, 1])
    if len(a) > len(b):
        reverse = align(b, a, by=BY_DEPTH)
        return Alignment(BY_DEPTH, reverse.b, reverse.a)
    nearest = np.floor(relative_depth(len(a)) * (len(b) - 1) + 0.5).astype(np.int64)
    return Alignment(BY_DEPTH, np.arange(len(a)), nearest)


def relative_depth(count: int) -> NDArray[np.float64]:
    """Return the depth of each of `count` layers, from 0 (the first) to 1 (the last), (count,); 0 for a single one.

    Example:
        >>> relative_depth(5)
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    return np.arange(count) / max(1, count - 1)
