"""What an evaluation of defences says: its tables, rows for a reader, and what one must know before trusting them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from camdrift.statistics.defences import CONDITION
from camdrift.statistics.restoration import depth_of_return
from camdrift.statistics.smoothing import certified_share
from camdrift.tables.defences import ADAPTIVE_STAGE, CLEAN_STAGE, STATIC_ONLY, STATIC_STAGE, UNDEFENDED
from camdrift.tables.detection import UNSUPERVISED
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, count

_HEADS: Final = ("defence", "keeps clean", "static", "adaptive", "comes back from", "ms an image")
_DETECTOR_HEADS: Final = ("detector", "attack from clean", "attack from noise", "noise from clean", "undetected")
# What is told from what.
_TOLD: Final = ((ADVERSARIAL, CLEAN), (ADVERSARIAL, NOISE), (NOISE, CLEAN))
# Bounds that differ by such a share are equal.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Defending:
    """What defences do for a run.

    Attributes:
        defences: Shares of correct predictions, table `defences`.
        restoration: Where maps come back, table `restoration`.
        images: Predictions image by image, table `defended_images`.
        sanity: Checks, table `sanity`.
        detectors: How well detectors tell, table `detectors`.
        certified: Certificates of randomised smoothing, table `certified`.
        strength: The strength that the numbers in words are about.
        place: Path or URL of the run.
    """

    defences: pl.DataFrame
    restoration: pl.DataFrame
    images: pl.DataFrame
    sanity: pl.DataFrame
    detectors: pl.DataFrame
    certified: pl.DataFrame
    strength: float
    place: Path | str

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return heads and rows of a table: a row per defence, the network without one first."""
        return _HEADS, [self._row(spec) for spec in self.defences["defence"].unique(maintain_order=True).to_list()]

    def _row(self, spec: str) -> tuple[str, ...]:
        rows = self.defences.filter(pl.col("defence") == spec)
        clean, static = self._share(rows, CLEAN_STAGE), self._share(rows, STATIC_STAGE)
        if spec == UNDEFENDED:
            return spec, clean, static, "", "", ""
        adaptive, depth = self._share(rows, ADAPTIVE_STAGE) or STATIC_ONLY, self.depth(spec) or "no layer"
        seconds = rows.filter(pl.col("stage") == CLEAN_STAGE)["seconds"].mean()
        return spec, clean, static, adaptive, depth, f"{1000 * float(str(seconds or 0)):.0f}"

    def _share(self, rows: pl.DataFrame, stage: str) -> str:
        cell = rows.filter(pl.col("stage") == stage)
        if stage == STATIC_STAGE:
            cell = cell.filter(pl.col("strength") == self.strength)
        if cell.is_empty() or cell["share"][0] is None:
            return ""
        share, low, high = (100 * cell[name][0] for name in ("share", "low", "high"))
        return f"{share:.0f} % [{low:.0f}, {high:.0f}]"

    def detector_cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return heads and rows of a table of the detectors as they are: their AUC at the strength of the words."""
        rows = self.detectors.filter(pl.col("setting") == UNSUPERVISED, pl.col("strength") == self.strength)
        names = rows["detector"].unique(maintain_order=True).to_list()
        adaptive = self.detectors.filter(pl.col("undetected").is_not_null())
        undetected = {row["detector"]: _undetected(row) for row in adaptive.iter_rows(named=True)}
        cells = [(*(_auc(rows, name, *pair) for pair in _TOLD), undetected.get(name, STATIC_ONLY)) for name in names]
        return _DETECTOR_HEADS, [(name, *row) for name, row in zip(names, cells, strict=True)]

    def certificates(self) -> list[str]:
        """Return what randomised smoothing certifies, a line for each noise."""
        lines = []
        for (sigma,), rows in self.certified.group_by("sigma", maintain_order=True):
            sizes = [(radius, certified_share(rows, radius)) for radius in (0.0, 0.25, 0.5, 1.0)]
            words = ", ".join(f"{hits} within {radius:g}" for radius, (hits, _) in sizes)
            silent = rows["radius"].null_count()
            lines.append(
                f"Smoothed by noise of {sigma:g}, of {count(rows.height, 'image')} certified to keep the class in "
                f"L2: {words}; abstained: {silent}."
            )
        return lines

    def depth(self, spec: str) -> str | None:
        """Return the first layer from which maps stay back behind a defence; None if the last does not come back."""
        rows = self.restoration.filter(pl.col("defence") == spec, pl.col("returned").is_null())
        return depth_of_return(rows)

    def notes(self) -> list[str]:
        """Return what the numbers are, and what a reader must know before trusting them, a line each."""
        n = max(self.defences["n"].to_list(), default=0)
        lines = [
            f"Share of {count(n, 'image')} whose prediction stays that of the clean image, with Wilson 95 % intervals; "
            f"static: the run's attack at strength {self.strength:g}, which does not know the defence; adaptive: the "
            "worst case over it and attacks that know the defence."
        ]
        names = self.defences.filter(pl.col("defence") != UNDEFENDED)["defence"].unique(maintain_order=True).to_list()
        adaptive = set(self.defences.filter(pl.col("stage") == ADAPTIVE_STAGE)["defence"])
        if lone := [name for name in names if name not in adaptive]:
            lines.append(f"{STATIC_ONLY}: no claim about robustness: {', '.join(lone)}")
        lines += [*self._other_bounds(), *self._missing_aucs()]
        failures = self.sanity.filter(~pl.col("passed"))
        for row in failures.iter_rows(named=True):
            # A condition is a trait of the defence, no fault of its evaluation.
            words = "not so" if row["check"].startswith(CONDITION) else "check failed"
            lines.append(f"{words}: {row['defence']}: {row['check']} ({row['detail']})")
        return lines

    def _missing_aucs(self) -> list[str]:
        """A line for every reason for which detectors have no AUC at the strength of the words."""
        rows = self.detectors.filter(pl.col("setting") == UNSUPERVISED, pl.col("strength") == self.strength)
        reasons = rows.filter(pl.col("auc").is_null()).group_by("undefined_reason", maintain_order=True)
        return [
            f"no AUC of {', '.join(part['detector'].unique(maintain_order=True))}: {reason}"
            for (reason,), part in reasons
        ]

    def _other_bounds(self) -> list[str]:
        """A line for every attack that knows the defence and may change more, or less, than the run's attack."""
        bounds = self.defences.filter(pl.col("eps").is_not_null())
        static = bounds.filter(pl.col("stage") == STATIC_STAGE, pl.col("strength") == self.strength)
        adaptive = bounds.filter(pl.col("stage") == ADAPTIVE_STAGE).unique("attack", maintain_order=True)
        if static.is_empty():
            return []
        eps, norm = static.select("eps", "norm").row(0)
        return [
            f"another bound: {row['attack']} may change {row['eps']:.3g} ({row['norm']}), the run's attack {eps:.3g} "
            f"({norm}): the two columns are not of one budget"
            for row in adaptive.iter_rows(named=True)
            if row["norm"] != norm or abs(row["eps"] - eps) > _ROUNDING * eps
        ]


def _undetected(row: Row) -> str:
    """The share of seeds that an attack which knows the detector gets past, with its interval."""
    share, low, high = (100 * row[name] for name in ("undetected", "undetected_low", "undetected_high"))
    return f"{share:.0f} % [{low:.0f}, {high:.0f}]"


def _auc(rows: pl.DataFrame, detector: str, positive: str, negative: str) -> str:
    """The AUC of a detector with its interval, or that there is none."""
    cell = rows.filter(pl.col("detector") == detector, pl.col("positive") == positive, pl.col("negative") == negative)
    if cell.is_empty():
        return ""
    auc, low, high = cell.select("auc", "auc_low", "auc_high").row(0)
    ends = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return "none" if auc is None else f"{auc:.2f}{ends}"
