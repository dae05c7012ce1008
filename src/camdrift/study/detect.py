"""Detectors that tell adversarial from noisy images by layer similarities: the question of NoiseCAM (arXiv 2303.06151).

NoiseCAM reports that the deviation of vulnerable layers detects adversarial examples. Here a detector learns from the
similarities of all layers, and is judged on seeds that it has not seen; the map that NoiseCAM also proposes is no
part of it. Reference `seed` holds every image against the clean image, which nobody has who must judge an image: it
says what the layers know, not what a defence could do. Reference `denoised` needs the judged image alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from camdrift.detectors.cross_validation import LEAST_FOLDED_SEEDS, Examples, assess
from camdrift.errors import UserError
from camdrift.figures.detection import DETECTION_FIGURE, detection_figure
from camdrift.report.encoding import figure_files
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.study import Study
from camdrift.tables.detection import DETECTION, ROC
from camdrift.tables.file_names import FIGURES, RECORD
from camdrift.tables.measures import of_first_measure
from camdrift.tables.reading import Stored, by_seeds, distinct, height, scan
from camdrift.tables.run_json import Record, effective, input_of
from camdrift.tables.study import TABLES
from camdrift.tables.words import (
    ADVERSARIAL,
    CLEAN,
    DENOISED_REFERENCE,
    NOISE,
    SEED_REFERENCE,
    TARGET_ORDER,
    strength_text,
)

_NEGATIVES: Final = {SEED_REFERENCE: (NOISE,), DENOISED_REFERENCE: (NOISE, CLEAN)}
_REFERENCES: Final = {
    SEED_REFERENCE: "seed (needs the clean image)",
    DENOISED_REFERENCE: "denoised (needs no clean image)",
}
_TITLE: Final = (
    "AUC [95 % interval] of detectors that read the similarities of all layers, on seeds that they were not "
    "trained on; 0.5 is chance."
)
_MODEL: Final = ("spec", "weights_sha256")


@dataclass(frozen=True)
class Detection:
    """The performance of detectors.

    Attributes:
        detection: AUC with its interval, table `detection`.
        roc: ROC curves, table `roc`.
    """

    detection: pl.DataFrame
    roc: pl.DataFrame

    def notes(self) -> list[str]:
        """Return what the numbers are, and what was not measured, a line each."""
        lines = [_TITLE]
        if DENOISED_REFERENCE not in self.detection["reference"]:
            lines.append("Nothing was measured without the clean image: that needs a run with --denoised.")
        return lines

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of the AUCs as a table; every row says whether it needs the clean image."""
        strengths = sorted(self.detection["strength"].drop_nulls().unique().to_list())
        heads = ["reference", "class", "told from", *(f"strength {strength_text(s)}" for s in strengths)]
        heads += ["all strengths", "seeds"]
        pairs = list(self.detection.group_by("trained_on", "tested_on", maintain_order=True))
        rows = [[*map(str, pair), *row] for pair, part in pairs for row in _rows(part, strengths)]
        is_lone = len(pairs) < 2
        return (heads, [row[2:] for row in rows]) if is_lone else (["trained on", "tested on", *heads], rows)


def detect(study: Study, *others: Study) -> Detection:
    """Train and test detectors of adversarial images, and write their AUCs into the run directory of `study`.

    A detector is a standardised logistic regression on the similarities of all layers of one image, adversarial
    against noisy images of the same strength (strengths of the attack only, all draws) and, by the denoised reference,
    against clean ones. It is judged on seeds that it has not seen: cross-validation by seed, five folds or as many as
    there are seeds. Seeds count as the same by the checksum of their file, whatever it is called. Undefined
    similarities are imputed inside the fold, by the median of the training fold and a flag.

    With several runs every ordered pair is added: trained on one attack, tested on another, again with no seed on
    both sides.

    Args:
        study: A finished study; it gets the tables `detection` and `roc` and the figure.
        others: Finished studies of the same model and layers.

    Raises:
        UserError: Fewer than four analysed seeds, different models or layers, the same run twice.
        StoreError: A table cannot be read or written.
    """
    studies = (study, *others)
    _check(studies)
    for each in studies:
        each.check_fit()
    runs = [readings(name, _tables(each)) for name, each in zip(_names(studies), studies, strict=True)]
    for each, run in zip(studies, runs, strict=True):
        if run.n_seeds < LEAST_FOLDED_SEEDS:
            raise UserError(
                f"`runs` must have at least {LEAST_FOLDED_SEEDS} different analysed seed images each, "
                f"got: {run.n_seeds} in {each.place}",
                "a run of more images, or of an attack that succeeds more often, can be judged",
            )
    detection = detection_of(runs, rng_seed=effective(study.record)["rng_seed"])
    _write(study, detection)
    return detection


