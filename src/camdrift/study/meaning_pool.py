"""A pool of images around the seeds of a campaign: what each covers and whether it fails, from one pass of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.coverage.base import NeuronBatch, neuron_layout, observe_batch
from camdrift.coverage.bitmaps import SlotState
from camdrift.coverage.profile import features_of
from camdrift.fuzzing.affine import Matrix, moved
from camdrift.fuzzing.constraints import paired_distances
from camdrift.fuzzing.design import CampaignDesign
from camdrift.fuzzing.diverse import DiversePGD
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.operators import OPERATORS, matrix_of, mutate
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.pipeline.noise import matched_draws
from camdrift.streams import stream_seed
from camdrift.tables.arrays import Floats
from camdrift.tensors import Images, perturbed

CLEAN, MUTANT, NOISE, ATTACK = "clean", "mutant", "noise", "attack"
# The attack of strength 1 changes no entry by more; strengths scale its perturbation, and the noise that matches it.
EPSILON: Final = 1 / 255
ATTACK_STRENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
NOISE_STRENGTHS: Final = (1.0, 4.0, 16.0, 32.0)
# How often a mutant that is not valid is drawn again.
_ATTEMPTS: Final = 50


@dataclass(frozen=True)
class Stratum:
    """Images made alike.

    Attributes:
        condition: `CLEAN`, `MUTANT`, `NOISE` or `ATTACK`.
        operator: Operator of mutants; else empty.
        strength: Factor on the perturbation of noise and attacks; else 0.
    """

    condition: str
    operator: str = ""
    strength: float = 0.0

    @property
    def words(self) -> str:
        """Its name."""
        detail = self.operator or (f"x{self.strength:g}" if self.strength else "")
        return f"{self.condition} {detail}".strip()


@dataclass(frozen=True)
class Judge:
    """Another model, which looks at images with its own eyes.

    Attributes:
        classifier: The model.
        layer: Its last layer before the logits.
    """

    classifier: Classifier
    layer: str


@dataclass
class Pool:
    """What is known of the images of a pool, without their pixels.

    Attributes:
        strata: The strata that every seed has an image in.
        left_out: Names of strata that some seed has no valid image in.
        stratum, seed: Of each image, places of its stratum and of its seed.
        failures: Number of its pair of seed and wrong class; -1 where it is no failure.
        classes: Class that the classifier predicts.
        slots: By criterion, slots that each image covers (images, columns); the number of all slots stands for none.
        ssim, l2: Against its seed, moved as the picture was.
        judged: Class that the judge predicts; empty without one.
        features: Features of the judge's last layer (images, features); empty without one.
    """

    strata: list[Stratum] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    stratum: list[int] = field(default_factory=list)
    seed: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    slots: dict[str, list[NDArray[np.int32]]] = field(default_factory=dict)
    ssim: list[float] = field(default_factory=list)
    l2: list[float] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    features: list[Floats] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.seed)

    def rows(self, stratum: int) -> NDArray[np.int64]:
        """Places of the images of a stratum."""
        return np.flatnonzero(np.array(self.stratum) == stratum)

    def cells(self, seeds: int) -> NDArray[np.int64]:
        """Places of images (strata, seeds, draws); a seed with fewer images in a stratum shows some again."""
        lists = {(s, k): list[int]() for s in range(len(self.strata)) for k in range(seeds)}
        for place, key in enumerate(zip(self.stratum, self.seed, strict=True)):
            lists[key].append(place)
        draws = max(map(len, lists.values()))
        grid = [[np.resize(lists[s, k], draws) for k in range(seeds)] for s in range(len(self.strata))]
        return np.array(grid, np.int64)

    def is_failure(self) -> NDArray[np.bool_]:
        """Which images are failures."""
        return np.array(self.failures) >= 0


@dataclass(frozen=True)
class StratumImages:
    """Images of a stratum: their seeds' places, and matrices by which pictures were moved."""

    images: Images
    seeds: Sequence[int]
    matrices: Sequence[Matrix | None]


