"""Passes over many images: in groups of one size, so that a result depends on nothing but the image's place."""

from collections.abc import Iterator
from typing import Final

import torch

from camdrift.models.classifier import Classifier
from camdrift.tensors import Images

# On a processor, batches of other sizes round otherwise, and a neuron at the border of a section changes sides. Larger
# batches do not pay there; and twenty mutants, DeepHunter's number, leave no group that has to be filled up.
GROUP_ON_PROCESSOR: Final = 4


def group_size(classifier: Classifier, batch_size: int) -> int:
    """Return the images of a group: four on a processor, else as many as there shall be in a pass."""
    return GROUP_ON_PROCESSOR if classifier.device.type == "cpu" else batch_size


def in_groups(images: Images, size: int) -> Iterator[tuple[Images, int]]:
    """Yield images in groups of one size, and how many of each count: the last one is filled up with copies.

    Args:
        images: (batch, 3, height, width), in order.
        size: Images of a group.
    """
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part)
        yield (torch.cat([part, part[-1:].expand(missing, -1, -1, -1)]) if missing else part), len(part)
