"""Provenance of a study: versions, machine, time."""

import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from camdrift.attacks.registry import LIBRARIES

_UNKNOWN: Final = "unknown"
_PACKAGES: Final = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "polars",
    "pillow",
    "matplotlib",
    "foolbox",
)
# Named only where they are installed: those that explain and load models, and the libraries of attacks.
_ATTACKS: Final = [library.package for library in LIBRARIES.values() if library.package not in _PACKAGES]
_EXTRAS: Final = tuple(
    dict.fromkeys(("captum", "transformers", "pot", "pytorch-ood", "nrtk", "scikit-image", *_ATTACKS))
)


def camdrift_version() -> str:
    """Return the version of this package."""
    return _version("camdrift")


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that numbers or pictures pass through."""
    extras = {name: _version(name) for name in _EXTRAS}
    extras = {name: text for name, text in extras.items() if text != _UNKNOWN}
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}, **extras}


def machine() -> dict[str, str | int]:
    """Return operating system, processor type and number of cores."""
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count() or 1}


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _UNKNOWN
