"""Defences of the user's own: functions that take images."""

import inspect
from typing import Any, Final

from torch import Generator

from camdrift.defences.base import BPDA, EXACT, Defence
from camdrift.defences.making import Workshop, code_checksum
from camdrift.errors import UserError, one_line
from camdrift.specs import write_spec
from camdrift.tensors import Images
from camdrift.user_code import importing, load_function, module_folder

_GENERATOR: Final = "generator"


def defence(name: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """A function as a defence: `function(images, **settings)` returns purified images in [0, 1].

    It says by attributes what it is: `function.differentiable = True` lets an attack that knows it follow its own
    gradient in place of the identity's; `function.random = True` gives it one image at a time and, if it takes
    `generator`, a `torch.Generator` to draw from.

    Args:
        name: `path/to/file.py:function` or `package.module:function`.
        settings: Further arguments of the function.
        workshop: Where and for what.

    Raises:
        UserError: There is no such function, or it does not take these arguments.
    """
    function = load_function(name, option="defence")
    is_random, is_exact = (bool(getattr(function, word, False)) for word in ("random", "differentiable"))
    try:
        signature = inspect.signature(function)
        takes_generator = _GENERATOR in signature.parameters
        signature.bind(None, **settings, **({_GENERATOR: None} if takes_generator else {}))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`defence` {name} must take (images) and the settings given, got: {one_line(error)}",
            "docs/defences.md has an example",
        ) from error
    folder = module_folder(name.rpartition(":")[0])

    def purify(images: Images, generator: Generator | None) -> Any:
        draws = {_GENERATOR: generator} if takes_generator else {}
        with importing(folder):
            return function(images, **settings, **draws)

    gradient, code = EXACT if is_exact else BPDA, code_checksum(name)
    return Defence(write_spec(name, settings), purify, gradient, is_random=is_random, checksum=code)
