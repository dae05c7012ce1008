"""DLFuzz: walk uphill on class confusion and neuron activation (Guo et al., ESEC/FSE 2018), in batches.

Differences from the published code, each on purpose:
- Success is a prediction on the *clipped* image that differs from that of the seed itself (published: unclipped, and
  different from the popped image, so that a fuzzed image which returns to the seed's class counts as a success).
- The first success of a seed is its adversarial example, and ends its walk (published: it walks on).
- The network only ever sees clipped images; the walk itself is not clipped.
- The queue keeps an image as it was when it joined (published: in-place steps move it on to the last iterate).
- Class scores may be logits (`scores="logit"`); the published ImageNet call uses probabilities, whose gradient
  vanishes at confident seeds.
- The seeds of a chunk advance side by side; coverage is merged in seed order after each step, and `walkers=1` walks
  them one after the other, as published.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from sys import float_info
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.attacks.base import PER_IMAGE, Advance, SeedBatch, Threat
from camdrift.attacks.gradients import CUT, ZERO
from camdrift.attacks.registry import PRESETS
from camdrift.coverage.neurons import THRESHOLD, NeuronObserver, NeuronRecord
from camdrift.coverage.strategies import STRATEGIES, ChosenNeurons, NeuronTable, neuron_table, select_neurons
from camdrift.errors import UserError
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas
from camdrift.streams import stream_seed
from camdrift.tensors import Attacked, Image, Logits, perturbed

# The published 1e-5 stabilises a gradient per grey level; ours is per unit of [0, 1].
TINY: Final = 1e-5 * 255


@dataclass(frozen=True)
class _Queued:
    """An image in a seed's queue: its perturbation, its ranking of classes and its neurons."""

    perturbation: Image
    classes: Tensor
    covered: NDArray[np.bool_]
    values: NDArray[np.float64]


@dataclass
class _Walk:
    """One seed on its way uphill; the walk changes as it goes on."""

    position: int
    seed: Image
    clean_class: int
    norm: float
    rng: np.random.Generator
    queue: deque[_Queued]
    perturbation: Image = field(init=False)
    classes: Tensor = field(init=False)
    selection: ChosenNeurons = field(init=False)
    iterations: int = 0
    adversarial: Image | None = None
    fault: str = ZERO

    @property
    def image(self) -> Image:
        return perturbed(self.seed, self.perturbation)


@dataclass(frozen=True)
class _Pass:
    """One pass of a batch of walks through the network; without a gradient at the last image."""

    logits: Logits
    neurons: NeuronRecord
    gradient: Tensor | None


class _Answers:
    """What the network answers to a batch of walks: read at once, by row."""

    def __init__(self, attack: "DLFuzz", walks: Sequence[_Walk], outputs: _Pass) -> None:
        logits, values = outputs.logits, outputs.neurons.values
        lengths = torch.stack([torch.linalg.vector_norm(walk.perturbation) for walk in walks])
        numbers = torch.stack([logits.argmax(1).double(), torch.isfinite(logits).all(1).double(), lengths.double()])
        self.classes, self.are_finite, self.lengths = numbers.cpu().numpy()
        self.covered = (values > attack.threshold).cpu().numpy()
        self.values = values.double().cpu().numpy()
        self.rankings = ranked_classes(logits, attack.competitors)


