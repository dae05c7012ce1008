"""A look at some clean images before a study begins: does the model see them as it was trained to see images?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from scipy.stats import binomtest
from torch import Tensor

from camdrift.errors import ImageError, ModelError, one_line
from camdrift.images.places import ImageFile
from camdrift.images.sources import limit_images
from camdrift.models.memory import batches, is_out_of_memory
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.preparation import preparation_warnings
from camdrift.pipeline.seeds import stack
from camdrift.tensors import Image, Images, Logits

# Images to look at; and how few errors or images tell nothing, since McNemar's test of eight differences on one side
# is the first with p < 0.01.
MOST_PREFLIGHT_IMAGES: Final = 32
LEAST: Final = 8
_LEVEL: Final = 0.01
# Share of the largest logit by which parallel sums may differ from one time to the next.
_ROUNDING: Final = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-2}
# Without labels: how much surer, and how many times as sure, another reading must make the model.
_SURER, _TIMES = 0.2, 2.0
# Images whose gradient is looked at, and the share of zeros from which on an attack counts as blind.
_FEW: Final = 4
_BLIND: Final = 0.5
_OTHER_ATTACKS: Final = (
    "attacks on predictions alone need none, such as foolbox:BoundaryAttack, and --surrogate takes the gradients of "
    "another model"
)
# Of a sigmoid the likely classes lie above it.
_LIKELY: Final = 0.5
_IMAGENET: Final = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Preflight:
    """The model's answers to some clean images before the study begins.

    Attributes:
        n: Images with finite logits.
        n_labelled: Those whose class is known.
        accuracy: Share of the labelled images that the model gets right; None without any.
        mean_confidence: Mean probability of the predicted class; None without images.
        zero_gradient_share: Share of pixels of a few images at which the gradient of the attacked model's logits
            is exactly 0; 1 where none reaches the pixels, None without images or where torch cannot compute it.
        warnings: Possible mistakes in the model or its input, each on one line with its cure.
    """

    n: int
    n_labelled: int
    accuracy: float | None
    mean_confidence: float | None
    zero_gradient_share: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Reading:
    """Another way to hand the images to the module.

    Attributes:
        change: Changes images in pixel space.
        words: The difference, in words.
        cure: The advice if the model does better with it.
        keeps_contrast: Is it no stronger than the classifier's own? A model may get surer of stronger images without
            knowing them better, so that then only accuracy tells.
    """

    change: Callable[[Images], Images]
    words: str
    cure: str
    keeps_contrast: bool


@dataclass(frozen=True)
class _Answers:
    """The model's answers to the images in one reading: mean confidence, and which labelled images it gets right."""

    confidence: float
    is_right: Tensor


def preflight(plan: Plan, files: Sequence[ImageFile]) -> Preflight:
    """The model's answers to up to 32 clean images, spread over the list, with warnings where they look wrong.

    Args:
        plan: The plan of the study.
        files: The seed images.

    Raises:
        ModelError: The outputs are probabilities or their logarithms, or differ when the model is asked again.
    """
    images, labels = _images(plan, limit_images(files, MOST_PREFLIGHT_IMAGES))
    warnings = [*plan.classifier.remarks, *preparation_warnings(plan.classifier)]
    if plan.classifier.was_training:
        warnings.append(
            "dropout or batch norm was in training mode when the model was wrapped: it is studied in evaluation mode"
        )
    logits = _logits(plan, images, lambda batch: batch)
    _refuse_chance(plan, logits, images)
    is_finite = torch.isfinite(logits).all(1).cpu()
    if not bool(is_finite.any()):
        return Preflight(0, 0, None, None, None, tuple(warnings))
    logits = logits[is_finite.to(logits.device)]
    _refuse_probabilities(logits)
    images, labels = [images[i] for i in is_finite.nonzero().flatten()], labels[is_finite]
    answers = _answers(logits, labels)
    share, blindness = _zero_gradient_share(plan, images[: plan.batch_size])
    # Where another reading does better, its cure may bring the gradient back.
    others = [
        *_between_0_and_1(logits),
        *blindness,
        *_near_chance(plan, answers.is_right),
    ]
    warnings += _warnings_of_readings(plan, images, labels, answers) or others
    n_labelled = len(answers.is_right)
    accuracy = float(answers.is_right.double().mean()) if n_labelled else None
    return Preflight(len(images), n_labelled, accuracy, answers.confidence, share, tuple(warnings))


