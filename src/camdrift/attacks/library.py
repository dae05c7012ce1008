"""Attacks made by recipes: the little that a library must give, and everything else that an attack needs.

A library is one file with one function, `recipe(name, settings)`, which returns an `AttackRecipe`, and one row of
`registry.LIBRARIES`. All libraries are treated alike: their attacks get one image at a time in [0, 1], a model that
takes pixels and returns logits, and random state of their own; camdrift undoes whatever they do to the model and checks
whatever they claim. docs/attacks.md has a complete example. camdrift's own (`from_camdrift.py`) get whole batches.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from camdrift.attacks.base import PER_IMAGE, Advance, SeedBatch, Threat, all_results
from camdrift.attacks.containment import Containment
from camdrift.attacks.gradients import CUT, GradientWatch
from camdrift.attacks.names import built
from camdrift.attacks.targets import check_target, targets_of
from camdrift.attacks.trial import is_independent
from camdrift.errors import UserError, one_line
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches, is_out_of_memory
from camdrift.models.replicas import by_all_threads, on_replicas
from camdrift.streams import stream_seed
from camdrift.tensors import PIXELS, Attacked, Images

# Called with images (batch, 3, height, width) in [0, 1], the classes predicted for them (batch,) and the classes that
# are to be predicted (batch,), or None; returns adversarial images of the same shape.
Perturb = Callable[[Tensor, Tensor, Tensor | None], Any]

# How a warning begins that an attack left something behind on the network.
REMARK: Final = "the attack left behind changes of the network"


class PixelModel(nn.Module):
    """A classifier as attack libraries want it: images in [0, 1] in, logits out, normalisation inside.

    Attributes:
        classes: Number of classes.
        size: Height and width of an image.
        device: Where images and weights lie.
        streams: Seeds of the random draws of each image in hand.
        gradients: Sees the gradients at the images.
    """

    def __init__(self, classifier: Classifier, streams: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.network = classifier.module
        self.classes, self.size, self.device = classifier.classes, classifier.size, classifier.device
        self.streams = tuple(streams)
        self.gradients = GradientWatch(len(self.streams), self.device)
        self._classifier = classifier
        # Not the network: it is put into evaluation mode, and back, where it is lent.
        self.training = False

    def forward(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (batch, classes), differentiable with respect to the images.

        Args:
            images: Images in pixel space.
            rows: Their positions among the images in hand; None for all of these.
        """
        logits = self._classifier(self.gradients.at(images, rows).to(torch.float32))
        self.gradients.judge(images, logits)
        return logits


@dataclass(frozen=True)
class AttackRecipe:
    """The recipe of one attack.

    Attributes:
        name: The attack's name as the library spells it.
        make: Called with a `PixelModel` for every image, or batch; returns the function that perturbs it.
        threat: The bound that its perturbations keep, if it has one.
        can_target: Can it look for a given class?
        must_target: Does it need one?
        seeding: The source of its random draws.
        is_own: Is it camdrift's own? It takes many images at once and changes nothing of the network.
    """

    name: str
    make: Callable[[PixelModel], Perturb]
    threat: Threat | None = None
    can_target: bool = False
    must_target: bool = False
    seeding: str = PER_IMAGE
    is_own: bool = False


@dataclass(frozen=True)
class _Loan:
    """What an attack gets for a chunk: the classifier, what keeps it as it is, the seeds, and their classes.

    One of camdrift's own needs nothing to keep it.
    """

    classifier: Classifier
    containment: Containment | None
    seeds: SeedBatch
    clean: list[int]
    targets: list[int | None]


