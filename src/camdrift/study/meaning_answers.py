"""Answers about coverage that need a model: what it rewards, what a push does, where it rises in failures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.coverage.base import observe_batch
from camdrift.coverage.bitmaps import SlotState
from camdrift.coverage.criteria import Criterion
from camdrift.fuzzing.design import CampaignDesign
from camdrift.fuzzing.diverse import DiversePGD
from camdrift.models.memory import batches
from camdrift.statistics.meaning import distance_rows, impartiality_row, layer_rows, mean_over_seeds, meaning_row
from camdrift.streams import stream_seed
from camdrift.study.meaning_pool import ATTACK, CLEAN, EPSILON, Pool
from camdrift.tables.arrays import Floats
from camdrift.tables.meaning import NATURALNESS_QUESTION, PUSH_QUESTION, REWARD_QUESTION
from camdrift.tables.table import Row
from camdrift.tensors import Images

# Weights of the diversity term, beside 0; cross-entropy and divergence are of one order.
_WEIGHTS: Final = (-10.0, -1.0, 1.0, 10.0)
ReadPixels = Callable[[str], NDArray[np.float32]]


@dataclass(frozen=True)
class MeaningDraws:
    """How much is made and drawn.

    Attributes:
        draws: Images of each seed and stratum.
        steps: Steps of attacks.
        repeats: Attacks without diversity, from other random starts.
        suites, permutations, replicates: As `statistics.suites.SuiteDesign`.
    """

    draws: int = 2
    steps: int = 5
    repeats: int = 10
    suites: int = 1000
    permutations: int = 1000
    replicates: int = 200


def reward_rows(pool: Pool, states: Mapping[str, SlotState], slots: Mapping[str, NDArray[np.int32]]) -> list[Row]:
    """What images of each stratum add to the coverage of all clean seeds; a clean seed, to that of the others.

    Args:
        pool: The pool.
        states: By criterion, a state of it.
        slots: By criterion, the slots of all images (images, columns).
    """
    rows, seeds = [], np.array(pool.seed)
    for name, state in states.items():
        hits = np.bincount(slots[name][pool.rows(0)].ravel(), minlength=state.rule.slots + 1)
        hits[-1] = -1  # "none" is never new
        for number, stratum in enumerate(pool.strata):
            places = pool.rows(number)
            is_new = hits[slots[name][places]] == (1 if stratum.condition == CLEAN else 0)
            rng = _rng(name, stratum.words)
            gain, interval = mean_over_seeds(is_new.sum(1).astype(np.float64), seeds[places], rng)
            more = {"criterion": name, "interval": interval}
            rows.append(meaning_row(REWARD_QUESTION, stratum.words, "gain", gain, len(places), **more))
    return rows


def _rng(*words: str) -> np.random.Generator:
    return np.random.default_rng(stream_seed(0, " ".join(words), "meaning"))


def naturalness_rows(pool: Pool, design: CampaignDesign) -> list[Row]:
    """How near changed images lie to their seeds: measures measures first, then distances of features."""
    seeds, rows = np.array(pool.seed), list[Row]()
    classes = np.array([design.starts[place].seed_class for place in pool.seed])
    measures = {"ssim": np.array(pool.ssim), "l2": np.array(pool.l2)}
    if pool.judged:
        measures["judge agreement"] = (np.array(pool.judged) == classes).astype(np.float64)
    features = np.array(pool.features)
    for number, stratum in enumerate(pool.strata):
        places = pool.rows(number)
        for measure, values in measures.items():
            mean, interval = mean_over_seeds(values[places], seeds[places], _rng(measure, stratum.words))
            more = {"interval": interval, "reason": "the picture is too small"}
            rows.append(meaning_row(NATURALNESS_QUESTION, stratum.words, measure, mean, len(places), **more))
        if stratum.condition != CLEAN:
            sides = (places, pool.rows(0))
            one, clean = (features[each] if len(features) else features for each in sides)
            rows += distance_rows(stratum.words, one, clean, (seeds[places], seeds[pool.rows(0)]))
    return rows


def impartiality_rows(pool: Pool, design: CampaignDesign, failures: pl.DataFrame) -> list[Row]:
    """How evenly wrong classes are spread, of the pool's failures and of the campaign's."""
    clean = np.array(pool.classes)[pool.rows(0)]
    number, rng_seed = design.classifier.classes, design.rng_seed
    conditions = np.array([stratum.condition for stratum in pool.strata])[pool.stratum]
    kinds = {
        f"failures of {name}": np.array(pool.classes)[(conditions == name) & pool.is_failure()]
        for name in dict.fromkeys(conditions[1:].tolist())
        if name != CLEAN
    }
    pairs = failures.filter(pl.col("wrong_class").is_not_null()).unique(["seed_id", "wrong_class"], maintain_order=True)
    kinds["failures of the campaign"] = pairs["wrong_class"].to_numpy()
    return [impartiality_row(name, classes, clean, number, rng_seed=rng_seed) for name, classes in kinds.items()]


def push_rows(
    pool: Pool, design: CampaignDesign, images: Images, criteria: Mapping[str, Criterion], draws: MeaningDraws
) -> list[Row]:
    """Success and coverage of PGD with a diversity term at a fixed bound, beside repeats without it.

    The bound is the strength of the pool's attack that fools the model closest to half of the time.
    """
    attacks = [(number, each) for number, each in enumerate(pool.strata) if each.condition == ATTACK]
    rates = [abs(float(pool.is_failure()[pool.rows(number)].mean()) - 0.5) for number, _ in attacks]
    epsilon = EPSILON * attacks[int(np.argmin(rates))][1].strength
    runs: dict[float, list[dict[str, float]]] = {}
    for weight in (*_WEIGHTS, 0.0):
        for repeat in range(1 if weight else draws.repeats):
            attack = DiversePGD(epsilon, draws.steps, weight)
            runs.setdefault(weight, []).append(_push(attack, design, images, criteria, repeat))
    rows = []
    for weight in _WEIGHTS:
        for name, value in runs[weight][0].items():
            repeats = [run[name] for run in runs[0.0]]
            more = {"criterion": name or None, "null": (min(repeats), max(repeats))}
            measure = "coverage" if name else "success"
            rows.append(meaning_row(PUSH_QUESTION, f"weight={weight:g}", measure, value, len(images), **more))
    return rows


def _push(
    attack: DiversePGD, design: CampaignDesign, images: Images, criteria: Mapping[str, Criterion], repeat: int
) -> dict[str, float]:
    """Coverage by criterion of an attack's images, and their share of failures by the empty name."""
    states = {name: criterion.start() for name, criterion in criteria.items()}
    classes = torch.tensor([start.seed_class for start in design.starts], device=images.device)
    streams = [stream_seed(design.rng_seed, start.seed_id, f"push {repeat}") for start in design.starts]
    answers = attack(design.classifier, images, classes, streams, batch_size=design.group)
    failures = 0
    for batch in batches(range(len(images)), design.group):
        part = answers[batch[0] : batch[-1] + 1]
        neurons = observe_batch(design.classifier, part)
        with torch.no_grad():
            logits = [neurons.logits, *(other(part) for other in design.oracle.others)]
        failures += int(design.oracle.judge(logits, classes[list(batch)]).are_failures.sum())
        for state in states.values():
            state.fold(neurons, np.ones(len(part), np.bool_))
    values = {name: state.reading().value for name, state in states.items()}
    return {"": failures / len(images), **{name: np.nan if each is None else each for name, each in values.items()}}


