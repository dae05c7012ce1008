"""Attacks by name."""

from collections.abc import Callable
from typing import Any, Final

from camdrift.attacks import from_art, from_callable, from_captum, from_foolbox, from_torchattacks
from camdrift.attacks.base import Attack
from camdrift.attacks.dlfuzz import PRESETS, DLFuzz
from camdrift.attacks.library import AttackRecipe, LibraryAttack
from camdrift.errors import UserError
from camdrift.specs import Spec, parse_spec, write_spec
from camdrift.user_code import is_user_code

LIBRARIES: Final[dict[str, Callable[[str, dict[str, Any]], AttackRecipe]]] = {
    "foolbox": from_foolbox.recipe,
    "torchattacks": from_torchattacks.recipe,
    "art": from_art.recipe,
    "captum": from_captum.recipe,
}

# Library, attack, and the settings that the short name stands for.
SHORT_NAMES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "fgsm": ("foolbox", "LinfFastGradientAttack", {"eps": 8 / 255}),
    "pgd": ("foolbox", "LinfProjectedGradientDescentAttack", {"eps": 8 / 255, "steps": 40}),
    "mifgsm": ("foolbox", "LinfMomentumIterativeFastGradientMethod", {"eps": 8 / 255}),
    "deepfool": ("foolbox", "L2DeepFoolAttack", {}),
    "cw": ("foolbox", "L2CarliniWagnerAttack", {}),
    "autoattack": ("torchattacks", "AutoAttack", {"norm": "Linf", "eps": 8 / 255}),
}

_TARGET: Final = "target_class"


def make_attack(spec: str) -> Attack:
    """The attack that `spec` names.

    Args:
        spec: `dlfuzz`, `dlfuzz:paper`, a short name (`SHORT_NAMES`), LIBRARY:NAME with a class of a library, or a
            function, `path/to/file.py:NAME` or `package.module:NAME`; each with settings if wanted:
            `dlfuzz(strategy='02', iterations=5)`, `pgd(eps=4/255, target_class='second')`.

    Raises:
        UserError: An unknown attack, preset or setting, a value that a setting cannot have, a missing library.

    Example:
        >>> make_attack("dlfuzz:paper").spec
        "dlfuzz:paper(strategy='1', iterations=1)"
        >>> make_attack("fgsm").spec
        'fgsm(eps=8/255)'
    """
    parsed = parse_spec(spec)
    if parsed.name in PRESETS:
        return _dlfuzz(parsed)
    if parsed.name in SHORT_NAMES:
        library, name, defaults = SHORT_NAMES[parsed.name]
        left = {key: value for key, value in defaults.items() if key != "eps" or "epsilon" not in parsed.settings}
        settings = {**left, **parsed.settings}
        return _of_library(LIBRARIES[library], name, settings, shown=parsed.name)
    library, colon, name = parsed.name.partition(":")
    if colon and library in LIBRARIES:
        return _of_library(LIBRARIES[library], name, parsed.settings, shown=f"{library}:")
    if colon and is_user_code(parsed.name.rpartition(":")[0]):
        return _of_library(from_callable.recipe, parsed.name, parsed.settings, shown=parsed.name)
    raise UserError(
        f"`attack` must be one of {', '.join([*PRESETS, *SHORT_NAMES])}, or name one of a library, got: {parsed.name}",
        f"{', '.join(f'{library}:NAME' for library in LIBRARIES)}, or a function of yours: path/to/file.py:NAME",
    )


def is_function(spec: str) -> bool:
    """Does a spec name a Python function of somebody's, which making the attack would import?"""
    name = parse_spec(spec).name
    library, colon, _ = name.partition(":")
    return bool(colon) and name not in PRESETS and library not in LIBRARIES


def _dlfuzz(parsed: Spec) -> DLFuzz:
    unknown = [name for name in parsed.settings if name not in DLFuzz.settings()]
    if unknown:
        raise UserError(
            f"`attack` has no such setting, got: {', '.join(unknown)}",
            f"settings: {', '.join(DLFuzz.settings())}",
        )
    return DLFuzz(preset=parsed.name, **{**PRESETS[parsed.name], **parsed.settings})


def _of_library(
    recipe: Callable[[str, dict[str, Any]], AttackRecipe], name: str, settings: dict[str, Any], *, shown: str
) -> LibraryAttack:
    """An attack of a library; `shown` is how its spec names it, or the start of that if it ends with a colon."""
    made = recipe(name, {key: value for key, value in settings.items() if key != _TARGET})
    spec = write_spec(shown + made.name if shown.endswith(":") else shown, settings)
    return LibraryAttack(spec, made, settings.get(_TARGET))
