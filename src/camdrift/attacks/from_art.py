"""Evasion attacks of the Adversarial Robustness Toolbox (extra `attacks`)."""

import inspect
import sys
from math import inf
from typing import Any, Final

import numpy as np
from torch import Tensor, nn

from camdrift.attacks.base import OWN_DRAWS, PER_IMAGE, Threat
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import built, check_settings, choose, load_library, parameters, quietly

_NORMS: Final = {inf: "linf", "inf": "linf", 2: "l2", "2": "l2", 1: "l1", "1": "l1"}
# It always takes the labels for those to reach.
_ALWAYS_TARGETED: Final = frozenset({"SaliencyMapMethod"})
# Its `eps` bounds another distance.
_OTHER_DISTANCE: Final = frozenset({"Wasserstein"})
# camdrift sets the first; the second writes files that nobody asked for.
_NOT_SET: Final = ("targeted", "summary_writer")


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack of ART.

    Args:
        name: A class of `art.attacks.evasion`.
        settings: The arguments of its constructor, but for the classifier.

    Raises:
        ImportError: ART is missing.
        UserError: There is no such attack or setting, or ART refuses a value.
    """
    library = load_library("art.attacks.evasion")
    base = load_library("art.attacks.attack").EvasionAttack
    kinds = {n: k for n, k in vars(library).items() if isinstance(k, type) and issubclass(k, base)}
    name = choose("art", name, kinds)
    kind: Any = kinds[name]
    takes = parameters(kind, without=(next(iter(inspect.signature(kind).parameters)), *_NOT_SET))
    check_settings(f"art:{name}", settings, takes)
    settings = {**({"verbose": False} if "verbose" in takes else {}), **settings}
    sample = built(f"art:{name}", lambda: kind(_stub(), **settings), takes)
    can_target = "targeted" in kind.attack_params

    def make(model: PixelModel) -> Perturb:
        attack = kind(_estimator(model, model.size, model.classes, model.device.type), **settings)

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Any:
            if can_target:
                attack.set_params(targeted=targets is not None)
            goal = classes if targets is None else targets
            one_hot = nn.functional.one_hot(goal, model.classes).cpu().numpy().astype(np.float32)
            with quietly():
                return attack.generate(x=images.cpu().numpy(), y=one_hot)

        return perturb

    must_target = name in _ALWAYS_TARGETED
    return AttackRecipe(
        name,
        make,
        threat=_threat(name, sample),
        can_target=must_target or can_target,
        must_target=must_target,
        # An unseeded generator of its own, as HopSkipJump has one.
        seeding=OWN_DRAWS if "RandomState()" in inspect.getsource(sys.modules[kind.__module__]) else PER_IMAGE,
    )


def _estimator(model: nn.Module, size: int, classes: int, device: str) -> Any:
    pytorch = load_library("art.estimators.classification")
    return pytorch.PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=(3, size, size),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device == "cpu" else "gpu",
    )


def _stub() -> Any:
    return _estimator(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)), 8, 10, "cpu")


def _threat(name: str, attack: Any) -> Threat | None:
    norm, epsilon = getattr(attack, "norm", None), getattr(attack, "eps", None)
    if name in _OTHER_DISTANCE or norm not in _NORMS or not isinstance(epsilon, int | float):
        return None
    return Threat(_NORMS[norm], float(epsilon))
