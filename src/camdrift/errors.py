"""Errors that a person can mend: one line says what is wrong, another one what to do."""

import re
from pathlib import Path
from traceback import extract_tb
from typing import Final

from camdrift.masking import masked, without_home

# Terminals obey these: C0 and C1 but for tab and newline, and marks that turn the direction of writing. Bytes of a
# file name that are no UTF-8, which Python holds as lone surrogates, cannot be printed at all.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# A variable of the environment that shows the whole traceback of an error.
TRACEBACK: Final = "CAMDRIFT_TRACEBACK"
TRACEBACK_HINT: Final = f"once that is mended, go on; {TRACEBACK}=1 shows the whole traceback"
# Anything that code of others may raise; the wish of a person to stop, KeyboardInterrupt, is not among them.
FOREIGN: Final = (Exception, SystemExit, GeneratorExit)
_CAMDRIFT: Final = Path(__file__).parent
_PACKAGES: Final = {"site-packages", "dist-packages"}


class UserError(Exception):
    """A mistake of the caller: bad input, an unknown name, options that contradict each other.

    The command line prints `error: message` and `hint: hint` without a traceback and exits with 2.

    Args:
        message: The rule and the value that breaks it, on one line.
        hint: The cure, on one line; empty where there is none.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = escaped(" ".join(message.split()))
        self.hint = escaped(" ".join(hint.split()))

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


def one_line(error: BaseException) -> str:
    """Return kind and first line of anybody's error, for a message of ours: without secrets and the path of a home."""
    lines = without_home(masked(_text(error))).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def place_of(error: BaseException) -> str:
    """Return in brackets where an error arose: the innermost line of the user's own code, or else of any."""
    frames = extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})"


def is_foreign(error: BaseException) -> bool:
    """Did an error arise in the user's own code, or does it end the program, which ours never does?"""
    frames = extract_tb(error.__traceback__)
    return isinstance(error, SystemExit | GeneratorExit) or any(_is_own(frame.filename) for frame in frames)


def _is_own(file: str) -> bool:
    """Is a file neither ours, nor of an installed package, nor Python's own?"""
    others = (str(_CAMDRIFT), str(Path(re.__file__).parents[1]), "<")
    return not _PACKAGES & {*Path(file).parts} and not file.startswith(others)


def _text(error: BaseException) -> str:
    """The text of anybody's error, whose own code may fail."""
    try:
        return str(error)
    except Exception:
        return ""


def escaped(text: str) -> str:
    """Return text for a terminal: without secrets, and with escapes for control characters, which names may hold."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), masked(text))


def install_hint(extra: str) -> str:
    """Return the command that installs an extra, as a hint; an empty extra is camdrift itself."""
    package = f"camdrift[{extra}]" if extra else "camdrift"
    return f'pip install "{package}" installs it'


class ModelError(UserError):
    """A model that cannot be loaded, or that breaks the contract of a classifier."""


class ImageError(UserError):
    """An image that cannot be studied; in a study it becomes a row with a reason."""


class StoreError(UserError):
    """A run directory that cannot be read, written or continued."""
