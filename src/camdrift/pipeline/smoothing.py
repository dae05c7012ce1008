"""Randomised smoothing of a classifier: votes of noisy copies of every seed image (Cohen et al., ICML 2019)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
import torch

from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.models.replicas import on_replicas, replicated
from camdrift.normal import standard_normal
from camdrift.pipeline.defending import Example
from camdrift.pipeline.plan import Plan
from camdrift.streams import stream_seed
from camdrift.tables.defences import CERTIFIED
from camdrift.tables.table import Row

# Draws that choose the class; others count its votes.
CHOICE_DRAWS: Final = 100
_LARGEST_SIGMA: Final = 2.0


@dataclass(frozen=True)
class Smoothing:
    """Noises of randomised smoothing.

    Attributes:
        sigmas: Their standard deviations, in pixel units.
        draws: Draws that count votes.
    """

    sigmas: tuple[float, ...] = ()
    draws: int = 1000

    def __post_init__(self) -> None:
        for sigma in self.sigmas:
            if not 0 < sigma <= _LARGEST_SIGMA:
                raise UserError(f"`certify` must lie above 0 and up to {_LARGEST_SIGMA:g}, got: {sigma}")
        if self.draws < 1:
            raise UserError(f"`certify_draws` must be at least 1, got: {self.draws}")


UNSMOOTHED: Final = Smoothing()


def certify_chunk(
    plan: Plan, examples: Sequence[Example], sigma: float, draws: int, advance: Callable[[int], None]
) -> pl.DataFrame:
    """Votes of noisy copies, one row of table `certified` for each seed, without certificates yet.

    Noise is added to the image without cutting it off at the range of pixels, as the proof demands.

    Args:
        plan: The plan of the run.
        examples: The chunk's images.
        sigma: Standard deviation of the noise, in pixel units.
        draws: Draws that count votes.
        advance: Called with the number of seeds done.
    """
    rows = []
    for number, example in enumerate(examples):
        with replicated(plan.classifier, batch_size=plan.batch_size):
            votes = _votes(plan, example, sigma, CHOICE_DRAWS + draws)
        choice = Counter(votes[:CHOICE_DRAWS])
        winner = min(choice, key=lambda name: (-choice[name], name))
        rows.append(_row(example, winner, votes[CHOICE_DRAWS:], sigma))
        advance(number + 1)
    return CERTIFIED.frame(rows)


def noisy_agreement(plan: Plan, examples: Sequence[Example], sigma: float) -> int:
    """Number of seeds of which one noisy copy is predicted as the clean image.

    Args:
        plan: The plan of the run.
        examples: The images.
        sigma: Standard deviation of the noise, in pixel units.
    """
    return sum(_votes(plan, each, sigma, 1) == [each.seed.clean_class] for each in examples)


def _votes(plan: Plan, example: Example, sigma: float, count: int) -> list[int]:
    """Predictions of noisy copies of a seed image."""
    seed = example.seed
    rng_seed, pixels = plan.settings.rng_seed, seed.pixels

    def look(classifier: Classifier, numbers: Sequence[int]) -> list[int]:
        streams = [stream_seed(rng_seed, seed.seed_id, f"smoothing {sigma!r} {number}") for number in numbers]
        noise = standard_normal(streams, pixels.numel(), device=pixels.device).to(pixels).view(-1, *pixels.shape)
        with torch.no_grad():
            return [*classifier(pixels + sigma * noise).argmax(1).tolist()]

    with on_replicas(plan.classifier, look, [*batches(range(count), plan.batch_size)]) as results:
        return [vote for part in results for vote in part]


def _row(example: Example, winner: int, votes: Sequence[int], sigma: float) -> Row:
    home = example.seed.clean_class
    return {
        "sigma": sigma,
        "seed_id": example.seed.seed_id,
        "clean_class": home,
        "predicted_class": winner,
        "hits": votes.count(winner),
        "draws": len(votes),
        "clean_votes": votes.count(home),
    }
