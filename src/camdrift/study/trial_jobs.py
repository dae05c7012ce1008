"""The trials of a campaign as jobs: what is left, how far each is, and the worker that runs one to a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.coverage.criteria import make_criterion
from camdrift.coverage.profile import Profile
from camdrift.engine.progress import OnProgress, Progress
from camdrift.engine.workplace import Workplace
from camdrift.fuzzing.budget import PASSES, Budget
from camdrift.fuzzing.design import FuzzSeed
from camdrift.fuzzing.frameworks import Setup
from camdrift.fuzzing.oracles import make_oracle
from camdrift.fuzzing.settings import FuzzSettings
from camdrift.models.classifier import Classifier
from camdrift.models.copies import ModelCopy, copy_of, restore
from camdrift.storage.campaign_directory import CampaignDirectory
from camdrift.study.campaign_setup import campaign_design
from camdrift.study.trial_slices import PlannedTrial, Slice, TrialInHand, TrialProgress, rates_of, slice_of

# Seconds between two checkpoints.
EVERY: Final = 10.0
_FUZZ: Final = "fuzz"
_CURE: Final = "choose an --out that all machines share"


class TrialJobs:
    """The trials of a campaign, and how far each is.

    Args:
        directory: The campaign's directory.
        budget: What a trial may spend.
        cells: All trials, by their place.
        on_progress: Called whenever there is something to show.
    """

    stage: str = _FUZZ

    def __init__(
        self, directory: CampaignDirectory, budget: Budget, cells: Sequence[PlannedTrial], on_progress: OnProgress
    ) -> None:
        self._directory, self._budget, self._cells, self._on_progress = directory, budget, cells, on_progress
        self._slices = dict[int, Slice]()

    def missing(self) -> Sequence[int]:
        """As `Jobs`; what is stored is counted."""
        for cell in self._cells:
            part = self._read(cell.place)
            if part is not None:
                self._slices[cell.place] = part
        return [cell.place for cell in self._cells if not self._is_finished(cell.place)]

    def arguments(self, number: int) -> tuple[dict[str, float], int] | None:
        """As `Jobs`: what other frameworks kept, and the trial's iterations so far."""
        rates = rates_of(self._cells[number], self._cells, self._slices)
        return None if rates is None else (rates, self._iterations(number))

    def take(self, number: int, outcome: Slice) -> tuple[bool, tuple[str, ...]]:
        """As `Jobs`."""
        self._slices[number] = outcome
        return outcome.is_finished, ()

    def stored(self, number: int) -> Slice | None:
        """As `Jobs`: a checkpoint beyond the last one that was counted."""
        part, last = self._read(number), self._slices.get(number)
        is_new = part is not None and (last is None or part.is_finished or part.iterations > last.iterations)
        return part if is_new else None

    def name(self, number: int) -> str:
        """As `Jobs`."""
        return self._cells[number].words

    def subject(self, number: int) -> str:
        """As `Jobs`."""
        return f"after iteration {self._iterations(number)}"

    def show(self, stage: str, warnings: tuple[str, ...] = ()) -> None:
        """As `Jobs`."""
        self._show(stage, {}, warnings)

    def show_hands(self, hands: Sequence[tuple[int, TrialProgress]]) -> None:
        """As `Jobs`."""
        self._show(_FUZZ, dict(hands))

    def _show(self, stage: str, hands: Mapping[int, TrialProgress], warnings: tuple[str, ...] = ()) -> None:
        """Progress in passes, or in percent of the budget where that is not in passes."""
        unit, each = (PASSES, int(self._budget.amount)) if self._budget.unit == PASSES else ("percent", 100)
        parts = {**{place: part.progress for place, part in self._slices.items()}, **hands}
        passes = sum(int(part.share * each) for part in parts.values())
        failures = sum(part.failures for part in parts.values())
        total = each * len(self._cells)
        self._on_progress(Progress(stage, passes, total, failures, warnings, unit=unit, result="failure"))

    def _read(self, place: int) -> Slice | None:
        checkpoint = self._directory.read_checkpoint(place)
        return None if checkpoint is None else slice_of(checkpoint, self._budget)

    def _iterations(self, place: int) -> int:
        return self._slices[place].iterations if place in self._slices else 0

    def _is_finished(self, place: int) -> bool:
        return place in self._slices and self._slices[place].is_finished


