"""Attacks of other libraries: the little that a library must give, and everything else that an attack needs.

A library is one file with one function, `recipe(name, settings)`, which returns an `AttackRecipe`, and one row of
`registry.LIBRARIES`. All libraries are treated alike: their attacks get one image at a time in [0, 1], a model that
takes pixels and returns logits, and random state of their own; camdrift undoes whatever they do to the model and checks
whatever they claim. docs/attacks.md has a complete example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from camdrift.attacks.base import PER_IMAGE, Advance, SeedBatch, Threat, one_by_one
from camdrift.attacks.containment import Containment
from camdrift.attacks.gradients import GradientWatch
from camdrift.attacks.names import built
from camdrift.errors import UserError, one_line
from camdrift.models.classifier import Classifier
from camdrift.models.memory import is_out_of_memory
from camdrift.streams import stream_seed
from camdrift.tensors import PIXELS, Attacked, Image

# Called with images (1, 3, height, width) in [0, 1], the class predicted for them (1,) and the class that is to be
# predicted (1,), or None; returns adversarial images of the same shape.
Perturb = Callable[[Tensor, Tensor, Tensor | None], Any]

# How a warning begins that an attack left something behind on the network.
REMARK: Final = "the attack left behind changes of the network"

SECOND, LEAST_LIKELY, RANDOM = "second", "least_likely", "random"
TARGET_RULES: Final = (SECOND, LEAST_LIKELY, RANDOM)


class PixelModel(nn.Module):
    """A classifier as attack libraries want it: images in [0, 1] in, logits out, normalisation inside.

    Attributes:
        classes: Number of classes.
        size: Height and width of an image.
        device: Where images and weights lie.
        gradients: Sees the gradients at the images.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.module
        self.classes, self.size, self.device = classifier.classes, classifier.size, classifier.device
        self.gradients = GradientWatch()
        self._classifier = classifier
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes), differentiable with respect to the images."""
        logits = self._classifier(self.gradients.at(images).to(torch.float32))
        self.gradients.judge(images, logits)
        return logits


@dataclass(frozen=True)
class AttackRecipe:
    """The recipe of one attack of a library.

    Attributes:
        name: The attack's name as the library spells it.
        make: Called with a `PixelModel` for every image; returns the function that perturbs it.
        threat: The bound that its perturbations keep, if it has one.
        can_target: Can it look for a given class?
        must_target: Does it need one?
        seeding: The source of its random draws.
    """

    name: str
    make: Callable[[PixelModel], Perturb]
    threat: Threat | None = None
    can_target: bool = False
    must_target: bool = False
    seeding: str = PER_IMAGE


@dataclass(frozen=True)
class LibraryAttack:
    """An attack made by a recipe; it takes a chunk's images one by one.

    Attributes:
        spec: The spec of the attack, complete.
        recipe: The recipe that makes it.
        target: A class, or a rule that chooses one for each image (`TARGET_RULES`); None if any other class will do.
    """

    spec: str
    recipe: AttackRecipe
    target: int | str | None = None

    def __post_init__(self) -> None:
        is_class = isinstance(self.target, int) and not isinstance(self.target, bool) and self.target >= 0
        if self.target is not None and not is_class and self.target not in TARGET_RULES:
            rule = f"be a class's index or one of {', '.join(TARGET_RULES)}"
            raise UserError(f"`attack` setting `target_class` must {rule}, got: {self.target}")
        if self.target is not None and not self.recipe.can_target:
            raise UserError(
                f"`attack` {self.recipe.name} must come without `target_class`, got: {self.target}",
                "it cannot look for a given class; pgd, mifgsm and cw can",
            )
        if self.target is None and self.recipe.must_target:
            raise UserError(
                f"`attack` {self.recipe.name} must be given `target_class`, got: none",
                f"a class's index or one of {', '.join(TARGET_RULES)}",
            )

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
        with Containment(classifier).around(0):
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
        """For each seed the perturbation that the library makes of it, whether or not it fools the model."""
        self._check_target(classifier)
        containment = Containment(classifier)
        return one_by_one(lambda position: self._attack(classifier, containment, seeds, position), seeds, advance)

    def _attack(self, classifier: Classifier, containment: Containment, seeds: SeedBatch, position: int) -> Attacked:
        seed, logits = seeds.images[position], seeds.logits[position]
        key = (seeds.rng_seed, seeds.seed_ids[position])
        clean = int(logits.argmax())
        target = self._target(logits, key)
        if target == clean:
            return Attacked(None, target_class=target, reason="its clean prediction is the target class already")
        classes = torch.tensor([clean], device=seed.device)
        targets = None if target is None else torch.tensor([target], device=seed.device)
        model = PixelModel(classifier)
        try:
            with containment.around(stream_seed(*key, "attack")):
                perturb = self.recipe.make(model)
                image = _image(perturb(seed[None].clone(), classes, targets), seed)
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = model.gradients.fault or f"the attack failed: {one_line(error)}"
            return Attacked(None, target_class=target, reason=reason, is_failure=True, remark=self._remark(containment))
        fault, remark = model.gradients.fault, self._remark(containment)
        return Attacked(image - seed, target_class=target, reason=fault, is_failure=bool(fault), remark=remark)

    def _remark(self, containment: Containment) -> str:
        """A warning of what the attack left behind on the network; empty for nothing."""
        if not containment.traces:
            return ""
        traces = ", ".join(containment.traces)
        return f"{REMARK} ({traces}): {self.spec}; it is put back after every image"

    def _target(self, logits: Tensor, key: tuple[int, str]) -> int | None:
        """The class to reach; None if any other than the clean one will do."""
        if self.target is None or isinstance(self.target, int):
            return self.target
        if self.target == SECOND:
            return int(logits.topk(2).indices[1])
        if self.target == LEAST_LIKELY:
            return int(logits.argmin())
        other = stream_seed(*key, "target class") % (logits.numel() - 1)
        return other + (other >= int(logits.argmax()))


def _image(answer: Any, seed: Image) -> Image:
    """A library's answer as one image in [0, 1].

    Raises:
        ValueError: The answer is no image of the seed's shape, or not finite.
    """
    if isinstance(answer, np.ndarray):
        answer = torch.from_numpy(answer)
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        kind = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(f"it must return float images, got: {kind}")
    if answer.shape != (1, *seed.shape):
        raise ValueError(f"it must return images of shape {(1, *seed.shape)}, got: {tuple(answer.shape)}")
    image = answer.detach()[0].to(seed.device, torch.float32, copy=True)
    if not torch.isfinite(image).all():
        raise ValueError("it must return finite images, got: NaN or infinity")
    return image.clamp(PIXELS.lower, PIXELS.upper)
