"""The figures of a comparison. A new one is a function in a file of its own and a row here."""

from collections.abc import Callable
from typing import Final, NamedTuple

from matplotlib.figure import Figure

from camdrift.figures.agreement import agreement_figure
from camdrift.figures.contrasts import differences_figure
from camdrift.figures.profiles import gain_profiles_figure
from camdrift.figures.ranks import ranks_figure
from camdrift.figures.sides import Sides, compared_sides
from camdrift.tables.reading import Tables


class ComparisonFigure(NamedTuple):
    """A figure of a comparison.

    Attributes:
        stem: Name of its files, without the ending.
        draw: Draws it from the tables.
        exists: Says for which sides there is one.
    """

    stem: str
    draw: Callable[[Tables], Figure]
    exists: Callable[[Sides], bool] = lambda _: True


_FIGURES: Final = (
    ComparisonFigure("comparison_1_gain", gain_profiles_figure),
    ComparisonFigure("comparison_2_agreement", agreement_figure),
    ComparisonFigure("comparison_3_ranks", ranks_figure, lambda sides: bool(sides.layers)),
    ComparisonFigure("comparison_4_differences", differences_figure),
)


def comparison_figures(tables: Tables) -> dict[str, Figure]:
    """All figures of a comparison by file stem.

    Args:
        tables: Tables of `tables.comparison.COMPARISON_TABLES` by name.
    """
    sides = compared_sides(tables)
    return {figure.stem: figure.draw(tables) for figure in _FIGURES if figure.exists(sides)}