def figure_place(study: Study) -> str:
    """Path or URL of the figure that `detect` draws of a study."""
    return f"{study.place}/{FIGURES}/{DETECTION_FIGURE}.png"


def _write(study: Study, detection: Detection) -> None:
    directory = RunDirectory(study.path)
    results = {DETECTION.name: detection.detection, ROC.name: detection.roc}
    scans = {name: table.lazy() for name, table in results.items()}
    tables = of_first_measure(Stored({**directory.stored_tables(*TABLES).scans, **scans}))
    figures = list(figure_files(DETECTION_FIGURE, detection_figure(tables, study.record)))
    directory.replace_tables(results, figures)
    study.keep(f"{DETECTION.name}.parquet", f"{ROC.name}.parquet", FIGURES, RECORD)


def _tables(study: Study) -> Mapping[str, pl.DataFrame]:
    directory = RunDirectory(study.path)
    further = ("denoised",) if directory.has_table("denoised") else ()
    return of_first_measure(directory.stored_tables("seeds", "similarity", *further))


def _names(studies: Sequence[Study]) -> list[str]:
    """The attack of each run, followed by its run directory where two runs share an attack."""
    attacks = [attack_of(study.record) for study in studies]
    pairs = zip(attacks, studies, strict=True)
    return [attack if attacks.count(attack) == 1 else f"{attack} ({study.path})" for attack, study in pairs]


def attack_of(record: Record) -> str:
    """Return the attack spec of a run, as tables name it."""
    return str(effective(record)["attack"])