def _images(plan: Plan, files: Sequence[ImageFile]) -> tuple[list[Image], Tensor]:
    """The readable images and their labels, -1 where unknown."""
    images, labels = [], []
    for file in files:
        try:
            image = plan.read(file)
        except ImageError:
            continue
        label = plan.label(file)
        images.append(image.pixels)
        labels.append(-1 if label is None else label)
    return images, torch.tensor(labels, dtype=torch.long)


def _logits(plan: Plan, images: Sequence[Image], change: Callable[[Images], Images]) -> Logits:
    model = plan.classifier
    logits = [torch.empty((0, model.classes), device=model.device)]
    with torch.no_grad(), model.numerics():
        logits += [model(change(stack(batch).to(model.device))) for batch in batches(images, plan.batch_size)]
    return torch.cat(logits)


def _refuse_chance(plan: Plan, logits: Logits, images: Sequence[Image]) -> None:
    """Raises `ModelError` if the first batch has other logits the second time."""
    batch = images[: plan.batch_size]
    first, again = logits[: len(batch)], _logits(plan, batch, lambda images: images)
    finite = torch.isfinite(first)
    tolerance = _ROUNDING[plan.classifier.precision] * float(first[finite].abs().max()) if bool(finite.any()) else 0.0
    if torch.equal(finite, torch.isfinite(again)):
        by = float((first - again)[finite].abs().max()) if bool(finite.any()) else 0.0
        words = f"logits that differ by {by:.3g} when the same images are given again"
        if by <= tolerance:
            return
    else:
        words = "NaN or infinity only one of two times for the same images"
    raise ModelError(
        f"`model` must return the same logits for the same images, got: {words}",
        "it draws random numbers, or remembers what it has seen, even in evaluation mode; switch that off",
    )


def _zero_gradient_share(plan: Plan, images: Sequence[Image]) -> tuple[float | None, list[str]]:
    """Share of pixels at which the gradient of the distance of the two largest logits is exactly 0, and a warning.

    None where torch cannot compute the gradient.
    """
    model = plan.victim
    batch = stack(images[:_FEW]).to(model.device).requires_grad_()
    try:
        with torch.enable_grad(), model.numerics(), model.undisturbed():
            best = model(batch).topk(2, dim=1).values
            if not best.requires_grad:
                return 1.0, [_blindness(1.0)]
            (gradient,) = torch.autograd.grad((best[:, 0] - best[:, 1]).sum(), batch, materialize_grads=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return None, [f"the gradient of the logits cannot be computed: {one_line(error)}: {_OTHER_ATTACKS}"]
    share = float((gradient == 0).all(1).double().mean())
    return share, [_blindness(share)] if share >= _BLIND else []


def _blindness(share: float) -> str:
    where = "every pixel" if share == 1 else f"{100 * share:.0f} % of the pixels"
    return (
        f"the gradient of the logits is exactly 0 at {where}: attacks that follow it are blind there (is the input "
        f"rounded or clamped, or part of the model under no_grad?); {_OTHER_ATTACKS}"
    )


def _answers(logits: Logits, labels: Tensor) -> _Answers:
    probabilities, classes = logits.softmax(1).max(1)
    is_labelled = labels >= 0
    return _Answers(float(probabilities.double().mean()), classes.cpu()[is_labelled] == labels[is_labelled])


def _refuse_probabilities(logits: Logits) -> None:
    ones = torch.ones_like(logits[:, 0])
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), ones, atol=1e-3):
        raise ModelError(
            "`model` must return logits, got: probabilities (every row sums to 1)", "leave out its last softmax"
        )
    if torch.allclose(logits.exp().sum(1), ones, atol=1e-3):
        raise ModelError(
            "`model` must return logits, got: log-probabilities (exp of every row sums to 1)",
            "leave out its last log_softmax: a map of a log-probability also holds the other classes' gradients",
        )


