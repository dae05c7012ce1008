"""Read and write specs such as `dlfuzz:paper(iterations=5, step=0.5/255)`. Only literals are read; no code runs."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isinf
from typing import Any, Final

from camdrift.errors import UserError

# Errors of Python's parser, of `literal_eval`, and of the division of two literals.
_NOT_LITERAL = (SyntaxError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError)
# A source of images that begins so is a Hugging Face data set.
DATA_SET: Final = "hf-dataset:"
# Longest decimal, in characters, that is written as it is, such as 0.25.
SHORT_DECIMAL: Final = 6


@dataclass(frozen=True)
class Spec:
    """A parsed spec: a name and its settings."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def parse_spec(spec: str, *, option: str = "attack") -> Spec:
    """Return the name and the settings in `spec`.

    A name that holds `.py:` is the path of a file, and brackets in it are ordinary.

    Args:
        spec: NAME or NAME(key=literal, ...).
        option: Option that got the spec, for messages.

    Raises:
        UserError: Anything but NAME or NAME(key=literal, ...); a fraction such as 0.5/255 is a literal too.

    Example:
        >>> parse_spec("dlfuzz(step=1/255)").settings["step"] * 255
        1.0
    """
    is_file = ".py:" in spec
    brackets = [place for place, letter in enumerate(spec) if letter == "("]
    error: Exception | None = None
    for place in brackets if is_file else brackets[:1]:
        name, rest = spec[:place], spec[place + 1 :]
        try:
            return Spec(name.strip(), _settings(ast.parse(f"f({rest}", mode="eval").body))
        except _NOT_LITERAL as reason:
            error = reason
    if error is None or (is_file and not spec.rstrip().endswith(")")):
        return Spec(spec.strip())
    raise UserError(
        f"`{option}` must be NAME or NAME(key=value, ...), each key once, got: {spec}",
        "for example dlfuzz(iterations=5, step=0.5/255)",
    ) from error


def parse_specs(text: str) -> tuple[str, ...]:
    """Return the words between commas; a comma in brackets separates settings."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return tuple(word.strip() for word in words if word.strip())


def write_spec(name: str, settings: Mapping[str, Any]) -> str:
    """Return the spec of a name and its settings; `parse_spec` returns both again.

    Example:
        >>> write_spec("pgd", {"eps": 8 / 255, "steps": 40})
        'pgd(eps=8/255, steps=40)'
    """
    inside = ", ".join(f"{key}={write_literal(value)}" for key, value in settings.items())
    return f"{name}({inside})" if inside else name


def write_literal(value: Any) -> str:
    """Return a value as a spec writes it: a long decimal as a fraction of 255, if it is exactly that."""
    if isinstance(value, float) and isinf(value):
        return "1e999" if value > 0 else "-1e999"
    if isinstance(value, float) and 0 < value < 1 and len(repr(value)) > SHORT_DECIMAL:
        levels = round(2 * 255 * value) / 2
        if levels / 255 == value:
            return f"{levels:g}/255"
    return repr(value)


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


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a question that names what somebody may have meant, with a space behind it; empty if nothing is near.

    Example:
        >>> nearest("pdg", ["fgsm", "pgd"])
        'did you mean `pgd`? '
    """
    near = get_close_matches(name.lower(), list(names), n=1)
    return f"did you mean `{near[0]}`? " if near else ""
