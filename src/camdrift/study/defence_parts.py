"""The parts of an evaluation of defences, each computed once and kept until all are there.

A part is a chunk of the run behind all defences under the run's attack, or behind one under an attack that knows it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from time import perf_counter
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.attacks.base import Attack
from camdrift.attacks.registry import reach_warning
from camdrift.detectors.adaptive import SeedImages, adaptive_sheet, undetected_sheet
from camdrift.detectors.opening import Detectors
from camdrift.detectors.sheet import DetectorScores, ScoreSheet
from camdrift.engine.progress import OnProgress, Progress
from camdrift.models.memory import batches
from camdrift.pipeline.adaptive import Knowing, adaptive_chunk
from camdrift.pipeline.defending import (
    DefendedChunk,
    Evaluation,
    Example,
    clean_examples,
    defend_chunk,
    examples_of,
)
from camdrift.pipeline.seeds import stack
from camdrift.pipeline.smoothing import CHOICE_DRAWS, Smoothing, certify_chunk, noisy_agreement
from camdrift.statistics.smoothing import with_certificates
from camdrift.storage.defence_files import DefenceFiles
from camdrift.study import provenance
from camdrift.study.recomputation import Recomputation
from camdrift.tables.defences import (
    CERTIFIED,
    CLEAN_STAGE,
    DEFENDED_IMAGES,
    NOISE_STAGE,
    PURIFIED_MAPS,
    STATIC_STAGE,
)
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE, count

IMAGES, MAPS = "images", "maps"
UNIT: Final = "images behind defences"
# Seconds of the run's attack on each image of a chunk; scores of detectors.
_TIMES: Final = "times"
_SCORES: Final = "scores"
_UNDETECTED: Final = "undetected"
_UNDETECTED_SCHEMA: Final[dict[str, Any]] = {
    "detector": pl.String(),
    "sha256": pl.String(),
    "is_undetected": pl.Boolean(),
    "combined": pl.Float64(),
    "layers": pl.List(pl.Float64()),
}
_SCORE_SCHEMA: Final[dict[str, Any]] = {
    "detector": pl.String(),
    "condition": pl.String(),
    "strength": pl.Float64(),
    "sha256": pl.String(),
    "combined": pl.Float64(),
    "layers": pl.List(pl.Float64()),
}
_RESULT: Final = "fooled image"
# Images whose pictures are kept.
_PICTURES: Final = 6
_SEED_IDS: Final = "seed_ids"


@dataclass(frozen=True)
class DefenceParts:
    """An evaluation of defences in parts.

    Attributes:
        computation: Plan and chunks of the run.
        evaluation: How defences are judged.
        attacks: Attacks that know the defence.
        detectors: Detectors, fitted; None without any.
        smoothing: Noises that a smoothed classifier is certified with.
        is_static: Are there no attacks that know defences or detectors?
        files: Finished parts.
        show: Called whenever there is something to show.
    """

    computation: Recomputation
    evaluation: Evaluation
    attacks: tuple[Attack, ...]
    detectors: Detectors | None
    smoothing: Smoothing
    is_static: bool
    files: DefenceFiles
    show: OnProgress

    def __post_init__(self) -> None:
        assert self._pairs is not None  # which refuses attacks that do not go with a defence

    def key(self, record: Mapping[str, Any]) -> str:
        """Return what tells this evaluation from others of the same run.

        Args:
            record: The record of the run.
        """
        words = [
            provenance.camdrift_version(),
            str(record.get("finished")),
            str(self.computation.plan.batch_size),
            *(f"{defence.spec} {defence.checksum}" for defence in self.evaluation.defences),
            *(attack.spec for attack in self.attacks),
            str(self.evaluation.draws),
            *self._detector_words,
            str(self.smoothing),
            str(self.is_static),
        ]
        return sha256("\n".join(words).encode()).hexdigest()

    def compute(self) -> None:
        """Compute every part that is not there."""
        n_images, n_chunks = sum(map(len, self._chunks)), len(self._chunks)
        pairs = self._pairs
        sigmas = self.smoothing.sigmas
        n_static = 1 + (self.detectors is not None)  # behind defences, and before detectors
        progress = _Going(self.show, n_images * (n_static + len(pairs) + len(sigmas) + self._knows_detectors))
        progress.stage = "defend"
        for line in filter(None, (reach_warning(attack.spec) for attack in self.attacks)):
            progress.tell(line)
        for number in range(n_chunks):
            if not self.files.has_chunk(number):
                self._compute_static(number, progress)
            progress.finish(n_static * len(self._chunks[number]))
        for sigma in sigmas:
            progress.tell(self._look(sigma))
        for place, number in product(range(len(sigmas)), range(n_chunks)):
            index, progress.stage = n_chunks * (1 + len(pairs) + place) + number, "certify"
            if not self.files.has_chunk(index):
                self._certify(index, number, sigmas[place], progress)
            progress.finish(len(self._chunks[number]))
        if self._knows_detectors:
            progress.stage = "detectors"
            progress.tell(
                f"attacks that know the detectors: 40 steps for each image and {count(self._n_able, 'detector')}"
            )
            for number in range(n_chunks):
                if not self.files.has_chunk(self._first_undetected + number):
                    self._attack_detectors(self._first_undetected + number, number, progress)
                progress.finish(len(self._chunks[number]))
        if pairs:
            progress.tell(self._cost(len(pairs)))
        for place, number in product(range(len(pairs)), range(n_chunks)):
            index, progress.stage = n_chunks * (1 + place) + number, "attack"
            if not self.files.has_chunk(index):
                self._compute_adaptive(index, number, pairs[place], progress)
            is_correct = self.files.read_chunk(index, IMAGES)["is_correct"]
            progress.finish(len(self._chunks[number]), int((~is_correct.fill_null(value=True)).sum()))

    def table(self, name: str) -> pl.DataFrame:
        """Return the rows of all parts.

        Args:
            name: `images` or `maps`.
        """
        empty = {IMAGES: DEFENDED_IMAGES, MAPS: PURIFIED_MAPS}[name].frame()
        numbers = [index for index in sorted(self.files.chunks_done()) if index < self._n_parts]
        rows = pl.concat([empty, *(self.files.read_chunk(index, name) for index in numbers)])
        # A defence's rows together, in the order of the request, the network without one first.
        order = pl.Enum(rows["defence"].unique(maintain_order=True))
        return rows.sort(pl.col("defence").cast(order), maintain_order=True)

    def certified(self) -> pl.DataFrame:
        """Return the rows of table `certified`."""
        numbers = [i for i in sorted(self.files.chunks_done()) if self._n_parts <= i < self._first_undetected]
        parts = [CERTIFIED.frame(), *(self.files.read_chunk(index, CERTIFIED.name) for index in numbers)]
        return with_certificates(pl.concat(parts))

    def pictures(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the arrays of the pictures that are kept: a few seeds, from the first chunks."""
        names: list[str] = []
        for gallery in self.files.chunk_galleries():
            for place, name in enumerate(gallery[_SEED_IDS].tolist() if _SEED_IDS in gallery else ()):
                if len(names) < _PICTURES:
                    for key in self._picture_keys:
                        yield f"{len(names)}/{key}", gallery[f"{place}/{key}"]
                    names.append(name)
        yield _SEED_IDS, np.array(names, dtype=np.str_)
        yield "defences", np.array([each.spec for each in self.evaluation.defences], dtype=np.str_)

    def sheet(self) -> ScoreSheet | None:
        """Return the scores of all detectors; None without any."""
        if self.detectors is None:
            return None
        attack = self.computation.plan.attack
        sheet = self.detectors.sheet(attack.spec, epsilon=None if attack.threat is None else attack.threat.epsilon)
        cells = pl.concat([self.files.read_chunk(number, _SCORES) for number in range(len(self._chunks))])
        for (condition, strength), rows in cells.group_by("condition", "strength", maintain_order=True):
            parts = rows.partition_by("detector", as_dict=True, maintain_order=True)
            scores = {str(name): _scores_of(part) for (name,), part in parts.items()}
            seeds = rows.filter(detector=rows["detector"][0])["sha256"].to_list()
            sheet.add(str(condition), float(str(strength)), scores, seeds)
        return sheet

    def sheets(self) -> list[ScoreSheet]:
        """Return the scores under the run's attack, and under attacks that know the detectors, if there are any."""
        return [sheet for sheet in (self.sheet(), self.adaptive_sheet()) if sheet is not None]

    def adaptive_sheet(self) -> ScoreSheet | None:
        """Return the scores under attacks that know the detectors; None where there are none."""
        static = self.sheet()
        if self.detectors is None or static is None or not self._knows_detectors:
            return None
        sheet = adaptive_sheet(self.detectors, static, epsilon=self._epsilon)
        for number in range(len(self._chunks)):
            rows = self.files.read_chunk(self._first_undetected + number, _UNDETECTED)
            for (name,), part in rows.partition_by("detector", as_dict=True, maintain_order=True).items():
                sheet.add(ADVERSARIAL, 1.0, {str(name): _scores_of(part)}, part["sha256"].to_list())
                sheet.undetected.setdefault(str(name), []).extend(part["is_undetected"].to_list())
        return sheet

    @property
    def _n_able(self) -> int:
        """Number of detectors that an attack can follow."""
        detectors = self.detectors
        return 0 if detectors is None else sum(map(detectors.is_differentiable, detectors.by_name))

    @property
    def _epsilon(self) -> float:
        """Bound on the largest change of a pixel, if the run's attack has one; else 0."""
        threat = self.computation.plan.attack.threat
        return threat.epsilon if threat is not None and threat.norm == "linf" else 0.0

    @property
    def _knows_detectors(self) -> bool:
        """Are there attacks that know the detectors?"""
        return self._n_able > 0 and self._epsilon > 0 and not self.is_static

    @property
    def _first_undetected(self) -> int:
        return self._n_parts + len(self._chunks) * len(self.smoothing.sigmas)

    def _attack_detectors(self, index: int, number: int, progress: "_Going") -> None:
        """Attacks on every detector that has a gradient, for the seeds of a chunk that the run's attack fools."""
        static, plan = self.sheet(), self.computation.plan
        assert self.detectors is not None
        assert static is not None
        scores = self.files.read_chunk(number, _SCORES)
        checksums = set(scores["sha256"])
        names = set(self.files.read_chunk(number, IMAGES)["seed_id"])
        examples = [e for e in clean_examples(plan, self._chunks[number], names) if e.seed.sha256 in checksums]
        rows = [pl.DataFrame(schema=_UNDETECTED_SCHEMA)]
        for count_now, batch in enumerate(batches(examples, plan.batch_size)):
            classes = torch.tensor([each.seed.clean_class for each in batch])
            seeds = [each.seed.sha256 for each in batch]
            images = SeedImages(stack(each.seed.pixels for each in batch), classes, seeds)
            sheet = undetected_sheet(self.detectors, static, [images], epsilon=self._epsilon)
            for name, flags in sheet.undetected.items():
                (part,) = sheet.parts[name][ADVERSARIAL, 1.0]
                columns = {"combined": part.scores.combined.tolist(), "layers": part.scores.layers.tolist()}
                keys = {"detector": [name] * len(seeds), "sha256": seeds, "is_undetected": flags}
                rows.append(pl.DataFrame({**keys, **columns}, schema=_UNDETECTED_SCHEMA))
            progress(min(len(examples), (1 + count_now) * plan.batch_size))
        self.files.write_chunk(index, {_UNDETECTED: pl.concat(rows)}, {})

    @property
    def _n_parts(self) -> int:
        """Number of parts that are about defences."""
        return len(self._chunks) * (1 + len(self._pairs))

    @property
    def _detector_words(self) -> list[str]:
        detectors = self.detectors
        if detectors is None:
            return []
        profile = detectors.setup.profile
        return [*detectors.by_name, *(() if profile is None else sorted(profile.checksums))]

    def _score(self, examples: Sequence[Example], advance: Callable[[int], None]) -> pl.DataFrame:
        """Scores of the images that the attack fools, clean, attacked and noisy, by every detector."""
        rows, victims = [pl.DataFrame(schema=_SCORE_SCHEMA)], [each for each in examples if each.is_fooled]
        if self.detectors is None:
            return rows[0]
        plan = self.computation.plan
        cells = [(CLEAN, CLEAN_STAGE, 0.0)]
        for strength in plan.settings.strengths:
            cells += [(ADVERSARIAL, STATIC_STAGE, strength), (NOISE, NOISE_STAGE, strength)]
        pairs = [*product(batches(victims, plan.batch_size), cells)]
        for number, (batch, (condition, stage, strength)) in enumerate(pairs):
            advance(number * len(victims) // len(pairs))
            seeds = [each.seed.sha256 for each in batch]
            images = stack(each.image(stage, strength) for each in batch)
            for name, scores in self.detectors.scores(images).items():
                columns = {"sha256": seeds, "combined": scores.combined.tolist(), "layers": scores.layers.tolist()}
                constants = {"detector": name, "condition": condition, "strength": strength}
                spread = {key: [value] * len(seeds) for key, value in constants.items()}
                rows.append(pl.DataFrame({**spread, **columns}, schema=_SCORE_SCHEMA))
        return pl.concat(rows)

    @property
    def _pairs(self) -> list[Knowing]:
        return [Knowing(attack, each) for each, attack in product(self.evaluation.defences, self.attacks)]

    @property
    def _chunks(self) -> Sequence[Any]:
        return self.computation.chunks

    @property
    def _picture_keys(self) -> list[str]:
        return ["clean", "attacked", *(f"purified {place}" for place in range(len(self.evaluation.defences)))]

    def _compute_static(self, number: int, progress: "_Going") -> None:
        plan, before = self.computation.plan, perf_counter()
        examples = examples_of(plan, self._chunks[number], progress.tell)
        seconds = (perf_counter() - before) / max(1, len(examples))
        chunk = defend_chunk(plan, examples, self.evaluation, progress, n_pictures=_PICTURES)
        times = pl.DataFrame({"seconds": [seconds] * len(examples)}, schema={"seconds": pl.Float64})
        n_images = len(self._chunks[number])
        scores = self._score(examples, lambda count: progress(n_images + count))
        tables = {IMAGES: chunk.images, MAPS: chunk.maps, _TIMES: times, _SCORES: scores}
        self.files.write_chunk(number, tables, self._arrays(chunk))

    def _compute_adaptive(self, index: int, number: int, knowing: Knowing, progress: "_Going") -> None:
        plan, names = self.computation.plan, set(self.files.read_chunk(number, IMAGES)["seed_id"])
        examples = clean_examples(plan, self._chunks[number], names)
        rows = adaptive_chunk(plan, examples, knowing, self.evaluation, progress)
        self.files.write_chunk(index, {IMAGES: rows, MAPS: PURIFIED_MAPS.frame()}, {})

    def _look(self, sigma: float) -> str:
        """What noise leaves of the predictions, and how long certificates take: told before anybody waits."""
        plan, names = self.computation.plan, set(self.files.read_chunk(0, IMAGES)["seed_id"])
        examples, before = clean_examples(plan, self._chunks[0], names), perf_counter()
        agreement = noisy_agreement(plan, examples, sigma)
        n_images, draws = sum(map(len, self._chunks)), CHOICE_DRAWS + self.smoothing.draws
        minutes = (perf_counter() - before) / max(1, len(examples)) * draws * n_images / 60
        return (
            f"noise of standard deviation {sigma:g} leaves {agreement} of {count(len(examples), 'prediction')}; "
            f"certificates take {draws:,} passes an image, about {count(max(1, round(minutes)), 'minute')}"
        )

    def _certify(self, index: int, number: int, sigma: float, progress: "_Going") -> None:
        plan, names = self.computation.plan, set(self.files.read_chunk(number, IMAGES)["seed_id"])
        rows = certify_chunk(
            plan, clean_examples(plan, self._chunks[number], names), sigma, self.smoothing.draws, progress
        )
        self.files.write_chunk(index, {CERTIFIED.name: rows}, {})

    def _arrays(self, chunk: DefendedChunk) -> dict[str, NDArray[Any]]:
        columns = ["clean", "attacked", *(each.spec for each in self.evaluation.defences)]
        keys = dict(zip(columns, self._picture_keys, strict=True))
        arrays: dict[str, NDArray[Any]] = {_SEED_IDS: np.array([*chunk.pictures], dtype=np.str_)}
        for place, pictures in enumerate(chunk.pictures.values()):
            arrays |= {f"{place}/{keys[column]}": picture for column, picture in pictures.items()}
        return arrays

    def _cost(self, n_pairs: int) -> str:
        """How long attacks that know the defence will take, by how long the run's attack took."""
        times = pl.concat([self.files.read_chunk(number, _TIMES) for number in range(len(self._chunks))])["seconds"]
        passes = sum(self.evaluation.draws if each.is_random else 1 for each in self.evaluation.defences)
        minutes = times.sum() * passes * len(self.attacks) / 60
        words = f"about {count(round(minutes), 'minute')}" if minutes >= 0.5 else "less than a minute"
        return f"{count(n_pairs, 'attack')} that know the defence: {words}, if they take as long as the run's"


def _scores_of(rows: pl.DataFrame) -> DetectorScores:
    return DetectorScores(rows["combined"].to_numpy(), np.array(rows["layers"].to_list(), np.float64))


class _Going:
    """How far an evaluation has come; call it with the images of a part that are done."""

    def __init__(self, show: OnProgress, total: int) -> None:
        self.stage = ""
        self._show, self._total = show, total
        self._done, self._fooled = 0, 0

    def __call__(self, images: int) -> None:
        self._tell(images, ())

    def tell(self, line: str) -> None:
        """Show a line that a person should read."""
        self._tell(0, (line,))

    def finish(self, images: int, successes: int = 0) -> None:
        """Count a part as done."""
        self._done, self._fooled = self._done + images, self._fooled + successes
        self(0)

    def _tell(self, images: int, warnings: tuple[str, ...]) -> None:
        count_now = min(self._done + images, self._total)
        self._show(Progress(self.stage, count_now, self._total, self._fooled, warnings, unit=UNIT, result=_RESULT))
