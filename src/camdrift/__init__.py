"""camdrift shows where inside an image classifier an adversarial attack takes hold."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from camdrift.errors import ImageError, ModelError, StoreError, UserError
from camdrift.provenance import camdrift_version

if TYPE_CHECKING:
    from camdrift.attacks import make_attack
    from camdrift.compare import compare
    from camdrift.coverage import neuron_coverage
    from camdrift.detect import detect
    from camdrift.explain import attribute
    from camdrift.models import Classifier
    from camdrift.noise import matched_noise
    from camdrift.reproduce import reproduce
    from camdrift.run import run
    from camdrift.similarity import similarity
    from camdrift.study import Study
    from camdrift.study import open_study as open
    from camdrift.sweep import sweep
    from camdrift.verify import verify
    from camdrift.zoo import load_model, wrap

__version__ = camdrift_version()

# Names whose modules need torch are imported when they are first used.
_LAZY = {
    "Classifier": ("models", "Classifier"),
    "Study": ("study", "Study"),
    "attribute": ("explain", "attribute"),
    "compare": ("compare", "compare"),
    "detect": ("detect", "detect"),
    "load_model": ("zoo", "load_model"),
    "make_attack": ("attacks", "make_attack"),
    "matched_noise": ("noise", "matched_noise"),
    "neuron_coverage": ("coverage", "neuron_coverage"),
    "open": ("study", "open_study"),
    "reproduce": ("reproduce", "reproduce"),
    "run": ("run", "run"),
    "similarity": ("similarity", "similarity"),
    "sweep": ("sweep", "sweep"),
    "verify": ("verify", "verify"),
    "wrap": ("zoo", "wrap"),
}

__all__ = [
    "Classifier",
    "ImageError",
    "ModelError",
    "StoreError",
    "Study",
    "UserError",
    "__version__",
    "attribute",
    "compare",
    "detect",
    "load_model",
    "make_attack",
    "matched_noise",
    "neuron_coverage",
    "open",
    "reproduce",
    "run",
    "similarity",
    "sweep",
    "verify",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module `camdrift` has no attribute `{name}`")
    module, attribute = _LAZY[name]
    value = getattr(import_module(f"camdrift.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Whoever imports the module `camdrift.run` would put it in the place of the function.
        is_shadow = name in _LAZY and isinstance(value, ModuleType)
        super().__setattr__(name, getattr(value, name) if is_shadow else value)


sys.modules[__name__].__class__ = _Package