def onset_rows(
    failures: pl.DataFrame,
    read: ReadPixels,
    design: CampaignDesign,
    states: Mapping[str, SlotState],
    clean: Mapping[str, NDArray[np.int32]],
    draws: MeaningDraws,
) -> list[Row]:
    """Does a failure add to the coverage of the layer where it takes hold?

    Args:
        failures: Table `failures`.
        read: Returns the image of a failure.
        design: The campaign's design.
        states: By criterion, a state of it.
        clean: By criterion, slots of the clean seeds.
        draws: How much is drawn.
    """
    rows = failures.filter(pl.col("onset").is_not_null() & pl.col("image").is_not_null())
    gains = _layer_gains([*rows["image"]], read, design, states, clean)
    results = []
    for name, state in states.items():
        layout = state.layout
        names = () if layout is None else layout.layers
        places = {layer: number for number, layer in enumerate(names)}
        onsets = np.array([places.get(layer, -1) for layer in rows["onset"]], np.int64)
        is_known = onsets >= 0
        numbers = {"permutations": draws.permutations, "rng_seed": design.rng_seed}
        results += layer_rows(name, gains[name][is_known], onsets[is_known], names, numbers)
    return results


def _layer_gains(
    names: Sequence[str],
    read: ReadPixels,
    design: CampaignDesign,
    states: Mapping[str, SlotState],
    clean: Mapping[str, NDArray[np.int32]],
) -> dict[str, Floats]:
    """By criterion, the slots of each layer that each image is the first to cover (images, layers)."""
    is_covered = {name: np.zeros(state.rule.slots + 1, np.bool_) for name, state in states.items()}
    parts: dict[str, list[Floats]] = {}
    for name in states:
        is_covered[name][clean[name]] = True
        is_covered[name][-1] = True
        parts[name] = [np.zeros((0, len(layout.layers) if (layout := states[name].layout) else 0))]
    for batch in batches(names, design.group):
        images = torch.as_tensor(np.stack([read(name) for name in batch])).to(design.classifier.device)
        neurons = observe_batch(design.classifier, images)
        for name, state in states.items():
            if state.layout is None:
                parts[name].append(np.zeros((len(batch), 0)))
                continue
            of_neuron = np.repeat(np.arange(len(state.layout.sizes)), state.layout.sizes)
            rows = [row[~is_covered[name][row]] for row in state.rule.counted(neurons)]
            counts = [np.bincount(of_neuron[state.rule.neurons(r)], minlength=len(state.layout.sizes)) for r in rows]
            parts[name].append(np.array(counts, np.float64))
    return {name: np.concatenate(each) for name, each in parts.items()}


def clean_slots(pool: Pool, slots: Mapping[str, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    """By criterion, the slots of the clean seeds."""
    return {name: each[pool.rows(0)] for name, each in slots.items()}
