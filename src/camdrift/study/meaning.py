"""Is coverage meaningful in a finished campaign? Seven questions, each with its controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from camdrift.coverage.base import neuron_layout
from camdrift.coverage.bitmaps import SlotState
from camdrift.coverage.criteria import Criterion, feature_layer, features_for, make_criterion
from camdrift.coverage.profile import Profile
from camdrift.errors import UserError
from camdrift.fuzzing.design import CampaignDesign
from camdrift.fuzzing.names import DISAGREE
from camdrift.fuzzing.oracles import check_models_fit, make_oracle
from camdrift.fuzzing.settings import settings_of
from camdrift.images.selection import select_images
from camdrift.models.classifier import Classifier
from camdrift.pipeline.plan import checked
from camdrift.report.meaning_words import meaning_sentences, told_first, with_verdicts
from camdrift.specs import parse_specs
from camdrift.statistics.meaning import failure_rows, guidance_rows, with_holm
from camdrift.statistics.suites import CoverageSets, SuiteDesign, SuitePool, associations
from camdrift.storage.campaign_directory import CampaignDirectory
from camdrift.study.campaign import Campaign, open_campaign
from camdrift.study.campaign_setup import FUZZED_STATUS, campaign_design, read_seeds
from camdrift.study.fuzz import image_source
from camdrift.study.launch import ImageSource
from camdrift.study.meaning_answers import (
    MeaningDraws,
    clean_slots,
    impartiality_rows,
    naturalness_rows,
    onset_rows,
    push_rows,
    reward_rows,
)
from camdrift.study.meaning_pool import Judge, Pool, PoolMaker
from camdrift.study.profiling import profile_of
from camdrift.tables.criteria import ALL
from camdrift.tables.file_names import PROFILE
from camdrift.tables.meaning import MEANING
from camdrift.tables.table import Row

# Criteria that are sets of what neurons do, without and with a profile.
_PLAIN: Final = ("nc", "tknc")
_WITH_PROFILE: Final = ("nc", "kmnc", "nbc", "snac", "tknc")
_FEWEST_SEEDS: Final = 4
# Called with what is done, how much of it is done, and all of it.
OnStage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CoverageMeaning:
    """Whether coverage is meaningful in a campaign.

    Attributes:
        meaning: The table `meaning`.
        remarks: What a person should know before trusting it, a line each.
        path: The run directory.
    """

    meaning: pl.DataFrame
    remarks: tuple[str, ...]
    path: Path

    def summary(self) -> str:
        """Return what each criterion says of failures, a sentence a line."""
        return "\n".join(told_first(self.meaning.to_dicts()))

    def lines(self) -> list[str]:
        """Return every question, and below it its answers."""
        sentences = meaning_sentences(self.meaning.to_dicts())
        return [
            line for words, answers in sentences.items() for line in (words, *(f"  {each}" for each in answers), "")
        ]

    def __repr__(self) -> str:
        return f"CoverageMeaning({self.path})"


def coverage_meaning(
    run: Campaign | str | PathLike[str],
    classifier: Classifier | Sequence[Classifier],
    *,
    images: ImageSource = None,
    criteria: str | Sequence[str] = ALL,
    profile: Profile | ImageSource = None,
    judge: Classifier | None = None,
    draws: MeaningDraws | None = None,
    on_stage: OnStage | None = None,
) -> CoverageMeaning:
    """Whether coverage says anything about failures of a finished campaign that size and strength do not.

    The seeds are read again. Around each a pool is made anew: mutants by the campaign's operators within its
    constraint, an attack and noise at several strengths. What the campaign kept is no part of it, because coverage
    chose that. Table, page and figures in the run directory are replaced.

    Args:
        run: A finished campaign, or its directory.
        classifier: The classifier that was fuzzed; where the campaign had further models, all of them in its order.
        images: Its seed images; None for those that its record names.
        criteria: Criteria that are sets (`nc`, `kmnc`, `nbc`, `snac`, `tknc`, `lsc`, `dsc`, `mdsc`), or `all`.
        profile: As for `measure_coverage`; None for the campaign's own, where it has one.
        judge: Another model of the same classes and input size, in whose features naturalness is measured.
        draws: How much is made and drawn.
        on_stage: Called with what is done, how much of it is done, and all of it.

    Raises:
        UserError: A campaign, model, seeds or criteria that do not fit, or too few seeds.
    """
    campaign = run if isinstance(run, Campaign) else open_campaign(run)
    show, draws = on_stage or (lambda *_: None), draws or MeaningDraws()
    classifier, *models = [classifier] if isinstance(classifier, Classifier) else classifier
    with torch.no_grad(), checked(classifier, "classifier").numerics():
        design, seeds = _design(campaign, classifier, models, images)
        selection = _criteria(campaign, classifier, criteria, profile, show)
        table, remarks = _answers(campaign, design, seeds, selection, _judge(classifier, judge), draws, show)
    campaign.add_meaning(table)
    return CoverageMeaning(table, remarks, campaign.path)


def _design(
    campaign: Campaign, classifier: Classifier, models: Sequence[Classifier], images: ImageSource
) -> tuple[CampaignDesign, torch.Tensor]:
    """The campaign's design and the images of its seeds, which must be those of its record."""
    record = campaign.record
    # The oracle `precision` makes its other model itself.
    others = record["models"] if record["oracle"] == DISAGREE else []
    for own, before in zip((classifier, *models), (record["model"], *others), strict=False):
        if own.weights_checksum() != before["weights_sha256"]:
            raise UserError(
                f"`classifier` must be the campaign's, got: {own.spec} of other weights than {before['spec']} had",
                "give the model that was fuzzed",
            )
    if len(models) != len(others):
        raise UserError(f"`models` must be the campaign's {len(others)}, got: {len(models)}")
    settings = settings_of(record["settings"])
    oracle = make_oracle(record["oracle"], classifier, models)
    source = image_source(record) if images is None else images
    seeds = read_seeds(classifier, oracle, select_images(source, limit=settings.limit).files, settings.batch_size)
    columns = ("seed_id", "sha256")
    before = campaign.starts.filter(status=FUZZED_STATUS).select(columns).rows()
    now = [tuple(row[name] for name in columns) for row in seeds.rows if row["status"] == FUZZED_STATUS]
    if before != now:
        name = next((one[0] for one, other in zip(before, now, strict=False) if one != other), "their number")
        raise UserError(f"`images` must be the campaign's seeds, got: others ({name})", "name them as they were")
    if len(now) < _FEWEST_SEEDS:
        hint = "fuzz more images"
        raise UserError(f"`run` must have {_FEWEST_SEEDS} seeds or more that are fuzzed, got: {len(now)}", hint)
    design = campaign_design(classifier, oracle, seeds.starts, None, settings)
    return design, torch.as_tensor(np.stack(seeds.images)).to(classifier.device)


