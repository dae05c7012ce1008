"""The findings of a study of one image, without statistics: those need more images."""

import polars as pl

from camdrift.figures.scope import Scope, part_of
from camdrift.report import threat
from camdrift.report.numbers import fraction
from camdrift.tables.reading import Tables, collected, scan
from camdrift.tables.run_json import Record, class_name
from camdrift.tables.table import Row
from camdrift.tables.words import ADVERSARIAL, ANALYSED, NOISE, strength_text

_FURTHEST = 3


def is_single(tables: Tables) -> bool:
    """Is this a study of one image, and has it an adversarial example?"""
    return tables["seeds"]["status"].to_list() == [ANALYSED]


def single_image_headline(tables: Tables, record: Record, scope: Scope) -> str:
    """The change of the image's class, and the layer whose map moves furthest, without the full stop."""
    seed = tables["seeds"].row(0, named=True)
    before, after = (class_name(record, seed[f"{when}_class"]) for when in ("clean", "adversarial"))
    tops = scope.headline.tops
    tail = f"; the map of {layer_part(scope, tops[0])} is moved most" if tops else ""
    title = threat.attack_title(record)
    if not scope.headline.is_fooling:
        tail = f", but no longer at strength {strength_text(scope.reference)}{tail}"
    return f"{title} makes the network see \u201c{after}\u201d in place of \u201c{before}\u201d{tail}"


def single_image_sentences(tables: Tables, record: Record, scope: Scope) -> list[str]:
    """Sentences on the attack, on the layers whose maps move furthest, and on noise of the same size."""
    bound = threat.bound(tables, record, scope)
    sentences = [_attack(tables, record), *([bound] if bound else []), *_moved(tables, scope)]
    return [*sentences, _noise(tables, record, scope), _caution()]


def layer_part(scope: Scope, row: Row) -> str:
    """A layer's part of the network, after a word on the attack: `the last layer`."""
    return part_of(scope.labels, scope.layers.index(str(row["layer"]))).replace("its ", "the ")


def _attack(tables: Tables, record: Record) -> str:
    seed = tables["seeds"].row(0, named=True)
    before, after = (
        f"{class_name(record, seed[f'{when}_class'])} ({fraction(seed[f'{when}_probability'], 2)})"
        for when in ("clean", "adversarial")
    )
    size = f"{255 * seed['perturbation_linf']:.1f}/255"
    survives = "still fools" if seed["survives_uint8"] else "no longer fools"
    return (
        f"The attack ({threat.attack_name(record)}) turns {before} into {after} with a perturbation of at "
        f"most {size} per pixel; rounded to 8 bits the image {survives} the network."
    )


def _moved(tables: Tables, scope: Scope) -> list[str]:
    rows = _furthest(tables, scope)
    if not rows:
        return []
    words = ", ".join(
        f"{row['layer_label']} ({fraction(row['adversarial'], 2)}, under noise {fraction(row['noise'], 2)})"
        for row in rows
    )
    return [f"At strength {strength_text(scope.reference)} the least similar maps are those of {words}."]


def _noise(tables: Tables, record: Record, scope: Scope) -> str:
    at = (pl.col("condition") == NOISE) & (pl.col("strength") == scope.reference) & (pl.col("draw") == 0)
    row = tables["variants"].filter(at).row(0, named=True)
    verdict = "changes the prediction" if row["is_flipped"] else "leaves the prediction"
    answer = f"{class_name(record, row['predicted_class'])} ({fraction(row['probability'], 2)})"
    return f"Noise of the same mean and standard deviation {verdict}: {answer}."


def _caution() -> str:
    return (
        "One image shows where its own maps went. How sure that is, and which layers' maps an attack moves in general, "
        "takes a study of many. With one image the threshold is its own similarity under noise."
    )


def _furthest(tables: Tables, scope: Scope) -> list[Row]:
    """The layers whose maps the attack moves furthest, with their similarity under noise."""
    at = (pl.col("target") == scope.targets[0]) & (pl.col("strength") == scope.reference) & (pl.col("draw") == 0)
    rows = collected(scan(tables, "similarity").filter(at, pl.col("similarity").is_not_null()))
    sides = [
        rows.filter(pl.col("condition") == condition).select(
            "layer_label", "layer_index", pl.col("similarity").alias(condition)
        )
        for condition in (ADVERSARIAL, NOISE)
    ]
    both = sides[0].join(sides[1], on=["layer_label", "layer_index"], how="left")
    return both.sort(ADVERSARIAL, "layer_index").head(_FURTHEST).to_dicts()
