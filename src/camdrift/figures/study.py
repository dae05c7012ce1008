"""All figures of one study."""

from matplotlib.figure import Figure

from camdrift.figures.compromise import compromised_layers, compromised_probability
from camdrift.figures.controls import controls, has_controls
from camdrift.figures.coverage import coverage_by_condition, coverage_by_strength
from camdrift.figures.detection import FIGURE as DETECTION_FIGURE
from camdrift.figures.detection import detection
from camdrift.figures.focus import focus
from camdrift.figures.gain import gain
from camdrift.figures.heatmaps import heatmaps, layer_grid
from camdrift.figures.ladder import ladder
from camdrift.figures.released import released
from camdrift.figures.similarity import similarity_adversarial, similarity_noise, strength_adversarial, strength_noise
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
        "figure_2a_coverage_by_condition": coverage_by_condition(tables, record),
        "figure_2b_coverage_by_strength": coverage_by_strength(tables, record),
        "figure_3_heatmaps": heatmaps(tables, record, gallery),
        "figure_4a_similarity_adversarial": similarity_adversarial(tables, record),
        "figure_4b_similarity_noise": similarity_noise(tables, record),
        "figure_5a_strength_adversarial": strength_adversarial(tables, record),
        "figure_5b_strength_noise": strength_noise(tables, record),
        "figure_6_compromised_probability": compromised_probability(tables, record),
        "figure_7_compromised_layers": compromised_layers(tables, record),
        "figure_8_gain": gain(tables, record),
        "figure_9_focus": focus(tables, record),
    }
    if "detection" in tables and "roc" in tables:
        figures[DETECTION_FIGURE] = detection(tables, record)
    if "ladder" in tables and "emulation" in tables:
        figures |= {"figure_11_ladder": ladder(tables, record), "figure_12_released": released(tables, record)}
    if has_controls(tables):
        figures["figure_13_controls"] = controls(tables, record)
    if tables["seeds"].height == 1 and len(gallery.get("seed_ids", ())):
        figures["layer_grid"] = layer_grid(tables, record, gallery, str(gallery["seed_ids"][0]))
    return figures
