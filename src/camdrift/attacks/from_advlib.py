"""Attacks of adv-lib, which are functions. It is installed by itself: its dependency visdom does not build."""

import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import isfunction, signature
from types import ModuleType
from typing import Any, Final

from torch import Tensor

from camdrift.attacks.base import ORDERS, Threat
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import check_settings, choose, load_library, parameters, positive, quietly
from camdrift.errors import UserError

# With a target they warn and return the image as it is, or stop (seen in 0.2.8).
_UNTARGETED: Final = frozenset({"df", "sdf", "fab", "sigma_zero", "tr", "apgd_targeted"})
# They bound the norm that is named, or that of their setting `norm`; all others look for a small perturbation.
_BOUNDED: Final = {"pgd_linf": "linf", "apgd": "", "apgd_targeted": ""}
# The setting that names a norm, and the norms that the attack knows.
_NORMS: Final = {
    "apgd": ("norm", ("linf", "l2", "l1")),
    "apgd_targeted": ("norm", ("linf", "l2", "l1")),
    "df": ("norm", ("linf", "l2")),
    "fab": ("norm", ("linf", "l2", "l1")),
    "fmn": ("norm", tuple(ORDERS)),
    "pdpgd": ("norm", tuple(ORDERS)),
    "tr": ("p", ("linf", "l2")),
}
_GIVEN: Final = ("model", "inputs", "images", "labels", "targeted", "num_classes")
# They are no literals, or change the type of what is returned.
_LEFT_OUT: Final = ("callback", "penalty", "starting_points", "return_targets", "return_unsuccessful")
# It divides by a tenth of its steps, rounded down.
_LEAST_STEPS: Final = {"carlini_wagner_l2": ("max_iterations", 10)}
# The loss `dlr` compares the largest logits: so many.
_DLR_CLASSES: Final = {"alma": 3, "apgd": 3, "apgd_targeted": 4, "pgd_linf": 3}


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack of adv-lib.

    Args:
        name: A function of `adv_lib.attacks`.
        settings: Its arguments, but for the model, the images, their labels and what is no literal. Greek letters may
            be written out (`eps`, `alpha_init`), and a norm is a number or one of linf, l2, l1 and l0.

    Raises:
        ImportError: adv-lib is missing.
        UserError: There is no such attack or setting, or the attack fails with such a value.
    """
    with _visdom():
        library = load_library("adv_lib.attacks")
    name = choose("adv-lib", name, [n for n, function in vars(library).items() if isfunction(function)])
    function = getattr(library, name)
    takes = parameters(function, without=(*_GIVEN, *_LEFT_OUT))
    plain = _plain_settings(settings)
    check_settings(f"advlib:{name}", plain, {_plain(key): is_needed for key, is_needed in takes.items()})
    norm = _norm(name, plain)
    _check_steps(name, plain)
    arguments = {key: plain[_plain(key)] for key in takes if _plain(key) in plain}

    def make(model: PixelModel) -> Perturb:
        own = _own_arguments(name, function, model, plain)

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Tensor:
            goal = classes if targets is None else targets
            with quietly():
                answer: Tensor = function(model, images, goal, targeted=targets is not None, **own, **arguments)
            return answer

        return perturb

    threat = Threat(_BOUNDED[name] or norm, positive("eps", plain["eps"])) if name in _BOUNDED else None
    return AttackRecipe(name, make, threat=threat, can_target=name not in _UNTARGETED)


@contextmanager
def _visdom() -> Iterator[None]:
    """Let adv-lib import visdom inside the block; it draws curves in a browser, which nobody asks for here."""
    if find_spec("visdom") is not None:
        yield
        return
    stand_in: Any = ModuleType("visdom")
    stand_in.Visdom = None
    sys.modules["visdom"] = stand_in
    try:
        yield
    finally:
        # adv-lib holds on to it; nobody else is to take it for the real one.
        del sys.modules["visdom"]


def _plain(name: str) -> str:
    """A parameter's name in ASCII: adv-lib writes Greek letters, as its papers do."""
    letters = [letter if letter.isascii() else unicodedata.name(letter, letter).split()[-1].lower() for letter in name]
    return "".join(letters).replace("epsilon", "eps")


def _plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain = {_plain(key): value for key, value in settings.items()}
    if len(plain) < len(settings):
        raise UserError(f"`attack` must be given each setting once, got: {', '.join(settings)}")
    return plain


def _norm(name: str, settings: dict[str, Any]) -> str:
    """The norm that the settings name, which becomes the number that adv-lib wants; empty if they name none."""
    key, norms = _NORMS.get(name, ("", ()))
    if key not in settings:
        return ""
    value = settings[key]
    norm = next((word for word, order in ORDERS.items() if value in (word, order) and value is not False), None)
    if norm not in norms:
        raise UserError(f"`attack` setting `{key}` must be one of {', '.join(norms)}, got: {value}")
    settings[key] = ORDERS[norm]
    return norm


def _check_steps(name: str, settings: Mapping[str, Any]) -> None:
    key, least = _LEAST_STEPS.get(name, ("", 0))
    if key in settings and positive(key, settings[key]) < least:
        raise UserError(f"`attack` setting `{key}` must be at least {least}, got: {settings[key]}")
    if settings.get("distance") == "lpips":
        raise UserError(
            "`attack` setting `distance` must be another one, got: lpips, which downloads a network",
            "l2, l1, ssim, msssim and ciede2000 need none",
        )


def _own_arguments(name: str, function: Any, model: PixelModel, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the model tells of an attack's arguments.

    Raises:
        UserError: The model has too few classes for the attack's loss.
    """
    takes = signature(function).parameters
    default = takes["loss_function"].default if "loss_function" in takes else "dlr"
    least = _DLR_CLASSES.get(name, 0) if settings.get("loss_function", default) == "dlr" else 0
    if model.classes < least:
        cure = "loss_function='ce' does with two" if "loss_function" in takes else "advlib:ddn does with two"
        raise UserError(f"`attack` advlib:{name} must attack a model of {least} classes, got: {model.classes}", cure)
    return {"num_classes": model.classes} if "num_classes" in takes else {}
