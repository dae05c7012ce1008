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
        settings = {**settings, _IN_PARTS: len(images)}
    for name, tap in classifier.taps(layers).items():
        try:
            with torch.enable_grad(), classifier.undisturbed():
                network = _Tapped(classifier, tap)
                attribution = method(network, network.here).attribute(images.detach(), target=classes, **settings)
        except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"`explain` {spec} fails at layer {name}: {line}",
                "the settings, or this network, do not suit it: `--layers` chooses others",
            ) from error
        maps[name] = attribution.detach().float().sum(1).relu()
    return maps
