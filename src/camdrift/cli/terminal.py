"""Output of several commands, and the command line that started them."""

import shlex
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from camdrift.errors import escaped


def command_line() -> str:
    """Return the command as a person would type it."""
    return shlex.join(["camdrift", *sys.argv[1:]])


def print_line(console: Console, text: str) -> None:
    """Print one line as it is, however long."""
    console.print(escaped(text), markup=False, highlight=False, soft_wrap=True)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; where output is piped, a row stays one line, however long."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escaped, row))
    Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False).print(table)
