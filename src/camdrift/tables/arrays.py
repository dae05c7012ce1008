"""Kinds of NumPy arrays that rooms without torch hand to each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
# Pictures of sample seeds by name; `pipeline/gallery.py` says what each array holds.
Gallery = Mapping[str, NDArray[Any]]
