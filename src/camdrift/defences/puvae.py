"""PuVAE: an image replaced by the nearest of its reconstructions, one for each class (Hwang et al., 2019)."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from camdrift.defences.base import EXACT, Defence
from camdrift.defences.learning import checksum_of, learnt, training_images
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.streams import stream_seed
from camdrift.tensors import Classes, Images

# Every image is reconstructed once for each class.
MOST_CLASSES: Final = 20
MOST_PIXELS: Final = 64
_LATENT: Final = 32
_WIDTH: Final = 32
_BATCH: Final = 32
_RATE: Final = 1e-3
# Weights of reconstruction, Kullback-Leibler divergence and cross-entropy, per pixel and image.
_WEIGHTS: Final = (1.0, 0.0025, 0.1)
_TOLD_STEPS: Final = 50


class ConditionalVae(nn.Module):
    """A variational autoencoder whose encoder and decoder are told a class."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.classes, self.side = classes, size // 4
        flat = 2 * _WIDTH * self.side * self.side
        self.inward = nn.Sequential(
            nn.Conv2d(3 + classes, _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.moments = nn.Linear(flat, 2 * _LATENT)
        self.spread = nn.Linear(_LATENT + classes, flat)
        self.outward = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(2 * _WIDTH, _WIDTH, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(_WIDTH, 3, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def encode(self, images: Images, classes: Classes) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent of images of some classes."""
        planes = self._one_hot(classes)[:, :, None, None].expand(-1, -1, *images.shape[2:])
        mean, log_variance = self.moments(self.inward(torch.cat([images, planes], 1))).chunk(2, 1)
        return mean, log_variance

    def decode(self, latents: Tensor, classes: Classes) -> Images:
        """Images of latents and classes."""
        plan = self.spread(torch.cat([latents, self._one_hot(classes)], 1))
        answer: Images = self.outward(plan.view(-1, 2 * _WIDTH, self.side, self.side))
        return answer

    def forward(self, images: Images) -> Images:
        """The reconstruction of each image, over the classes, that lies nearest to it."""
        copies = []
        for name in range(self.classes):
            classes = torch.full((len(images),), name, device=images.device)
            copies.append(self.decode(self.encode(images, classes)[0], classes))
        return nearest_reconstruction(images, torch.stack(copies, 1))

    def _one_hot(self, classes: Classes) -> Tensor:
        return F.one_hot(classes, self.classes).float()


def nearest_reconstruction(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Of the reconstructions of each image the one of least root mean square error.

    Args:
        images: (batch, ...).
        reconstructions: (batch, classes, ...).

    Example:
        >>> copies = torch.tensor([[[0.0, 1.0, 0.5], [0.1, 0.9, 0.9], [1.0, 0.0, 0.0]]])
        >>> nearest_reconstruction(torch.tensor([[0.0, 1.0, 1.0]]), copies)
        tensor([[0.1000, 0.9000, 0.9000]])
    """
    errors = ((reconstructions - images[:, None]) ** 2).flatten(2).mean(2).sqrt()
    return reconstructions[torch.arange(len(images), device=images.device), errors.argmin(1)]


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """PuVAE, trained on the images of `train` with the classes that the network predicts for them.

    An attack follows the gradient through the reconstruction that is chosen; the choice itself has none.

    Raises:
        UserError: The network has too many classes or too large images, or there is nothing to learn from.
    """
    check_setting_names(spec, settings, "train", "steps")
    steps = ranged_setting(spec, settings, "steps", 1, 10**6, is_whole=True)
    classifier = workshop.classifier
    if classifier is None or classifier.classes > MOST_CLASSES or classifier.size > MOST_PIXELS:
        words = "no network" if classifier is None else f"{classifier.classes} classes of {classifier.size} px"
        raise UserError(
            f"`defence` puvae must have at most {MOST_CLASSES} classes and images of {MOST_PIXELS} px, got: {words}",
            "it reconstructs every image once for each class; dae learns from images of any size",
        )
    if classifier.size % 4:
        raise UserError(f"`defence` puvae must have images whose side is a multiple of 4, got: {classifier.size}")
    images, checksums = training_images(spec, settings.get("train"), workshop)
    network = ConditionalVae(classifier.size, classifier.classes)
    key = sha256(f"{spec} {workshop.rng_seed} {classifier.spec} {' '.join(sorted(checksums))}".encode()).hexdigest()
    learnt(network, key, workshop, lambda: train_puvae(network, images, classifier, steps=steps, workshop=workshop))
    network.eval().requires_grad_(False).to(workshop.device)
    return Defence(spec, lambda batch, _: network(batch), gradient=EXACT, checksum=checksum_of(network))


def train_puvae(
    network: ConditionalVae, images: Sequence[Tensor], classifier: Classifier, *, steps: int, workshop: Workshop
) -> None:
    """Train a conditional autoencoder: reconstruction, divergence, and what the network makes of the reconstruction.

    Args:
        network: The autoencoder.
        images: Images to learn from, in pixel space.
        classifier: The network, whose predictions are the classes and which must keep them.
        steps: Steps of Adam.
        workshop: Random draws, device, and whom to tell.
    """
    generator = Generator().manual_seed(stream_seed(workshop.rng_seed, "puvae", "train"))
    pixels = torch.stack([*images]).to(workshop.device)
    with torch.no_grad():
        classes = torch.cat([classifier(part).argmax(1) for part in pixels.split(_BATCH)])
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(parameter, nonlinearity="relu", generator=generator)
            else:
                parameter.zero_()
    network.train().to(workshop.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        rows = (torch.rand(_BATCH, generator=generator) * len(pixels)).long()
        batch, names = pixels[rows.to(pixels.device)], classes[rows.to(pixels.device)]
        mean, log_variance = network.encode(batch, names)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        copies = network.decode(mean + torch.exp(log_variance / 2) * noise, names)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        terms = (F.mse_loss(copies, batch), divergence / batch[0].numel(), F.cross_entropy(classifier(copies), names))
        loss = sum(weight * term for weight, term in zip(_WEIGHTS, terms, strict=True))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
        if step % _TOLD_STEPS == 0:
            workshop.show(f"puvae: step {step:,} of {steps:,}")
