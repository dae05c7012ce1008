"""Defences of the Adversarial Robustness Toolbox: its preprocessors, which work on NumPy arrays."""

from importlib import import_module
from typing import Any

import numpy as np
import torch

from camdrift.defences.base import Defence
from camdrift.defences.making import Workshop
from camdrift.errors import FOREIGN, UserError, one_line
from camdrift.specs import nearest, write_spec
from camdrift.tensors import Images


def defence(name: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """A preprocessor of ART; attacks take the identity's gradient, as ART's own do.

    Args:
        name: A class of `art.defences.preprocessor`.
        settings: Its arguments; pixels lie in [0, 1] and channels come first, whatever it is told.
        workshop: Where and for what.

    Raises:
        UserError: There is no such class, or it does not take these arguments.
    """
    module = import_module("art.defences.preprocessor")
    names = [word for word in vars(module) if isinstance(getattr(module, word), type)]
    if name not in names:
        raise UserError(f"`defence` art:{name} must be a class of art.defences.preprocessor", nearest(name, names))
    spec, kind = write_spec(f"art:{name}", settings), getattr(module, name)
    constants = {"clip_values": (0.0, 1.0), "channels_first": True}
    words = kind.__init__.__code__.co_varnames
    try:
        preprocessor = kind(**{key: value for key, value in constants.items() if key in words}, **settings)
    except FOREIGN as error:
        raise UserError(f"`defence` {spec} cannot be made: {one_line(error)}") from error

    def purify(images: Images, _: Any) -> Images:
        answer, _labels = preprocessor(images.detach().cpu().numpy())
        return torch.from_numpy(np.ascontiguousarray(answer, np.float32)).to(images.device)

    return Defence(spec, purify)
