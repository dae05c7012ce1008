"""Defences of a finished run: what each keeps, what is left when the attack knows it, and where the network comes back.

The run's seeds, model, attack and strengths come from its record and are computed again, as `verify` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any, Final, Unpack

import polars as pl
import torch
from torch import Tensor

from camdrift.attacks.base import Attack
from camdrift.attacks.making import make_attack
from camdrift.attacks.stored import StoredImages
from camdrift.coverage.profile import Profile
from camdrift.defences.base import Defence, check_defence
from camdrift.defences.making import Workshop, make_defence
from camdrift.detectors.assessment import detector_rows
from camdrift.detectors.opening import Detectors
from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import UserError
from camdrift.pipeline.defending import Evaluation, reference_strength
from camdrift.pipeline.plan import Plan
from camdrift.pipeline.smoothing import UNSMOOTHED, Smoothing
from camdrift.specs import parse_spec
from camdrift.statistics.defences import AttackWords, Trait, defence_rows, sanity
from camdrift.statistics.residual import NoiseRuler, noise_ruler
from camdrift.statistics.restoration import restoration
from camdrift.storage.defence_files import DefenceFiles
from camdrift.storage.run_directory import RunDirectory
from camdrift.study import provenance
from camdrift.study.defence_parts import IMAGES, MAPS, UNIT, DefenceParts
from camdrift.study.defence_results import Defending
from camdrift.study.judging import detectors_of
from camdrift.study.launch import ImageSource, check_known, spelled_out
from camdrift.study.recomputation import LoadingKeywords, Recomputation, SourceKeywords, recomputation
from camdrift.study.study import Study, open_study
from camdrift.tables.defences import (
    CERTIFIED,
    DEFENCES_TABLE,
    DEFENDED_IMAGES,
    PURIFIED_MAPS,
    RESTORATION,
    SANITY,
)
from camdrift.tables.detection import DETECTORS_TABLE
from camdrift.tables.file_names import DEFENCE_PICTURES, RECORD
from camdrift.tables.measures import first_measure

# Fresh draws of a random purifier, in an attack and in a verdict.
EOT_DRAWS: Final = 20
# Settings by which attacks call the number of their steps, and of their restarts.
_STEPS: Final = ("steps", "max_iter", "iterations", "num_steps")
_RESTARTS: Final = ("restarts", "n_restarts", "num_random_init")


class DefendKeywords(SourceKeywords, total=False):
    """What an evaluation of defences is made from."""

    profile: Profile | ImageSource | Tensor


@spelled_out()
def defend(
    run: str | PathLike[str] | Study,
    defences: str | Sequence[str] = (),
    *,
    detectors: str | Sequence[str] = (),
    adaptive: str | Sequence[str] | None = None,
    draws: int = EOT_DRAWS,
    smoothing: Smoothing = UNSMOOTHED,
    on_progress: OnProgress | None = None,
    **source: Unpack[DefendKeywords],
) -> Defending:
    """Judge defences and detectors on a finished run, and write what they do into its directory.

    A prediction is correct if it is that of the clean image without a defence. Images that the network predicts
    otherwise than their label are left out. An evaluation that was stopped goes on where it was.

    Args:
        run: The run directory, or the study.
        defences: Specs of purifiers: `bits`, `median`, `jpeg(quality=50)`, `dae(train='photos/')`, `art:CLASS`,
            `file.py:function`; docs/defences.md lists them.
        detectors: Specs of detectors: `softmax`, `mahalanobis`, `squeeze`, `pytorch-ood:CLASS`.
        adaptive: Specs of attacks that know the defence; None for the run's attack; none at all (`()`) is static only:
            then the numbers say nothing about robustness.
        draws: Draws of a random purifier: those that an attack averages (EOT), and others for every verdict.
        smoothing: Noises with which randomised smoothing certifies the network, as `Smoothing(sigmas=(0.25,))`.
        on_progress: Called whenever there is something to show.
        **source: What the evaluation is made from, in place of what `run.json` says:
        profile: Ordinary images that some detectors are fitted to: a folder or another source, a profile, its file.
        model: Spec or classifier; None for the spec in `run.json`.
        images: As for `run`; None for those in `run.json`.
        trust: Also run Python code that the run's record names.
        weights: Weights for the spec; None for those in `run.json`.
        device: auto, cpu, cuda or cuda:N; None for the one in `run.json`.

    Raises:
        StoreError: There is no run, or one that is not complete.
        UserError: A defence, a detector or an attack that cannot be made, a purifier that changes shape or range, or is
            random without saying so; a model or images that are gone or differ from the run's.
    """
    check_known(source, tuple(DefendKeywords.__annotations__))
    specs, names = ([each] if isinstance(each, str) else [*each] for each in (defences, detectors))
    if not specs and not names and not smoothing.sigmas:
        raise UserError("`defences` or `detectors` must name one or more, got: none", "--defence jpeg for example")
    if not isinstance(draws, int) or draws < 1:
        raise UserError(f"`draws` must be at least 1, got: {draws}")
    study = run if isinstance(run, Study) else open_study(run)
    study.check_fit()
    show = on_progress or (lambda progress: None)
    computation, files = _computation(study, source), DefenceFiles(study.path)
    plan, directory = computation.plan, RunDirectory(study.path)
    purifiers = _purifiers(specs, study, plan, files, show)
    evaluation = Evaluation(purifiers, draws, plan.settings.rng_seed)
    attacks, is_static = _attacks(plan, adaptive) if purifiers else (), adaptive is not None and not adaptive
    with directory.writing(), computation.numerics():
        detecting = _detectors(names, source.get("profile"), study, plan)
        parts = DefenceParts(computation, evaluation, attacks, detecting, smoothing, is_static, files, show)
        files.begin(parts.key(study.record))
        parts.compute()
        defending = _written(study, directory, parts)
        files.end()
    return defending


def _computation(study: Study, source: DefendKeywords) -> Recomputation:
    loading: LoadingKeywords = {"weights": source.get("weights"), "device": source.get("device")}
    trust = source.get("trust", False)
    return recomputation(study.record, source.get("model"), source.get("images"), loading, trust=trust)


def _detectors(
    names: Sequence[str], profile: Profile | ImageSource | Tensor, study: Study, plan: Plan
) -> Detectors | None:
    """The detectors, fitted to the profile; None without any."""
    if not names:
        return None
    seeds = study.seeds["sha256"].drop_nulls().to_list()
    detectors, _ = detectors_of(names, plan.classifier, plan.layers, profile, seeds=seeds)
    return detectors


def _attacks(plan: Plan, specs: str | Sequence[str] | None) -> tuple[Attack, ...]:
    """The attacks that know the defence."""
    if specs is None:
        if isinstance(plan.attack, StoredImages):
            raise UserError(
                "`adaptive` must name an attack, since the run has stored images in place of one",
                "--adaptive pgd, or --static-only for numbers that say nothing about robustness",
            )
        return (plan.attack,)
    return tuple(make_attack(spec) for spec in ([specs] if isinstance(specs, str) else specs))


class _Learnt:
    """What defences have learnt, kept in the run directory."""

    def __init__(self, files: DefenceFiles) -> None:
        self._files = files

    def find(self, key: str) -> Mapping[str, Tensor] | None:
        """Tensors that were kept under a key."""
        arrays = self._files.find(key)
        return None if arrays is None else {name: torch.from_numpy(array) for name, array in arrays.items()}

    def keep(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a key."""
        self._files.keep(key, {name: tensor.numpy() for name, tensor in tensors.items()})


