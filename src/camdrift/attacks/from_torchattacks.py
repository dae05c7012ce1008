"""Attacks of torchattacks (extra `attacks`)."""

from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.attacks.base import Threat
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import built, check_settings, choose, load_library, parameters, quietly

# They bound the L2 norm and do not say so; all others that have an `eps` without a `norm` bound the largest change.
_L2: Final = frozenset({"PGDL2", "PGDRSL2"})
# It takes the class to reach for the one to leave (3.5.1): findings/torchattacks_fab_ignores_its_target.sh.
_IGNORES_TARGET: Final = "FAB"
# They take other attacks or data, not images alone.
_NO_ATTACKS: Final = frozenset({"Attack", "MultiAttack", "LGV"})


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack of torchattacks.

    Args:
        name: A class of `torchattacks`.
        settings: The arguments of its constructor, but for the model. Left out, `n_classes` is the model's and `seed`
            the image's own.

    Raises:
        ImportError: torchattacks is missing.
        UserError: There is no such attack or setting, or torchattacks refuses a value.
    """
    library = load_library("torchattacks")
    kinds = {n: k for n, k in vars(library).items() if _is_attack(library, k) and n not in _NO_ATTACKS}
    name = choose("torchattacks", name, kinds)
    kind = kinds[name]
    takes = parameters(kind, without=("model",))
    check_settings(f"torchattacks:{name}", settings, takes)
    sample = built(f"torchattacks:{name}", lambda: kind(nn.Linear(1, 2), **settings), takes)

    def make(model: PixelModel) -> Perturb:
        own: dict[str, Any] = {"n_classes": model.classes, "seed": torch.initial_seed() % 2**31}
        attack = kind(model, **{**{key: value for key, value in own.items() if key in takes}, **settings})

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Tensor:
            if targets is not None:
                attack.set_mode_targeted_by_label(quiet=True)
            with quietly():
                answer: Tensor = attack(images, classes if targets is None else targets)
            return answer

        return perturb

    can_target = "targeted" in sample.supported_mode and name != _IGNORES_TARGET
    return AttackRecipe(name, make, threat=_threat(name, sample), can_target=can_target)


def _is_attack(library: ModuleType, kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, library.attack.Attack)


def _threat(name: str, attack: Any) -> Threat | None:
    epsilon = getattr(attack, "eps", getattr(attack, "max_epsilon", None))
    if not isinstance(epsilon, int | float):
        return None
    norm = str(getattr(attack, "norm", "L2" if name in _L2 else "Linf")).lower()
    return Threat(norm, float(epsilon))
