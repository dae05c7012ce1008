"""What several commands print, and the model that they load."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from camdrift.errors import escaped

if TYPE_CHECKING:
    from camdrift.models.classifier import Classifier


def _load(model: str, weights: Path | None, device: str, precision: str = "fp32") -> "Classifier":
    # Here and not above, so that --help comes at once: torch takes seconds to import.
    from camdrift.models.loading import load_model

    return load_model(model, weights=weights, device=device, precision=precision)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; piped output keeps one line per row, however long."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(escaped, row))
    Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False).print(table)
