"""Natural changes of the user's own: functions that take a picture."""

import inspect
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from camdrift.errors import UserError, one_line
from camdrift.perturbations.base import Perturbation, Picture
from camdrift.specs import write_spec
from camdrift.user_code import importing, load_function, module_folder

_RNG: Final = "rng"
# What an answer may lie outside of the range of pixels, from rounding alone.
_SLACK: Final = 1e-4


def perturbation(name: str, settings: dict[str, Any]) -> Perturbation:
    """A function as a natural change: `function(image, **settings)` returns the changed picture.

    A picture is a NumPy array of float32, (height, width, 3), from 0 to 1. A function that draws random numbers takes
    `rng`, a `numpy.random.Generator`.

    Args:
        name: `path/to/file.py:function` or `package.module:function`.
        settings: Further arguments of the function.

    Raises:
        UserError: There is no such function, or it does not take these arguments.
    """
    function = load_function(name, option="perturb")
    try:
        signature = inspect.signature(function)
        takes_rng = _RNG in signature.parameters
        signature.bind(None, **settings, **({_RNG: None} if takes_rng else {}))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`perturb` {name} must take (image) and the settings given, got: {one_line(error)}",
            "docs/perturbations.md has an example",
        ) from error
    folder, spec = module_folder(name.rpartition(":")[0]), write_spec(name, settings)

    def difference(picture: Picture, rng: Generator) -> Picture:
        draws = {_RNG: rng} if takes_rng else {}
        with importing(folder):
            answer = function(picture.copy(), **settings, **draws)
        return _checked(spec, picture, answer) - picture

    return Perturbation(spec, difference)


def _checked(spec: str, picture: Picture, answer: Any) -> Picture:
    """The answer of a function as a picture.

    Raises:
        UserError: It is none of that shape, holds no floats, is not finite or leaves [0, 1].
    """
    if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f":
        kind = answer.dtype if isinstance(answer, np.ndarray) else type(answer).__name__
        raise UserError(f"`perturb` {spec} must return a NumPy array of floats, got: {kind}", "image / 255 for bytes")
    if answer.shape != picture.shape:
        raise UserError(
            f"`perturb` {spec} must keep the shape (height, width, channels) {picture.shape}, got: {answer.shape}",
            "the maps of a picture that is cropped or moved say nothing about those of the picture as it was",
        )
    if not np.isfinite(answer).all():
        raise UserError(f"`perturb` {spec} must return finite pixels, got: NaN or infinity")
    least, most = float(answer.min()), float(answer.max())
    if least < -_SLACK or most > 1 + _SLACK:
        raise UserError(f"`perturb` {spec} must return pixels from 0 to 1, got: {least:.4g} to {most:.4g}", "clip them")
    return answer.clip(0, 1).astype(np.float32)
