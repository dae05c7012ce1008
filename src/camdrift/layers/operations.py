"""The torch functions that a network calls, by family, and the tensors in what they take and return."""

from collections.abc import Iterator
from typing import Any, Final

from torch import Tensor

CONVOLUTION, NORM, ACTIVATION, POOL, LINEAR = "convolution", "norm", "activation", "pool", "linear"
# Convolutions over one axis or over three.
OTHER_CONVOLUTION = "other convolution"

_NAMES: Final = {
    CONVOLUTION: "conv2d convolution conv_transpose2d deform_conv2d",
    OTHER_CONVOLUTION: "conv1d conv3d conv_transpose1d conv_transpose3d conv_tbc",
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

# Functions from value to value, of which activations and norms are written by hand: some only hand on or scale, some
# add, all others bend.
_SCALING: Final = (
    "mul multiply div divide true_divide truediv neg clone float double half bfloat16 to type type_as contiguous "
    "detach dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout alias requires_grad "
    "fake_quantize_per_tensor_affine fake_quantize_per_channel_affine fused_moving_avg_obs_fake_quant"
)
_SHIFTING: Final = "add sub subtract rsub"
_BENDING: Final = (
    "pow square sqrt rsqrt abs absolute exp exp2 expm1 log log1p log2 erf erfc sin cos tan asin atan arctan sinh cosh "
    "asinh arcsinh sign sgn round floor ceil frac maximum minimum max min fmax fmin where reciprocal rdiv rtruediv "
    "rpow gt lt ge le eq ne greater less logical_not logical_and logical_or masked_fill heaviside logaddexp "
    "hypot atan2 clip nan_to_num addcmul addcdiv lerp xlogy special_expit special_erf expit relu hardtanh sigmoid tanh "
    "leaky_relu relu6 elu selu celu gelu silu mish hardswish hardsigmoid softplus softsign logsigmoid log_sigmoid "
    "threshold hardshrink softshrink tanhshrink clamp clamp_min clamp_max prelu rrelu invert "
    "remainder fmod floordiv floor_divide"
)
SCALING, SHIFTING, BENDING = "scaling", "shifting", "bending"
_POINTWISE: Final = {
    name: kind
    for kind, names in ((SCALING, _SCALING), (SHIFTING, _SHIFTING), (BENDING, _BENDING))
    for name in names.split()
}
# What these return holds no value of the tensor that they are given.
_MAKING: Final = ("new_", "zeros_like", "ones_like", "full_like", "empty_like")


def operation_name(func: Any) -> str:
    """Return the name of a torch function; that of an exported program's `conv2d.default` is `conv2d`."""
    return str(getattr(func, "__name__", type(func).__name__)).partition(".")[0]


def pointwise_kind(name: str) -> str | None:
    """Return what a function does value by value: `SCALING`, `SHIFTING` or `BENDING`; None for any other function.

    `x * y`, `mul`, `mul_` and `*=` are one function.
    """
    plain = name.strip("_")
    if name.startswith("__i") and plain[1:] in _POINTWISE:
        plain = plain[1:]
    return _POINTWISE.get(plain)


def is_making(name: str) -> bool:
    """Does a function take no more than shape and type of what it is given?"""
    return name.startswith(_MAKING)


def version_of(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to; None where torch does not count, as in inference mode."""
    return None if tensor.is_inference() else tensor._version


def is_handed_through(output: Tensor, version: int | None) -> bool:
    """Is an output an input that nothing was written to, like dropout in evaluation mode?

    Args:
        output: What a function returned: a tensor that it was given.
        version: Version of that tensor before the call.
    """
    return version is not None and version_of(output) == version


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
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
        return value[0]
    return next(tensors_in(value), None)