def _purifiers(
    specs: Sequence[str], study: Study, plan: Plan, files: DefenceFiles, show: OnProgress
) -> tuple[Defence, ...]:
    """The defences of some specs, each checked on two images of noise."""
    checksums = study.seeds["sha256"].drop_nulls()
    workshop = Workshop(
        geometry=plan.classifier.geometry,
        seeds=frozenset(checksums.to_list()),
        rng_seed=plan.settings.rng_seed,
        device=str(plan.classifier.device),
        learnt=_Learnt(files),
        classifier=plan.classifier,
        show=lambda line: show(Progress("learn", 0, 1, 0, warnings=(line,), unit=UNIT)),
    )
    purifiers = [make_defence(spec, workshop) for spec in specs]
    names = [defence.spec for defence in purifiers]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"`defences` must be different, got twice: {twice[0]}")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2, 3, *plan.size), generator=generator).to(plan.classifier.device)
    for defence in purifiers:
        check_defence(defence, images, rng_seed=plan.settings.rng_seed)
    return tuple(purifiers)


def _written(study: Study, directory: RunDirectory, parts: DefenceParts) -> Defending:
    """The tables of an evaluation, written into the run directory with its pictures and what the record says of it."""
    evaluation, rng_seed = parts.evaluation, parts.evaluation.rng_seed
    images, maps = parts.table(IMAGES), parts.table(MAPS)
    traits = {
        each.spec: Trait(each.gradient, each.is_random, each.is_iterative, evaluation.draws if each.is_random else None)
        for each in evaluation.defences
    }
    words = {attack.spec: _words(attack) for attack in (parts.computation.plan.attack, *parts.attacks)}
    rows = defence_rows(images, traits, words, rng_seed=rng_seed)
    tables = {
        DEFENCES_TABLE.name: rows,
        RESTORATION.name: restoration(maps, _ruler(study, maps), rng_seed=rng_seed),
        DEFENDED_IMAGES.name: images,
        PURIFIED_MAPS.name: maps,
        SANITY.name: sanity(images, rows, traits),
        CERTIFIED.name: parts.certified(),
        DETECTORS_TABLE.name: DETECTORS_TABLE.frame(detector_rows(parts.sheets())),
    }
    parts.files.write_pictures(parts.pictures())
    directory.replace_tables(tables)
    directory.write_record({**directory.read_record(), "defend": _entry(parts, traits)})
    study.keep(*(f"{name}.parquet" for name in tables), DEFENCE_PICTURES, RECORD)
    strength = reference_strength(parts.computation.plan)
    return Defending(
        defences=rows,
        restoration=tables[RESTORATION.name],
        images=images,
        sanity=tables[SANITY.name],
        detectors=tables[DETECTORS_TABLE.name],
        certified=tables[CERTIFIED.name],
        strength=strength,
        place=study.place,
    )


