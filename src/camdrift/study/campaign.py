"""A finished fuzzing campaign: its tables, its record, its sentences."""

from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Final

import polars as pl

from camdrift.errors import StoreError
from camdrift.masking import public
from camdrift.storage.campaign_directory import CAMPAIGN_RECORD, FAILURES_LIST, CampaignDirectory
from camdrift.storage.remote_directory import local_folder
from camdrift.tables.campaign import CAMPAIGN_TABLES
from camdrift.tables.words import count

# The count by which a campaign is told in a sentence.
_UNIQUE: Final = "seed_classes"
_FUZZED: Final = "fuzzed"
_WITH_CONTROL: Final = "keep-random"


class Campaign:
    """A finished campaign. Its tables are polars data frames, read when first asked for."""

    def __init__(self, directory: CampaignDirectory) -> None:
        self._directory = directory
        self._tables: dict[str, pl.DataFrame] = {}

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """fuzz.json: arguments, model, versions, timings."""
        record: Mapping[str, Any] = public(self._directory.read_record())
        return record

    @property
    def starts(self) -> pl.DataFrame:
        """One row per seed image."""
        return self._table("starts")

    @property
    def failures(self) -> pl.DataFrame:
        """One row per failure."""
        return self._table("failures")

    @property
    def growth(self) -> pl.DataFrame:
        """One row per hundredth of the budget."""
        return self._table("growth")

    @property
    def corpus(self) -> pl.DataFrame:
        """One row per entry of a trial's corpus."""
        return self._table("corpus")

    @property
    def mutators(self) -> pl.DataFrame:
        """One row per operator of a trial."""
        return self._table("mutators")

    @property
    def frameworks(self) -> pl.DataFrame:
        """Median and interval of every count over the trials of each framework."""
        return self._table("frameworks")

    @property
    def pairs(self) -> pl.DataFrame:
        """Effect size and test for every pair of frameworks."""
        return self._table("pairs")

    @property
    def clusters(self) -> pl.DataFrame:
        """Failures that take hold alike."""
        return self._table("clusters")

    @property
    def failures_list(self) -> Path | None:
        """The list of failures that `camdrift run --adversarial` takes; None where there are none."""
        path = self.path / FAILURES_LIST
        return path if path.is_file() else None

    def _table(self, name: str) -> pl.DataFrame:
        if name not in self._tables:
            self._tables[name] = self._directory.read_table(name)
        return self._tables[name]

    def __repr__(self) -> str:
        return f"Campaign({self.headline()}; {self.path})"

    def headline(self) -> str:
        """Return the main result in a sentence."""
        n_seeds = self.starts.filter(pl.col("status") == _FUZZED).height
        rows = self.frameworks.filter(pl.col("count") == _UNIQUE)
        most = max(rows["median"].to_list())
        best = rows.filter(pl.col("median") == most)["framework"].to_list()
        settings = self.record["settings"]
        trials = "" if settings["trials"] == 1 else f" (median of {settings['trials']} trials)"
        where = f"on {count(n_seeds, 'seed image')} in {settings['budget'].replace('-', ' ')}{trials}"
        if most == 0:
            return f"{best[0] if rows.height == 1 else 'each framework'} finds no failure {where}"
        pairs = "one pair" if most == 1 else f"{most:g} pairs"
        subject = best[0] if len(best) == 1 else f"{', '.join(best[:-1])} and {best[-1]}"
        verb = ("finds" if len(best) == 1 else "find") + (" most" if rows.height > len(best) else "")
        return f"{subject} {verb}: {pairs} of seed and wrong class {where}"

    def summary(self) -> str:
        """Return the result in sentences, one a line."""
        lines = [self.headline()]
        left_out = self.starts.filter(pl.col("status") != _FUZZED)
        if left_out.height:
            lines.append(f"{count(left_out.height, 'seed image')} not fuzzed: {left_out['reason'][0]}")
        n_moved = self.failures.filter(pl.col("is_moved")).height
        if n_moved:
            lines.append(
                f"{n_moved:,} of {self.failures.height:,} failures have moved pictures (rotated, scaled, ...), "
                "which keep their label by convention only"
            )
        return "\n".join([*lines, *self._onsets(), *self._comparison()])

    def _onsets(self) -> list[str]:
        """A sentence on the layer at which most failures take hold."""
        by_layer = self.clusters.group_by("layer", maintain_order=True).agg(pl.col("failures").sum())
        if not by_layer.height:
            return []
        total = int(by_layer["failures"].sum())
        layer, number = by_layer.sort("failures", descending=True, maintain_order=True).row(0)
        where = "stay within matched noise at the last layer" if layer is None else f"take hold in {layer}"
        return [f"of {count(total, 'pair')} whose pictures are not moved, {number} {where}"]

    def _comparison(self) -> list[str]:
        """Sentences on differences between frameworks."""
        names = self.frameworks["framework"].unique().to_list()
        if self.record["settings"]["trials"] == 1:
            return ["one trial: no statement about differences between frameworks"] if len(names) > 1 else []
        rows = self.pairs.filter(pl.col("count") == _UNIQUE).to_dicts()
        return [_difference(row) for row in rows if _is_with_control(row) or row["p_holm"] < 0.05] or (
            ["no two frameworks differ in pairs of seed and wrong class beyond chance (Mann-Whitney, Holm)"]
            if rows
            else []
        )


def _is_with_control(row: Mapping[str, Any]) -> bool:
    return any(row[name].startswith(_WITH_CONTROL) for name in ("framework", "other"))


def _difference(row: Mapping[str, Any]) -> str:
    """One pair of frameworks in words."""
    first, second, effect = row["framework"], row["other"], row["a12"]
    if effect < 0.5:
        first, second, effect = second, first, 1 - effect
    verdict = "beyond chance" if row["p_holm"] < 0.05 else "which chance explains"
    return f"{first} against {second}: finds more in {effect:.0%} of pairs of trials, {verdict} (p {row['p_holm']:.2g})"


def open_campaign(path: str | PathLike[str]) -> Campaign:
    """Return a finished campaign.

    Args:
        path: The directory that `camdrift fuzz` wrote.

    Raises:
        StoreError: There is none, or it has not ended.
    """
    directory = CampaignDirectory(local_folder("campaign", path))
    if not directory.is_done:
        hint = (
            f"`camdrift fuzz --resume --out {path}` goes on with it" if directory.is_going_on else "name a folder of it"
        )
        raise StoreError(f"no finished campaign in {path} ({CAMPAIGN_RECORD} is missing)", hint)
    unknown = [name for name in CAMPAIGN_TABLES if not (directory.path / f"{name}.parquet").is_file()]
    if unknown:
        raise StoreError(f"{path} is not complete: {unknown[0]}.parquet is missing", "run the campaign again")
    return Campaign(directory)
