"""Attacks called as a study calls them, without a study."""

from zlib import crc32

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


HOOKS = {name for name in vars(torch.nn.Module()) if "hooks" in name}


def traces(module):
    """All that an attack may leave on a network, part by part: two of these are equal if it left nothing."""
    parts = {
        name: (id(part), type(part), {key: _trace(key, value) for key, value in vars(part).items()})
        for name, part in module.named_modules(remove_duplicate=False)
    }
    everywhere = {k: _trace("hooks", v) for k, v in vars(torch.nn.modules.module).items() if k.startswith("_global_")}
    return {**parts, "every module": everywhere}


def _trace(name, value):
    if isinstance(value, torch.Tensor):
        return _trace_of_tensor(value)
    if name in ("_parameters", "_buffers"):
        return {key: _trace("", tensor) for key, tensor in value.items()}
    if name in HOOKS or name in ("_modules", "hooks"):
        return {key: id(thing) for key, thing in value.items()} if isinstance(value, dict) else value
    return id(value)


def _trace_of_tensor(tensor):
    gradient = tensor.grad if tensor.is_leaf else None
    gradient = None if gradient is None else (id(gradient), gradient.sum().item())
    hooks = [len(getattr(tensor, name) or ()) for name in ("_backward_hooks", "_post_accumulate_grad_hooks")]
    values = crc32(tensor.detach().contiguous().numpy().tobytes())
    return id(tensor), tensor.data_ptr(), tensor.dtype, tensor.requires_grad, gradient, hooks, values


def gradient_of(model, images):
    """The gradient of the summed logits with respect to the images: changed hooks and modules change it."""
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).square().sum(), images)
    return gradient
