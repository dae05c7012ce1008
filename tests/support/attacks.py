"""Attacks called as a study calls them, without a study."""

import torch

from camdrift.attacks.base import SeedBatch
from camdrift.attacks.making import make_attack
from camdrift.coverage.neurons import observe


def results_of(attack, model, pixels, *, batch_size=4):
    """What an attack, or the spec of one, returns for a chunk of images by name."""
    attack = make_attack(attack) if isinstance(attack, str) else attack
    images = torch.stack(list(pixels.values()))
    seeds = SeedBatch(images, *observe(model, images), list(pixels), rng_seed=0)
    results = attack(model, seeds, batch_size=batch_size, advance=lambda seeds, successes: None)
    return dict(zip(pixels, results, strict=True))


def perturbations(attack, model, pixels, *, batch_size=4):
    """Base perturbation of every image by name; None where the attack finds none."""
    results = results_of(attack, model, pixels, batch_size=batch_size)
    return {name: result.base_perturbation for name, result in results.items()}
