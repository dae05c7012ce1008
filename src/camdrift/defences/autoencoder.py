"""The denoising autoencoder: a small residual network that takes noise out of images (Gu 2015, Gondara 2016)."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from torch import Generator, Tensor, nn

from camdrift.defences.base import EXACT, Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.errors import ImageError, UserError
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images
from camdrift.models.weights import load_weights
from camdrift.streams import stream_seed
from camdrift.tables.words import count
from camdrift.tensors import Image, Images

_WIDTH: Final = 32
_CROP: Final = 64
_BATCH: Final = 16
_RATE: Final = 1e-3
# Most images to learn from: their crops differ from step to step.
_MOST_IMAGES: Final = 512
_LEAST_IMAGES: Final = 10
# Weight of the loss on clean crops, which a defence should leave alone.
_CLEAN_WEIGHT: Final = 1.0
_TOLD_STEPS: Final = 50


class DenoisingAutoencoder(nn.Module):
    """Four convolutions that predict the noise, which is taken away: x - f(x), cut off at the range of pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(one, other, 3, padding=1) for one, other in pairwise((3, *3 * [_WIDTH], 3))]
        first, *others = layers
        self.noise = nn.Sequential(first, *(part for layer in others for part in (nn.ReLU(), layer)))

    def forward(self, images: Images) -> Images:
        """Images without their noise."""
        answer: Images = (images - self.noise(images)).clamp(0, 1)
        return answer


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """A denoising autoencoder, trained on the images of `train` or read from `file`.

    Raises:
        UserError: Neither or both are given, an image of `train` is a seed of the run, or there are too few.
    """
    check_setting_names(spec, settings, "train", "file", "sigma", "steps")
    sigma = float(ranged_setting(spec, settings, "sigma", 0.001, 1))
    steps = ranged_setting(spec, settings, "steps", 1, 10**6, is_whole=True)
    train, file = settings.get("train"), settings.get("file")
    if (train is None) == (file is None):
        raise UserError(
            f"`defence` {spec} must have `train` or `file`",
            "dae(train='photos/') learns from images that are no seeds; dae(file='dae.safetensors') reads weights",
        )
    network = DenoisingAutoencoder()
    if file is not None:
        load_weights(network, Path(str(file)))
    else:
        _learn(network, spec, str(train), sigma, steps, workshop)
    network.eval().requires_grad_(False).to(workshop.device)
    return Defence(spec, lambda images, _: network(images), gradient=EXACT, checksum=_checksum(network))


def _learn(network: nn.Module, spec: str, source: str, sigma: float, steps: int, workshop: Workshop) -> None:
    """Train the network, or take what it has learnt before from the same images."""
    images, checksums = _training_images(spec, source, workshop)
    key = sha256(f"{spec} {workshop.rng_seed} {' '.join(sorted(checksums))}".encode()).hexdigest()
    learnt = workshop.learnt
    if learnt is not None and (tensors := learnt.find(key)) is not None:
        network.load_state_dict(dict(tensors))
        return
    train_denoiser(network, images, sigma=sigma, steps=steps, workshop=workshop)
    if learnt is not None:
        learnt.keep(key, {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()})


def _training_images(spec: str, source: str, workshop: Workshop) -> tuple[list[Image], list[str]]:
    """Images to learn from, and the checksums of their files."""
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


def train_denoiser(
    network: nn.Module, images: Sequence[Image], *, sigma: float, steps: int, workshop: Workshop
) -> None:
    """Train a network to take Gaussian noise out of crops, and to leave clean crops as they are.

    The loss is the mean squared error against the clean crop, of the noisy and of the clean one. Noise of every crop
    has a standard deviation between 0 and `sigma`.

    Args:
        network: The network.
        images: Images to learn from, in pixel space.
        sigma: Largest standard deviation of the noise, in pixel units.
        steps: Steps of Adam, of 16 crops each.
        workshop: Random draws, device, and whom to tell.
    """
    generator = Generator().manual_seed(stream_seed(workshop.rng_seed, "denoiser", "train"))
    _initialise(network, generator)
    network.train().to(workshop.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        crops = torch.stack([_crop(images, generator) for _ in range(_BATCH)])
        scales = sigma * torch.rand((_BATCH, 1, 1, 1), generator=generator)
        noise = scales * torch.randn(crops.shape, generator=generator)
        clean, noisy = crops.to(workshop.device), (crops + noise).clamp(0, 1).to(workshop.device)
        loss = ((network(noisy) - clean) ** 2).mean() + _CLEAN_WEIGHT * ((network(clean) - clean) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % _TOLD_STEPS == 0:
            workshop.show(f"denoising autoencoder: step {step:,} of {steps:,}, {count(len(images), 'image')}")


def _initialise(network: nn.Module, generator: Generator) -> None:
    """Draw the weights (He 2015); the last layer begins at zero, so that the network begins as the identity."""
    layers = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            assert layer.bias is not None
            layer.bias.zero_()
        layers[-1].weight.zero_()


def _crop(images: Sequence[Image], generator: Generator) -> Image:
    """A random crop of a random image."""
    draws: list[float] = torch.rand((3,), generator=generator).tolist()
    image = images[int(draws[0] * len(images))]
    height, width = image.shape[1:]
    size = min(_CROP, height, width)
    top, left = int(draws[1] * (height - size + 1)), int(draws[2] * (width - size + 1))
    return image[:, top : top + size, left : left + size]


def _checksum(network: nn.Module) -> str:
    digest = sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
