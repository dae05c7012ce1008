"""The shape of `run.json`: the entries that its readers rely on, and short ways to the most frequent ones.

A check returns a sentence on a value that does not fit, None for one that does. No library does it: what pydantic and
msgspec say of a value would have to be put into the words of this project, which takes as many lines as the checks.
"""

from collections.abc import Callable, Mapping
from math import inf
from sys import float_info
from typing import Any, Final

Record = Mapping[str, Any]
Check = Callable[[Any, str], str | None]


def _text(value: Any, where: str) -> str | None:
    return None if isinstance(value, str) else f"{where} must be a text, got: {_shown(value)}"


def _number(kinds: type[int] | tuple[type[int], type[float]], words: str, least: float, most: float) -> Check:
    """A number of some kind within limits, hence not NaN, and not a bool."""

    def check(value: Any, where: str) -> str | None:
        fits = isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"{where} must be {words}, got: {_shown(value)}"

    return check


def _one_of(*words: str) -> Check:
    def check(value: Any, where: str) -> str | None:
        fits = isinstance(value, str) and value in words
        return None if fits else f"{where} must be one of {', '.join(words)}, got: {_shown(value)}"

    return check


def _or_none(inner: Check) -> Check:
    return lambda value, where: None if value is None else inner(value, where)


def _list(inner: Check, length: int | None = None) -> Check:
    """A list of `length` values, or of any number of them."""

    def check(value: Any, where: str) -> str | None:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            return f"{where} must be a list{'' if length is None else f' of {length}'}, got: {_shown(value)}"
        texts = (inner(item, f"{where}[{number}]") for number, item in enumerate(value))
        return next((text for text in texts if text), None)

    return check


def _object(*absent: str, **inner: Check) -> Check:
    """An object with the entries of `inner`, except those named in `absent`; further entries do not matter."""

    def check(value: Any, where: str) -> str | None:
        if not isinstance(value, dict):
            return f"{where or 'it'} must be an object, got: {_shown(value)}"
        for key, part in inner.items():
            name = f"{where}.{key}" if where else key
            if key in value or key not in absent:
                text = part(value[key], name) if key in value else f"{name} is missing"
                if text:
                    return text
        return None

    return check


def _mapping(inner: Check) -> Check:
    """An object whose every entry is of one kind."""

    def check(value: Any, where: str) -> str | None:
        if not isinstance(value, dict):
            return f"{where} must be an object, got: {_shown(value)}"
        texts = (inner(item, f"{where}.{key}") for key, item in value.items())
        return next((text for text in texts if text), None)

    return check


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_NUMBER: Final = _number((int, float), "a number", -float_info.max, float_info.max)
_SEED: Final = _number(int, "an integer from 0 up", 0, inf)
_COUNT: Final = _number(int, "an integer from 0 to 2^63 - 1", 0, 2**63 - 1)
_TEXTS: Final = _list(_text)
_NUMBERS: Final = _list(_NUMBER)


def _output(value: Any, where: str) -> str | None:
    """Name or number of a network's output, or nothing."""
    return None if value is None or isinstance(value, str) else _COUNT(value, where)


def _resize(value: Any, where: str) -> str | None:
    """One count, of the short side, or two, of both sides."""
    return _list(_COUNT, 2)(value, where) if isinstance(value, list) else _COUNT(value, where)


_CODE: Final = _or_none(_mapping(_text))
_MODEL: Final = _object(
    "head",
    "rounding",
    "output",
    "code",
    spec=_text,
    head=_or_none(_object(spec=_text, kind=_text, sha256=_text)),
    code=_CODE,
    name=_text,
    weights=_text,
    weights_sha256=_text,
    size=_COUNT,
    resize=_resize,
    interpolation=_text,
    rounding=_text,
    output=_output,
    mean=_NUMBERS,
    std=_NUMBERS,
    classes=_COUNT,
    labels=_or_none(_TEXTS),
)
_EFFECTIVE: Final = _object(
    "surrogate",
    model=_text,
    weights=_text,
    attack=_text,
    surrogate=_or_none(_text),
    strengths=_NUMBERS,
    noise_ladder=_NUMBERS,
    noise_draws=_COUNT,
    targets=_TEXTS,
    explanations=_TEXTS,
    measures=_list(_list(_text, 2)),
    layers=_TEXTS,
    rng_seed=_SEED,
    batch_size=_COUNT,
    device=_text,
    precision=_text,
)
_THREAT: Final = _object(norm=_one_of("linf", "l2", "l1", "l0"), epsilon=_NUMBER)
_RUN: Final = _object(
    "versions",
    "timings",
    "preflight",
    "files",
    "finished",
    "engine",
    camdrift=_text,
    kind=_text,
    status=_text,
    started=_text,
    finished=_or_none(_text),
    arguments=_object(passed=_object(images=_or_none(_text)), effective=_EFFECTIVE),
    model=_MODEL,
    attack=_object("code", spec=_text, code=_CODE, threat=_or_none(_THREAT), images_sha256=_or_none(_text)),
    surrogate=_or_none(_MODEL),
    layers=_list(_object(name=_text, label=_or_none(_text))),
    images=_object(n=_COUNT, listing_sha256=_text),
    versions=_or_none(_mapping(_or_none(_text))),
    timings=_or_none(_mapping(_NUMBER)),
    preflight=_or_none(_object("warnings", warnings=_or_none(_TEXTS))),
    engine=_or_none(_object("threads", threads=_COUNT)),
    files=_or_none(_mapping(_object("rows", sha256=_text, rows=_COUNT))),
)


def misfit(record: Record) -> str | None:
    """Return in words what a run's record lacks; None for one that everything can read.

    Example:
        >>> misfit({"camdrift": 1})
        'camdrift must be a text, got: 1'
    """
    return _RUN(record, "")


def input_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model's record says of the way from an image to its logits; older runs leave out the usual."""
    names = ("size", "resize", "interpolation", "mean", "std")
    unusual = {"rounding": model.get("rounding", "torchvision"), "output": model.get("output")}
    return {name: model[name] for name in names} | {k: v for k, v in unusual.items() if v not in ("torchvision", None)}


def effective(record: Record) -> Mapping[str, Any]:
    """Return the effective arguments of the run; empty if the record has none."""
    arguments: Mapping[str, Any] = (record.get("arguments") or {}).get("effective") or {}
    return arguments


def passed(record: Record) -> Mapping[str, Any]:
    """Return the arguments of the run as its caller gave them; empty if the record has none."""
    arguments: Mapping[str, Any] = (record.get("arguments") or {}).get("passed") or {}
    return arguments


def model_name(record: Record) -> str:
    """Return the model's spec, without the folders of a file, and its head if that is another."""
    head = head_kind(record)
    return model_spec(record) if head is None else f"{model_spec(record)} with {head} head"


def head_kind(record: Record) -> str | None:
    """Return the kind of the head in the place of the model's last layer; None for its own."""
    head = (record.get("model") or {}).get("head") or {}
    return head.get("kind")


def model_spec(record: Record) -> str:
    """Return the model's spec, without the folders of a file."""
    model = record.get("model") or {}
    spec = str(model.get("spec") or model.get("name") or "the model")
    return spec.replace("\\", "/").rpartition("/")[2] if ".py:" in spec else spec


def class_name(record: Record, index: int) -> str:
    """Return the name of a class of the model, or its number where it has none."""
    labels = (record.get("model") or {}).get("labels") or []
    return str(labels[index]) if index < len(labels) else f"class {index}"
