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

_LIBRARY: Final = "adversarial-robustness-toolbox"
_NORMS: Final = {inf: "linf", "inf": "linf", 2: "l2", "2": "l2", 1: "l1", "1": "l1"}
# For it the labels are those to reach, whatever it is told.
_ALWAYS_TARGETED: Final = frozenset({"SaliencyMapMethod"})
# Its `eps` bounds another distance.
_OTHER_DISTANCE: Final = frozenset({"Wasserstein"})
# Set by camdrift, or files that nobody asked for.
_NOT_SET: Final = ("targeted", "summary_writer")


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """How to make the attack of ART that `name` means.

    Args:
        name: A class of `art.attacks.evasion`.
        settings: What its constructor takes, but the classifier.

    Raises:
        UserError: ART is missing, no such attack or setting, or a value that it refuses.
    """
    library = load_library("art.attacks.evasion", library=_LIBRARY, extra="[attacks]")
    base = load_library("art.attacks.attack", library=_LIBRARY, extra="[attacks]").EvasionAttack
    kinds = {n: k for n, k in vars(library).items() if isinstance(k, type) and issubclass(k, base)}
    name = choose("art", name, kinds)
    kind: Any = kinds[name]
    takes = parameters(kind, without=(next(iter(inspect.signature(kind).parameters)), *_NOT_SET))
    check_settings(f"art:{name}", settings, takes)
    chosen = {**({"verbose": False} if "verbose" in takes else {}), **settings}
    attack = built(f"art:{name}", lambda: kind(_stub(), **chosen), takes)

    def make(model: PixelModel) -> Perturb:
        made = kind(_estimator(model, model.size, model.classes, model.device.type), **chosen)

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Any:
            if "targeted" in kind.attack_params:
                made.set_params(targeted=targets is not None)
            wanted = classes if targets is None else targets
            one_hot = nn.functional.one_hot(wanted, model.classes).cpu().numpy().astype(np.float32)
            with quietly():
                return made.generate(x=images.cpu().numpy(), y=one_hot)

        return perturb

    must_target = name in _ALWAYS_TARGETED
    return AttackRecipe(
        name,
        make,
        threat=_threat(name, attack),
        can_target=must_target or "targeted" in kind.attack_params,
        must_target=must_target,
        # An unseeded generator of its own, as HopSkipJump has one.
        seeding=OWN_DRAWS if "RandomState()" in inspect.getsource(sys.modules[kind.__module__]) else PER_IMAGE,
    )


def _estimator(model: nn.Module, size: int, classes: int, device: str) -> Any:
    pytorch = load_library("art.estimators.classification", library=_LIBRARY, extra="[attacks]")
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
