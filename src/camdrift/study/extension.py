"""A finished study that grows: chunks of it that a study of more images has, too, are taken over from its tables.

The larger study is made aside, in the directory of the finished one, and takes its place when it is complete. A chunk
is taken over whole or not at all, since the images of a chunk share what they are compared with.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from camdrift.errors import StoreError
from camdrift.images.places import ImageFile
from camdrift.pipeline.chunk import CHUNK_TABLES, GROWTH, TIMINGS
from camdrift.pipeline.gallery import header, renumbered
from camdrift.pipeline.plan import Plan, image_checksum, parts
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.further import NEWLY_COVERED
from camdrift.tables.reading import collected
from camdrift.tables.run_json import effective, passed
from camdrift.tables.words import UNREADABLE, count

# The options that choose a study's images among those of its source.
CHOICES: Final = ("limit", "sample")
# Table of a finished run, and the table of chunks that is made of it.
_RENAMED: Final = {GROWTH: NEWLY_COVERED.name}
# A chunk that is taken over costs nothing; what it has cost is in the record.
_NO_TIME: Final = pl.DataFrame(schema={"stage": pl.String(), "seconds": pl.Float64()})


def is_extension(before: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Does a record name other images than that of a finished run?"""
    return before["status"] == "done" and _choice(before) != _choice(record)


def _choice(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """The images of a study, and the options that chose them."""
    return (record["images"]["listing_sha256"], *map(passed(record).get, CHOICES))


def check_images(directory: RunDirectory, plan: Plan, files: Sequence[ImageFile]) -> None:
    """Raise `StoreError` unless all images of a finished run are among some others, as they were."""
    by_name = {file.seed_id: file for file in files}
    seeds = dict(directory.read_table("seeds").select("seed_id", "sha256").iter_rows())
    rule = f"`resume` must keep the {count(len(seeds), 'image')} of a finished study, got:"
    cure = f"another --out studies these alone; {directory.place} stays as it is"
    if missing := [seed_id for seed_id in seeds if seed_id not in by_name]:
        raise StoreError(f"{rule} {len(files)} without {len(missing)} of them (first: {missing[0]})", cure)
    # What could not be read then may be read now.
    texts = {seed_id: sha256 for seed_id, sha256 in seeds.items() if sha256 is not None}
    changes = [seed_id for seed_id, sha256 in texts.items() if image_checksum(plan, by_name[seed_id]) != sha256]
    if changes:
        raise StoreError(f"{rule} {len(changes)} changed (first: {changes[0]})", cure)


def extend(before: RunDirectory, after: RunDirectory, plan: Plan, files: Sequence[ImageFile], record: Any) -> None:
    """Begin the larger study with the leading chunks that are those of the finished one.

    Args:
        before: The finished run.
        after: An empty directory inside it.
        plan: The plan of the larger study.
        files: Its images.
        record: Its record.
    """
    seeds, old = before.read_table("seeds"), before.read_run()
    names = [*CHUNK_TABLES, *(extra.table for extra in plan.design.extra_tables)]
    chunks = _common_chunks(plan, parts(files, plan.settings), seeds) if _has_tables(before, names) else []
    for index, chunk in enumerate(chunks):
        seed_ids = [file.seed_id for file in chunk]
        tables = {name: _rows(before, name, seed_ids) for name in names} | {TIMINGS: _NO_TIME}
        with before.open_gallery() as gallery:
            pictures = [name for name in gallery["seed_ids"].tolist() if name in seed_ids]
            arrays = header(pictures, plan.settings) | dict(renumbered(gallery, pictures))
            after.write_chunk(index, tables, arrays)
    # As if that run had been stopped: time spent, versions, device and images per pass are those of its chunks.
    effects = {**effective(record), **{name: effective(old)[name] for name in ("batch_size", "device")}}
    beginning: dict[str, Any] = {name: old[name] for name in ("versions", "device", "timings") if name in old}
    extension = {"images": seeds.height, "kept": sum(map(len, chunks)), "started": old["started"]}
    more = {"arguments": {**record["arguments"], "effective": effects}, "preflight": None, "extension": extension}
    after.write_record({**record, **beginning, **more})


def told(record: Mapping[str, Any]) -> list[str]:
    """A line on the growth of a study; none for one that did not grow."""
    extension = record.get("extension")
    if extension is None:
        return []
    total, rest = record["images"]["n"], extension["kept"]
    return [
        f"the study grows from {extension['images']} to {count(total, 'image')}: {rest} stay as they are, "
        f"{total - rest} are computed (images of a chunk stay together)"
    ]


def _common_chunks(plan: Plan, chunks: Iterable[Sequence[ImageFile]], seeds: pl.DataFrame) -> list[Sequence[ImageFile]]:
    """The leading chunks whose images were studied as a chunk before, in the same order, with the same labels."""
    common: list[Sequence[ImageFile]] = []
    start = 0
    for chunk in chunks:
        rows = seeds.slice(start, plan.settings.chunk_size or seeds.height)
        before = list(rows.select("seed_id", "label").iter_rows())
        if before != [(file.seed_id, plan.label(file)) for file in chunk]:
            break
        # An image that can be read now shares its coverage with those of its chunk.
        absent = set(rows.filter(pl.col("status") == UNREADABLE)["seed_id"])
        if any(file.seed_id in absent and image_checksum(plan, file) is not None for file in chunk):
            break
        common.append(chunk)
        start += len(chunk)
    return common


def _has_tables(directory: RunDirectory, names: Iterable[str]) -> bool:
    """Has a run every table that chunks are made of? Those of before do not."""
    return all(directory.has_table(_RENAMED.get(name, name)) for name in names)


def _rows(directory: RunDirectory, name: str, seed_ids: Sequence[str]) -> pl.DataFrame:
    """The rows of some seeds in a table of a finished run, as a chunk has them."""
    return collected(directory.scan_table(_RENAMED.get(name, name)).filter(pl.col("seed_id").is_in(seed_ids)))
