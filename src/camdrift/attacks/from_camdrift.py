"""Recipes of camdrift's own attacks, which have short names and take many images at once."""

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

from camdrift.attacks.apgd import AutoPGD
from camdrift.attacks.base import Threat
from camdrift.attacks.deepfool import LOSSES, DeepFool
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import check_settings, positive
from camdrift.attacks.steps import SignedSteps
from camdrift.errors import UserError
from camdrift.tensors import Images

OwnAttack = Callable[[PixelModel, Images, Tensor, Tensor | None], Images]

# Settings that an attack takes, with its library's values where they are left out; None stands for another value there.
_STEP: Final = {"rel_stepsize": 0.2, "abs_stepsize": None, "steps": 10, "random_start": False}
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "fgsm": {"random_start": False},
    "pgd": {**_STEP, "rel_stepsize": 0.01 / 0.3, "steps": 40, "random_start": True},
    "mifgsm": {"momentum": 1.0, **_STEP},
    "apgd": {"steps": 10, "rho": 0.75},
    "deepfool": {"steps": 50, "candidates": 10, "overshoot": 0.02, "loss": LOSSES[0]},
}
_BOUNDED: Final = ("fgsm", "pgd", "mifgsm", "apgd")
_TARGETED: Final = ("pgd", "mifgsm")
_EPSILON: Final = ("eps", "epsilon")


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of one of `DEFAULTS`.

    Args:
        name: Its name.
        settings: What differs from its defaults. Bounded attacks also take `eps`, or `epsilon`, in pixel units.

    Raises:
        UserError: There is no such setting, or a value is none that it can have.
    """
    key = next((key for key in _EPSILON if key in settings), _EPSILON[0])
    takes = {**({key: True} if name in _BOUNDED else {}), **dict.fromkeys(DEFAULTS[name], False)}
    check_settings(name, settings, takes)
    values = {**DEFAULTS[name], **settings}
    for setting in settings.keys() & DEFAULTS[name].keys():
        _check(setting, settings[setting])
    if name == "deepfool":
        return _own(name, DeepFool(**values))
    epsilon = positive(key, values[key])
    threat = Threat("linf", epsilon)
    if name == "apgd":
        return _own(name, AutoPGD(epsilon, values["steps"], values["rho"]), threat=threat)
    relative = epsilon * values.get("rel_stepsize", 1.0)
    attack = SignedSteps(
        epsilon=epsilon,
        step=relative if values.get("abs_stepsize") is None else values["abs_stepsize"],
        steps=values.get("steps", 1),
        momentum=values.get("momentum", 0.0),
        is_random=values["random_start"],
    )
    return _own(name, attack, threat=threat, can_target=name in _TARGETED)


def _own(name: str, attack: OwnAttack, **modes: Any) -> AttackRecipe:
    def make(model: PixelModel) -> Perturb:
        return lambda images, classes, targets: attack(model, images, classes, targets)

    return AttackRecipe(name, make, is_own=True, **modes)


def _check(name: str, value: Any) -> None:
    """Raises `UserError` for a value that a setting cannot have."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_whole = is_number and isinstance(value, int)
    rules: dict[str, tuple[bool, str]] = {
        "steps": (is_whole and value > 0, "a whole number from 1 on"),
        "candidates": (value is None or (is_whole and value > 1), "a whole number from 2 on"),
        "random_start": (isinstance(value, bool), "True or False"),
        "loss": (value in LOSSES, f"one of {', '.join(LOSSES)}"),
        "abs_stepsize": (value is None or (is_number and value > 0), "a positive number"),
    }
    is_right, rule = rules.get(name, (is_number and value >= 0, "a number from 0 on"))
    if not is_right:
        raise UserError(f"`attack` setting `{name}` must be {rule}, got: {value}")
