"""The words of an option: reading them, and writing a default in them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from camdrift.errors import UserError
from camdrift.pipeline.settings import WORDS_FOR_NUMBERS
from camdrift.specs import parse_specs


def parse_words(text: str) -> tuple[str, ...]:
    """Return the words between commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _parse_numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in parse_words(text))
    except ValueError as error:
        raise UserError(f"`{flag}` must be numbers separated by commas, got: {text}") from error


@dataclass(frozen=True)
class Kind:
    """A kind of option.

    Attributes:
        type: Type that typer reads.
        parse: Returns the value of a flag's name and of a value of that type; raises `UserError` for wrong words.
        write: Returns a value of that type for a default.
    """

    type: type
    parse: Callable[[str, Any], Any] = lambda _, value: value
    write: Callable[[Any], Any] = lambda value: value


TEXT: Final = Kind(str)
INTEGER: Final = Kind(int)
SWITCH: Final = Kind(bool)
FILE: Final = Kind(Path)
WORD_LIST: Final = Kind(str, lambda _, text: parse_words(text), ",".join)
SPEC_LIST: Final = Kind(str, lambda _, text: parse_specs(text), ",".join)
# An option that may be given several times.
SPECS: Final = Kind(list[str], lambda _, texts: tuple(spec for text in texts for spec in parse_specs(text)), list)
NUMBER_LIST: Final = Kind(str, _parse_numbers, lambda numbers: ",".join(f"{number:g}" for number in numbers))


def count_of(name: str, *, least: int = 1) -> Kind:
    """Return the kind of an integer of at least `least`, or of the word that means another number or None.

    Args:
        name: The option, which has one such word.
        least: The least number.
    """
    ((word, meaning),) = WORDS_FOR_NUMBERS[name].items()

    def parse(flag: str, text: str) -> int | None:
        if text == word:
            return meaning
        if not text.isdecimal() or int(text) < least:
            raise UserError(f"`{flag}` must be an integer of at least {least} or {word}, got: {text}")
        return int(text)

    return Kind(str, parse, lambda number: word if number == meaning else str(number))
