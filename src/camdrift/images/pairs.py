"""Pair adversarial images that somebody already has with the seed images they were made of."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from camdrift.errors import UserError
from camdrift.images.places import ImageFile, display_path
from camdrift.images.sources import images_below, read_text

ARRAY: Final = ".npy"
COLUMNS: Final = ("seed", "adversarial")
_BY_CSV: Final = "a .csv file with the header seed,adversarial pairs any names; docs/attacks.md shows how to make one"


def pair_adversarial(source: str | os.PathLike[str], seeds: Sequence[ImageFile]) -> dict[str, Path]:
    """Return the adversarial image of each seed that has one, by `seed_id`.

    Args:
        source: A folder whose files have the names of the seeds, but for the ending (an image of exactly the seed's
            name goes first, then a .npy file). Or a .csv file with the columns `seed` and `adversarial`: paths from
            its folder on, or a `seed_id`. Or, for a single seed, an image.
        seeds: The seed images.

    Raises:
        UserError: Nothing is there, a seed has two images, or no seed has any.
    """
    path = Path(source)
    if path.is_dir():
        files = {display_path(p.relative_to(path)): p for p in images_below(path, also=frozenset({ARRAY}))}
        pairs, names = _by_name(files, seeds), list(files)
    elif path.suffix.lower() == ".csv":
        rows = list(_rows(path))
        pairs, names = _by_row(path.parent, rows, seeds), [seed for seed, _ in rows]
    elif path.is_file() and len(seeds) == 1:
        return {seeds[0].seed_id: path}
    else:
        what = "an image, where there are several seeds" if path.is_file() else "nothing is there"
        message = f"`adversarial` must be a folder of images or a .csv file, got: {display_path(path)} ({what})"
        raise UserError(message, _BY_CSV)
    if not pairs:
        example = f"there is {names[0]}" if names else "there is none"
        raise UserError(
            f"`adversarial` must have images with the names of the seeds, got: {display_path(path)}, where {example}, "
            f"and no {_stem(seeds[0].seed_id)}",
            _BY_CSV,
        )
    return pairs


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _by_name(files: Mapping[str, Path], seeds: Sequence[ImageFile]) -> dict[str, Path]:
    by_stem: dict[str, list[str]] = {}
    for name in files:
        by_stem.setdefault(_stem(name), []).append(name)
    sharing = Counter(_stem(seed.seed_id) for seed in seeds)
    pairs = {}
    for seed in seeds:
        stem = _stem(seed.seed_id)
        names = by_stem.get(stem, [])
        arrays = [name for name in names if name.lower().endswith(ARRAY)]
        if seed.seed_id in files:
            pairs[seed.seed_id] = files[seed.seed_id]
        elif sharing[stem] == 1 and names:
            if len(arrays or names) > 1:
                several = ", ".join(sorted(names))
                raise UserError(f"`adversarial` must have one image for {seed.seed_id}, got: {several}", _BY_CSV)
            pairs[seed.seed_id] = files[(arrays or names)[0]]
    return pairs


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    reader = csv.DictReader(io.StringIO(read_text(path, hint=_BY_CSV), newline=""))
    file = display_path(path)
    if not set(COLUMNS) <= set(reader.fieldnames or ()):
        header = ",".join(reader.fieldnames or ()) or "nothing"
        raise UserError(f"`adversarial` {file} must have the header {','.join(COLUMNS)}, got: {header}")
    for row in reader:
        seed, adversarial = (row[name] for name in COLUMNS)
        if not seed or not adversarial:
            raise UserError(f"`adversarial` {file} must name two images in each line, got: line {reader.line_num}")
        yield seed, adversarial


def _by_row(folder: Path, rows: Sequence[tuple[str, str]], seeds: Sequence[ImageFile]) -> dict[str, Path]:
    ids = {seed.seed_id for seed in seeds}
    has_paths = any(seed not in ids for seed, _ in rows)
    places = {os.path.realpath(seed.path): seed.seed_id for seed in seeds} if has_paths else {}
    pairs: dict[str, Path] = {}
    for seed, adversarial in rows:
        seed_id = seed if seed in ids else places.get(os.path.realpath(folder / seed))
        if seed_id is None:
            continue
        if seed_id in pairs:
            raise UserError(f"`adversarial` must have one image for {seed_id}, got: two lines of the .csv file")
        pairs[seed_id] = folder / adversarial
    return pairs
