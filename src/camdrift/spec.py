"""Specs such as `dlfuzz:paper(iterations=5, step=0.5/255)`: literals are read, nothing is evaluated."""

import ast
from dataclasses import dataclass, field
from typing import Any

from camdrift.errors import UserError

# What Python's parser and `literal_eval` raise, and what a division of two literals does.
_NOT_LITERAL = (SyntaxError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError)


@dataclass(frozen=True)
class Spec:
    """A parsed spec: a name and its settings."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def parse_spec(spec: str, *, option: str = "attack") -> Spec:
    """The name and settings in `spec`, which was given as `option`.

    Raises:
        UserError: Anything but NAME or NAME(key=literal, ...); a fraction such as 0.5/255 is a literal too.

    Example:
        >>> parse_spec("dlfuzz(step=1/255)").settings["step"] * 255
        1.0
    """
    name, bracket, rest = spec.partition("(")
    if not bracket:
        return Spec(name.strip())
    try:
        return Spec(name.strip(), _settings(ast.parse(f"f({rest}", mode="eval").body))
    except _NOT_LITERAL as error:
        raise UserError(
            f"`{option}` must be NAME or NAME(key=value, ...), each key once, got: {spec}",
            "for example dlfuzz(iterations=5, step=0.5/255)",
        ) from error


def _settings(call: ast.expr) -> dict[str, Any]:
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        raise ValueError("not NAME(key=value, ...)")
    settings: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in settings:
            raise ValueError("a key must have a name, and be given once")
        settings[keyword.arg] = _literal(keyword.value)
    return settings


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _literal(node.left) / _literal(node.right)
    return ast.literal_eval(node)
