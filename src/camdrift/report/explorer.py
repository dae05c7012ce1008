"""The explorer of a study's page: the data and pictures that its script shows image by image."""

from typing import Any

from camdrift.figures.scope import Scope
from camdrift.report.data import study_data
from camdrift.report.material import Material
from camdrift.report.page.assets import colour_ramps
from camdrift.report.pictures import picture_data
from camdrift.tables.words import count


def explorer_section(material: Material) -> dict[str, Any]:
    """Values of template `explorer`, and the data of all views: `study` and `pictures`, empty if there is nothing."""
    if material.nothing:
        return {"shown_seeds": "", "study": {}, "pictures": {}}
    seed_ids, pictures = picture_data(material.gallery, material.scope.indices)
    study = study_data(material.tables, material.record, material.scope, seed_ids)
    words = _shown_seeds(len(seed_ids), material.scope)
    return {"shown_seeds": words, "study": study | {"ramps": colour_ramps()}, "pictures": pictures}


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
