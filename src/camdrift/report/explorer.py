"""The explorer of a study's page: the data and pictures that its script shows image by image."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from camdrift.figures.perturbations import change_strength
from camdrift.figures.scope import Scope
from camdrift.report.comparison_data import rounded_values
from camdrift.report.data import study_data
from camdrift.report.material import Material
from camdrift.report.numbers import UNDEFINED, fraction
from camdrift.report.page.assets import colour_ramps
from camdrift.report.perturbations import change_name
from camdrift.report.pictures import picture_data
from camdrift.tables.perturbations import NATURAL, PERTURBED
from camdrift.tables.reading import collected, scan
from camdrift.tables.run_json import class_name
from camdrift.tables.words import TARGET_CLASSES, count, strength_text


def explorer_section(material: Material) -> dict[str, Any]:
    """Values of template `explorer`, and the data of all views: `study` and `pictures`, empty if there is nothing."""
    if material.nothing:
        return {"shown_seeds": "", "changed": None, "study": {}, "pictures": {}}
    seed_ids, pictures = picture_data(material.gallery, material.scope.indices)
    study = study_data(material.tables, material.record, material.scope, seed_ids)
    shown = _shown_seeds(len(seed_ids), material.scope)
    names = [change_name(spec) for spec in _specs(material)] if pictures["changePlaces"] else []
    study |= {"ramps": colour_ramps(), "changes": _changes(material, seed_ids) if names else []}
    words = TARGET_CLASSES[material.scope.headline.target]
    strength = strength_text(change_strength(material.scope))
    changed = {"names": names, "strength": strength, "class_words": words} if names else None
    return {"shown_seeds": shown, "changed": changed, "study": study, "pictures": pictures}


def _specs(material: Material) -> list[str]:
    return list((material.record.get("perturbations") or {}).get("specs") or ())


def _changes(material: Material, seed_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Per shown seed and natural change the prediction in words, whether it has flipped, and similarities by layer."""
    scope, tables = material.scope, material.tables
    if PERTURBED.name not in tables:
        return []
    keys = {"condition": NATURAL, "strength": change_strength(scope)}
    rows = collected(scan(tables, PERTURBED.name).filter(pl.col("seed_id").is_in(seed_ids), **keys))
    parts = rows.partition_by("seed_id", "perturbation", as_dict=True)
    return [[_change(material, parts.get((name, spec))) for spec in _specs(material)] for name in seed_ids]


def _change(material: Material, rows: pl.DataFrame | None) -> dict[str, Any]:
    """One natural change of a seed; nothing where the network returned NaN or infinity."""
    if rows is None:
        return {"said": UNDEFINED, "flipped": False, "similarity": [None] * len(material.scope.layers)}
    first = rows.row(0, named=True)
    values = dict(rows.select("layer", "similarity").iter_rows())
    return {
        "said": f"{class_name(material.record, first['predicted_class'])} {fraction(first['probability'], 2)}",
        "flipped": bool(first["is_flipped"]),
        "similarity": rounded_values(
            pl.Series([values.get(layer) for layer in material.scope.layers], dtype=pl.Float64)
        ),
    }


def _shown_seeds(seeds: int, scope: Scope) -> str:
    """A sentence on how many images the explorer shows; empty for none."""
    if not seeds:
        return ""
    if seeds >= scope.analysed:
        return f"All {count(scope.analysed, 'analysed image')}." if seeds > 1 else "The one analysed image."
    return (
        f"{count(seeds, 'image')} of {scope.analysed:,} analysed, chosen to span the range of deviation. The others "
        "count in every number, but have no pictures here: a page holds what fits into 10 MB, a run the pictures of as "
        "many images as --gallery says."
    )
