"""All figures of one study."""

from matplotlib.figure import Figure

from camdrift.figures.compromise import compromised_layers_figure, compromised_probability_figure
from camdrift.figures.controls import controls_figure, has_controls
from camdrift.figures.coverage import coverage_by_condition_figure, coverage_by_strength_figure
from camdrift.figures.detection import FIGURE as DETECTION_FIGURE
from camdrift.figures.detection import detection_figure
from camdrift.figures.focus import focus_figure
from camdrift.figures.gain import gain_figure
from camdrift.figures.heatmaps import heatmaps_figure, layer_grid_figure
from camdrift.figures.ladder import ladder_figure
from camdrift.figures.released import released_figure
from camdrift.figures.similarity import (
    similarity_adversarial_figure,
    similarity_noise_figure,
    strength_adversarial_figure,
    strength_noise_figure,
)
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record


def study_figures(tables: Tables, record: Record, gallery: Gallery) -> dict[str, Figure]:
    """All figures of a study by file stem, in the paper's order; one without data says so in words.

    A study of one image has its layer grid, too; a reproduction what its own tables show.

    Args:
        tables: All tables of `records.TABLES` by name, and those of `records.FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    figures = {
        "figure_2a_coverage_by_condition": coverage_by_condition_figure(tables, record),
        "figure_2b_coverage_by_strength": coverage_by_strength_figure(tables, record),
        "figure_3_heatmaps": heatmaps_figure(tables, record, gallery),
        "figure_4a_similarity_adversarial": similarity_adversarial_figure(tables, record),
        "figure_4b_similarity_noise": similarity_noise_figure(tables, record),
        "figure_5a_strength_adversarial": strength_adversarial_figure(tables, record),
        "figure_5b_strength_noise": strength_noise_figure(tables, record),
        "figure_6_compromised_probability": compromised_probability_figure(tables, record),
        "figure_7_compromised_layers": compromised_layers_figure(tables, record),
        "figure_8_gain": gain_figure(tables, record),
        "figure_9_focus": focus_figure(tables, record),
    }
    if "detection" in tables and "roc" in tables:
        figures[DETECTION_FIGURE] = detection_figure(tables, record)
    if "ladder" in tables and "emulation" in tables:
        figures |= {
            "figure_11_ladder": ladder_figure(tables, record),
            "figure_12_released": released_figure(tables, record),
        }
    if has_controls(tables):
        figures["figure_13_controls"] = controls_figure(tables, record)
    if tables["seeds"].height == 1 and len(gallery.get("seed_ids", ())):
        figures["layer_grid"] = layer_grid_figure(tables, record, gallery, str(gallery["seed_ids"][0]))
    return figures
