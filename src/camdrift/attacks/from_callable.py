"""Attacks of the user's own: functions that take a model, images and classes."""

import inspect
from typing import Any, Final

from torch import Tensor

from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import BATCHED, TARGET_CLASS
from camdrift.errors import UserError, one_line
from camdrift.user_code import importing, load_function, module_folder

_TARGETS: Final = "target_classes"


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack that is a function: `function(model, images, classes, **settings)` returns images.

    Args:
        name: `path/to/file.py:function` or `package.module:function`. If it takes `target_classes`, it gets the
            classes to reach, or None.
        settings: Further arguments of the function.

    Raises:
        UserError: There is no such function, or it does not take these arguments.
    """
    function = load_function(name, option="attack")
    try:
        signature = inspect.signature(function)
        can_target = _TARGETS in signature.parameters
        signature.bind(None, None, None, **settings, **({_TARGETS: None} if can_target else {}))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`attack` {name} must take (model, images, classes) and the settings given, got: {one_line(error)}",
            "docs/attacks.md has an example",
        ) from error
    if reserved := {BATCHED, TARGET_CLASS} & signature.parameters.keys():
        raise UserError(
            f"`attack` {name} must take no argument of a name that camdrift keeps, got: {', '.join(sorted(reserved))}",
            f"give it another name; a function that takes `{_TARGETS}` gets the classes to reach",
        )
    # As late as when it runs, the function may import what lies beside it.
    folder = module_folder(name.rpartition(":")[0])

    def make(model: PixelModel) -> Perturb:
        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Any:
            goal = {_TARGETS: targets} if can_target else {}
            with importing(folder):
                return function(model, images, classes, **settings, **goal)

        return perturb

    return AttackRecipe(name, make, can_target=can_target)