@dataclass(frozen=True)
class CampaignTask:
    """What every worker of a campaign is made of.

    Attributes:
        workplace: The surroundings of the campaign.
        models: Copies of the classifier that is fuzzed, and of the oracle's others.
        settings: Options of the campaign.
        criterion: Spec of its criterion.
        profile: What neurons do on ordinary images.
        starts: The seeds.
        images: Their images, (3, height, width) each.
        cells: All trials.
    """

    workplace: Workplace
    models: tuple[ModelCopy, ...]
    settings: FuzzSettings
    criterion: str
    profile: Profile | None
    starts: tuple[FuzzSeed, ...]
    images: tuple[NDArray[np.float32], ...]
    cells: tuple[PlannedTrial, ...]

    def worker(self) -> "TrialWorker":
        """As `JobTask`."""
        return TrialWorker(self)


def campaign_task(
    directory: CampaignDirectory,
    setup: Setup,
    models: Sequence[Classifier],
    settings: FuzzSettings,
    criterion: str,
    cells: Sequence[PlannedTrial],
) -> CampaignTask:
    """Return what workers that run trials are made of.

    Args:
        directory: The campaign's directory, which must lie where all workers see it.
        setup: What a framework's guidance may be made of.
        models: The classifier that is fuzzed, and the further ones.
        settings: Options of the campaign.
        criterion: Spec of its criterion.
        cells: All trials.

    Raises:
        UserError: A model cannot be given to them.
    """
    return CampaignTask(
        workplace=Workplace.here(directory.path, directory.read_record()["started"]),
        models=tuple(copy_of(model) for model in models),
        settings=settings,
        criterion=criterion,
        profile=setup.profile,
        starts=tuple(setup.design.starts),
        images=tuple(setup.images),
        cells=tuple(cells),
    )


class TrialWorker:
    """Runs trials of one campaign up to a checkpoint.

    Attributes:
        progress: The progress of the trial in hand.
    """

    progress: TrialProgress

    def __init__(self, task: CampaignTask) -> None:
        self.progress = TrialProgress()
        self._task, self._directory = task, CampaignDirectory(Path(task.workplace.out))
        self._setup: Setup | None = None
        self._trial: TrialInHand | None = None

    def prepare(self) -> None:
        """Find the campaign's directory and make the models.

        Raises:
            UserError: This machine lacks something, or has another.
        """
        task = self._task
        task.workplace.enter(self._directory.read_record, _CURE)
        classifier, *others = map(restore, task.models)
        with torch.no_grad(), classifier.numerics():
            oracle = make_oracle(task.settings.oracle, classifier, tuple(others))
            criterion = make_criterion(task.criterion, classifier, task.profile)
            design = campaign_design(classifier, oracle, task.starts, criterion, task.settings)
        self._setup = Setup(design, task.images, task.profile)

    def compute(self, number: int, rates: Mapping[str, float], iterations: int) -> Slice:
        """Run a trial from its last checkpoint to the next.

        Args:
            number: Place of the trial.
            rates: Share of admitted mutants that the same trial of other frameworks kept.
            iterations: Its iterations so far.

        Raises:
            UserError: It cannot be run, or not be stored.
        """
        assert self._setup is not None
        trial = self._trial
        design = self._setup.design
        with torch.no_grad(), design.classifier.numerics(), design.on_cores():
            if trial is None or (trial.place, trial.iterations) != (number, iterations):
                self._close()
                trial = TrialInHand(self._directory, self._task.cells[number], self._setup, rates)
            self._trial, self.progress = trial, TrialProgress()
            part = trial.advance(EVERY, self._look)
        if part.is_finished:
            self._close()
        return part

    def _look(self, progress: TrialProgress) -> None:
        self.progress = progress

    def _close(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None