@dataclass(frozen=True)
class DLFuzz:
    """The DLFuzz attack. Defaults are the published ImageNet call; `dlfuzz:paper` is Renkhoff 2022's.

    Attributes:
        preset: Name of the preset.
        strategy: Any of the digits 0 to 3, combined as in "02", or "none".
        neurons: How many neurons to activate, in all.
        threshold: Scaled output above which a neuron is covered.
        iterations: Steps per popped image.
        step: Root mean square of one step, in pixel units.
        predict_weight: Weight of the competing classes in the objective.
        neuron_weight: Weight of the neurons in the objective.
        competitors: How many competing classes.
        scores: What stands for a class in the objective: probability or logit.
        keep_gain: An image joins the queue if it adds more than `keep_gain / (position + 1)` of coverage ...
        keep_ratio: ... and lies closer to its seed than this share of the mean-subtracted seed's L2 norm.
        walkers: Seeds that advance side by side; 0 for the whole chunk.
    """

    threat: ClassVar[Threat | None] = None
    seeding: ClassVar[str] = PER_IMAGE

    preset: str = "dlfuzz"
    strategy: str = "2"
    neurons: int = 10
    threshold: int | float = THRESHOLD
    iterations: int = 3
    step: int | float = 0.5 / 255
    predict_weight: int | float = 0.5
    neuron_weight: int | float = 0.5
    competitors: int = 4
    scores: str = "probability"
    keep_gain: int | float = 0.01
    keep_ratio: int | float = 0.02
    walkers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", str(self.strategy).lower())
        if self.preset not in PRESETS:
            _refuse("preset", f"be one of {', '.join(PRESETS)}", self.preset)
        if not self.strategies or len(set(self.strategies)) < len(self.strategies):
            _refuse("strategy", "be none or different digits 0 to 3", self.strategy)
        for name, least in (
            ("neurons", len(self.strategies)),
            ("iterations", 1),
            ("competitors", 1),
            ("walkers", 0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                _refuse(name, f"be an integer of at least {least}", value)
        for name in ("step", "predict_weight", "neuron_weight", "keep_gain", "keep_ratio"):
            if not _lies_within(value := getattr(self, name), float_info.max):
                _refuse(name, "be a number of at least 0", value)
        if not _lies_within(self.threshold, 1.0):
            _refuse("threshold", "be a number from 0 to 1", self.threshold)
        if self.scores not in ("probability", "logit"):
            _refuse("scores", "be probability or logit", self.scores)

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Names of the settings."""
        return tuple(f.name for f in fields(cls) if f.name != "preset")

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies as separate names; empty if any is unknown."""
        if self.strategy == "none":
            return ("none",)
        return tuple(self.strategy) if set(self.strategy) <= set(STRATEGIES) else ()

    @property
    def spec(self) -> str:
        """The preset with every setting that differs from its default, and every one that the preset sets."""
        names = [
            f.name
            for f in fields(self)
            if f.name in PRESETS[self.preset] or (f.name != "preset" and getattr(self, f.name) != f.default)
        ]
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.preset}({inside})" if inside else self.preset

    def check(self, classifier: Classifier) -> None:
        """Every classifier has neurons to activate."""

    def __call__(
        self, classifier: Classifier, seeds: SeedBatch, *, batch_size: int, advance: Advance
    ) -> list[Attacked]:
        """For each seed of the chunk its base perturbation, or none (see `attacks.base.Attack`)."""
        chunk = _Chunk(self, classifier, batch_size)
        walks = _starts(self, classifier, seeds)
        for group in batches(walks, self.walkers or max(1, len(walks))):
            for count in chunk.advance(group):
                successes = sum(walk.adversarial is not None for walk in walks)
                advance(group[0].position + count, successes)
        return [_attacked(walk) for walk in walks]


def _attacked(walk: _Walk) -> Attacked:
    if walk.adversarial is not None:
        return Attacked(walk.adversarial, walk.iterations)
    return Attacked(None, walk.iterations, reason=walk.fault, is_failure=bool(walk.fault))


def _lies_within(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _refuse(name: str, rule: str, value: object) -> None:
    raise UserError(f"`attack` setting `{name}` must {rule}, got: {value}")


def _starts(attack: DLFuzz, classifier: Classifier, seeds: SeedBatch) -> list[_Walk]:
    """A walk for every seed, from the clean image on; what the network says of these is read at once."""
    images, values = seeds.images, seeds.neurons.values
    mean = torch.tensor(classifier.mean, device=images.device).view(3, 1, 1)
    norms = torch.stack([torch.linalg.vector_norm(image - mean) for image in images]).tolist()
    rankings, classes = ranked_classes(seeds.logits, attack.competitors), seeds.logits.argmax(1).tolist()
    covered, numbers = (values > attack.threshold).cpu().numpy(), values.double().cpu().numpy()
    return [
        _Walk(
            position,
            image,
            classes[position],
            norms[position],
            np.random.default_rng(stream_seed(seeds.rng_seed, seed_id, "attack")),
            deque(
                [_Queued(torch.zeros_like(images[position]), rankings[position], covered[position], numbers[position])]
            ),
        )
        for position, (seed_id, image) in enumerate(zip(seeds.seed_ids, images, strict=True))
    ]


def ranked_classes(logits: Tensor, competitors: int) -> Tensor:
    """The predicted class of each image and its competitors, best first."""
    return logits.topk(min(1 + competitors, logits.shape[1])).indices


class _Chunk:
    """Coverage shared by the walks of one chunk."""

    def __init__(self, attack: DLFuzz, classifier: Classifier, batch_size: int) -> None:
        self.attack, self.classifier, self.batch_size = attack, classifier, batch_size
        self.table: NeuronTable = neuron_table(classifier)
        self.times = np.zeros(len(self.table.is_dense), dtype=np.int64)

    def advance(self, walks: Sequence[_Walk]) -> Iterator[int]:
        """Walk all of them to their end; yield after every round how many have ended."""
        active = list(walks)
        while active := [walk for walk in active if walk.adversarial is None and walk.queue]:
            yield len(walks) - len(active)
            for walk in active:
                self._pop(walk)
            for iteration in range(self.attack.iterations + 1):
                self._iterate(active, iteration)
        yield len(walks)

    def _pop(self, walk: _Walk) -> None:
        image = walk.queue.popleft()
        self.times += image.covered
        walk.perturbation, walk.classes = image.perturbation.clone(), image.classes
        walk.selection = select_neurons(
            self.attack.strategies,
            self.attack.neurons,
            table=self.table,
            times=self.times,
            values=image.values,
            threshold=self.attack.threshold,
            rng=walk.rng,
        )

    def _iterate(self, active: Sequence[_Walk], iteration: int) -> None:
        """Make one pass at the current images: judge them (but not at first), then step on (but not at last)."""
        walking = [walk for walk in active if walk.adversarial is None]
        is_last = iteration == self.attack.iterations
        parts, look = [*batches(walking, self.batch_size)], partial(self._pass, differentiate=not is_last)
        with on_replicas(self.classifier, look, parts) as results:
            passes = [*results]
        for batch, outputs in zip(parts, passes, strict=True):
            if outputs.gradient is not None:
                steps = self.attack.step * normalised(outputs.gradient)
                has_gradient = outputs.gradient.flatten(1).any(1).tolist()
            answers = _Answers(self.attack, batch, outputs) if iteration > 0 else None
            for row, walk in enumerate(batch):
                if answers is not None:
                    self._judge(walk, answers, row)
                if outputs.gradient is not None and walk.adversarial is None:
                    walk.perturbation = walk.perturbation + steps[row]
                    walk.fault = "" if has_gradient[row] else walk.fault
                    walk.iterations += 1

    def _pass(self, classifier: Classifier, walks: Sequence[_Walk], *, differentiate: bool) -> _Pass:
        images = torch.stack([walk.image for walk in walks]).requires_grad_(differentiate)
        observer = NeuronObserver(classifier)
        with torch.set_grad_enabled(differentiate), hooks.capturing({}, observer.receivers):
            logits = classifier(images)
            record = observer.record(logits)
            if not differentiate:
                return _Pass(logits, record, None)
            rankings, selections = torch.stack([walk.classes for walk in walks]), [walk.selection for walk in walks]
            objective = uphill(self.attack, classifier, logits, record, rankings, selections).sum()
        if not objective.requires_grad:
            for walk in walks:
                walk.fault = CUT
            return _Pass(logits.detach(), record, torch.zeros_like(images))
        gradient = torch.autograd.grad(objective, images, materialize_grads=True)[0]
        return _Pass(logits.detach(), record, gradient)

    def _judge(self, walk: _Walk, answers: _Answers, row: int) -> None:
        """End the walk if its image fools the model, or else queue the image if it is worth it."""
        before = np.count_nonzero(self.times)
        self.times += answers.covered[row]
        gain = (np.count_nonzero(self.times) - before) / self.times.size
        if answers.classes[row] != walk.clean_class and answers.are_finite[row]:
            walk.adversarial = walk.perturbation
            return
        ratio = answers.lengths[row] / max(walk.norm, TINY)
        if gain > self.attack.keep_gain / (walk.position + 1) and ratio < self.attack.keep_ratio:
            image = _Queued(walk.perturbation, answers.rankings[row], answers.covered[row], answers.values[row])
            walk.queue.append(image)


def uphill(
    attack: DLFuzz,
    classifier: Classifier,
    logits: Logits,
    record: NeuronRecord,
    rankings: Tensor,
    selections: Sequence[ChosenNeurons],
) -> Tensor:
    """Eq. 8, Renkhoff 2022, with DLFuzz's weights: w_p sum_i c_i - c + w_n sum_j n_j, one value per image.

    Args:
        attack: Its weights and scores.
        classifier: The model.
        logits: What it returns.
        record: Its neurons.
        rankings: Classes of each image when it was popped, best first: c, then the competitors c_i.
        selections: Neurons n_j of each image.
    """
    scores = logits if attack.scores == "logit" else logits.softmax(1)
    ranking = scores.gather(1, rankings)
    objective = attack.predict_weight * ranking[:, 1:].sum(1) - ranking[:, 0]
    weights = np.zeros((len(selections), record.values.shape[1]), dtype=np.float32)
    for row, selection in enumerate(selections):
        np.add.at(weights[row], selection.neurons, selection.signs)
    start = 0
    for group in classifier.neuron_groups:
        part, start = weights[:, start : start + group.neurons], start + group.neurons
        if part.any():
            outputs = record.outputs[group.name]
            push = torch.as_tensor(part, device=outputs.device) * outputs
            objective = objective + attack.neuron_weight * push.sum(1)
    return objective


def normalised(gradient: Tensor) -> Tensor:
    """The gradient of each image over its root mean square; 0 where it is not finite."""
    finite = torch.where(torch.isfinite(gradient).flatten(1).all(1)[:, None, None, None], gradient, 0.0)
    rms = finite.square().mean((1, 2, 3), keepdim=True).sqrt()
    return finite / (rms + TINY)
