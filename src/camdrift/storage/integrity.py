"""Checks of the stored tables of a finished run: checksums, schemas, counts that must agree."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from camdrift.errors import StoreError
from camdrift.storage.disk import readable
from camdrift.storage.run_contents import RunContents
from camdrift.tables.arrays import Gallery
from camdrift.tables.file_names import GALLERY
from camdrift.tables.further import FURTHER_TABLES, RUN_TABLES
from camdrift.tables.reading import MOST_ROWS, Stored, Tables, distinct, height, scan, streamed
from camdrift.tables.run_json import effective
from camdrift.tables.words import ADVERSARIAL, ANALYSED, NOISE


def read_whole(directory: RunContents) -> tuple[Stored, list[str]]:
    """The tables of a run by name, and the problems with its files in words: checksums, rows, schemas.

    Every table is read to its end, but not those whose checksums differ; none is kept in memory.
    """
    damage = directory.damaged_files()
    problems = [f"{name} {problem}" for name, problem in damage.items()]
    files = directory.read_record().get("files") or {}
    tables = {}
    for name, table in RUN_TABLES.items():
        if f"{name}.parquet" in damage or (name in FURTHER_TABLES and not directory.has_table(name)):
            continue
        try:
            lazy = directory.scan_table(name)
            with readable(directory.path / f"{name}.parquet"):
                n_rows = _read_through(lazy)
        except StoreError as error:
            problems.append(error.message)
            continue
        if lazy.collect_schema() != table.schema:
            problems.append(f"{name}.parquet has not the columns of the table `{name}`")
            continue
        rows = files.get(f"{name}.parquet", {}).get("rows", n_rows)
        if rows != n_rows:
            problems.append(f"{name}.parquet has {n_rows:,} rows, {rows:,} were written")
        tables[name] = lazy
    return Stored(tables), problems


def disagreements(tables: Tables, record: Mapping[str, Any]) -> list[str]:
    """Counts that must agree and do not, each in words; nothing about tables that are missing.

    Args:
        tables: Tables of a run by name.
        record: Its record.
    """
    arguments = effective(record)
    strengths, draws = arguments["strengths"], arguments["noise_draws"]
    noise = len({*strengths, *arguments["noise_ladder"]}) * draws
    cells = len(arguments["layers"]) * len(arguments["measures"])
    sentences: list[str] = []
    if "seeds" not in tables:
        return sentences
    seeds = tables["seeds"]
    sentences += _differ("seeds", "images of the study", seeds.height, record["images"]["n"])
    sentences += _differ("seeds", "different names of seed images", seeds["seed_id"].n_unique(), seeds.height)
    targets_of_seeds = _targets(seeds, arguments["targets"])
    per_seed = {
        "variants": targets_of_seeds.with_columns(pl.lit(len(strengths) + noise).alias("expected")),
        "similarity": targets_of_seeds.with_columns(expected=pl.col("targets") * cells * (len(strengths) + noise)),
    }
    for name, counts in per_seed.items():
        if name in tables:
            sentences += _of_seeds(name, scan(tables, name), counts)
    if "similarity" in tables:
        sentences += _undefined(scan(tables, "similarity"))
        sentences += _misplaced(scan(tables, "similarity"), seeds, arguments)
    if "layers" in tables:
        has_rows = "similarity" in tables
        targets = distinct(scan(tables, "similarity"), "target").height if has_rows else len(arguments["targets"])
        sentences += _differ("layers", "rows", tables["layers"].height, targets * len(strengths) * cells)
    return sentences


def check_fit(directory: RunContents, *, is_drawn: bool = False) -> None:
    """Raise `StoreError` unless tables and record of a run fit each other, and where it is drawn its gallery, too.

    Checksums tell what has changed since it was written; this tells what was never written together.
    """
    names = [name for name in RUN_TABLES if name not in FURTHER_TABLES or directory.has_table(name)]
    tables = directory.stored_tables(*names)
    problems = [
        f"{name}.parquet has not the columns of the table `{name}`"
        for name in names
        if tables.scans[name].collect_schema() != RUN_TABLES[name].schema
    ]
    problems = problems or disagreements(tables, directory.read_run())
    if is_drawn and not problems:
        with directory.open_gallery() as gallery:
            problems += _strange_pictures(gallery, tables["seeds"], directory.read_run())
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise StoreError(
            f"the files of {directory.place} do not fit each other: {problems[0]}{more}",
            "put back copies of the files, or run the study again; `camdrift verify` names all that differs",
        )


def _strange_pictures(gallery: Gallery, seeds: pl.DataFrame, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence if a gallery does not show analysed seeds, or not every layer of them."""
    if not gallery:
        return
    heads = ("seed_ids", "targets", "strengths")
    if lacks := [key for key in heads if key not in gallery]:
        yield f"{GALLERY} lacks {lacks[0]}"
        return
    ids, arguments = [str(name) for name in gallery["seed_ids"]], effective(record)
    subjects = set(seeds.filter(pl.col("status") == ANALYSED)["seed_id"])
    if strange := [name for name in ids if name not in subjects]:
        yield f"{GALLERY} shows {strange[0]}, which is no analysed seed image"
    for key, values in (("targets", arguments["targets"]), ("strengths", sorted(arguments["strengths"]))):
        if sorted(gallery[key].tolist()) != sorted(values):
            yield f"{GALLERY} has other {key} than the run"
    parts = [*("clean", "perturbation", "noise", "peaks"), *(f"map/{i}" for i in range(len(arguments["layers"])))]
    keys = [f"{i}/{part}" for i in range(len(ids)) for part in parts]
    if lacks := [key for key in keys if key not in gallery]:
        yield f"{GALLERY} lacks {lacks[0]}"


