"""Columns of tables that have a row for every image and layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


def crossed(
    keys: Mapping[str, Sequence[Any]],
    layers: Mapping[str, Sequence[Any]],
    values: Mapping[str, NDArray[Any]],
    **constants: Any,
) -> dict[str, Any]:
    """Columns with a row for every key and layer; the layers of a key follow each other.

    Args:
        keys: Columns with one value per key, for example per image.
        layers: Columns with one value per layer.
        values: Arrays of shape (keys, layers); their NaN become null.
        **constants: Columns with the same value in every row.

    Example:
        >>> columns = crossed({"seed_id": ["a", "b"]}, {"layer": ["x", "y"]}, {"value": np.arange(4.0).reshape(2, 2)})
        >>> columns["seed_id"], columns["layer"], columns["value"].to_list()
        (['a', 'a', 'b', 'b'], ['x', 'y', 'x', 'y'], [0.0, 1.0, 2.0, 3.0])
    """
    n_keys, n_layers = next(iter(values.values())).shape
    return {
        **{name: [value] * (n_keys * n_layers) for name, value in constants.items()},
        **{name: [value for value in column for _ in range(n_layers)] for name, column in keys.items()},
        **{name: [*column] * n_keys for name, column in layers.items()},
        **{name: _column(array.ravel()) for name, array in values.items()},
    }


def _column(values: NDArray[Any]) -> Any:
    return values.tolist() if values.dtype == np.object_ else pl.Series(values=values, nan_to_null=True)
