"""The attack in words: what it was, which model it saw, and the bound that it keeps."""

from typing import Final

import polars as pl

from camdrift.figures.scope import Scope
from camdrift.specs import write_literal
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective
from camdrift.tables.words import ANALYSED, count, strength_text

_NORMS: Final = {
    "linf": "a change of at most {} per pixel and colour",
    "l2": "an L2 norm of at most {}",
    "l1": "an L1 norm of at most {}",
    "l0": "at most {} changed values",
}


def attack_name(record: Record) -> str:
    """The attack's spec, and the model that it was made on if that is another."""
    attack = str(effective(record).get("attack") or "chosen")
    surrogate = record.get("surrogate") or {}
    return f"{attack}, made on {surrogate['spec']}" if surrogate else attack


def change(tables: Tables) -> str:
    """What the attack was to do."""
    is_targeted = tables["seeds"]["target_class"].is_not_null().any()
    return "changed the prediction to the class that it was to reach" if is_targeted else "changed the prediction"


def bound(tables: Tables, record: Record, scope: Scope) -> str:
    """The attack's bound in pixel units, and what lies outside; empty where there is none."""
    threat = (record.get("attack") or {}).get("threat")
    if not threat:
        return ""
    allowed = _NORMS[threat["norm"]].format(write_literal(threat["epsilon"]))
    text = f"The attack is allowed {allowed} (pixels in [0, 1])"
    if above := [strength_text(strength) for strength in scope.strengths if strength > 1]:
        one = len(above) == 1
        text += f"; strength{'' if one else 's'} {', '.join(above)} leave{'s' if one else ''} that threat model"
    within = tables["seeds"].filter(pl.col("status") == ANALYSED)["within_threat"].drop_nulls()
    if outside := len(within) - int(within.sum()):
        text += f". {outside:,} of {count(len(within), 'adversarial example')} exceed it even at strength 1"
    return f"{text}."
