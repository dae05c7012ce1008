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
_NOT_FOLLOWED: Final = (
    "Captum follows ReLU, ELU, LeakyReLU, Sigmoid, Tanh and Softplus as modules, each used once; no functions, no "
    "other activations, no norms of layers, no products of activations; no max pooling right behind an activation or "
    "with windows that overlap: choose layers behind these by `--layers`, or LayerIntegratedGradients"
)
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


class _Behind(nn.Module):
    """What a classifier makes of a tapped activation, where all that does not come from there stays the image's."""

    def __init__(self, classifier: Classifier, tap: AnyTap, images: Images) -> None:
        super().__init__()
        self.network = classifier.module
        self.here = nn.Identity()
        self._classifier, self._tap = classifier, tap
        # Captum's hooks on activations in front of the tap need a gradient there.
        self._images = images.detach().clone().requires_grad_()

    def forward(self, activation: Tensor) -> Tensor:
        images = self._images.repeat(len(activation) // len(self._images), 1, 1, 1)
        with hooks.replacing(self._tap, lambda _: self.here(activation).clone()):
            return self._classifier(images)


def _activation(classifier: Classifier, tap: AnyTap, images: Images) -> Tensor:
    """Return a tapped activation, (batch, channels, height, width)."""
    activations: list[Tensor] = []

    def keep(activation: Tensor) -> Tensor:
        activations.append(activation.detach().clone())
        return activation

    with torch.no_grad(), hooks.replacing(tap, keep):
        classifier(images)
    return activations[-1]


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
                if method.__name__ == "LayerDeepLift":
                    attribution = _deep_lift(method, classifier, name, images, classes, settings)
                else:
                    network = _Tapped(classifier, tap)
                    attribution = method(network, network.here).attribute(images.detach(), target=classes, **settings)
        except _IncompleteError as error:
            raise UserError(
                f"`explain` {spec} is no DeepLIFT at layer {name}: attributions sum to {error.total:.3g}, where the "
                f"logit changes by {error.change:.3g}",
                _NOT_FOLLOWED,
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


def _deep_lift(
    method: Any, classifier: Classifier, layer: str, images: Images, classes: Classes, settings: Mapping[str, Any]
) -> Tensor:
    """Captum's DeepLIFT of one layer, whose attributions must sum to the change of the logit.

    Where ways lead past the layer, they change the logit, too. There the rules behind the layer are held to the same
    promise, with the activation of the image and that of the baseline while all else stays the image's.
    """
    tap = classifier.taps([layer])[layer]
    network = _Tapped(classifier, tap)
    # Captum's hooks on activations in front of the layer need a gradient there.
    leaf = images.detach().clone().requires_grad_()
    attribution: Tensor
    attribution, delta = method(network, network.here).attribute(
        leaf, target=classes, return_convergence_delta=True, **settings
    )
    if classifier.is_crossed_by_all(layer):
        _check_sum(attribution, delta)
        return attribution
    baseline = torch.zeros_like(images) + (settings.get("baselines") or 0)
    activation, other = (_activation(classifier, tap, batch) for batch in (images, baseline))
    behind = _Behind(classifier, tap, images)
    parts = method(behind, behind.here).attribute(
        activation.requires_grad_(), baselines=other, target=classes, return_convergence_delta=True
    )
    _check_sum(*parts)
    return attribution


def _check_sum(attribution: Tensor, delta: Tensor) -> None:
    """Raise `_IncompleteError` where attributions, (batch, ...), sum to more or less than they should by `delta`."""
    totals = attribution.detach().flatten(1).sum(1)
    changes = totals - delta
    is_rounding = delta.abs() <= _ROUNDING * attribution.detach().abs().flatten(1).sum(1)
    is_off = (delta.abs() > _MOST_OFF * changes.abs()) & ~is_rounding
    if bool(is_off.any()):
        worst = int(is_off.int().argmax())
        raise _IncompleteError(float(totals[worst]), float(changes[worst]))