def _check(studies: Sequence[Study]) -> None:
    """Raise `UserError` unless these are different runs of one model and the same layers of it."""
    first = studies[0]
    paths = [study.path.resolve() for study in studies]
    twice = [str(study.path) for study, path in zip(studies, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise UserError(f"`runs` must be different runs, got twice: {twice[0]}")
    for other in studies[1:]:
        one, two = (_model(study) for study in (first, other))
        keys = dict.fromkeys([*one, *two])
        differences = [f"{k} {one.get(k)} and {two.get(k)}" for k in keys if one.get(k) != two.get(k)]
        if differences:
            raise UserError(
                f"`runs` must be of the same model, got: {'; '.join(differences)} in {first.path} and {other.path}",
                "a detector reads the layers of one model; run both attacks on it",
            )
        _check_layers(first, other)


def _model(study: Study) -> dict[str, Any]:
    """Properties of the model by which a detector's runs must agree."""
    model = study.record["model"]
    return {**{key: model[key] for key in _MODEL}, **input_of(model)}


def _check_layers(first: Study, other: Study) -> None:
    mine, theirs = (list(effective(study.record)["layers"]) for study in (first, other))
    if mine != theirs:
        lone = [name for name in [*mine, *theirs] if (name in mine) != (name in theirs)]
        raise UserError(
            f"`runs` must have the same layers, got: {len(mine)} in {first.path} and {len(theirs)} in {other.path} "
            f"({lone[0]} in one of them only)",
            "run both attacks with the same --layers",
        )


@dataclass(frozen=True)
class _Images:
    """All images of a run under one reference and target.

    Attributes:
        features: Similarity per layer, (images, layers); NaN where undefined.
        conditions: (images,).
        strengths: (images,).
        seeds: Checksum of each image's seed, (images,).
    """

    features: NDArray[np.float64]
    conditions: NDArray[np.str_]
    strengths: NDArray[np.float64]
    seeds: NDArray[np.str_]

    @property
    def attack_strengths(self) -> set[float]:
        """Strengths of the attack."""
        return set(self.strengths[self.conditions == ADVERSARIAL].tolist())

    @property
    def n_seeds(self) -> int:
        """Number of different seed images."""
        return len(set(self.seeds.tolist()))

    def examples(self, negative: str, strengths: Sequence[float]) -> Examples:
        """Adversarial images of these strengths, with noisy ones of the same strengths or all clean ones."""
        at = np.isin(self.strengths, strengths)
        is_adversarial = at & (self.conditions == ADVERSARIAL)
        others = self.conditions == CLEAN if negative == CLEAN else at & (self.conditions == NOISE)
        return Examples(self.features, is_adversarial, self.seeds)[is_adversarial | others]


@dataclass(frozen=True)
class Readings:
    """A run as detectors read it.

    Attributes:
        name: Its name in tables.
        images: Its images by (reference, target).
    """

    name: str
    images: Mapping[tuple[str, str], _Images]

    @property
    def n_seeds(self) -> int:
        """Number of different seed images, under the reference and target that have most."""
        return max((images.n_seeds for images in self.images.values()), default=0)


def readings(name: str, tables: Mapping[str, pl.DataFrame]) -> Readings:
    """Return a run as detectors read it.

    Args:
        name: Its name in tables.
        tables: By name: seeds, similarity and, for the reference that needs no clean image, denoised.
    """
    seeds, similarity = tables["seeds"].select("seed_id", "sha256"), scan(tables, "similarity")
    targets = set(distinct(similarity, "target")["target"])
    images = {
        (SEED_REFERENCE, target): _images(similarity.filter(pl.col("target") == target), seeds)
        for target in TARGET_ORDER
        if target in targets
    }
    if "denoised" in tables and height(rows := scan(tables, "denoised")):
        images[DENOISED_REFERENCE, "own"] = _images(rows, seeds)
    return Readings(name, images)


def _images(rows: pl.LazyFrame, seeds: pl.DataFrame) -> _Images:
    """Return the images behind the rows of one target, which are read piece by piece."""
    keys = ("seed_id", "condition", "strength", "draw")
    pictures, similarities = [], []
    for piece in by_seeds(rows, *keys, "layer_index", "similarity"):
        ordered_rows = piece.sort(*keys, "layer_index")
        pictures.append(ordered_rows.select(keys).unique(maintain_order=True))
        similarities.append(ordered_rows["similarity"].fill_null(np.nan).to_numpy().reshape(pictures[-1].height, -1))
    images, values = pl.concat(pictures).join(seeds, on="seed_id", maintain_order="left"), np.concatenate(similarities)
    conditions, checksums = (np.array(images[name].to_list(), np.str_) for name in ("condition", "sha256"))
    return _Images(values, conditions, images["strength"].to_numpy(), checksums)


def detection_of(runs: Sequence[Readings], *, rng_seed: int, n_bootstrap: int = 1000) -> Detection:
    """Train and test detectors within each run, and from each run to each other.

    A pair of runs leaves out what only one of them has (a reference, a target, a strength), and a target with fewer
    than four seeds, which happens where few images have a label.

    Args:
        runs: Runs of the same layers.
        rng_seed: Fixes the bootstrap.
        n_bootstrap: Number of resamples of the seeds.
    """
    rows: list[dict[str, Any]] = []
    corners = [ROC.frame()]
    for keys, train, test in _tasks(runs):
        result = assess(train, test, rng_seed=rng_seed, n_bootstrap=n_bootstrap)
        sizes = {"n_seeds": len(set(test.seeds.tolist())), "n_images": len(test.seeds)}
        rows.append({**keys, **sizes, "auc": result.auc, "auc_low": result.low, "auc_high": result.high})
        rates = {"false_positive_rate": result.false_positive_rate, "true_positive_rate": result.true_positive_rate}
        columns = {name: [value] * len(result.true_positive_rate) for name, value in keys.items()}
        corners.append(ROC.frame(columns | rates))
    return Detection(DETECTION.frame(rows), pl.concat(corners))


def _tasks(runs: Sequence[Readings]) -> Iterator[tuple[dict[str, Any], Examples, Examples]]:
    """Yield key columns, images to train on and images to test on; each run with itself comes first."""
    for train, test in [*((run, run) for run in runs), *permutations(runs, 2)]:
        names = {"trained_on": train.name, "tested_on": test.name}
        for reference, target in train.images:
            if (reference, target) not in test.images:
                continue
            mine, theirs = (run.images[reference, target] for run in (train, test))
            if min(mine.n_seeds, theirs.n_seeds) < LEAST_FOLDED_SEEDS:
                continue
            for negative in _NEGATIVES[reference]:
                keys = {"reference": reference, **names, "negative": negative, "target": target}
                for s in sorted(mine.attack_strengths & theirs.attack_strengths):
                    yield {**keys, "strength": s}, mine.examples(negative, [s]), theirs.examples(negative, [s])
                train_all, test_all = (i.examples(negative, sorted(i.attack_strengths)) for i in (mine, theirs))
                yield {**keys, "strength": None}, train_all, test_all


def _rows(detection: pl.DataFrame, strengths: Sequence[float]) -> list[list[str]]:
    """Cells for one pair of runs: a row per reference, target and negative, a column per strength."""
    keys = ("reference", "target", "negative")
    rows = []
    for (reference, target, negative), part in detection.group_by(*keys, maintain_order=True):
        aucs = part.select("strength", "auc", "auc_low", "auc_high").iter_rows()
        cells = {strength: f"{auc:.2f} [{low:.2f}, {high:.2f}]" for strength, auc, low, high in aucs}
        words = [_REFERENCES[str(reference)], str(target), str(negative)]
        rows.append([*words, *(cells.get(s, "") for s in [*strengths, None]), str(part["n_seeds"][0])])
    return rows
