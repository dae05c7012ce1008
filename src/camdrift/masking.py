"""Words for whoever reads a record, a page or a message: without passwords and keys, and without the path of a home."""

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

MASK: Final = "***"

# scheme://USER:PASSWORD@host, or scheme://TOKEN@host; a number behind a colon is a port.
_URL_USER: Final = re.compile(
    r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:[^/\s@:'\"]*:(?!\d+(?:/|$))[^\s'\"]*@|[^/\s@'\"]+@)"
)
# Names of secrets, and names that may be one: a key that is a number of few digits is none.
_SECRETS: Final = "password|passwd|passphrase|passcode|pwd|secret|credential|api[_-]?key|authorization"
_KEYS: Final = "key|token|auth|bearer|cookie|signature|sig"
_NOTHING: Final = re.compile(r"(?i:true|false|none|null)|\*+")
_PLAIN: Final = re.compile(rf"{_NOTHING.pattern}|value|[+-]?\d{{0,5}}(?:\.\d*)?(?:e[+-]?\d+)?")
_VALUE: Final = (
    r"""(?:[bBrRuUfF]{0,2}(?P<quote>["'])(?:\\.|(?!(?P=quote)).)*(?P=quote)|[\[({][^\])}]*[\])}]?|[^\s,;&)\]}'"]+)"""
)
_IS: Final = r"""(?:["']?\s*=\s*|["']\s*:\s*)"""


def _setting(words: str, sign: str) -> re.Pattern[str]:
    """A setting whose name holds one of some words between others: `my_key`, `apiKey`, `key-id`; its sign and value."""
    in_capitals = "|".join(word.capitalize() for word in words.split("|"))
    # Each begins where no other could: a name is looked through once, and not again from each of its letters.
    in_words = rf"(?<![A-Za-z0-9][_-])(?:[A-Za-z0-9]+[_-])*(?i:{words})"
    in_camels = rf"(?<![_-])[A-Za-z0-9_-]*[a-z0-9](?:{in_capitals})"
    name = rf"(?:{in_words}|{in_camels})s?(?:[_-][A-Za-z0-9]+)*"
    return re.compile(rf"(?<![A-Za-z0-9])(?P<head>{name}{sign})(?P<value>{_VALUE})")


# Settings, and the values of each that hide nothing.
_SETTINGS: Final = (
    (_setting(_SECRETS, rf"(?:{_IS}|:\s*)"), _NOTHING),
    (_setting(_KEYS, _IS), _PLAIN),
)
# Keys that are known by their form, whatever they are called.
_FORMS: Final = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[opsru]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b"
    r"|(?<=Bearer )[A-Za-z0-9._~+/-]{8,}=*"
)


def masked(text: str) -> str:
    """Return a text with stars in place of passwords and keys: in URLs, and as values of settings named like one.

    Example:
        >>> masked("ftp://me:s3cret@host/run and net.py:f(api_key='abc', steps=3)")
        "ftp://***@host/run and net.py:f(api_key='***', steps=3)"
    """
    text = _FORMS.sub(MASK, _URL_USER.sub(rf"\1{MASK}@", text))
    for setting, harmless in _SETTINGS:
        text = setting.sub(partial(_mask_value, harmless), text)
    return text


def is_masked(text: str) -> bool:
    """Is something left out of a text that `masked` returned?"""
    return MASK in text


def _mask_value(harmless: re.Pattern[str], match: re.Match[str]) -> str:
    """Return a setting with stars for its value, unless that is harmless."""
    quote = match["quote"] or ""
    is_harmless = harmless.fullmatch(match["value"].strip("\"'"))
    return match[0] if is_harmless else f"{match['head']}{quote}{MASK}{quote}"


def without_home(text: str) -> str:
    """Return a text with `~` in place of the folder of the user, wherever a path in it begins with that.

    Example:
        >>> with_home(without_home(f"{Path.home()}/net.py:build")) == f"{Path.home()}/net.py:build"
        True
    """
    home = _home()
    return re.sub(rf"(?<![\w.~/\\-]){re.escape(home)}(?=[/\\]|$|[:,;'\")\s])", "~", text) if home else text


def with_home(text: str) -> str:
    """Return a text with the folder of the user in place of `~`, where a path in it begins with that."""
    home = _home()
    return re.sub(r"(?<![\w.~/\\-])~(?=[/\\])", lambda _: home, text) if home else text


def _home() -> str:
    """The folder of the user; empty if there is none, or if it is the root of the file system."""
    home = os.path.expanduser("~").rstrip("/\\")  # noqa: PTH111, Path.home() fails where there is none
    return home if Path(home).is_absolute() else ""


def public(value: Any) -> Any:
    """Return JSON values with every text as anybody may read it: without passwords and keys, and without a home."""
    if isinstance(value, str):
        return without_home(masked(value))
    if isinstance(value, Mapping):
        return {name: _public_entry(str(name), entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [public(entry) for entry in value]
    return value


def _public_entry(name: str, value: Any) -> Any:
    """Return the value of an entry as anybody may read it; a text whose name is that of a secret is stars."""
    if isinstance(value, str) and masked(f"{name}='{value.replace(chr(39), '')}'").endswith(f"='{MASK}'") and value:
        return MASK
    return public(value)
