"""Output of several commands, and the command line that started them."""

import json
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, TextIO

import typer
from rich.console import Console
from rich.table import Table

from camdrift.errors import escaped
from camdrift.masking import masked

# The exit code of a command that finds nothing wrong, and could not look at everything.
UNTOLD: Final = 4
# The option of commands that print their result as JSON on demand.
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def command_line() -> str:
    """Return the command as a person would type it, without secrets."""
    return shlex.join(["camdrift", *map(masked, sys.argv[1:])])


class TolerantStream:
    """A stream of text that loses what cannot be written, so that a full disk under a log stops no study.

    Attributes:
        failure: The last error; None where everything was written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = error
            return len(text)

    def flush(self) -> None:
        """Write what waits."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = error


@contextmanager
def tolerant_streams() -> Iterator[TolerantStream]:
    """Make standard output and error tolerant, and yield the former; one that failed stays so to the end."""
    before: list[Any] = [sys.stdout, sys.stderr]
    tolerant: list[Any] = [TolerantStream(stream) for stream in before]
    output, errors = tolerant
    # A stream that is closed is None.
    sys.stdout, sys.stderr = (new if old is not None else None for old, new in zip(before, tolerant, strict=True))
    try:
        yield output
    finally:
        if output.failure is None:
            sys.stdout = before[0]
        if errors.failure is None:
            sys.stderr = before[1]


def print_text(text: str) -> None:
    """Print lines, on a terminal wrapped at words; in a pipe a line stays one, however long."""
    lines = escaped(text).split("\n")
    if _is_terminal():
        width = shutil.get_terminal_size().columns
        lines = [part for line in lines for part in _wrapped(line, width)]
    typer.echo("\n".join(lines))


def _is_terminal() -> bool:
    """Is standard output a terminal? It is None where it is closed."""
    return sys.stdout is not None and sys.stdout.isatty()


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line in parts of at most so many columns, unless a word is longer: paths stay whole."""
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; where output is piped, a row stays one line, however long."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(escaped(cell).replace("\n", "\\n") for cell in row))
    is_terminal = _is_terminal()
    console = Console(width=None if is_terminal else 400, markup=False, highlight=False)
    if is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
