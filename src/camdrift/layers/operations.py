"""The torch functions that a network calls, by family, and the tensors in what they take and return."""

from collections.abc import Iterator
from typing import Any, Final

from torch import Tensor

CONVOLUTION, NORM, ACTIVATION, POOL, LINEAR = "convolution", "norm", "activation", "pool", "linear"

_NAMES: Final = {
    CONVOLUTION: "conv2d convolution",
    NORM: "batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm "
    "native_batch_norm _native_batch_norm_legit_no_training native_group_norm native_layer_norm",
    ACTIVATION: "relu relu_ relu6 hardtanh hardtanh_ leaky_relu leaky_relu_ prelu rrelu rrelu_ elu elu_ selu selu_ "
    "celu celu_ gelu silu mish hardswish hardsigmoid sigmoid sigmoid_ tanh tanh_ softplus softsign logsigmoid "
    "threshold threshold_ hardshrink softshrink tanhshrink clamp clamp_ clamp_min clamp_min_",
    POOL: "max_pool2d max_pool2d_with_indices avg_pool2d lp_pool2d adaptive_avg_pool2d adaptive_max_pool2d "
    "adaptive_max_pool2d_with_indices fractional_max_pool2d fractional_max_pool2d_with_indices",
    LINEAR: "linear",
}
FAMILY: Final = {name: family for family, names in _NAMES.items() for name in names.split()}


def operation_name(func: Any) -> str:
    """Return the name of a torch function; that of an exported program's `conv2d.default` is `conv2d`."""
    return str(getattr(func, "__name__", type(func).__name__)).partition(".")[0]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def first_tensor(value: Any) -> Tensor | None:
    """Return the first of `tensors_in`; None where there is none."""
    return next(tensors_in(value), None)
