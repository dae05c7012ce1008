"""The figures of a study, in the paper's order. A new one is a function in a file of its own and a row here."""

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from matplotlib.figure import Figure

from camdrift.errors import UserError
from camdrift.figures.compromise import compromised_layers_figure, compromised_probability_figure
from camdrift.figures.controls import controls_figure, has_controls
from camdrift.figures.coverage import coverage_by_condition_figure, coverage_by_strength_figure
from camdrift.figures.detection import DETECTION_FIGURE, detection_figure
from camdrift.figures.detectors import detectors_figure
from camdrift.figures.flips import flips_figure
from camdrift.figures.focus import focus_figure
from camdrift.figures.gain import gain_figure
from camdrift.figures.heatmaps import has_layer_grid, heatmaps_figure, layer_grid_figure
from camdrift.figures.ladder import ladder_figure
from camdrift.figures.lime import lime_figure
from camdrift.figures.perturbations import perturbations_figure
from camdrift.figures.released import released_figure
from camdrift.figures.restoration import defences_figure, restoration_figure
from camdrift.figures.similarity import (
    similarity_adversarial_figure,
    similarity_noise_figure,
    strength_adversarial_figure,
    strength_noise_figure,
)
from camdrift.specs import nearest
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record

# The names of all figures, for completion.
FigureName = Literal[
    "coverage_by_condition",
    "coverage_by_strength",
    "heatmaps",
    "similarity_adversarial",
    "similarity_noise",
    "strength_adversarial",
    "strength_noise",
    "compromised_probability",
    "compromised_layers",
    "gain",
    "focus",
    "detection",
    "ladder",
    "released",
    "controls",
    "flips",
    "restoration",
    "defences",
    "detectors",
    "lime",
    "perturbations",
    "layer_grid",
]


class StudyFigure(NamedTuple):
    """A figure of a study.

    Attributes:
        stem: Name of its files, without the ending.
        draw: Draws it from tables, record and gallery.
        exists: Says whether a study with these tables and this gallery has one.
    """

    stem: str
    draw: Callable[[Tables, Record, Gallery], Figure]
    exists: Callable[[Tables, Gallery], bool] = lambda tables, gallery: True

    @property
    def name(self) -> str:
        """Its name: the stem without the number."""
        return re.sub(r"^figure_\d+[a-z]?_", "", self.stem)


def _of_tables(draw: Callable[[Tables, Record], Figure]) -> Callable[[Tables, Record, Gallery], Figure]:
    """The same figure, drawn without the gallery."""
    return lambda tables, record, gallery: draw(tables, record)


def _with(*names: str) -> Callable[[Tables, Gallery], bool]:
    """A condition that a study has some tables, which not all have."""
    return lambda tables, gallery: all(name in tables for name in names)


FIGURE_ROWS: Final = (
    StudyFigure("figure_2a_coverage_by_condition", _of_tables(coverage_by_condition_figure)),
    StudyFigure("figure_2b_coverage_by_strength", _of_tables(coverage_by_strength_figure)),
    StudyFigure("figure_3_heatmaps", heatmaps_figure),
    StudyFigure("figure_4a_similarity_adversarial", _of_tables(similarity_adversarial_figure)),
    StudyFigure("figure_4b_similarity_noise", _of_tables(similarity_noise_figure)),
    StudyFigure("figure_5a_strength_adversarial", _of_tables(strength_adversarial_figure)),
    StudyFigure("figure_5b_strength_noise", _of_tables(strength_noise_figure)),
    StudyFigure("figure_6_compromised_probability", _of_tables(compromised_probability_figure)),
    StudyFigure("figure_7_compromised_layers", _of_tables(compromised_layers_figure)),
    StudyFigure("figure_8_gain", _of_tables(gain_figure)),
    StudyFigure("figure_9_focus", _of_tables(focus_figure)),
    StudyFigure(DETECTION_FIGURE, _of_tables(detection_figure), _with("detection", "roc")),
    StudyFigure("figure_11_ladder", _of_tables(ladder_figure), _with("ladder", "emulation")),
    StudyFigure("figure_12_released", _of_tables(released_figure), _with("ladder", "emulation")),
    StudyFigure("figure_13_controls", _of_tables(controls_figure), lambda tables, _: has_controls(tables)),
    StudyFigure("figure_14_flips", _of_tables(flips_figure)),
    StudyFigure("figure_15_restoration", _of_tables(restoration_figure), _with("restoration")),
    StudyFigure("figure_16_defences", _of_tables(defences_figure), _with("defences")),
    StudyFigure("figure_17_detectors", _of_tables(detectors_figure), _with("detectors")),
    StudyFigure("figure_18_lime", lime_figure, _with("lime")),
    StudyFigure("figure_19_perturbations", _of_tables(perturbations_figure), _with("perturbation_layers")),
    StudyFigure("layer_grid", layer_grid_figure, has_layer_grid),
)


def figures_of(tables: Tables, gallery: Gallery) -> list[StudyFigure]:
    """The figures that a study with these tables and this gallery has."""
    return [figure for figure in FIGURE_ROWS if figure.exists(tables, gallery)]


def study_figures(tables: Tables, record: Record, gallery: Gallery) -> dict[str, Figure]:
    """All figures of a study by file stem; one without data says so in words.

    Args:
        tables: All tables of `tables.study.TABLES` by name, and those of `FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    return {figure.stem: figure.draw(tables, record, gallery) for figure in figures_of(tables, gallery)}


def study_figure(name: str, tables: Tables, record: Record, gallery: Gallery) -> Figure:
    """One figure of a study.

    Args:
        name: Its name.
        tables: As in `study_figures`.
        record: As in `study_figures`.
        gallery: As in `study_figures`.

    Raises:
        UserError: The study has no figure of this name.
    """
    figures = {figure.name: figure for figure in figures_of(tables, gallery)}
    if name not in figures:
        raise UserError(f"`name` must be one of {', '.join(figures)}, got: {name}", nearest(name, figures).strip())
    return figures[name].draw(tables, record, gallery)
