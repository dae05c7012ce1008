"""Explanations and metrics by name, as the rows of `tables/measures.py` list them."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from camdrift.errors import UserError, install_hint
from camdrift.explanations.base import Explainer
from camdrift.explanations.from_captum import captum_explainer
from camdrift.explanations.metrics import Metric
from camdrift.specs import nearest, parse_spec
from camdrift.tables.measures import (
    ACTIVATIONS,
    CAPTUM,
    EXPLANATION_ROWS,
    EXPLANATIONS,
    GRADIENTS,
    METRIC_ROWS,
    PASSES,
)

# The metric that needs POT, and the extra that brings it.
_EMD: Final = "emd"
# The field of an `Explainer` that takes the function, by kind of explanation.
_FIELDS: Final = {GRADIENTS: "of_gradient", ACTIVATIONS: "of_activation", PASSES: "of_passes"}


def make_explainer(spec: str) -> Explainer:
    """The explanation that `spec` names.

    Args:
        spec: One of `tables.measures.EXPLANATIONS`, or `captum:CLASS` of a layer attribution of Captum, with settings
            if wanted: `captum:LayerIntegratedGradients(n_steps=20)`.

    Raises:
        UserError: An unknown explanation or setting, or Captum is not installed.

    Example:
        >>> make_explainer("hirescam").spec
        'hirescam'
    """
    if row := EXPLANATION_ROWS.get(spec):
        return Explainer(spec, **{_FIELDS[row.kind]: _function(row.function)})
    library_spec = parse_spec(spec, option="explain")
    library, _, name = library_spec.name.partition(":")
    if library != CAPTUM:
        names = f"{', '.join(EXPLANATIONS)}, {CAPTUM}:CLASS"
        raise UserError(f"`explain` must be one of {names}, got: {spec}", nearest(spec, EXPLANATIONS).strip())
    return captum_explainer(name, library_spec.settings)


def find_metric(name: str) -> Metric:
    """The metric of a name.

    Args:
        name: One of `tables.measures.METRICS`.

    Raises:
        UserError: It needs a package that is not installed.
    """
    if name == _EMD and find_spec("ot") is None:
        raise UserError(f"`similarity` {name} needs POT, which is not installed", install_hint(_EMD))
    metric: Metric = _function(METRIC_ROWS[name].function)
    return metric


def _function(place: str) -> Any:
    """The function at a dotted place below `camdrift.explanations`."""
    module, _, name = place.rpartition(".")
    return getattr(import_module(f"camdrift.explanations.{module}"), name)
