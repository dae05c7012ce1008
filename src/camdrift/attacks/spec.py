"""Attack specs such as `dlfuzz:paper(iterations=5, step=0.5/255)`: literals are read, nothing is evaluated."""

import ast
from dataclasses import dataclass, field
from typing import Any

from camdrift.errors import UserError


@dataclass(frozen=True)
class AttackSpec:
    """A parsed spec: the attack's name and its settings."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def parse_spec(spec: str) -> AttackSpec:
    """The name and settings in `spec`.

    Raises:
        UserError: Anything but NAME or NAME(key=literal, ...); a fraction such as 0.5/255 is a literal too.

    Example:
        >>> parse_spec("dlfuzz(step=1/255)").settings["step"] * 255
        1.0
    """
    name, bracket, rest = spec.partition("(")
    if not bracket:
        return AttackSpec(name.strip())
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
    except SyntaxError as error:
        raise _malformed(spec) from error
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        raise _malformed(spec)
    settings = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _malformed(spec)
        settings[keyword.arg] = _literal(keyword.value, spec)
    return AttackSpec(name.strip(), settings)


def _literal(node: ast.expr, spec: str) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        over, under = _literal(node.left, spec), _literal(node.right, spec)
        if isinstance(over, int | float) and isinstance(under, int | float) and under != 0:
            return over / under
        raise _malformed(spec)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise _malformed(spec) from error


def _malformed(spec: str) -> UserError:
    return UserError(
        f"`attack` must be NAME or NAME(key=value, ...), got: {spec}",
        "for example dlfuzz(iterations=5, step=0.5/255)",
    )