def _criteria(
    campaign: Campaign,
    classifier: Classifier,
    criteria: str | Sequence[str],
    profile: Profile | ImageSource,
    show: OnStage,
) -> dict[str, Criterion]:
    """The criteria by name; all of them are sets."""
    own = campaign.path / PROFILE
    source = own if profile is None and own.is_file() else profile
    specs = parse_specs(criteria) if isinstance(criteria, str) else tuple(criteria)
    if ALL in specs:
        specs = _PLAIN if source is None else _WITH_PROFILE
    layers = features_for(specs, neuron_layout(classifier))
    reference = profile_of(classifier, source, layers, folder=None, batch_size=0, show=show).profile
    selection = {}
    for spec in specs:
        criterion = make_criterion(spec, classifier, reference)
        if not isinstance(criterion.start(), SlotState):
            raise UserError(
                f"`criteria` must be sets, so that suites have unions, got: {spec}",
                f"there are {', '.join(_WITH_PROFILE)}, lsc, dsc, mdsc",
            )
        selection[criterion.name] = criterion
    if not selection:
        raise UserError("`criteria` must name one or more, got: none", f"{ALL} stands for every one")
    return selection


def _judge(classifier: Classifier, judge: Classifier | None) -> Judge | None:
    if judge is None:
        return None
    check_models_fit(classifier, judge, "judge")
    if judge.weights_checksum() == classifier.weights_checksum():
        raise UserError(f"`judge` must be another model than the one that is fuzzed, got: {judge.spec}")
    return Judge(judge, feature_layer("judge", neuron_layout(judge), ""))


def _answers(
    campaign: Campaign,
    design: CampaignDesign,
    seeds: torch.Tensor,
    criteria: Mapping[str, Criterion],
    judge: Judge | None,
    draws: MeaningDraws,
    show: OnStage,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table, and remarks."""
    states: dict[str, Any] = {name: criterion.start() for name, criterion in criteria.items()}
    maker = PoolMaker(design, seeds, states, draws=draws.draws, steps=draws.steps, judge=judge)
    pool = maker.pool(lambda done, total: show("images", done, total))
    slots = {name: np.concatenate(parts) for name, parts in pool.slots.items()}
    pool.slots.clear()
    directory = CampaignDirectory(campaign.path)
    rows = [
        *_suites(pool, slots, states, design, draws, show),
        *guidance_rows(campaign.growth, campaign.record["criterion"], rng_seed=design.rng_seed),
        *reward_rows(pool, states, slots),
    ]
    show("attack", 0, 1)
    rows += push_rows(pool, design, seeds, criteria, draws)
    rows += naturalness_rows(pool, design)
    rows += impartiality_rows(pool, design, campaign.failures)
    rows += onset_rows(campaign.failures, directory.read_failure, design, states, clean_slots(pool, slots), draws)
    remarks = [f"left out, because some seed has no valid image: {', '.join(pool.left_out)}"] if pool.left_out else []
    return MEANING.frame(with_verdicts(with_holm(rows))), tuple(remarks)


def _suites(
    pool: Pool,
    slots: Mapping[str, NDArray[np.int32]],
    states: Mapping[str, SlotState],
    design: CampaignDesign,
    draws: MeaningDraws,
    show: OnStage,
) -> list[Row]:
    """Rows on the first question."""
    show("suites", 0, 1)
    sets = {name: CoverageSets(rows, states[name].rule.slots) for name, rows in slots.items()}
    images = SuitePool(pool.cells(len(design.starts)), np.array(pool.failures, np.int64))
    amounts = SuiteDesign(draws.suites, draws.permutations, draws.replicates)
    results = associations(images, sets, amounts, rng_seed=design.rng_seed)
    return failure_rows(results, pool.is_failure())
