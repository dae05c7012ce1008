"""The layers of a model in words: those that would be studied, and why the others are left out."""

from collections.abc import Sequence

from camdrift.coverage.neurons import neuron_count
from camdrift.layers.layers import BLOCK, reason_left_out
from camdrift.models.classifier import Classifier


def layer_table(classifier: Classifier, globs: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows: every layer, or those that `globs` choose; columns that say nothing are left out.

    Raises:
        UserError: A glob that matches no layer with a map.
    """
    names = classifier.select_layers(globs) if globs else None
    infos = [info for info in classifier.layer_infos if names is None or info.name in names]
    reasons = ["" if globs else reason_left_out(info, classifier.family) for info in infos]
    columns = {
        "name": [info.name for info in infos],
        "label": [info.label for info in infos] if any(info.label != info.name for info in infos) else None,
        "family": [info.family for info in infos] if any(info.family == BLOCK for info in infos) else None,
        "type": [info.kind for info in infos],
        "shape": ["x".join(map(str, info.shape)) for info in infos],
        "tapped behind": [info.tap for info in infos],
        "left out because": reasons if any(reasons) else None,
    }
    telling = {head: cells for head, cells in columns.items() if cells is not None}
    return list(telling), [list(row) for row in zip(*telling.values(), strict=True)]


def layer_summary(classifier: Classifier, globs: Sequence[str] = ()) -> list[str]:
    """Return lines: the number of layers to study, how an image becomes the model's input, and what was unwrapped."""
    infos = classifier.layer_infos
    if globs:
        count = f"{len(classifier.select_layers(globs))} of {len(infos)} layers"
    else:
        total = sum(info.family == classifier.family for info in infos)
        count = f"{len(classifier.layers)} of {total} {'blocks' if classifier.family == BLOCK else 'convolutions'}"
    return [
        f"{count} are studied; {neuron_count(classifier):,} neurons",
        f"input: {classifier.settings.describe()}",
        *classifier.remarks,
    ]
