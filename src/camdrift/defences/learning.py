"""What defences learn from, and how they keep it."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from torch import nn

from camdrift.defences.making import Workshop
from camdrift.errors import ImageError, UserError
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images
from camdrift.tensors import Image

# Most images to learn from: their crops differ from step to step.
_MOST_IMAGES: Final = 512
_LEAST_IMAGES: Final = 10


def training_images(spec: str, source: Any, workshop: Workshop) -> tuple[list[Image], list[str]]:
    """Images to learn from, and the checksums of their files.

    Args:
        spec: The defence, for messages.
        source: The images, as for `run`.
        workshop: The geometry of the images, and the seeds that nothing may be learnt from.

    Raises:
        UserError: None are named, one is a seed image of the run, or there are too few.
    """
    if not isinstance(source, str):
        raise UserError(f"`defence` {spec} must have `train`, a folder of images that are no seeds of the run")
    images, checksums = [], []
    for place in select_images(source, limit=_MOST_IMAGES).files:
        try:
            image = read_image(place, **workshop.geometry)
        except ImageError:
            continue
        if image.sha256 in workshop.seeds:
            raise UserError(
                f"`defence` {spec} must not learn from seed images of the run, got: {place.seed_id} in {source}",
                "give `train` other images, such as some of the training set",
            )
        images.append(image.pixels)
        checksums.append(image.sha256)
    if len(images) < _LEAST_IMAGES:
        raise UserError(f"`defence` {spec} must have {_LEAST_IMAGES} images to learn from, got: {len(images)}")
    return images, checksums


def learnt(network: nn.Module, key: str, workshop: Workshop, train: Callable[[], None]) -> None:
    """Give a network what it has learnt before under a key; else train it, and keep that.

    Args:
        network: The network.
        key: What tells this training from others.
        workshop: Keeps what was learnt.
        train: Trains the network.
    """
    memory = workshop.learnt
    if memory is not None and (tensors := memory.find(key)) is not None:
        network.load_state_dict(dict(tensors))
        return
    train()
    if memory is not None:
        memory.keep(key, {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()})


def checksum_of(network: nn.Module) -> str:
    """SHA-256 over names and values of what a network has learnt."""
    digest = sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