class PoolMaker:
    """Makes a pool stratum by stratum.

    Args:
        design: Design of the campaign.
        images: Images of its seeds.
        states: By criterion, a state of it, which is a set of slots.
        draws: Images of each seed and stratum.
        steps: Steps of the attack.
        judge: Another model; None for none.
    """

    def __init__(
        self,
        design: CampaignDesign,
        images: Images,
        states: Mapping[str, SlotState],
        *,
        draws: int,
        steps: int,
        judge: Judge | None,
    ) -> None:
        self._design, self._images, self._states = design, images, states
        self._draws, self._attack, self._judge = draws, DiversePGD(EPSILON, steps), judge
        self._classes = torch.tensor([start.seed_class for start in design.starts], device=images.device)
        self._pairs: dict[tuple[int, int], int] = {}

    def pool(self, show: Callable[[int, int], None]) -> Pool:
        """Make all images, and pass each through the models.

        Args:
            show: Called with strata done and all.
        """
        pool = Pool(slots={name: [] for name in self._states})
        total = 1 + len(self._design.operators) + len(NOISE_STRENGTHS) + len(ATTACK_STRENGTHS)
        for number, (stratum, batch) in enumerate(self._strata()):
            show(number, total)
            if len(set(batch.seeds)) < len(self._images):
                pool.left_out.append(stratum.words)
                continue
            pool.strata.append(stratum)
            for rows in batches(range(len(batch.seeds)), self._design.group):
                self._add(pool, batch, rows)
        show(total, total)
        return pool

    def _strata(self) -> Iterator[tuple[Stratum, StratumImages]]:
        n = len(self._images)
        yield Stratum(CLEAN), StratumImages(self._images, range(n), [None] * n)
        for name in self._design.operators:
            yield Stratum(MUTANT, name), self._mutants(name)
        seeds = [place for place in range(n) for _ in range(self._draws)]
        streams = [self._stream(place, f"attack {draw}") for place in range(n) for draw in range(self._draws)]
        sources = self._images[seeds]
        group = self._design.group
        answers = self._attack(self._design.classifier, sources, self._classes[seeds], streams, batch_size=group)
        changes = answers - sources
        for strength in ATTACK_STRENGTHS:
            yield Stratum(ATTACK, strength=strength), self._scaled(sources, changes, seeds, strength)
        keys = [(self._design.starts[seed].seed_id, place % self._draws) for place, seed in enumerate(seeds)]
        noise = matched_draws(list(changes), keys, rng_seed=self._design.rng_seed)
        for strength in NOISE_STRENGTHS:
            yield Stratum(NOISE, strength=strength), self._scaled(sources, torch.stack(noise), seeds, strength)

    def _scaled(self, sources: Images, changes: Images, seeds: Sequence[int], strength: float) -> StratumImages:
        images = [perturbed(*pair, strength) for pair in zip(sources, changes, strict=True)]
        return StratumImages(torch.stack(images), seeds, [None] * len(seeds))

    def _stream(self, place: int, purpose: str) -> int:
        return stream_seed(self._design.rng_seed, self._design.starts[place].seed_id, f"meaning {purpose}")

    def _mutants(self, name: str) -> StratumImages:
        """Valid mutants of every seed by one operator, drawn anew: what a campaign keeps was chosen by coverage."""
        images, seeds, matrices = list[torch.Tensor](), list[int](), list[Matrix | None]()
        for place, seed in enumerate(self._images):
            valid = 0
            for attempt in range(_ATTEMPTS):
                stream = self._stream(place, f"{name} {attempt}")
                rng = np.random.default_rng(stream_seed(stream, name, "parameters"))
                mutation = Mutation(name, OPERATORS[name].draw(rng), stream)
                matrix = matrix_of(mutation)
                mutant = mutate(seed[None], [mutation])
                use = self._design.constraint.use(mutant, moved(seed[None], [matrix]))
                if bool(self._design.constraint.holds(use)[0]):
                    images.append(mutant[0])
                    seeds.append(place)
                    matrices.append(matrix)
                    valid += 1
                if valid == self._draws:
                    break
        return StratumImages(torch.stack(images) if images else self._images[:0], seeds, matrices)

    def _add(self, pool: Pool, batch: StratumImages, rows: Sequence[int]) -> None:
        """Pass some images through the models, and note what comes of them."""
        images, places = batch.images[list(rows)], [batch.seeds[row] for row in rows]
        neurons = observe_batch(self._design.classifier, images)
        with torch.no_grad():
            logits = [neurons.logits, *(other(images) for other in self._design.oracle.others)]
        verdicts = self._design.oracle.judge(logits, self._classes[places])
        for place, is_failure, wrong in zip(places, verdicts.are_failures, verdicts.classes, strict=True):
            pair = self._pairs.setdefault((place, int(wrong)), len(self._pairs)) if is_failure else -1
            pool.failures.append(pair)
        pool.classes += neurons.logits.argmax(1).tolist()
        pool.stratum += [len(pool.strata) - 1] * len(places)
        pool.seed += places
        for name, state in self._states.items():
            pool.slots[name].append(state.rule.counted(neurons).astype(np.int32))
        self._compare(pool, images, moved(self._images[places], [batch.matrices[row] for row in rows]))

    def _compare(self, pool: Pool, images: Images, seeds: Images) -> None:
        """Hold images against their seeds, and show them to the judge."""
        similar, lengths = paired_distances(images, seeds)
        pool.ssim += similar
        pool.l2 += lengths
        if self._judge is not None:
            batch = observe_batch(self._judge.classifier, images)
            pool.judged += batch.logits.argmax(1).tolist()
            pool.features += list(judge_features(self._judge, batch))


def judge_features(judge: Judge, batch: NeuronBatch) -> Floats:
    """Features of the judge's last layer before the logits (images, features)."""
    return features_of(batch, neuron_layout(judge.classifier), judge.layer).astype(np.float64)
