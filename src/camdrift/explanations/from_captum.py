"""Layer attributions of Captum, taken at camdrift's taps: behind norm and activation, in whichever module these lie."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.errors import UserError, install_hint
from camdrift.explanations.base import Explainer
from camdrift.layers import hooks
from camdrift.layers.taps import AnyTap
from camdrift.models.classifier import Classifier
from camdrift.specs import write_spec
from camdrift.tables.measures import CAPTUM
from camdrift.tensors import Classes, Images, Maps

# Captum's classes that draw no random numbers and need no further data.
CLASSES: Final = (
    "LayerIntegratedGradients",
    "LayerGradientXActivation",
    "LayerConductance",
    "InternalInfluence",
    "LayerFeatureAblation",
    "LayerDeepLift",
)
# Share of the logit's change that DeepLIFT's attributions may miss; and of their sum without signs, which is rounding.
_MOST_OFF, _ROUNDING = 0.01, 1e-4
# Images times steps at once would fill the memory of most machines.
_IN_PARTS: Final = "internal_batch_size"


def captum_explainer(name: str, settings: Mapping[str, Any]) -> Explainer:
    """Explanation by one of Captum's layer attributions: the sum over channels, then ReLU.

    Args:
        name: One of `CLASSES`.
        settings: Arguments of its `attribute`.

    Raises:
        UserError: Captum is not installed, the class is none of `CLASSES`, or it does not take an argument.
    """
    if name not in CLASSES:
        raise UserError(f"`explain` {CAPTUM}: must be one of {', '.join(CLASSES)}, got: {name}")
    try:
        from captum import attr
    except ImportError as error:
        raise UserError(
            f"`explain` {CAPTUM}:{name} needs Captum, which is not installed",
            install_hint("captum"),
        ) from error
    method = getattr(attr, name)
    arguments = inspect.signature(method.attribute).parameters
    choices = [key for key in arguments if key not in ("self", "inputs", "target", "return_convergence_delta")]
    if unknown := [key for key in settings if key not in choices]:
        raise UserError(
            f"`explain` {CAPTUM}:{name} has no such setting, got: {', '.join(unknown)}",
            f"settings: {', '.join(choices)}",
        )
    spec = write_spec(f"{CAPTUM}:{name}", settings)
    parts = {_IN_PARTS: None} if _IN_PARTS in arguments and _IN_PARTS not in settings else {}
    return Explainer(spec, of_passes=partial(_attribute, method, spec, {**parts, **settings}))


class _Tapped(nn.Module):
    """A classifier in which the tapped activation passes through a module of its own, `here`, for Captum to hook."""

    def __init__(self, classifier: Classifier, tap: AnyTap) -> None:
        super().__init__()
        self.network = classifier.module
        self.here = nn.Identity()
        self._classifier, self._tap = classifier, tap

    def forward(self, images: Images) -> Tensor:
        # A copy, since what Captum puts there may be a leaf, which an in-place operation must not touch.
        with hooks.replacing(self._tap, lambda activation: self.here(activation).clone()):
            return self._classifier(images)


def _attribute(
    method: Any,
    spec: str,
    settings: Mapping[str, Any],
    classifier: Classifier,
    images: Images,
    classes: Classes,
    layers: Sequence[str],
) -> dict[str, Maps]:
    """Captum's attribution of each layer, summed over channels, then ReLU, shape (batch, h, w)."""
    maps = {}
    if _IN_PARTS in settings and not settings[_IN_PARTS]:
        # Conductance is made of differences from step to step.
        steps = 2 if method.__name__ == "LayerConductance" else 1
        settings = {**settings, _IN_PARTS: steps * len(images)}
    for name, tap in classifier.taps(layers).items():
        try:
            with torch.enable_grad(), classifier.undisturbed():
                network = _Tapped(classifier, tap)
                attribution = _call(method, network, images, classes, settings, classifier.is_crossed_by_all(name))
        except _IncompleteError as error:
            raise UserError(
                f"`explain` {spec} is no DeepLIFT at layer {name}: attributions sum to {error.total:.3g}, where the "
                f"logit changes by {error.change:.3g}",
                "Captum follows activations that are modules alone: write them as modules, each used once",
            ) from error
        except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"`explain` {spec} fails at layer {name}: {line}",
                "the settings, or this network, do not suit it: `--layers` chooses others",
            ) from error
        maps[name] = attribution.detach().float().sum(1).relu()
    return maps


class _IncompleteError(Exception):
    """Attributions that do not sum to the change of the logit, although the method promises it."""

    def __init__(self, total: float, change: float) -> None:
        super().__init__(total, change)
        self.total, self.change = total, change


def _call(
    method: Any, network: nn.Module, images: Images, classes: Classes, settings: Mapping[str, Any], is_crossed: bool
) -> Tensor:
    """What Captum's method returns for one layer; for DeepLIFT, checked where all ways lead through the layer."""
    explainer = method(network, network.here)
    if method.__name__ != "LayerDeepLift":
        attribution: Tensor = explainer.attribute(images.detach(), target=classes, **settings)
        return attribution
    # Captum's hooks on activations in front of the layer need a gradient there.
    leaf = images.detach().clone().requires_grad_()
    attribution, delta = explainer.attribute(leaf, target=classes, return_convergence_delta=True, **settings)
    totals = attribution.detach().flatten(1).sum(1)
    changes = totals - delta
    is_rounding = delta.abs() <= _ROUNDING * attribution.detach().abs().flatten(1).sum(1)
    is_off = (delta.abs() > _MOST_OFF * changes.abs()) & ~is_rounding
    if is_crossed and bool(is_off.any()):
        worst = int(is_off.int().argmax())
        raise _IncompleteError(float(totals[worst]), float(changes[worst]))
    return attribution
