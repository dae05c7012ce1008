"""The loop of a campaign: one trial of one framework from its dry run to the end of its budget."""

from collections.abc import Callable
from time import monotonic

from camdrift.fuzzing.corpus import Corpus, ImageStack
from camdrift.fuzzing.frameworks import ChosenFramework, Setup
from camdrift.fuzzing.trial import Trial

# Called after every iteration; True pauses the trial there.
OnIteration = Callable[[Trial], bool | None]


def new_trial(framework: ChosenFramework, number: int, setup: Setup, corpus: ImageStack, failing: ImageStack) -> Trial:
    """Return a trial that has not begun.

    Args:
        framework: Its framework.
        number: Its number.
        setup: What its guidance may be made of.
        corpus: Takes the images of its corpus.
        failing: Takes the images of new failures.
    """
    design = setup.design
    return Trial(
        design=design,
        framework=framework.spec,
        number=number,
        guidance=framework.row.guidance(setup, framework.settings),
        corpus=Corpus(corpus, design.classifier.device),
        failing=failing,
        measure=None if design.criterion is None else design.criterion.start(),
    )


def run_trial(trial: Trial, framework: ChosenFramework, setup: Setup, after: OnIteration) -> bool:
    """Run a trial from wherever it is to the end of its budget; has it come there, or was it paused?

    Args:
        trial: A new trial, or one that was taken up again.
        framework: Its framework.
        setup: What its guidance may be made of.
        after: Called after every iteration; True pauses the trial.

    Raises:
        UserError: The budget does not allow the dry run.
    """
    step = framework.step
    if not len(trial.corpus):
        trial.begin(setup.images)
        if after(trial):
            return False
    while not trial.is_spent and not _is_over(trial, framework):
        begin = monotonic()
        trial.counts.iterations += 1
        step(trial)
        trial.counts.seconds += monotonic() - begin
        trial.note_growth()
        if after(trial):
            return False
    trial.close()
    return True


def _is_over(trial: Trial, framework: ChosenFramework) -> bool:
    """Would the published program have ended?"""
    return trial.design.as_released and framework.row.stops_at_first and trial.counts.failures > 0
