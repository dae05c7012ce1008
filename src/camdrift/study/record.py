"""The record of a run: model, images, arguments, versions; and the part of it that two runs of one study share."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch

from camdrift.attacks.base import Attack
from camdrift.attacks.registry import advice
from camdrift.attacks.stored import StoredImages
from camdrift.images.places import ImageFile
from camdrift.images.protocol import ObjectImages, is_protocol_data_set
from camdrift.masking import public
from camdrift.models.arithmetic import determinism
from camdrift.models.classifier import Classifier
from camdrift.pipeline.perturbing import changes_of
from camdrift.pipeline.plan import Plan, attack_code, perturbation_code
from camdrift.study import provenance
from camdrift.study.launch import fresh_folder
from camdrift.tables.run_json import effective, input_of

# The name of the images in `identity`.
LISTING: Final = "list of images"


def run_record(
    plan: Plan, files: Sequence[ImageFile], images: Any, *, command: str | None, kind: str
) -> dict[str, Any]:
    """Return the record of a run that begins, as `run.json` holds it.

    Args:
        plan: What the chunks share.
        files: The seed images.
        images: The caller's argument that names them.
        command: The command line.
        kind: Name of the kind of run.
    """
    model, settings = plan.classifier, plan.settings
    source = "foolbox (20 ImageNet photographs)" if images is None else _source(images)
    listing = sha256("\n".join(file.seed_id for file in files).encode(errors="surrogateescape")).hexdigest()
    return {
        "camdrift": provenance.camdrift_version(),
        "kind": kind,
        "status": "running",
        "command": command,
        "started": provenance.now(),
        "finished": None,
        "arguments": {
            "passed": {"images": None if images is None else source, **settings.as_record()},
            "effective": {
                "images": source,
                "model": model.spec,
                "weights": model.weights,
                **settings.as_record(),
                "attack": plan.attack.spec,
                "explanations": [explainer.spec for explainer in plan.explainers],
                "measures": [list(measure) for measure in plan.measures],
                "layers": list(plan.layers),
                "batch_size": plan.batch_size,
                "device": str(model.device),
                "precision": model.precision,
            },
        },
        "model": model_record(model),
        "attack": _attack_record(plan.attack),
        "perturbations": {"specs": [*changes_of(plan)], "code": perturbation_code(changes_of(plan))},
        "surrogate": None if plan.surrogate is None else model_record(plan.surrogate),
        "layers": [{**asdict(info), "shape": list(info.shape)} for info in model.layer_infos],
        "images": {"source": source, "n": len(files), "listing_sha256": listing, "sha256": None},
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        **device_record(model.device),
        "timings": {},
    }


def _attack_record(attack: Attack) -> dict[str, Any]:
    threat = attack.threat
    return {
        "spec": attack.spec,
        "code": attack_code(attack),
        "threat": None if threat is None else asdict(threat),
        "seeding": attack.seeding,
        "advice": "" if isinstance(attack, StoredImages) else advice(attack.spec),
        "images_sha256": attack.checksum if isinstance(attack, StoredImages) else None,
    }


def model_record(model: Classifier) -> dict[str, Any]:
    """Return a model as a record holds it: weights, geometry of its input, classes."""
    return {
        "spec": model.spec,
        "head": None if model.head is None else asdict(model.head),
        "name": type(model.module).__name__,
        "code": model.code,
        "weights": model.weights,
        "weights_sha256": model.weights_checksum(),
        "configuration": model.configuration,
        "size": model.size,
        "resize": list(model.resize) if isinstance(model.resize, tuple) else model.resize,
        "interpolation": model.interpolation,
        "rounding": model.rounding,
        "mean": list(model.mean),
        "std": list(model.std),
        "classes": model.classes,
        "neurons": sum(group.neurons for group in model.neuron_groups),
        "labels": None if model.labels is None else list(model.labels),
        "output": model.output,
        "remarks": list(model.remarks),
    }


def _source(images: Any) -> str:
    if is_protocol_data_set(images):
        return ObjectImages(images).source
    return str(images) if isinstance(images, str | PathLike) else f"{len(images)} paths"


def device_record(device: torch.device) -> dict[str, Any]:
    """Return a device as a record holds it: its name, and which kernels give the same bits again."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {"device": name, "deterministic": determinism(device)}


def identity(record: Mapping[str, Any]) -> dict[str, str]:
    """Return in words, by name, the properties that all runs of one study share beside their settings."""
    model, images = record["model"], record["images"]
    surrogate, checksum = record["surrogate"], record["attack"]["images_sha256"]
    return {
        "model": model["spec"],
        "weights": f"those of checksum {model['weights_sha256'][:12]}",
        "head": _head(model.get("head")),
        "input": ", ".join(f"{key} {value}" for key, value in input_of(model).items()),
        LISTING: f"{images['n']} of checksum {images['listing_sha256'][:12]}",
        "precision": effective(record)["precision"],
        "kind": record["kind"],
        "surrogate": _surrogate(surrogate),
        "adversarial images": "none" if checksum is None else f"those of checksum {checksum[:12]}",
    }


def identity_changes(before: Mapping[str, Any], now: Mapping[str, Any], *, without: Collection[str] = ()) -> list[str]:
    """Return a sentence on every difference, but for some, that makes two records those of two studies."""
    both = zip(identity(public(before)).items(), identity(public(now)).values(), strict=True)
    changes = [f"{name} was {old}, now {new}" for (name, old), new in both if old != new and name not in without]
    return [*changes, *code_changes(before, now)]


def code_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a sentence on every part of the study whose Python files have changed; only of those in both records."""
    sentences = []
    for part in ("model", "attack", "surrogate", "perturbations"):
        # Records of before this entry existed lack it.
        old, new = ((record.get(part) or {}).get("code") for record in (before, now))
        if old is not None and new is not None and old != new:
            names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
            sentences.append(f"the code of the {part} was another: {', '.join(names)} changed")
    return sentences


def _surrogate(model: Mapping[str, Any] | None) -> str:
    return "none" if model is None else f"{model['spec']}, with weights of checksum {model['weights_sha256'][:12]}"


def _head(head: Mapping[str, Any] | None) -> str:
    return "the model's own" if head is None else f"{head['kind']} of checksum {head['sha256'][:12]}"


def new_folder(record: Mapping[str, Any]) -> Path:
    """Return a folder under `runs/` that does not exist yet, named after model, attack and time."""
    words = Path(record["model"]["spec"]).name, Path(record["attack"]["spec"].partition("(")[0]).name
    slug = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in "-".join(words))
    return fresh_folder(slug, record["started"])
