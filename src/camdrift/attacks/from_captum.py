"""Attacks of captum (extra `captum`)."""

from typing import Any, Final

from torch import Tensor, nn

from camdrift.attacks.base import Threat
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import check_settings, choose, load_library, parameters, positive, quietly
from camdrift.errors import UserError

_BOUNDS: Final = {"FGSM": "epsilon", "PGD": "radius"}
_GIVEN: Final = ("inputs", "target", "targeted", "additional_forward_args", "mask")
_NORMS: Final = {"Linf": "linf", "L2": "l2"}


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack of captum.

    Args:
        name: FGSM or PGD.
        settings: The arguments of its `perturb`: `epsilon`, or `radius`, `step_size`, `step_num`, `random_start`,
            `norm`.

    Raises:
        ImportError: captum is missing.
        UserError: There is no such attack or setting.
    """
    library = load_library("captum.robust")
    name = choose("captum", name, _BOUNDS)
    kind = getattr(library, name)
    takes = parameters(kind.perturb, without=_GIVEN)
    check_settings(f"captum:{name}", settings, takes)
    if (norm := settings.get("norm", "Linf")) not in _NORMS:
        raise UserError(f"`attack` setting `norm` must be one of {', '.join(_NORMS)}, got: {norm}")

    def make(model: PixelModel) -> Perturb:
        # Its own default, -log of the output, makes a class likelier whose logit is negative.
        attack = kind(model, nn.CrossEntropyLoss(reduction="none"), lower_bound=0.0, upper_bound=1.0)

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Tensor:
            goal = classes if targets is None else targets
            with quietly():
                answer: Tensor = attack.perturb(images, target=goal, targeted=targets is not None, **settings)
            return answer

        return perturb

    key = _BOUNDS[name]
    return AttackRecipe(name, make, threat=Threat(_NORMS[norm], positive(key, settings[key])), can_target=True)