def _ruler(study: Study, maps: pl.DataFrame) -> NoiseRuler | None:
    """What the run's noise does to the layers; None if no map of the seed's class was compared."""
    similarity, layers = (first_measure(table) for table in (study.scan("similarity"), study.layers.lazy()))
    return noise_ruler(similarity, study.variants, maps["seed_id"].unique().to_list(), layers.collect())


def _entry(parts: DefenceParts, traits: Mapping[str, Trait]) -> dict[str, Any]:
    """What the record of the run says of the evaluation."""
    evaluation = parts.evaluation
    return {
        "finished": provenance.now(),
        "camdrift": provenance.camdrift_version(),
        "defences": [{"spec": d.spec, "checksum": d.checksum, **asdict(traits[d.spec])} for d in evaluation.defences],
        "adaptive": [attack.spec for attack in parts.attacks],
        "draws": evaluation.draws,
        "detectors": [] if parts.detectors is None else [*parts.detectors.by_name],
        "smoothing": asdict(parts.smoothing),
    }


def _words(attack: Attack) -> AttackWords:
    """What the tables say of an attack."""
    settings = {} if isinstance(attack, StoredImages) else parse_spec(attack.spec).settings
    steps = next((settings[name] for name in _STEPS if isinstance(settings.get(name), int)), None)
    restarts = next((settings[name] for name in _RESTARTS if isinstance(settings.get(name), int)), None)
    bound = attack.threat
    return AttackWords(None if bound is None else bound.epsilon, None if bound is None else bound.norm, steps, restarts)
