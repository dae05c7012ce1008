"""The identity: the control that keeps what every other defence may change."""

from typing import Any

from camdrift.defences.base import EXACT, Defence
from camdrift.defences.making import Workshop, check_setting_names


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """The defence that changes nothing."""
    check_setting_names(spec, settings)
    return Defence(spec, lambda images, _: images, gradient=EXACT)
