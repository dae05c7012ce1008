"""Files with heads for the tests of what takes them."""

import json

from safetensors.torch import save_file

from camdrift.models.head_specs import parse_head
from camdrift.models.heads import Head, last_linear, new_layer


def write_head(path, classifier, spec="linear", *, classes=(0, 1, 2, 3), listing=None, **changes):
    """A file with an untrained head for a classifier; `changes` to its metadata."""
    place, kind = last_linear(classifier), parse_head(spec)
    layer = new_layer(kind, place.module.in_features, len(classes))
    metadata = {
        "kind": str(kind), "model_sha256": classifier.weights_checksum(), "features": str(place.module.in_features),
        "classes": listing or json.dumps(list(classes)), "total": str(classifier.classes), "model": "net", **changes,
    }  # fmt: skip
    save_file(Head(layer, classes, classifier.classes).state_dict(), str(path), metadata)
    return layer
