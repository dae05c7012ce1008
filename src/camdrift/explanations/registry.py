"""Explanations by name: what a layer's attribution is made of."""

from camdrift.errors import UserError
from camdrift.explanations.ablation import ablation_cam
from camdrift.explanations.base import Explainer
from camdrift.explanations.from_captum import captum_explainer
from camdrift.explanations.gradient import grad_cam, grad_cam_pp, hires_cam, layer_cam, xgrad_cam
from camdrift.explanations.representation import activation, eigen_cam
from camdrift.specs import parse_spec
from camdrift.tables.measures import ACTIVATION, CAPTUM, EXPLANATIONS

_OF_GRADIENTS = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_pp,
    "xgradcam": xgrad_cam,
    "hirescam": hires_cam,
    "layercam": layer_cam,
}
_OF_ACTIVATIONS = {"eigencam": eigen_cam, ACTIVATION: activation}


def make_explainer(spec: str) -> Explainer:
    """The explanation that `spec` names.

    Args:
        spec: One of `measures.EXPLANATIONS`, or `captum:CLASS` of a layer attribution of Captum, with settings if
            wanted: `captum:LayerIntegratedGradients(n_steps=20)`.

    Raises:
        UserError: An unknown explanation or setting, or Captum is not installed.

    Example:
        >>> make_explainer("hirescam").spec
        'hirescam'
    """
    if spec in _OF_GRADIENTS:
        return Explainer(spec, of_gradient=_OF_GRADIENTS[spec])
    if spec in _OF_ACTIVATIONS:
        return Explainer(spec, of_activation=_OF_ACTIVATIONS[spec])
    if spec == "ablationcam":
        return Explainer(spec, of_passes=ablation_cam)
    parsed = parse_spec(spec, option="explain")
    library, _, name = parsed.name.partition(":")
    if library != CAPTUM:
        raise UserError(f"`explain` must be one of {', '.join(EXPLANATIONS)}, {CAPTUM}:CLASS, got: {spec}")
    return captum_explainer(name, parsed.settings)