def _between_0_and_1(logits: Logits) -> list[str]:
    """A warning where outputs may be probabilities that do not sum to 1, of a sigmoid that no graph shows."""
    if len(logits) < LEAST or not bool(((logits >= 0) & (logits <= 1)).all()) or float(logits.max()) < _LIKELY:
        return []
    numbers = f"all outputs of {len(logits)} images lie in [0, 1]"
    return [f"{numbers}: they may be probabilities; if the model ends in a sigmoid, leave that out"]


def _readings(plan: Plan) -> list[_Reading]:
    """Other readings of the same images, each of which is right after some mistake in the model's input."""
    model = plan.classifier
    mean, std = (torch.tensor(v, device=model.device).view(1, -1, 1, 1) for v in (model.mean, model.std))
    shift, scale = (torch.tensor(v, device=model.device).view(1, -1, 1, 1) for v in _IMAGENET)
    bgr = _Reading(
        lambda images: images.flip(1),
        "with red and blue exchanged",
        "the model may have been trained on BGR: hand over a module whose forward starts with `x = x.flip(1)`",
        keeps_contrast=True,
    )
    if model.settings.is_normalising:
        plain = _Reading(
            lambda images: images * std + mean,
            "without the mean and std",
            "the module may normalise its input itself: leave out mean and std",
            keeps_contrast=max(model.std) <= 1,
        )
        return [plain, bgr]
    usual = _Reading(
        lambda images: (images - shift) / scale,
        "with ImageNet's mean and std",
        f"the model may want normalised input: give mean={_IMAGENET[0]}, std={_IMAGENET[1]}",
        keeps_contrast=False,
    )
    return [usual, bgr]


def _warnings_of_readings(plan: Plan, images: Sequence[Image], labels: Tensor, own: _Answers) -> list[str]:
    """A warning for every other reading that does clearly better; none is tried where none could."""
    n, right = len(own.is_right), int(own.is_right.sum())
    by_labels = n >= LEAST
    could_gain = n - right >= LEAST if by_labels else own.confidence * _TIMES < 1 and len(images) >= LEAST
    warnings = []
    for reading in _readings(plan) if could_gain else []:
        if not by_labels and not reading.keeps_contrast:
            continue
        other = _answers(_logits(plan, images, reading.change), labels)
        if by_labels:
            gains = int((other.is_right & ~own.is_right).sum())
            losses = int((own.is_right & ~other.is_right).sum())
            p = float(binomtest(gains, gains + losses).pvalue) if gains > losses else 1.0
            if p < _LEVEL:
                numbers = f"{int(other.is_right.sum())} of {n} predictions are right {reading.words}, {right} as given"
                warnings.append(f"{numbers} (McNemar p = {p:.1g}): {reading.cure}")
        elif other.confidence > max(own.confidence + _SURER, own.confidence * _TIMES):
            numbers = f"mean confidence is {other.confidence:.2f} {reading.words}, {own.confidence:.2f} as given"
            warnings.append(f"{numbers} (a suspicion: no labels are known): {reading.cure}")
    return warnings


def _near_chance(plan: Plan, is_right: Tensor) -> list[str]:
    n, right, chance = len(is_right), int(is_right.sum()), 1 / plan.classifier.classes
    if n < LEAST or binomtest(right, n, chance, alternative="greater").pvalue < _LEVEL:
        return []
    numbers = f"{right} of {n} predictions are right, where guessing gets {100 * chance:.3g} %"
    return [f"{numbers}: are weights, class names, mean and std those of this model?"]
