"""A finished run computed again: its plan and chunks, from its record."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypedDict

import torch

from camdrift.attacks.registry import is_function
from camdrift.errors import UserError
from camdrift.images.places import ImageFile
from camdrift.images.selection import select_images
from camdrift.masking import is_masked, with_home
from camdrift.models.classifier import Classifier
from camdrift.models.loading import load_model
from camdrift.models.registry import is_factory
from camdrift.perturbations.making import perturbation_place
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.perturbing import natural_changes
from camdrift.pipeline.plan import Plan, parts, perturbation_code, study_plan
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import ImageSource
from camdrift.study.record import code_changes, identity_changes, run_record
from camdrift.tables.run_json import Record, effective, passed

_WEIGHTS: Final = (".safetensors", ".pt", ".pth")
_UNASKED: Final = "the run names Python code, which is not run unasked"


class LoadingKeywords(TypedDict, total=False):
    """Weights and device of a model, in place of those in `run.json`."""

    weights: str | Path | None
    device: str | None


class SourceKeywords(LoadingKeywords, total=False):
    """Model and images of a run, in place of those in `run.json`."""

    model: str | Classifier | None
    images: ImageSource
    trust: bool


@dataclass(frozen=True)
class Recomputation:
    """Everything that computes the chunks of a run once more.

    Attributes:
        plan: The run's plan.
        chunks: Its images, chunk by chunk.
        threads: Threads that computed it on a processor; None if its record does not say.
    """

    plan: Plan
    chunks: Sequence[Sequence[ImageFile]]
    threads: int | None = None

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Hold arithmetic as the run did, in its precision and with its number of threads; restore both afterwards.

        Another number of threads adds in another order, and an attack may turn that into another image.
        """
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(self.threads or before)
            with self.plan.classifier.numerics():
                yield
        finally:
            torch.set_num_threads(before)


def _refuse_code(record: Record, attack: str, model: str | Classifier | None) -> None:
    """Raise `UserError` if the record names Python code that the caller has not named."""
    surrogate = record["surrogate"]
    specs = [] if model is not None else [str(effective(record)["model"])]
    specs += [] if surrogate is None else [str(surrogate["spec"])]
    code = [spec for spec in specs if is_factory(spec)]
    code += [attack] if is_function(attack) else []
    if code:
        hint = "--trust runs it; --model SPEC names a model's factory yourself"
        raise UserError(f"{_UNASKED}: {', '.join(code)}", hint)


def _refuse_masked(specs: Iterable[str]) -> None:
    """Raise `UserError` if a record leaves out a secret that the computation needs."""
    for spec in filter(is_masked, specs):
        raise UserError(f"a setting that is a secret is needed, and no record keeps one: {spec}")


def _found(value: Any) -> Any:
    """Return a setting of a record with the folder of the user in place of `~`."""
    return with_home(value) if isinstance(value, str) else value


def _recorded_images(record: Record) -> Any:
    """Return the images of a record.

    Raises:
        UserError: They were a list, which no record keeps.
    """
    source = _found(passed(record)["images"])
    if isinstance(source, str) and re.fullmatch(r"\d+ paths", source):
        raise UserError(f"the run was given a list of images, which no record keeps: {source}", "give IMAGES, too")
    return source


def recomputation(
    record: Record, model: str | Classifier | None, images: ImageSource, loading: LoadingKeywords, *, trust: bool
) -> Recomputation:
    """The plan and the chunks of a finished run.

    Args:
        record: Its record.
        model: Spec or classifier; None for the spec of the record.
        images: As for `run`; None for those of the record.
        loading: Weights and device, in place of those of the record.
        trust: Also run Python code that the record names.

    Raises:
        UserError: Model or images are missing, or differ from the run's.
    """
    arguments = effective(record)
    _refuse_masked(str(arguments[name]) for name in ("model", "attack", "surrogate") if arguments.get(name))
    options = {name: _found(value) for name, value in passed(record).items() if name in Settings.names()}
    settings = replace(Settings(**options), batch_size=arguments["batch_size"])
    if not trust:
        _refuse_code(record, settings.attack, model)
    classifier = model if isinstance(model, Classifier) else _load(record, model, loading)
    source = _recorded_images(record) if images is None else images
    files = select_images(source, limit=settings.limit, per_class=settings.per_class, rng_seed=settings.rng_seed).files
    surrogate = _load_surrogate(record, classifier)
    plan = study_plan(classifier, files, settings, Clock(), surrogate=surrogate)
    now = run_record(plan, files, source, command=None, kind=record["kind"])
    changes = identity_changes(record, now)
    if changes:
        raise UserError(f"this is another study: {'; '.join(changes)}", "give --model, --weights, IMAGES of the run")
    return Recomputation(plan, parts(files, settings), (record.get("engine") or {}).get("threads"))


def with_changes(computation: Recomputation, record: Record, *, trust: bool) -> Recomputation:
    """The computation with the natural changes of a run; as it was for a run without.

    Args:
        computation: What `recomputation` returned.
        record: The record of the run.
        trust: Also run Python code that the record names.

    Raises:
        UserError: A change cannot be made here, is Python code that is not trusted, or is no longer the run's.
    """
    entry = record.get("perturbations") or {}  # which older records lack
    specs = [with_home(spec) for spec in entry.get("specs") or ()]
    if not specs:
        return computation
    _refuse_masked(specs)
    if (code := [spec for spec in specs if perturbation_place(spec) is not None]) and not trust:
        raise UserError(f"{_UNASKED}: {', '.join(code)}", "--trust runs it")
    if changes := code_changes(record, {"perturbations": {"code": perturbation_code(specs)}}):
        raise UserError("; ".join(changes))
    plan = computation.plan
    tables = (*plan.design.extra_tables, natural_changes(specs, plan.classifier.size))
    return replace(computation, plan=replace(plan, design=replace(plan.design, extra_tables=tables)))


def _load(record: Record, spec: str | None, loading: LoadingKeywords) -> Classifier:
    """Load the model of this spec, or the run's."""
    arguments, weights = effective(record), loading.get("weights")
    if spec is None:
        spec = with_home(str(arguments["model"]))
        weights = weights or _weights_file(arguments["weights"])
    head = record["model"].get("head")  # which older records lack
    head = None if head is None else with_home(head["spec"])
    device = loading.get("device") or arguments["device"]
    return load_model(spec, weights=weights, device=device, precision=arguments["precision"], head=head)


def _load_surrogate(record: Record, classifier: Classifier) -> Classifier | None:
    """Load the run's surrogate beside a classifier; None if it had none."""
    surrogate = record["surrogate"]
    if surrogate is None:
        return None
    weights, device = _weights_file(surrogate["weights"]), str(classifier.device)
    return load_model(
        with_home(surrogate["spec"]), weights=weights, device=device, precision=effective(record)["precision"]
    )


def _weights_file(weights: str | None) -> str | None:
    """Return the weights of a record, if they are a file and no name that the spec stands for."""
    return with_home(weights) if weights is not None and weights.endswith(_WEIGHTS) else None
