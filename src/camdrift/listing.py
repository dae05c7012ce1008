"""The layers of a classifier as a table, for a person to choose from."""

from collections.abc import Sequence

from camdrift.coverage import neuron_count
from camdrift.layers import left_out
from camdrift.models import Classifier
from camdrift.records import BLOCK


def layer_table(classifier: Classifier, globs: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: every layer, or those that `globs` choose; columns that say nothing are left out.

    Raises:
        UserError: A glob that matches no layer with a map.
    """
    chosen = set(classifier.select_layers(globs)) if globs else None
    infos = [info for info in classifier.layer_infos if chosen is None or info.name in chosen]
    reasons = ["" if globs else left_out(info, classifier.family) for info in infos]
    columns = {
        "name": [info.name for info in infos],
        "label": [info.label for info in infos] if any(info.label != info.name for info in infos) else None,
        "family": [info.family for info in infos] if any(info.family == BLOCK for info in infos) else None,
        "type": [info.kind for info in infos],
        "shape": ["x".join(map(str, info.shape)) for info in infos],
        "tapped behind": [info.tap for info in infos],
        "left out because": reasons if any(reasons) else None,
    }
    shown = {head: cells for head, cells in columns.items() if cells is not None}
    return list(shown), [list(row) for row in zip(*shown.values(), strict=True)]


def layer_summary(classifier: Classifier, globs: Sequence[str] = ()) -> list[str]:
    """How many layers are studied, how an image becomes the model's input, and what was unwrapped: lines."""
    infos = classifier.layer_infos
    if globs:
        count = f"{len(classifier.select_layers(globs))} of {len(infos)} layers"
    else:
        total = sum(info.family == classifier.family for info in infos)
        count = f"{len(classifier.layers)} of {total} {'blocks' if classifier.family == BLOCK else 'convolutions'}"
    return [
        f"{count} are studied; {neuron_count(classifier):,} neurons",
        f"input: {classifier.describe_input()}",
        *classifier.remarks,
    ]
