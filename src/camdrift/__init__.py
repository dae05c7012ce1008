"""camdrift shows where inside an image classifier an adversarial attack takes hold."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from camdrift.study.provenance import camdrift_version

if TYPE_CHECKING:
    from camdrift.attacks.making import make_attack as make_attack
    from camdrift.comparison.compare import compare as compare
    from camdrift.comparison.crossing import cross as cross
    from camdrift.comparison.sweep import sweep as sweep
    from camdrift.coverage.neurons import neuron_coverage as neuron_coverage
    from camdrift.errors import ImageError as ImageError
    from camdrift.errors import ModelError as ModelError
    from camdrift.errors import StoreError as StoreError
    from camdrift.errors import UserError as UserError
    from camdrift.explanations.attribution import attribute as attribute
    from camdrift.explanations.similarity import similarity as similarity
    from camdrift.figures.overlay import overlay as overlay
    from camdrift.models.classifier import Classifier as Classifier
    from camdrift.models.heads import with_head as with_head
    from camdrift.models.loading import load_model as load_model
    from camdrift.models.loading import wrap as wrap
    from camdrift.pipeline.noise import matched_noise as matched_noise
    from camdrift.study.campaign import Campaign as Campaign
    from camdrift.study.campaign import open_campaign as open_campaign
    from camdrift.study.defence_results import Defending as Defending
    from camdrift.study.defend import defend as defend
    from camdrift.study.detect import detect as detect
    from camdrift.study.explain import explain as explain
    from camdrift.study.fuzz import fuzz as fuzz
    from camdrift.study.gate import check as check
    from camdrift.study.heads import TrainedHead as TrainedHead
    from camdrift.study.heads import train_head as train_head
    from camdrift.study.meaning import CoverageMeaning as CoverageMeaning
    from camdrift.study.meaning import coverage_meaning as coverage_meaning
    from camdrift.study.measurement import CoverageMeasurement as CoverageMeasurement
    from camdrift.study.measurement import measure_coverage as measure_coverage
    from camdrift.study.reproduce import reproduce as reproduce
    from camdrift.study.run import run as run
    from camdrift.study.study import Study as Study
    from camdrift.study.study import open_study
    from camdrift.study.verify import verify as verify

    open = open_study

__version__ = camdrift_version()

# Where each public name is defined. Its module is imported when the name is first used: torch takes seconds.
_PUBLIC: Final = {
    "Campaign": "study.campaign",
    "Classifier": "models.classifier",
    "CoverageMeaning": "study.meaning",
    "CoverageMeasurement": "study.measurement",
    "Defending": "study.defence_results",
    "ImageError": "errors",
    "ModelError": "errors",
    "StoreError": "errors",
    "Study": "study.study",
    "TrainedHead": "study.heads",
    "UserError": "errors",
    "attribute": "explanations.attribution",
    "check": "study.gate",
    "compare": "comparison.compare",
    "cross": "comparison.crossing",
    "coverage_meaning": "study.meaning",
    "defend": "study.defend",
    "detect": "study.detect",
    "explain": "study.explain",
    "fuzz": "study.fuzz",
    "load_model": "models.loading",
    "make_attack": "attacks.making",
    "matched_noise": "pipeline.noise",
    "measure_coverage": "study.measurement",
    "neuron_coverage": "coverage.neurons",
    "open": "study.study:open_study",
    "open_campaign": "study.campaign",
    "overlay": "figures.overlay",
    "reproduce": "study.reproduce",
    "run": "study.run",
    "similarity": "explanations.similarity",
    "sweep": "comparison.sweep",
    "train_head": "study.heads",
    "verify": "study.verify",
    "with_head": "models.heads",
    "wrap": "models.loading",
}

__all__ = sorted((*_PUBLIC, "__version__"))


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module `camdrift` has no attribute `{name}`")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(import_module(f"camdrift.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
