"""The gallery of a campaign: pictures of the failures that its page shows, and of their way there.

rows                  row numbers, in table `failures`, of the failures that it holds
{row}/steps           seed, entries of the corpus on the way, failure: (steps, height, width, 3), 0 to 255
{row}/entries         numbers of those entries in their corpus, the seed's first; some of a long way are left out
{row}/difference      failure less seed, the seed moved as the picture was: (height, width, 3), 128 for none
{row}/enlarged        the factor by which that is enlarged; 0 where nothing differs
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image

from camdrift.fuzzing.affine import moved
from camdrift.fuzzing.checkpoint import mutation_of
from camdrift.fuzzing.operators import matrix_of
from camdrift.statistics.examples import example_rows, telling_rows
from camdrift.tables.arrays import Bytes
from camdrift.tables.reading import Tables
from camdrift.tables.table import Row

_LARGEST: Final = 320
_MOST_STEPS: Final = 6
# Single entries that differ by more are clipped, so that the others can be seen.
_QUANTILE: Final = 0.995
Pixels = NDArray[np.float32]
# Returns the image of an entry: framework, trial, number.
ReadEntry = Callable[[str, int, int], Pixels]


def campaign_gallery(
    tables: Tables, read: Callable[[str], Pixels], read_entry: ReadEntry
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield keys and arrays of the gallery.

    Args:
        tables: `failures`, `clusters` and `corpus`.
        read: Returns the image of a failure by its file.
        read_entry: Returns the image of an entry of a corpus.
    """
    failures = tables["failures"]
    rows = list(dict.fromkeys([*telling_rows(failures), *example_rows(failures, tables["clusters"])]))
    yield "rows", np.array(rows, dtype=np.int64)
    for row in rows:
        failure = failures.row(row, named=True)
        entries = _shortened(_way(tables["corpus"], failure))
        images = [read_entry(failure["framework"], failure["trial"], entry) for entry in entries]
        image = read(failure["image"])
        difference, factor = _difference(image - _moved(images[0], failure))
        yield f"{row}/entries", np.array(entries, dtype=np.int64)
        yield f"{row}/steps", np.stack([_picture(each) for each in (*images, image)])
        yield f"{row}/difference", _picture(difference)
        yield f"{row}/enlarged", np.array(factor)


def _way(corpus: pl.DataFrame, failure: Row) -> list[int]:
    """Entries of the corpus from the seed to the parent of a failure."""
    own = corpus.filter(framework=failure["framework"], trial=failure["trial"])
    parents: Mapping[int, int | None] = dict(zip(own["entry"], own["parent"], strict=True))
    way, entry = list[int](), failure["parent"]
    while entry is not None:
        way.append(entry)
        entry = parents[entry]
    return way[::-1]


def _shortened(way: list[int]) -> list[int]:
    """The seed and the last steps of a long way."""
    return way if len(way) < _MOST_STEPS else [way[0], *way[2 - _MOST_STEPS :]]


def _moved(seed: Pixels, failure: Row) -> Pixels:
    """The seed, moved as the picture of a failure was: by the first of its mutations that moves."""
    steps = [mutation_of(*step) for step in zip(failure["chain"], failure["streams"], strict=True)]
    matrices = [matrix for step in steps if (matrix := matrix_of(step)) is not None]
    result: Pixels = moved(torch.from_numpy(seed)[None], [matrices[0] if matrices else None])[0].numpy()
    return result


def _difference(change: Pixels) -> tuple[Pixels, float]:
    """A change enlarged about a middle grey, and the factor."""
    sizes = np.abs(change)
    largest = float(np.quantile(sizes, _QUANTILE)) or float(sizes.max())
    if not np.isfinite(largest) or largest == 0:
        return np.full_like(change, 0.5), 0.0
    return (0.5 + change * (0.5 / largest)).astype(np.float32), 0.5 / largest


def _picture(image: Pixels) -> Bytes:
    """An image as bytes, (height, width, 3), a large one made smaller."""
    pixels: Bytes = np.nan_to_num(255 * np.moveaxis(image, 0, 2).clip(0, 1)).round().astype(np.uint8)
    if max(pixels.shape) <= _LARGEST:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((_LARGEST, _LARGEST), Image.Resampling.LANCZOS))
