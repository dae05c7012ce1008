"""Attacks made from specs."""

from importlib import import_module
from typing import Any

from camdrift.attacks import from_callable
from camdrift.attacks.base import Attack
from camdrift.attacks.dlfuzz import DLFuzz
from camdrift.attacks.library import AttackRecipe, LibraryAttack
from camdrift.attacks.names import BATCHED, TARGET_CLASS, positive
from camdrift.attacks.registry import BOUNDS, FORMS, LIBRARIES, NAMES, OWN, PRESETS, SHORT_NAMES, Library
from camdrift.errors import UserError, install_hint, one_line
from camdrift.specs import Spec, nearest, parse_spec, write_spec
from camdrift.tensors import PIXELS
from camdrift.user_code import is_user_code


def make_attack(spec: str) -> Attack:
    """The attack that `spec` names.

    Args:
        spec: `dlfuzz`, `dlfuzz:paper`, a short name (`registry.SHORT_NAMES`), LIBRARY:NAME with a class of a library
            (`registry.LIBRARIES`), or a function, `path/to/file.py:NAME` or `package.module:NAME`; each with settings
            if wanted: `dlfuzz(strategy='02', iterations=5)`, `pgd(eps=4/255, target_class='second')`.

    Raises:
        UserError: An unknown attack, preset or setting, a value that a setting cannot have, a missing library.

    Example:
        >>> make_attack("dlfuzz:paper").spec
        "dlfuzz:paper(strategy='1', iterations=1)"
        >>> make_attack("fgsm").spec
        'fgsm(eps=8/255)'
    """
    attack = parse_spec(spec)
    if attack.name in PRESETS:
        return _dlfuzz(attack)
    if attack.name in SHORT_NAMES:
        return _by_short_name(attack)
    library, colon, name = attack.name.partition(":")
    if colon and library in LIBRARIES:
        recipe = _recipe(LIBRARIES[library], name, attack.settings)
        return _library_attack(f"{library}:{recipe.name}", recipe, attack.settings)
    if colon and is_user_code(attack.name.rpartition(":")[0]):
        recipe = from_callable.recipe(attack.name, _of_library(attack.settings))
        return _library_attack(attack.name, recipe, attack.settings)
    raise UserError(
        f"`attack` must be one of {', '.join(NAMES)}, or name one of a library, got: {attack.name}",
        f"{nearest(attack.name, NAMES)}{', '.join(FORMS)}, or a function of yours: path/to/file.py:NAME",
    )


def _dlfuzz(attack: Spec) -> DLFuzz:
    unknown = [name for name in attack.settings if name not in DLFuzz.settings()]
    if unknown:
        raise UserError(
            f"`attack` has no such setting, got: {', '.join(unknown)}",
            f"settings: {', '.join(DLFuzz.settings())}",
        )
    return DLFuzz(preset=attack.name, **{**PRESETS[attack.name], **attack.settings})


def _by_short_name(attack: Spec) -> LibraryAttack:
    library, name, defaults = SHORT_NAMES[attack.name]
    # foolbox also says `epsilon` for `eps`.
    others = {key: value for key, value in defaults.items() if key != "eps" or "epsilon" not in attack.settings}
    settings = {**others, **attack.settings}
    return _library_attack(attack.name, _recipe(LIBRARIES.get(library, OWN), name, settings), settings)


def _library_attack(name: str, recipe: AttackRecipe, settings: dict[str, Any]) -> LibraryAttack:
    _check_bound(recipe, settings)
    if recipe.is_own and BATCHED in settings:
        raise UserError(f"`attack` {name} must come without `{BATCHED}`, got: {settings[BATCHED]}", "it always is")
    is_batched = settings.get(BATCHED, False)
    if not isinstance(is_batched, bool):
        raise UserError(f"`attack` setting `{BATCHED}` must be True or False, got: {is_batched}")
    return LibraryAttack(write_spec(name, settings), recipe, settings.get(TARGET_CLASS), is_batched)


def _check_bound(recipe: AttackRecipe, settings: dict[str, Any]) -> None:
    """Raises `UserError` for a bound of 0 or less, or one that no pixel can reach."""
    for name in BOUNDS:
        value = settings.get(name)
        if isinstance(value, int | float):
            positive(name, value)
    threat = recipe.threat
    if threat is None:
        return
    positive("eps", threat.epsilon)
    if threat.norm == "linf" and threat.epsilon > PIXELS.upper - PIXELS.lower:
        levels = min(threat.epsilon, 255)
        raise UserError(
            f"`attack` must change a pixel by at most 1, since pixels lie in [0, 1], got: {threat.epsilon:g}",
            f"{levels:g}/255 is {levels:g} of 255 levels",
        )


def _recipe(library: Library, name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of one of a library's attacks.

    Raises:
        UserError: The library is not installed, or does not work here; or as its `recipe` raises.
    """
    module = import_module(f"camdrift.attacks.{library.module}")
    try:
        recipe: AttackRecipe = module.recipe(name, _of_library(settings))
    except ImportError as error:
        raise UserError(
            f"`attack` needs {library.package}, which cannot be imported: {one_line(error)}",
            f"{library.command} installs it" if library.command else install_hint(library.extra),
        ) from error
    return recipe


def _of_library(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that the library gets."""
    return {key: value for key, value in settings.items() if key not in (TARGET_CLASS, BATCHED)}
