"""Attacks by name."""

from camdrift.attacks.base import Attack
from camdrift.attacks.dlfuzz import PRESETS, DLFuzz
from camdrift.errors import UserError
from camdrift.spec import parse_spec

__all__ = ["Attack", "DLFuzz", "make_attack"]


def make_attack(spec: str) -> Attack:
    """The attack that `spec` names.

    Args:
        spec: `dlfuzz`, `dlfuzz:paper`, or either with settings: `dlfuzz(strategy='02', iterations=5)`.

    Raises:
        UserError: An unknown attack, preset or setting, or a value that a setting cannot have.

    Example:
        >>> make_attack("dlfuzz:paper").spec
        "dlfuzz:paper(strategy='1', iterations=1)"
    """
    parsed = parse_spec(spec)
    if parsed.name not in PRESETS:
        raise UserError(f"`attack` must be one of {', '.join(PRESETS)}, got: {parsed.name}")
    unknown = [name for name in parsed.settings if name not in DLFuzz.settings()]
    if unknown:
        raise UserError(
            f"`attack` has no such setting, got: {', '.join(unknown)}",
            f"settings: {', '.join(DLFuzz.settings())}",
        )
    return DLFuzz(preset=parsed.name, **{**PRESETS[parsed.name], **parsed.settings})
