"""Evasion attacks of the Adversarial Robustness Toolbox (extra `attacks`)."""

import inspect
import sys
from math import inf
from typing import Any, Final

import numpy as np
from torch import Tensor, nn

from camdrift.attacks.base import OWN_DRAWS, PER_IMAGE, Threat
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import built, check_package, check_settings, choose, load_library, parameters, quietly
from camdrift.errors import UserError

_NORMS: Final = {inf: "linf", "inf": "linf", 2: "l2", "2": "l2", 1: "l1", "1": "l1"}
# It always takes the labels for those to reach.
_ALWAYS_TARGETED: Final = frozenset({"SaliencyMapMethod"})
# Its `eps` bounds another distance.
_OTHER_DISTANCE: Final = frozenset({"Wasserstein"})
# They refuse logits: a softmax behind the model gives them what they want.
_WANT_PROBABILITIES: Final = frozenset({"SimBA", "VirtualAdversarialMethod"})
# The setting `es` of these, where it is left out; with 0 they need the package cma.
_STRATEGIES: Final = {"ThresholdAttack": 0, "PixelAttack": 1}
# Packages of other attacks that ART does not install.
_PACKAGES: Final = {"CompositeAdversarialAttackPyTorch": "kornia"}
_OLD_NUMPY: Final = frozenset({"GeoDA"})
# It fixes at most four values of an image (1.20.1): findings/art_carlini_l0_changes_every_pixel.sh.
_CHANGES_ALL: Final = "CarliniL0Method"
_PATCHES: Final = (
    "AdversarialPatch",
    "AdversarialPatchNumpy",
    "AdversarialPatchPyTorch",
    "AdversarialPatchTensorFlowV2",
)
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
    _check_usable(name, settings)
    kind: Any = kinds[name]
    takes = parameters(kind, without=(next(iter(inspect.signature(kind).parameters)), *_NOT_SET))
    check_settings(f"art:{name}", settings, takes)
    settings = {**({"verbose": False} if "verbose" in takes else {}), **settings}
    sample = built(f"art:{name}", lambda: kind(_stub(), **settings), takes)
    can_target = "targeted" in kind.attack_params

    def make(model: PixelModel) -> Perturb:
        network = nn.Sequential(model, nn.Softmax(1)).eval() if name in _WANT_PROBABILITIES else model
        attack = kind(_estimator(network, model.size, model.classes, model.device.type), **settings)
        # AutoAttack's own attacks draw progress bars, and it takes no `verbose`.
        for part in getattr(attack, "attacks", ()):
            part.verbose = False

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


def _check_usable(name: str, settings: dict[str, Any]) -> None:
    """Raises `UserError` for an attack that cannot make images here, before anything is computed."""
    if name in _PATCHES:
        raise UserError(
            f"`attack` must return images, got: art:{name}, which returns a patch and its mask",
            "art:ProjectedGradientDescent and art:SquareAttack change whole images",
        )
    if name == _CHANGES_ALL:
        raise UserError(
            f"`attack` art:{name} must change few values of an image, but changes nearly all",
            "art:SaliencyMapMethod(target_class='second') and foolbox:SparseL1DescentAttack(eps=10) change few",
        )
    if name in _PACKAGES:
        check_package(f"art:{name}", _PACKAGES[name])
    if settings.get("es", _STRATEGIES.get(name)) == 0:
        check_package(f"art:{name}", "cma")
    if name in _OLD_NUMPY and int(np.__version__.partition(".")[0]) > 1:
        raise UserError(
            f"`attack` art:{name} calls functions that NumPy 2 has no more, got: NumPy {np.__version__}",
            "art:HopSkipJump looks at predictions alone, too",
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
