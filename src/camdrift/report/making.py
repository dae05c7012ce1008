"""The making of a study in rows: settings, model, images, versions, timings."""

from typing import Any

from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, duration, value_text
from camdrift.tables.run_json import Record, effective


def making_section(material: Material) -> dict[str, Any]:
    """Values of template `making`."""
    return {"making": _making(material.record)}


def _making(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of label and value; what the record lacks is left out."""
    model, preflight = record.get("model") or {}, record.get("preflight") or {}
    groups = {
        "Run": {key: record.get(key) for key in ("command", "started", "finished", "engine", "device", "machine")},
        "Settings": effective(record),
        "Model": {key: value for key, value in model.items() if key != "labels"},
        "Images": record.get("images") or {},
        "Preflight": {key: value for key, value in preflight.items() if key != "warnings"},
        "Versions": {"camdrift": record.get("camdrift"), **(record.get("versions") or {})},
        "Time": {key: duration(float(value)) for key, value in (record.get("timings") or {}).items()},
    }
    rows = {
        title: [(_words(key), value_text(value)) for key, value in group.items()] for title, group in groups.items()
    }
    return [(title, [row for row in group if row[1] != UNDEFINED]) for title, group in rows.items() if group]


def _words(key: str) -> str:
    return key.replace("_", " ").replace("sha256", "SHA-256")
