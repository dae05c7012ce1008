"""The attack in words: its spec, its surrogate, its aim, its bound."""

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


_SHORT_NAMES: Final = {"dlfuzz": "DLFuzz", "deepfool": "DeepFool"}
_ABBREVIATIONS: Final = ("pgd", "fgsm", "fgm", "bim", "cw", "apgd", "mifgsm", "jsma", "fab", "ead", "ddn", "fmn", "vat")


def attack_title(record: Record) -> str:
    """The attack's name for a reader, without settings.

    Example:
        >>> attack_title({"arguments": {"effective": {"attack": "pgd(eps=0.03, steps=10)"}}})
        'PGD'
    """
    spec = str(effective(record).get("attack") or "")
    name = spec.partition("(")[0].strip()
    if name.startswith("dlfuzz"):
        return _SHORT_NAMES["dlfuzz"]
    name = name.rpartition(":")[2]
    if name.lower() in _ABBREVIATIONS:
        return name.upper()
    return _SHORT_NAMES.get(name.lower(), name or "The attack")


def attack_name(record: Record) -> str:
    """The attack's spec, and its surrogate if it has one."""
    attack = str(effective(record).get("attack") or "chosen")
    surrogate = record.get("surrogate") or {}
    return f"{attack}, made on {surrogate['spec']}" if surrogate else attack


def change(tables: Tables) -> str:
    """The success of the attack as the end of a sentence: a changed prediction, or the class that it was to reach."""
    is_targeted = tables["seeds"]["target_class"].is_not_null().any()
    return "changed the prediction to the class that it was to reach" if is_targeted else "changed the prediction"


def bound(tables: Tables, record: Record, scope: Scope) -> str:
    """A sentence on the attack's bound in pixel units and on examples that exceed it; empty if it has none."""
    threat = (record.get("attack") or {}).get("threat")
    if not threat:
        return ""
    limit = _NORMS[threat["norm"]].format(write_literal(threat["epsilon"]))
    text = f"The attack is allowed {limit} (pixels in [0, 1])"
    if above := [strength_text(strength) for strength in scope.strengths if strength > 1]:
        one = len(above) == 1
        text += f"; strength{'' if one else 's'} {', '.join(above)} leave{'s' if one else ''} that threat model"
    within = tables["seeds"].filter(pl.col("status") == ANALYSED)["within_threat"].drop_nulls()
    if outside := len(within) - int(within.sum()):
        text += f". {outside:,} of {count(len(within), 'adversarial example')} exceed it even at strength 1"
    return f"{text}."
