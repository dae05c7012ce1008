"""A trial of a campaign from one checkpoint to the next, in this process or a worker's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from camdrift.fuzzing.budget import Budget
from camdrift.fuzzing.campaign import new_trial, run_trial
from camdrift.fuzzing.checkpoint import save, take_up_again
from camdrift.fuzzing.frameworks import ChosenFramework, Setup
from camdrift.fuzzing.trial import Trial
from camdrift.storage.campaign_directory import CampaignDirectory, Checkpoint

# The images of a trial, by the name of their file.
STACKS: Final = ("corpus", "failing")
_FINISHED: Final = "is_finished"


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of one framework, in the order in which they run."""

    place: int
    framework: ChosenFramework
    number: int

    @property
    def words(self) -> str:
        """The trial for a person."""
        return f"trial {self.number} of {self.framework.spec}"


@dataclass(frozen=True)
class TrialProgress:
    """The progress of a trial: share of its budget that is spent, and failures."""

    share: float = 0.0
    failures: int = 0


@dataclass(frozen=True)
class Slice:
    """A trial at a checkpoint, as it is stored.

    Attributes:
        iterations: Its iterations so far.
        is_finished: Is its budget spent?
        progress: How far it is.
        rate: Share of admitted mutants that it has kept.
    """

    iterations: int
    is_finished: bool
    progress: TrialProgress
    rate: float


def slice_of(checkpoint: Checkpoint, budget: Budget) -> Slice:
    """Return the slice that ends with a checkpoint.

    Args:
        checkpoint: The checkpoint.
        budget: What the trial may spend.
    """
    counts = checkpoint.counts
    is_finished = bool(counts[_FINISHED])
    share = min(1.0, budget.share(counts["passes"], counts["iterations"], counts["seconds"]))
    progress = TrialProgress(1.0 if is_finished else share, counts["failures"])
    return Slice(counts["iterations"], is_finished, progress, counts["kept"] / max(1, counts["admitted"]))


class TrialInHand:
    """A trial from its last checkpoint on.

    Args:
        directory: The campaign's directory.
        cell: The trial.
        setup: What its guidance may be made of.
        rates: Share of admitted mutants that finished trials of the same number kept, by framework.
    """

    def __init__(
        self, directory: CampaignDirectory, cell: PlannedTrial, setup: Setup, rates: Mapping[str, float]
    ) -> None:
        self._directory, self._cell, self._setup = directory, cell, replace(setup, rates=rates)
        side = setup.design.classifier.size
        self._stacks = [directory.stack(cell.place, name, side) for name in STACKS]
        self._trial = new_trial(cell.framework, cell.number, self._setup, *self._stacks)
        checkpoint = directory.read_checkpoint(cell.place)
        if checkpoint is None:
            for each in self._stacks:
                each.truncate(0)
        else:
            take_up_again(self._trial, checkpoint.tables, checkpoint.arrays, checkpoint.counts)

    @property
    def place(self) -> int:
        """Place of the trial in the campaign."""
        return self._cell.place

    @property
    def iterations(self) -> int:
        """Its iterations so far."""
        return self._trial.counts.iterations

    def advance(self, seconds: float, after: Callable[[TrialProgress], None]) -> Slice:
        """Run the trial for some seconds or to its end, and store a checkpoint.

        Args:
            seconds: Seconds after which an iteration is the last one.
            after: Called after every iteration.
        """
        begin = monotonic()

        def look(trial: Trial) -> bool:
            after(TrialProgress(min(1.0, trial.share), trial.counts.failures))
            return monotonic() - begin > seconds

        return self._write(is_finished=run_trial(self._trial, self._cell.framework, self._setup, look))

    def close(self) -> None:
        """Close its files."""
        for each in self._stacks:
            each.close()

    def _write(self, *, is_finished: bool) -> Slice:
        for each in self._stacks:
            each.sync()
        tables, arrays, counts = save(self._trial)
        checkpoint = Checkpoint(tables, arrays, {**counts, _FINISHED: is_finished})
        # A finished trial may have as many iterations as its last checkpoint.
        self._directory.write_checkpoint(self.place, 2 * self.iterations + is_finished, checkpoint)
        return slice_of(checkpoint, self._setup.design.budget)


def rates_of(cell: PlannedTrial, cells: Sequence[PlannedTrial], slices: Mapping[int, Slice]) -> dict[str, float] | None:
    """Share of admitted mutants that the same trial of other frameworks kept; None where one that it needs goes on.

    Args:
        cell: The trial.
        cells: All trials.
        slices: What is stored, by the place of a trial.
    """
    rates: dict[str, float] = {}
    for other in cells:
        if other.number != cell.number or other.place == cell.place:
            continue
        part = slices.get(other.place)
        if part is not None and part.is_finished:
            rates[other.framework.name] = part.rate
        elif other.framework.name == cell.framework.like:
            return None
    return rates
