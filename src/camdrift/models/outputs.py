"""The logits among several outputs of a network: which of them is studied, and how that is told."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.graph import Node

from camdrift.errors import ModelError

LOGITS: Final = "logits"
Key = str | int | None

_CURE: Final = "wrap(..., output=NAME_OR_NUMBER), or OUTPUT beside a factory, names the one that holds the logits"
_NO_LOGITS: Final = re.compile("embed|feat|hidden|represent|latent|proj|token|pool|prob|loss", re.IGNORECASE)
# Steps that turn logits into probabilities, by their nodes in torch's graph. A study refuses log_softmax by its values.
_LAST_STEPS: Final = {
    "SigmoidBackward": "probabilities (its last step is a sigmoid)",
    "HardsigmoidBackward": "probabilities (its last step is a hard sigmoid)",
    "SoftmaxBackward": "probabilities (its last step is a softmax)",
    "LogSigmoidBackward": "log-probabilities (its last step is a logsigmoid)",
}
# Steps that change no value.
_SAME_VALUES: Final = re.compile("(Unsafe)?(View|Reshape|Squeeze|Unsqueeze|Clone|ToCopy|Alias|Transpose|T)[A-Z]")


@dataclass(frozen=True)
class Output:
    """The place of the logits in what a network returns.

    Attributes:
        key: Name or number of the output; None for a tensor alone.
        remark: Words on the choice, where others could be meant; else empty.
    """

    key: Key
    remark: str = ""

    def of(self, output: Any) -> Tensor:
        """Return the logits in what the network returned.

        Raises:
            ModelError: They are not there, unlike the first time.
        """
        tensor = _tensors(output).get(self.key)
        if tensor is None:
            name = "the tensor alone" if self.key is None else f"output {self.key}"
            raise ModelError(f"`model` must return the same kind of output each time, got: no longer {name}")
        return tensor


def choose_output(output: Any, batch: int, *, choice: str | int | None = None, classes: int | None = None) -> Output:
    """Return where the logits lie: at `choice`, or by name, by the number of classes, or by what is computed of what.

    Args:
        output: What a network returned, with a graph where there can be one.
        batch: Number of images that it was given.
        choice: Name or number of the output that the user names.
        classes: Number of class names, where they are known.

    Raises:
        ModelError: No output has the shape of logits, or none is called as chosen.
    """
    tensors = _tensors(output)
    if choice is not None:
        return Output(_named(choice, tensors))
    if None in tensors or LOGITS in tensors:
        return Output(None if None in tensors else LOGITS)
    fitting = {k: t for k, t in tensors.items() if t.ndim == 2 and len(t) == batch and t.is_floating_point()}
    if not fitting:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors.values())
        raise ModelError(
            "`model` must return logits of shape (batch, classes), alone, first of several or called `logits`, "
            f"got: {type(output).__name__}" + (f" of {shapes}" if shapes else ""),
            "wrap it in a module whose forward returns the logits",
        )
    if len(fitting) == 1:
        return Output(next(iter(fitting)))
    key = _most_likely(fitting, classes)
    rest = ", ".join(f"{k} {_shape(t)}" for k, t in fitting.items() if k != key)
    return Output(key, f"output {key} {_shape(fitting[key])} of {len(tensors)} is studied, not {rest}: {_CURE}")


def last_step(logits: Tensor) -> str:
    """Return in words what kind of probabilities the last step of a network makes; empty for none, or without graph."""
    node = logits.grad_fn
    while node is not None and _SAME_VALUES.match(node.name()):
        node = node.next_functions[0][0]
    return "" if node is None else _LAST_STEPS.get(node.name().rstrip("0123456789"), "")


def _tensors(output: Any) -> dict[Key, Tensor]:
    """Return the tensors of an output by name or number; a tensor alone by None."""
    if isinstance(output, Tensor):
        return {None: output}
    if isinstance(output, Mapping):
        pairs = list(output.items())
    elif isinstance(output, list | tuple):
        pairs = list(zip(getattr(output, "_fields", range(len(output))), output, strict=True))
    else:
        pairs = list(getattr(output, "__dict__", {}).items())
    return {key: value for key, value in pairs if isinstance(value, Tensor) and isinstance(key, str | int)}


def _named(choice: str | int, tensors: Mapping[Key, Tensor]) -> Key:
    if choice in tensors:
        return choice
    keys = list(tensors)
    if isinstance(choice, int) and None not in tensors and -len(keys) <= choice < len(keys):
        return keys[choice]
    names = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in tensors.items() if key is not None)
    raise ModelError(f"`output` must be one of the model's, got: {choice}, where there is {names or 'one tensor'}")


def _most_likely(fitting: Mapping[Key, Tensor], classes: int | None) -> Key:
    """Return the output that is most likely the logits; the first where nothing tells."""
    graphs = {key: _graph(tensor.grad_fn) for key, tensor in fitting.items()}
    widths = {key: tensor.shape[1] for key, tensor in fitting.items()}

    def reads(key: Key, other: Key) -> bool:
        return key != other and fitting[other].grad_fn in graphs[key]

    def reads_another(key: Key, left: Sequence[Key]) -> bool:
        return any(reads(key, other) for other in left if widths[other] == widths[key])

    def is_read(key: Key, left: Sequence[Key]) -> bool:
        return any(reads(other, key) for other in left if widths[other] != widths[key])

    left = list(fitting)
    signs_against: Sequence[Callable[[Key, Sequence[Key]], bool]] = (
        lambda key, _: classes is not None and widths[key] != classes,
        lambda key, _: "logit" not in str(key).lower(),
        lambda key, _: bool(_NO_LOGITS.search(str(key))),
        lambda key, _: _is_probability(fitting[key]),
        is_read,  # an embedding: another number of logits is computed of it
        reads_another,  # something computed of the logits
    )
    for is_out in signs_against:
        left = [key for key in left if not is_out(key, left)] or left
    if len({widths[key] for key in left}) == 1:  # exits, or a head and its auxiliaries: the deepest
        return max(left, key=lambda key: len(graphs[key]))
    return left[0]


def _graph(root: Node | None) -> set[Node]:
    """Return the nodes of torch's graph that lead to a tensor."""
    nodes, waiting = set[Node](), [root]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            waiting += [following for following, _ in node.next_functions]
    return nodes


def _is_probability(values: Tensor) -> bool:
    sums = values.sum(1)
    return bool(last_step(values)) or bool(
        (values >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    )


def _shape(tensor: Tensor) -> str:
    return f"(batch, {tensor.shape[1]})"
