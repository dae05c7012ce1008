"""Arithmetic of float32: how far products are rounded, and in which order sums are added."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Hold arithmetic in a precision, whatever the caller has set; restore it afterwards.

    Without it torch rounds float32 convolutions to TF32 on recent GPUs. On a GPU only kernels of cuDNN that add in one
    order are taken.

    Args:
        precision: fp32, tf32 or bf16.
        device: Where it is computed.
    """
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    backends: Any = (torch.backends.cuda.matmul, cudnn.conv, mkldnn.matmul, mkldnn.conv)
    rounding = "tf32" if precision == "tf32" else "ieee"
    settings: list[tuple[Any, str, Any]] = [(backend, "fp32_precision", rounding) for backend in backends]
    if device.type == "cuda":
        settings += [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    before = [(part, name, getattr(part, name)) for part, name, _ in settings]
    # What is so already is not touched: another thread may be about to put it back.
    changes = [(*now, old[2]) for now, old in zip(settings, before, strict=True) if now != old]
    try:
        for part, name, value, _ in changes:
            setattr(part, name, value)
        yield
    finally:
        for part, name, _, value in changes:
            setattr(part, name, value)


def determinism(device: torch.device) -> Literal["all", "cudnn", "unknown"]:
    """Return which kernels give the same bits for the same passes there.

    On a processor all do. On a GPU those of cuDNN do within `arithmetic`; torch's own backward passes of adaptive
    pooling, interpolation, reflection padding and scattering add in any order.
    """
    kernels: dict[str, Literal["all", "cudnn"]] = {"cpu": "all", "cuda": "cudnn"}
    return kernels.get(device.type, "unknown")