@dataclass
class LibraryAttack:
    """An attack made by a recipe.

    Attributes:
        spec: The spec of the attack, complete.
        recipe: The recipe that makes it.
        target: A class, or a rule that chooses one for each image (`targets.TARGET_RULES`); None if any other class
            will do.
        is_batched: Does a library's attack get many images at once? Those of camdrift's own always do.
    """

    spec: str
    recipe: AttackRecipe
    target: int | str | None = None
    is_batched: bool = False
    # Have two images shown that a batch changes nothing?
    _is_tried: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        check_target(self.target, recipe.name, can_target=recipe.can_target, must_target=recipe.must_target)

    @property
    def threat(self) -> Threat | None:
        """The bound that its perturbations keep at strength 1, if it has one."""
        return self.recipe.threat

    @property
    def seeding(self) -> str:
        """The source of its random draws."""
        return self.recipe.seeding

    def check(self, classifier: Classifier) -> None:
        """Raises `UserError` if the classifier lacks the target class, or if the library refuses it."""
        self._check_target(classifier)
        with nullcontext() if self.recipe.is_own else Containment(classifier).around(0):
            built(self.spec, lambda: self.recipe.make(PixelModel(classifier)))

    def _check_target(self, classifier: Classifier) -> None:
        if isinstance(self.target, int) and self.target >= classifier.classes:
            raise UserError(
                f"`attack` setting `target_class` must be below the number of classes, {classifier.classes}, "
                f"got: {self.target}"
            )

    def __call__(
        self, classifier: Classifier, seeds: SeedBatch, *, batch_size: int, advance: Advance
    ) -> list[Attacked]:
        """For each seed the perturbation that the attack makes of it, whether or not it fools the model.

        Raises:
            UserError: The target class is unknown, or the result for an image depends on its batch.
        """
        self._check_target(classifier)
        clean = [*seeds.logits.argmax(1).tolist()]
        containment = None if self.recipe.is_own else Containment(classifier)
        loan = _Loan(classifier, containment, seeds, clean, targets_of(self.target, seeds, clean))
        if self.recipe.is_own:
            own = lambda replica, positions: self._attack(replace(loan, classifier=replica), positions)  # noqa: E731
            with on_replicas(classifier, own, [*batches(range(len(seeds)), batch_size)]) as results:
                return all_results(results, advance)
        attack = partial(self._attack, loan)
        # What a library draws at random, and prints, is the whole process's: one after the other.
        with by_all_threads(classifier):
            if self.is_batched and not self._is_tried and batch_size > 1:
                positions = [p for p in range(len(seeds)) if loan.targets[p] != clean[p]]
                self._is_tried = is_independent(self.spec, attack, positions, seeds.seed_ids)
            return all_results(map(attack, batches(range(len(seeds)), batch_size if self.is_batched else 1)), advance)

    def _attack(self, loan: _Loan, positions: Sequence[int]) -> list[Attacked]:
        """The results for the seeds at some positions: those that are attacked go together."""
        rest = [position for position in positions if loan.targets[position] != loan.clean[position]]
        results = iter(self._perturb(loan, rest) if rest else [])
        reason = "its clean prediction is the target class already"
        return [
            next(results) if loan.targets[p] != loan.clean[p] else Attacked(None, None, loan.targets[p], reason)
            for p in positions
        ]

    def _perturb(self, loan: _Loan, positions: Sequence[int]) -> list[Attacked]:
        seeds, targets = loan.seeds, [loan.targets[position] for position in positions]
        images = seeds.images[positions[0] : positions[0] + 1] if len(positions) == 1 else seeds.images[[*positions]]
        streams = [stream_seed(seeds.rng_seed, seeds.seed_ids[position], "attack") for position in positions]
        model = PixelModel(loan.classifier, streams)
        classes = torch.tensor([loan.clean[position] for position in positions], device=images.device)
        goal = None if self.target is None else torch.tensor(targets, device=images.device)
        try:
            with _hold(loan, streams[0]):
                perturb = self.recipe.make(model)
                answer = _images(perturb(images.clone(), classes, goal), images)
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if len(positions) > 1:
                # Each image has its own reason.
                return [result for position in positions for result in self._perturb(loan, [position])]
            (fault,), remark = model.gradients.faults(), self._remark(loan.containment)
            failure = f"the attack failed: {one_line(error)}"
            # Without a way back from the logits to the pixels, torch's error is no news.
            reason = {"": failure, CUT: CUT}.get(fault, f"{fault}; {failure}")
            return [Attacked(None, target_class=targets[0], reason=reason, is_failure=True, remark=remark)]
        faults, remark = model.gradients.faults(), self._remark(loan.containment)
        return [
            Attacked(delta, target_class=target, reason=fault, is_failure=bool(fault), remark=remark)
            for delta, target, fault in zip(answer - images, targets, faults, strict=True)
        ]

    def _remark(self, containment: Containment | None) -> str:
        """A warning of what the attack left behind on the network; empty for nothing."""
        if containment is None or not containment.traces:
            return ""
        traces = ", ".join(containment.traces)
        return f"{REMARK} ({traces}): {self.spec}; it is put back after every {'batch' if self.is_batched else 'image'}"


@contextmanager
def _hold(loan: _Loan, stream: int) -> Iterator[None]:
    """Hold the network still; draw from `stream` on, and undo all that a library does."""
    still = loan.classifier.undisturbed() if loan.containment is None else loan.containment.around(stream)
    with still, torch.enable_grad():
        yield


def _images(answer: Any, seeds: Images) -> Images:
    """An attack's answer as images in [0, 1].

    Raises:
        ValueError: The answer is no images of the seeds' shape, or not finite.
    """
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        kind = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(f"it must return float images, got: {kind}")
    if answer.shape != seeds.shape:
        raise ValueError(f"it must return images of shape {tuple(seeds.shape)}, got: {tuple(answer.shape)}")
    images = answer.detach().to(seeds.device, torch.float32, copy=True)
    if not torch.isfinite(images).all():
        raise ValueError("it must return finite images, got: NaN or infinity")
    return images.clamp(PIXELS.lower, PIXELS.upper)