def repeated_images(seeds: pl.DataFrame) -> list[str]:
    """A warning if some seed images are the same file under another name; none if all are different.

    Args:
        seeds: Table `seeds`.
    """
    readable_seeds = seeds.filter(pl.col("sha256").is_not_null())
    first = pl.col("seed_id").first().over("sha256")
    copies = readable_seeds.select("seed_id", first=first).filter(pl.col("seed_id") != pl.col("first"))
    if copies.is_empty():
        return []
    copy, original = copies.row(0)
    return [
        f"{copies.height:,} of {readable_seeds.height:,} seed images repeat another one (first: {copy} is {original}), "
        "but count as independent in every interval and test: leave out the copies"
    ]


def _read_through(table: pl.LazyFrame) -> int:
    """Number of rows, after every value was read; a count alone would come from the file's footer."""
    starts = range(0, int(table.select(pl.len()).collect().item()), MOST_ROWS)
    return sum(table.slice(start, MOST_ROWS).collect().height for start in starts)


def _targets(seeds: pl.DataFrame, targets: list[str]) -> pl.DataFrame:
    """Every analysed seed with the number of its targets; there is no `label` where no class is known."""
    absent = pl.col("label").is_null().cast(pl.Int64) if "label" in targets else pl.lit(0)
    return seeds.filter(pl.col("status") == ANALYSED).select("seed_id", targets=len(targets) - absent)


def _of_seeds(name: str, table: pl.LazyFrame, counts: pl.DataFrame) -> Iterator[str]:
    """Yield a sentence on the seeds that do not have the number of rows in column `expected` of `counts`."""
    rows = streamed(table.group_by("seed_id").agg(found=pl.len().cast(pl.Int64)))
    both = counts.join(rows, on="seed_id", how="full", coalesce=True).with_columns(
        pl.col("expected", "found").fill_null(0).cast(pl.Int64)
    )
    wrong = both.filter(pl.col("expected") != pl.col("found")).sort("seed_id")
    if wrong.height:
        first = wrong.row(0, named=True)
        yield (
            f"{name}.parquet: {wrong.height:,} seed images have another number of rows than expected "
            f"(first: {first['seed_id']} has {first['found']:,}, expected {first['expected']:,})"
        )


def _undefined(similarity: pl.LazyFrame) -> Iterator[str]:
    """Yield a sentence on rows that have both a similarity and a reason why it is undefined, or neither."""
    wrong = height(similarity.filter(pl.col("similarity").is_null() == pl.col("undefined_reason").is_null()))
    if wrong:
        yield f"similarity.parquet: {wrong:,} rows have neither a similarity nor a reason why not, or both"


def _misplaced(similarity: pl.LazyFrame, seeds: pl.DataFrame, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence on each column with values that are not of the study, or without some that must be there."""
    if not (seeds["status"] == ANALYSED).any():
        return
    strengths = {*arguments["strengths"], *arguments["noise_ladder"]}
    values = {
        "condition": {ADVERSARIAL, NOISE},
        "strength": strengths,
        "draw": set(range(arguments["noise_draws"])),
        "layer": set(arguments["layers"]),
        "layer_index": set(range(len(arguments["layers"]))),
    }
    for name, expectation in values.items():
        if set(distinct(similarity, name)[name]) != expectation:
            yield f"similarity.parquet: another {name.replace('_', ' ')} than those of the study, or fewer"
    if extra := set(distinct(similarity, "target")["target"]) - set(arguments["targets"]):
        yield f"similarity.parquet: the target {min(map(str, extra))}, which the study has not"


def _differ(name: str, what: str, count: int, expectation: int) -> Iterator[str]:
    """Yield a sentence if a count is not the number that it must be."""
    if count != expectation:
        yield f"{name}.parquet: {count:,} {what}, expected {expectation:,}"
