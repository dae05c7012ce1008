"""Small records without tensors that stages hand to each other and to the caller."""

from dataclasses import dataclass
from typing import Final

CONV: Final = "conv"
BLOCK: Final = "block"


@dataclass(frozen=True)
class LayerInfo:
    """A layer of a classifier, as `camdrift layers` prints it.

    Attributes:
        name: Dotted module name; `name:2` for the second call of a module that runs several times.
        label: Display name.
        kind: Type of the module.
        shape: (channels, height, width) of the activation.
        tap: Where the activation is taken, in words.
        note: Why the layer cannot be studied; empty if it can.
        family: conv, or block for the output of a whole module such as a residual or a transformer block.
    """

    name: str
    label: str
    kind: str
    shape: tuple[int, ...]
    tap: str
    note: str = ""
    family: str = CONV


@dataclass(frozen=True)
class Progress:
    """How far a run is; handed to the caller's callback.

    Attributes:
        stage: What is being done: preflight, start, attack, explain, examine, write, statistics, report.
        seeds_done: Seeds finished, unreadable ones included.
        seeds_total: Seeds of the study.
        successes: Adversarial examples so far.
        warnings: What a person should know before trusting the study; shown once.
    """

    stage: str
    seeds_done: int
    seeds_total: int
    successes: int
    warnings: tuple[str, ...] = ()
