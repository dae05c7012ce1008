"""The figures of a campaign. A new one is a function in a file of its own and a row here."""

from collections.abc import Callable
from typing import Final

from matplotlib.figure import Figure

from camdrift.figures.campaign_growth import criterion_figure, failures_figure
from camdrift.figures.mutators import mutators_figure
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record

_FIGURES: Final[dict[str, Callable[[Tables, Record], Figure]]] = {
    "fuzz_failures": failures_figure,
    "fuzz_growth": criterion_figure,
    "fuzz_mutators": mutators_figure,
}


def campaign_figures(tables: Tables, record: Record) -> dict[str, Figure]:
    """All figures of a campaign by file stem.

    Args:
        tables: Tables of `tables.campaign.CAMPAIGN_TABLES` by name.
        record: The record, as `fuzz.json` holds it.
    """
    return {stem: draw(tables, record) for stem, draw in _FIGURES.items()}
