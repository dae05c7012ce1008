"""What the trials of a campaign share: its seeds, read and judged, and its design."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from camdrift.coverage.criteria import Criterion
from camdrift.errors import ImageError, UserError
from camdrift.fuzzing.budget import parse_budget
from camdrift.fuzzing.constraints import parse_constraint
from camdrift.fuzzing.design import CampaignDesign, FuzzSeed
from camdrift.fuzzing.names import PREDICTION
from camdrift.fuzzing.oracles import Oracle
from camdrift.fuzzing.settings import FuzzSettings
from camdrift.images.pixels import read_image
from camdrift.images.places import ImageFile, display_path
from camdrift.masking import without_home
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches
from camdrift.pipeline.plan import folder_labels
from camdrift.tables.table import Row

FUZZED_STATUS: Final = "fuzzed"
_LEFT_OUT, _UNREADABLE = "left_out", "unreadable"


@dataclass(frozen=True)
class CampaignSeeds:
    """The seed images of a campaign.

    Attributes:
        rows: Their rows of the table `starts`.
        starts: Those that are fuzzed.
        images: Images of those, (3, height, width) each.
    """

    rows: list[Row]
    starts: list[FuzzSeed]
    images: list[NDArray[np.float32]]


def campaign_design(
    classifier: Classifier,
    oracle: Oracle,
    starts: Sequence[FuzzSeed],
    criterion: Criterion | None,
    settings: FuzzSettings,
) -> CampaignDesign:
    """What all trials share.

    Args:
        classifier: The classifier that is fuzzed.
        oracle: Says what a failure is.
        starts: The seeds that are fuzzed.
        criterion: The campaign's criterion; None for none.
        settings: The campaign's options.
    """
    return CampaignDesign(
        classifier=classifier,
        starts=starts,
        oracle=oracle,
        constraint=parse_constraint(settings.constraint),
        budget=parse_budget(settings.budget),
        operators=settings.mutators,
        criterion=criterion,
        batch_size=settings.batch_size,
        rng_seed=settings.rng_seed,
        as_released=settings.as_released,
    )


def read_seeds(classifier: Classifier, oracle: Oracle, files: Sequence[ImageFile], batch_size: int) -> CampaignSeeds:
    """Read the seeds, and leave out those that fail from the start.

    Args:
        classifier: The classifier that is fuzzed.
        oracle: Says what a failure is.
        files: The images.
        batch_size: Images of a pass.

    Raises:
        UserError: No seed is left.
    """
    labels = folder_labels(classifier, files)
    rows, starts, images = list[Row](), list[FuzzSeed](), list[NDArray[np.float32]]()
    for batch in batches(files, batch_size):
        read: list[tuple[Row, torch.Tensor]] = []
        for file in batch:
            label = _label(classifier, file, labels)
            row: Row = {"seed_id": file.seed_id, "path": without_home(display_path(file.path)), "label": label}
            rows.append(row)
            try:
                picture = read_image(file, **classifier.geometry)
            except ImageError as error:
                row |= {"status": _UNREADABLE, "reason": error.message}
                continue
            row["sha256"] = picture.sha256
            read.append((row, picture.pixels))
        if not read:
            continue
        pixels = torch.stack([image for _, image in read]).to(classifier.device)
        logits = [model(pixels) for model in (classifier, *oracle.others)]
        probabilities, classes = logits[0].softmax(1).max(1)
        for place, (row, image) in enumerate(read):
            row |= {"clean_class": int(classes[place]), "clean_probability": float(probabilities[place])}
            seed_class = row["label"] if oracle.name == PREDICTION and row["label"] is not None else row["clean_class"]
            reason = oracle.objection([each[place] for each in logits], seed_class)
            row |= {"status": _LEFT_OUT, "reason": reason} if reason else {"status": FUZZED_STATUS}
            if not reason:
                starts.append(FuzzSeed(row["seed_id"], seed_class))
                images.append(image.cpu().numpy())
    if not starts:
        reasons = sorted({row["reason"] for row in rows})
        raise UserError(
            f"`images` must hold a seed that can be fuzzed, got: {len(rows)} images and none ({'; '.join(reasons)})",
            "are the labels those of the model? `camdrift run` on the same images shows what it predicts",
        )
    return CampaignSeeds(rows, starts, images)


def _label(classifier: Classifier, file: ImageFile, labels: Mapping[str, int]) -> int | None:
    if file.folder is not None and file.folder in labels:
        return labels[file.folder]
    return file.label if file.place.counts(classifier.classes) else None
