"""Attacks of other libraries: the little that a library must give, and everything else that an attack needs.

A library is one file with one function, `recipe(name, settings)`, which returns a `AttackRecipe`; it is entered in
`attacks.LIBRARIES`. What its attacks are called with, and what becomes of their answers, is the same for all:
one image at a time in [0, 1], against a model that takes pixels and returns logits, with random state of their own;
whatever they do to the model is undone, and whatever they claim is checked. docs/attacks.md has a complete example.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from camdrift.attacks.base import PER_IMAGE, Advance, Threat
from camdrift.attacks.seeding import seeded
from camdrift.coverage.neurons import NeuronRecord
from camdrift.errors import UserError, one_line
from camdrift.models.classifier import Classifier
from camdrift.models.memory import is_out_of_memory
from camdrift.streams import stream_seed
from camdrift.tensors import PIXELS, Attacked, Image, Images, Logits

# Called with images (1, 3, height, width) in [0, 1], the class predicted for them (1,) and the class that is to be
# predicted (1,), or None; returns adversarial images of the same shape.
Perturb = Callable[[Tensor, Tensor, Tensor | None], Any]

SECOND, LEAST_LIKELY, RANDOM = "second", "least_likely", "random"
TARGET_RULES: Final = (SECOND, LEAST_LIKELY, RANDOM)


class PixelModel(nn.Module):
    """A classifier as attack libraries want it: images in [0, 1] in, logits out, normalisation inside.

    Attributes:
        classes: Number of classes.
        size: Height and width of an image.
        device: Where images and weights lie.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.module
        self.classes, self.size, self.device = classifier.classes, classifier.size, classifier.device
        self._classifier = classifier
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes), differentiable with respect to the images."""
        return self._classifier(images.to(torch.float32))


@dataclass(frozen=True)
class AttackRecipe:
    """How to make one attack of a library.

    Attributes:
        name: The attack's name as the library spells it.
        make: Called with a `PixelModel` for every image; returns what perturbs it.
        settings: What can be set, for hints.
        threat: The bound that its perturbations keep, if it has one.
        can_target: Can it look for a given class?
        must_target: Does it need one?
        seeding: Where its random draws come from.
    """

    name: str
    make: Callable[[PixelModel], Perturb]
    threat: Threat | None = None
    can_target: bool = False
    must_target: bool = False
    seeding: str = PER_IMAGE


@dataclass(frozen=True)
class LibraryAttack:
    """An attack made by a recipe: a chunk's images, one by one.

    Attributes:
        spec: What it was made from, complete.
        recipe: How it is made.
        target: A class, or how to choose one for each image (`TARGET_RULES`); None to change the prediction to any.
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
        """Where its random draws come from."""
        return self.recipe.seeding

    def check(self, classifier: Classifier) -> None:
        """Raises `UserError` if the classifier lacks the class that is looked for."""
        if isinstance(self.target, int) and self.target >= classifier.classes:
            raise UserError(
                f"`attack` setting `target_class` must be below the number of classes, {classifier.classes}, "
                f"got: {self.target}"
            )

    def __call__(
        self,
        classifier: Classifier,
        images: Images,
        clean: Logits,
        neurons: NeuronRecord,
        *,
        seed_ids: Sequence[str],
        rng_seed: int,
        batch_size: int,
        advance: Advance,
    ) -> list[Attacked]:
        """For each seed the perturbation that the library makes of it, whether or not it fools the model."""
        self.check(classifier)
        attacked: list[Attacked] = []
        for position, seed_id in enumerate(seed_ids):
            attacked.append(self._attack(classifier, images[position], clean[position], (rng_seed, seed_id)))
            advance(len(attacked), sum(found.base_perturbation is not None for found in attacked))
        return attacked

    def _attack(self, classifier: Classifier, seed: Image, logits: Tensor, key: tuple[int, str]) -> Attacked:
        clean = int(logits.argmax())
        target = self._target(logits, key)
        if target == clean:
            return Attacked(None, target_class=target, reason="its clean prediction is the target class already")
        classes = torch.tensor([clean], device=seed.device)
        targets = None if target is None else torch.tensor([target], device=seed.device)
        try:
            with _contained(classifier, stream_seed(*key, "attack")):
                perturb = self.recipe.make(PixelModel(classifier))
                image = _image(perturb(seed[None].clone(), classes, targets), seed)
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return Attacked(None, target_class=target, reason=f"the attack failed: {one_line(error)}", is_failure=True)
        return Attacked(image - seed, target_class=target)

    def _target(self, logits: Tensor, key: tuple[int, str]) -> int | None:
        """The class that is to be predicted, as far as the attack asks for one."""
        if self.target is None or isinstance(self.target, int):
            return self.target
        if self.target == SECOND:
            return int(logits.topk(2).indices[1])
        if self.target == LEAST_LIKELY:
            return int(logits.argmin())
        other = stream_seed(*key, "target class") % (logits.numel() - 1)
        return other + (other >= int(logits.argmax()))


@contextmanager
def _contained(classifier: Classifier, seed: int) -> Iterator[None]:
    """Nothing that a library does inside the block is left of it but the answer.

    Flags, modes and gradients of every module are restored (torchattacks sends frozen batch norms to training mode,
    foolbox leaves gradients on parameters), and so is the random state; what it prints is dropped.
    """
    gradients = [(parameter, parameter.grad) for parameter in classifier.module.parameters()]
    with classifier.undisturbed(), seeded(seed, classifier.device), torch.enable_grad(), redirect_stdout(io.StringIO()):
        try:
            for parameter, _ in gradients:
                parameter.grad = None
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient


def _image(answer: Any, seed: Image) -> Image:
    """What the library returned, as one image in [0, 1].

    Raises:
        ValueError: It is no image of the seed's shape, or not finite.
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
