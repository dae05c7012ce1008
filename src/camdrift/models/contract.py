"""The contract of a network that can be studied.

It is an eager module, and it returns finite logits, no probabilities. An image has the same logits each time, alone
as with others.
"""

import inspect
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from camdrift.errors import ModelError
from camdrift.layers.state import parts_of
from camdrift.models.outputs import last_step
from camdrift.tensors import Logits

# Logits of one image may move by this share of what tells the two images apart when they are judged together, and by
# this share of the largest logit, which is rounding.
_BATCH_SHARE: Final = 0.05
# Two columns whose softmax is the sigmoid of one logit, and both of which have gradients.
_ONE_LOGIT: Final = (
    "one logit for two classes: wrap it in a module whose forward returns two columns, "
    "`z = self.network(images).view(-1, 1); return torch.cat([-z, z], 1) / 2`"
)
_ROUNDING: Final = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}


def unwrap(module: Any) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the module without DataParallel and compilation around it, and a remark on each that was there.

    Raises:
        ModelError: TorchScript, or something that is no module.
    """
    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise ModelError(f"`model` must be an nn.Module, got: {kind}", _cure(module))
    remarks: list[str] = []
    while True:
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError("`model` must be an eager module, got: TorchScript", "load the module it was made from")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            remarks.append(f"unwrapped {type(module).__name__}")
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            remarks.append("unwrapped torch.compile")
            module = inner
        else:
            return module, tuple(remarks)


def _cure(thing: Any) -> str:
    """Return the way from what people hand over in place of a module to a module."""
    if isinstance(thing, str | PathLike):
        return "camdrift.load_model(SPEC) loads a model by name"
    if isinstance(thing, Mapping):
        return "build the network, network.load_state_dict(...), and hand over the network"
    if isinstance(thing, type) or inspect.isroutine(thing):
        return "call it, and hand over what it returns; camdrift.load_model('path/to/file.py:function') does"
    return "camdrift.wrap(module, mean=..., std=..., size=...) takes any torch module"


def check_tensors(module: nn.Module) -> None:
    """Raise `ModelError` if a module's tensors have no values, or are such that no gradient runs through them."""
    for part in parts_of(module):
        kind = f"{type(part).__module__}.{type(part).__name__}"
        if "quantized" in kind and ".reference" not in kind:
            raise _quantised(type(part).__name__)
    by_name = dict([*module.named_parameters(), *module.named_buffers()])
    for name, tensor in by_name.items():
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            continue  # torch's own words, when it runs, tell what to do
        if tensor.is_quantized:
            raise _quantised(name)
        if tensor.is_meta:
            raise ModelError(
                f"`model` must hold its weights, got: {name} on the meta device, which has no values",
                "load them: module.load_state_dict(torch.load(FILE), assign=True)",
            )
        if tensor.is_inference():
            raise ModelError(
                f"`model` must hold ordinary tensors, got: {name}, which was made inside torch.inference_mode",
                "make it outside of that block, or hand over copy.deepcopy(module), copied outside of it",
            )


def _quantised(what: str) -> ModelError:
    return ModelError(
        f"`model` must be one through which gradients run, got: quantised numbers ({what})",
        "study the network from which it was converted, before convert(...) or quantize_dynamic(...)",
    )


def check_logits(logits: Tensor, again: Tensor, alone: Sequence[Tensor], precision: str) -> None:
    """Raise `ModelError` unless these are the logits of a classifier.

    Args:
        logits: Output for two images that differ, with its graph where there is one.
        again: Output for the same images once more.
        alone: Output for each of the images alone.
        precision: Precision of the computation: it says what is rounding.
    """
    if logits.ndim != 2 or logits.shape[0] != 2 or logits.shape[1] < 2:
        raise ModelError(
            f"`model` must return logits of shape (batch, classes), got: {tuple(logits.shape)} for 2 images",
            _ONE_LOGIT if logits.numel() == 2 else "wrap it in a module whose forward returns the logits",
        )
    if not torch.isfinite(logits).all():
        raise ModelError("`model` must return finite logits, got: NaN or infinity", "are its weights loaded?")
    if not torch.allclose(logits, again, rtol=1e-2, atol=1e-3):
        raise ModelError(
            "`model` must return the same logits for the same images, got: two different answers",
            "it draws random numbers even in evaluation mode (dropout that is always on?); switch that off",
        )
    if _depends_on_batch(logits, torch.cat(list(alone)), precision):
        raise ModelError(
            "`model` must judge every image by itself, got: other logits alone than in a batch",
            "is it a program that was exported in training mode? model.eval() before torch.export.export(...)",
        )
    total = logits.sum(1)
    if (logits >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3):
        raise ModelError(
            "`model` must return logits, got: probabilities (every row sums to 1)",
            "leave out its last softmax",
        )
    if what := last_step(logits):
        raise ModelError(
            f"`model` must return logits, got: {what}",
            "leave that step out, or wrap the network in a module whose forward ends before it",
        )


def _depends_on_batch(logits: Logits, alone: Logits, precision: str) -> bool:
    """Do logits of a batch differ from those of its images alone?

    The measure is what tells the images apart, since the logits of new weights hardly differ between images.
    """
    spread, peak = (logits - logits.mean(0)).abs().max(), logits.abs().max()
    change = (alone - logits).abs().max()
    return not bool(change <= _BATCH_SHARE * spread + _ROUNDING[precision] * peak)
