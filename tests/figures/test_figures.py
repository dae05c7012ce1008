"""What the figures show is what the tables say."""

from io import BytesIO

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from camdrift.figures.canvas import COLOURS, MARGIN, layer_names, printable, sheet, text_width
from camdrift.figures.compromise import compromised_layers_figure, compromised_probability_figure
from camdrift.figures.coverage import coverage_by_condition_figure, coverage_by_strength_figure
from camdrift.figures.flips import flips_figure
from camdrift.figures.focus import focus_figure
from camdrift.figures.gain import gain_figure
from camdrift.figures.heatmaps import heatmaps_figure
from camdrift.figures.scope import scope_of
from camdrift.figures.similarity import (
    similarity_adversarial_figure,
    similarity_noise_figure,
    strength_adversarial_figure,
    strength_noise_figure,
)
from camdrift.figures.study import study_figures
from camdrift.statistics.flips import flips
from camdrift.tables.study import FOCUS_MEASURES
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE
from support.pages import words
from support.synthetic import EFFICIENTNET, LADDER, VGG16, Study, study

NAMES = [
    "figure_2a_coverage_by_condition",
    "figure_2b_coverage_by_strength",
    "figure_3_heatmaps",
    "figure_4a_similarity_adversarial",
    "figure_4b_similarity_noise",
    "figure_5a_strength_adversarial",
    "figure_5b_strength_noise",
    "figure_6_compromised_probability",
    "figure_7_compromised_layers",
    "figure_8_gain",
    "figure_9_focus",
    "figure_14_flips",
]


@pytest.fixture(scope="module")
def vgg() -> Study:
    return study()


def all_figures(made: Study) -> dict[str, Figure]:
    return study_figures(made.tables, made.record, made.gallery)


def column(made: Study, name: str, target: str, strength: float) -> np.ndarray:
    at = (pl.col("target") == target) & (pl.col("strength") == strength)
    return made.tables["layers"].filter(at).sort("layer_index")[name].cast(pl.Float64).to_numpy()


def lines(axes: Axes) -> dict[str, np.ndarray]:
    """y values of every labelled line."""
    found = {str(line.get_label()): np.asarray(line.get_ydata(), dtype=float) for line in axes.lines}
    return {label: y for label, y in found.items() if not label.startswith("_")}


def strokes(axes: Axes, label: str) -> np.ndarray:
    """End points of a labelled line collection, (strokes, 2, 2)."""
    (found,) = (c for c in axes.collections if isinstance(c, LineCollection) and c.get_label() == label)
    return np.array(found.get_segments())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": EFFICIENTNET[:22], "gallery_seeds": 1},
        {"labels": [f"model.encoder.layers.{i}.attention.self.query" for i in range(66)], "strengths": (1.0,)},
        {"strengths": (1.0,), "targets": ("seed",)},
        {"strengths": (0.5, 2.0), "targets": ("own", "seed", "label"), "draws": 2, "labels": VGG16[:3]},
        {"analysed": 1, "labels": VGG16[:2], "strengths": (2.0,)},
        {"analysed": 0},
        {"analysed": 0, "resistant": 0, "unreadable": 0},
    ],
    ids=[
        "default",
        "long names",
        "many long names",
        "one strength, one target",
        "three targets",
        "one seed",
        "none",
        "no images",
    ],
)
def test_every_figure_stays_on_its_page(options):
    for name, figure in all_figures(study(**options)).items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.get_tightbbox(canvas.get_renderer())
        width, height = figure.get_size_inches()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01, name


def test_figures_come_by_file_name_in_the_papers_order(vgg):
    assert list(all_figures(vgg)) == NAMES


def test_matplotlib_settings_are_left_alone(vgg):
    before = dict(mpl.rcParams)
    gain_figure(vgg.tables, vgg.record)
    assert dict(mpl.rcParams) == before


def test_mean_similarity_curves_are_the_tables_means(vgg):
    for draw, name in (
        (strength_adversarial_figure, "adversarial_mean"),
        (strength_noise_figure, "noise_mean"),
    ):
        for axes, target in zip(draw(vgg.tables, vgg.record).axes, ("seed", "own"), strict=True):
            drawn = lines(axes)
            for strength in (0.25, 0.5, 1.0, 2.0, 4.0):
                np.testing.assert_array_equal(drawn[f"strength {strength:g}"], column(vgg, name, target, strength))
            np.testing.assert_array_equal(strokes(axes, "floor")[:, 0, 1], column(vgg, "floor", target, 1.0))


def test_few_curves_carry_bands_of_two_standard_errors():
    made = study(VGG16[:4], strengths=(1.0,), targets=("seed",))
    (axes,) = strength_noise_figure(made.tables, made.record).axes
    (band,) = (c for c in axes.collections if type(c).__name__ == "FillBetweenPolyCollection")
    mean, std, n = (column(made, name, "seed", 1.0) for name in ("noise_mean", "noise_std", "n_noise"))
    drawn = band.get_paths()[0].vertices
    for layer in range(4):
        low, high = drawn[drawn[:, 0] == layer][:, 1].min(), drawn[drawn[:, 0] == layer][:, 1].max()
        error = 2 * std[layer] / np.sqrt(n[layer])
        assert (low, high) == pytest.approx((mean[layer] - error, min(1.0, mean[layer] + error)))


@pytest.mark.parametrize("condition", [ADVERSARIAL, NOISE])
def test_boxes_hold_the_middle_half_of_the_similarities(vgg, condition):
    draw = similarity_adversarial_figure if condition == ADVERSARIAL else similarity_noise_figure
    for axes, target in zip(draw(vgg.tables, vgg.record).axes, ("seed", "own"), strict=True):
        at = (pl.col("condition") == condition) & (pl.col("target") == target) & (pl.col("strength") == 1)
        rows = vgg.tables["similarity"].filter(at)
        samples = [rows.filter(pl.col("layer_label") == label)["similarity"].to_numpy() for label in VGG16]
        np.testing.assert_allclose(strokes(axes, "median")[:, 0, 1], [np.median(s) for s in samples])
        solid = [c for c in axes.collections if isinstance(c, PolyCollection)][-1]
        corners = np.array([path.vertices[:, 1] for path in solid.get_paths()])
        quartiles = [np.quantile(s, [0.25, 0.75]) for s in samples]
        np.testing.assert_allclose(np.stack([corners.min(1), corners.max(1)], 1), quartiles)
        assert to_hex(solid.get_edgecolor()[0]) == COLOURS[condition]
        (points,) = (c for c in axes.collections if isinstance(c, PathCollection))
        drawn = np.asarray(points.get_offsets())
        np.testing.assert_allclose(drawn[:, 1], np.concatenate(samples))
        np.testing.assert_array_equal(np.round(drawn[:, 0]), np.repeat(np.arange(13), 14))


def test_thresholds_and_floors_are_drawn_into_the_distribution(vgg):
    for axes, target in zip(similarity_adversarial_figure(vgg.tables, vgg.record).axes, ("seed", "own"), strict=True):
        tau = column(vgg, "threshold", target, 1.0)
        np.testing.assert_array_equal(strokes(axes, "threshold")[:, 0, 1], tau)
        np.testing.assert_array_equal(strokes(axes, "floor")[:, 0, 1], column(vgg, "floor", target, 1.0))


def test_similarity_axis_is_linear_in_the_distance_of_unit_vectors(vgg):
    axes = similarity_noise_figure(vgg.tables, vgg.record).axes[0]
    similarity = 1 - np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]) ** 2 / 2  # |u - v|^2 = 2 - 2 cos
    heights = axes.transData.transform(np.column_stack([np.zeros(6), similarity]))[:, 1]
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0])
    assert heights[0] > heights[1]


def test_both_similarity_figures_share_one_axis(vgg):
    attacked, noisy = (f(vgg.tables, vgg.record) for f in (similarity_adversarial_figure, similarity_noise_figure))
    assert attacked.axes[0].get_ylim() == noisy.axes[0].get_ylim()


def test_compromised_probability_shows_shares_and_wilson_intervals(vgg):
    figure = compromised_probability_figure(vgg.tables, vgg.record)
    assert "compromises about half of all noisy images by construction" in words(figure)
    for axes, target in zip(figure.axes, ("seed", "own"), strict=True):
        intervals = [np.array(c.get_segments()) for c in axes.collections if isinstance(c, LineCollection)]
        for strength, drawn in zip((0.25, 0.5, 1.0, 2.0, 4.0), intervals, strict=True):
            share, low, high = (
                column(vgg, f"compromised_{end}", target, strength) for end in ("fraction", "low", "high")
            )
            np.testing.assert_array_equal(lines(axes)[f"strength {strength:g}"], share)
            np.testing.assert_array_equal(drawn[:, :, 1], np.stack([low, high], 1))
            np.testing.assert_array_equal(np.round(drawn[:, 0, 0]), np.arange(13))
        assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.5]


def test_histograms_are_the_counts_as_shares(vgg):
    figure = compromised_layers_figure(vgg.tables, vgg.record)
    panels = iter(figure.axes)
    for target in ("seed", "own"):
        for strength in (0.25, 0.5, 1.0, 2.0, 4.0):
            at = (pl.col("target") == target) & (pl.col("strength") == strength) & (pl.col("n_seeds") > 0)
            rows = vgg.tables["counts"].filter(at).sort("n_compromised")
            axes = next(panels)
            (bars,) = (c for c in axes.collections if isinstance(c, PolyCollection))
            boxes = np.array([path.vertices for path in bars.get_paths()])
            np.testing.assert_allclose(boxes[:, :4, 0].mean(1), rows["n_compromised"])
            np.testing.assert_allclose(boxes[:, :, 1].max(1), rows["n_seeds"] / 14)
            values = np.repeat(rows["n_compromised"].to_numpy(), rows["n_seeds"].to_numpy())
            shown = f"strength {strength:g}: median {np.median(values):g} of 13"
            assert shown in " ".join(text.get_text() for text in axes.texts)


def test_gain_keeps_bounds_apart_from_measured_values(vgg):
    figure = gain_figure(vgg.tables, vgg.record)
    for axes, target in zip(figure.axes, ("seed", "own"), strict=True):
        assert axes.get_yscale() == "log"
        for strength in (0.25, 1.0, 4.0):
            at = (pl.col("target") == target) & (pl.col("strength") == strength)
            rows = vgg.tables["layers"].filter(at).sort("layer_index")
            measured = rows.filter(pl.col("gain_censored").is_null())
            np.testing.assert_array_equal(lines(axes)[f"strength {strength:g}"], measured["gain"])
    bounds = vgg.tables["layers"].filter(pl.col("gain_censored") == "above")
    assert bounds.height > 20
    dashes = [c for axes in figure.axes for c in axes.collections if c.get_label() == "bound"]
    assert sorted(y for c in dashes for ((_, y), _) in c.get_segments()) == sorted(bounds["gain"])
    # An arrow for every bound, and for every end of a measured value's interval that is one.
    ends = vgg.tables["layers"].filter(pl.col("gain_censored").is_null(), pl.col("gain_high_censored") == "above")
    tips = [y for axes in figure.axes for line in axes.lines if line.get_marker() == "^" for y in line.get_ydata()]
    expected = [*bounds["gain"], *ends["gain_high"]]
    np.testing.assert_allclose(sorted(tips), np.sort(expected) * 1.16)


def test_gain_below_the_ladder_points_down():
    made = study(VGG16[:2], strengths=(1.0,), targets=("seed",))
    low = made.tables["layers"].with_columns(
        gain=pl.Series([0.25, 3.0]),
        gain_low=pl.Series([0.25, 2.0]),
        gain_high=pl.Series([0.5, 4.0]),
        gain_censored=pl.Series(["below", None]),
        gain_low_censored=pl.Series(["below", None]),
        gain_high_censored=pl.Series([None, None], dtype=pl.String),
    )
    (axes,) = gain_figure({**made.tables, "layers": low}, made.record).axes
    tips = next(line.get_ydata() for line in axes.lines if line.get_marker() == "v")
    np.testing.assert_allclose(tips, [0.25 / 1.16])
    np.testing.assert_array_equal(lines(axes)["strength 1"], [3.0])
    assert axes.get_ylim()[0] < 0.25 / 1.16


@pytest.mark.parametrize("options", [{}, {"strengths": (0.5, 1.25), "targets": ("own",), "labels": VGG16[:4]}])
def test_focus_shows_medians_and_the_middle_half_of_attack_and_noise(options):
    made = study(**options)
    figure = focus_figure(made.tables, made.record)
    target, strength = ("own", 1.25) if options else ("seed", 1.0)
    assert f"strength {strength:g}" in words(figure)
    assert f"(target {target})" in words(figure)
    rows = made.tables["focus"].filter(target=target, strength=strength)
    for axes, measure in zip(figure.axes, FOCUS_MEASURES, strict=True):
        bands = [c for c in axes.collections if type(c).__name__ == "FillBetweenPolyCollection"]
        # The attack is drawn over the noise.
        for band, condition in zip(bands, (NOISE, ADVERSARIAL), strict=True):
            samples = [
                part[measure].drop_nulls().to_numpy()
                for _, part in rows.filter(condition=condition).group_by("layer_index", maintain_order=True)
            ]
            np.testing.assert_allclose(lines(axes)[condition], [np.median(s) for s in samples])
            assert to_hex(band.get_facecolor()[0]) == COLOURS[condition]
            drawn = band.get_paths()[0].vertices
            for layer, sample in enumerate(samples):
                ends = drawn[drawn[:, 0] == layer][:, 1]
                np.testing.assert_allclose((ends.min(), ends.max()), np.quantile(sample, [0.25, 0.75]))


def test_focus_leaves_gaps_and_hollows_out_what_few_seeds_support():
    made = study(VGG16[:4], strengths=(1.0,), targets=("seed",))
    kept = pl.col("seed_id").is_in(made.tables["seeds"]["seed_id"].to_list()[:3])
    # The second layer is undefined for all seeds, the third for all but three.
    lost = (pl.col("layer_index") == 1) | ((pl.col("layer_index") == 2) & ~kept)
    emptied = [pl.when(~lost).then(pl.col(name)).alias(name) for name in FOCUS_MEASURES]
    table = made.tables["focus"].with_columns(emptied)
    figure = focus_figure({**made.tables, "focus": table}, made.record)
    assert "n = 3 to 14 seeds" in words(figure)
    assert "open: undefined for most seeds" in words(figure)
    for axes in figure.axes:
        assert np.isnan(lines(axes)[ADVERSARIAL]).tolist() == [False, True, False, False]
        marks = [line for line in axes.lines if line.get_marker() in "os"]
        hollow = [line for line in marks if to_hex(line.get_markerfacecolor()) == "#ffffff"]
        assert [line.get_xdata().tolist() for line in hollow] == [[2], [2]]
        assert sum(len(line.get_xdata()) for line in marks) == 6


def test_coverage_is_drawn_in_percent_and_beyond_the_clean_images(vgg):
    share, beyond = coverage_by_condition_figure(vgg.tables, vgg.record).axes
    coverage = vgg.tables["coverage"]
    compared_sides = {
        c: coverage.filter(pl.col("condition") == c, pl.col("strength") == s).sort("step")["covered"].to_numpy()
        for c, s in ((CLEAN, 0.0), (ADVERSARIAL, 1.0), (NOISE, 1.0))
    }
    for line, condition in zip(share.lines, compared_sides, strict=True):
        np.testing.assert_allclose(line.get_ydata(), 100 * compared_sides[condition] / 14888)
        assert line.get_color() == COLOURS[condition]
    for line, condition in zip(beyond.lines, (ADVERSARIAL, NOISE), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), compared_sides[condition] - compared_sides[CLEAN])


def test_coverage_by_strength_names_the_neurons_each_strength_adds(vgg):
    adversarial, noise = coverage_by_strength_figure(vgg.tables, vgg.record).axes
    last = vgg.tables["coverage"].filter(pl.col("step") == 18)
    clean = last.filter(pl.col("condition") == CLEAN)["covered"].item()
    for axes, condition in ((adversarial, ADVERSARIAL), (noise, NOISE)):
        for strength in (0.25, 4.0):
            at = (pl.col("condition") == condition) & (pl.col("strength") == strength)
            more = last.filter(at)["covered"].item() - clean
            assert lines(axes)[f"{strength:g}: +{more:,}"][-1] == more


def test_a_strength_has_one_colour_in_every_figure(vgg):
    def colour(axes: Axes, start: str) -> str:
        return next(to_hex(line.get_color()) for line in axes.lines if str(line.get_label()).startswith(start))

    drawn = [
        f(vgg.tables, vgg.record).axes[0] for f in (gain_figure, strength_noise_figure, compromised_probability_figure)
    ]
    added = coverage_by_strength_figure(vgg.tables, vgg.record).axes[0]
    for strength in ("0.25", "1", "4"):
        assert len({colour(axes, f"strength {strength}") for axes in drawn} | {colour(added, f"{strength}:")}) == 1


def test_flips_show_the_shares_of_the_table_and_accuracy_where_there_are_labels(vgg):
    labelled = vgg.tables["seeds"].with_columns(label="clean_class")
    table = flips(vgg.tables["variants"], labelled)
    for made, has_labels in ((vgg.tables, False), ({**vgg.tables, "flips": table}, True)):
        (axes,) = flips_figure(made, vgg.record).axes
        for condition, name in ((ADVERSARIAL, "attack"), (NOISE, "noise of the same size")):
            rows = table.filter(condition=condition).sort("strength")
            np.testing.assert_array_equal(lines(axes)[name], rows["share"])
            assert (f"accuracy, {condition}" in lines(axes)) == has_labels
            if has_labels:
                np.testing.assert_array_equal(lines(axes)[f"accuracy, {condition}"], rows["accuracy"])


def test_heatmaps_show_image_maps_and_similarities(vgg):
    figure = heatmaps_figure(vgg.tables, vgg.record, vgg.gallery)
    block = figure.axes[0]
    (mosaic,) = (np.asarray(image.get_array()) for image in block.images)
    place, size = block.images[0].get_extent(), mosaic.shape
    scale = size[1] / place[1]
    similarity = vgg.tables["similarity"].filter(
        pl.col("seed_id") == vgg.gallery["seed_ids"][0],
        pl.col("target") == "seed",
        pl.col("condition") == ADVERSARIAL,
        pl.col("strength") == 1.0,
    )
    said = [text.get_text() for text in block.texts]
    layer = next(i for i in range(4, 13) if said.count(f"{similarity['similarity'][i]:.2f}") == 1)
    x, y = block.texts[said.index(f"{similarity['similarity'][layer]:.2f}")].get_position()
    edge = int(np.argmin((mosaic[:, 0] != 255).any(-1)))
    column, row = round(x * scale - edge / 2), round((y - 0.035) * scale) - edge
    clean, delta, peak = vgg.gallery["0/clean"], vgg.gallery["0/perturbation"], vgg.gallery["0/peaks"][0]
    attacked = np.clip(clean / 255 + peak * delta / 127, 0, 1)
    for top, pixels in ((0, clean), (row, (255 * attacked).round().astype(np.uint8))):
        shown = Image.fromarray(pixels).resize((edge, edge), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(mosaic[top : top + edge, :edge], np.asarray(shown))
    map_of_layer = Image.fromarray(
        vgg.gallery[f"0/map/{layer}"][1, 3]
    )  # target seed; clean, then strengths 0.25, 0.5, 1
    values = np.asarray(map_of_layer.resize((edge, edge), Image.Resampling.BILINEAR))
    drawn = mosaic[row : row + edge, column : column + edge]
    np.testing.assert_array_equal(drawn, mpl.colormaps["inferno"](values, bytes=True)[..., :3])


def test_heatmaps_of_many_layers_are_an_even_choice():
    made = study(EFFICIENTNET, analysed=2, targets=("seed", "own"), strengths=(1.0,), gallery_seeds=1)
    figure = heatmaps_figure(made.tables, made.record, made.gallery)
    said = words(figure)
    assert "16 of 49 layers, evenly chosen" in said
    assert "The seed's clean prediction is explained" in said  # the first target is what the gallery shows
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    named = [text for text in texts if text in EFFICIENTNET]
    places = [EFFICIENTNET.index(name) for name in named]
    assert (len(places), places[0], places[-1]) == (16, 0, 48)
    assert set(np.diff(places)) <= {3, 4}


def test_heatmaps_name_what_the_model_says(vgg):
    said = words(heatmaps_figure(vgg.tables, vgg.record, vgg.gallery))
    classes = vgg.record["model"]["labels"]
    for seed_id in vgg.gallery["seed_ids"]:
        seed = vgg.tables["seeds"].row(by_predicate=pl.col("seed_id") == seed_id, named=True)
        attacked = vgg.tables["variants"].filter(seed_id=seed_id, condition=ADVERSARIAL, strength=1.0)
        assert f"{classes[seed['clean_class']]} {seed['clean_probability']:.2f}" in said
        assert f"{classes[seed['adversarial_class']]} {attacked['probability'][0]:.2f}" in said


@pytest.mark.parametrize(("stored", "shown"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (8, [0, 4, 7]), (14, [0, 6, 13])])
def test_heatmaps_are_those_of_first_middle_and_last_of_the_gallery(stored, shown):
    made = study(VGG16[:2], strengths=(0.5, 2.0), gallery_seeds=stored)
    figure = heatmaps_figure(made.tables, made.record, made.gallery)
    blocks = [axes for axes in figure.axes if axes.images][: len(shown)]
    edge = int(np.argmin((np.asarray(blocks[0].images[0].get_array())[:, 0] != 255).any(-1)))
    for axes, place in zip(blocks, shown, strict=True):
        # At strength 2 the attack fools the network: clean, 0.5, 2, then noise; target seed comes second.
        noisy = np.clip(made.gallery[f"{place}/clean"] / 255 + 0.2 * (made.gallery[f"{place}/noise"] / 127), 0, 1)
        mosaic = np.asarray(axes.images[0].get_array())
        row = mosaic.shape[0] - int(np.argmax((mosaic[::-1, 0] != 255).any(-1))) - edge
        picture = Image.fromarray((255 * noisy).round().astype(np.uint8))
        resized = np.asarray(picture.resize((edge, edge), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(mosaic[row : row + edge, :edge], resized)
        column = edge + int(np.argmax((mosaic[row, edge:] != 255).any(-1)))
        values = Image.fromarray(made.gallery[f"{place}/map/0"][1, 4]).resize((edge, edge), Image.Resampling.BILINEAR)
        colours = mpl.colormaps["inferno"](np.asarray(values), bytes=True)[..., :3]
        np.testing.assert_array_equal(mosaic[row : row + edge, column : column + edge], colours)
    assert f"{len(shown)} of 14 analysed images" in words(figure)


def test_zero_maps_and_near_identity_are_not_rounded_away(vgg):
    similarity = vgg.tables["similarity"].with_columns(
        similarity=pl.when(pl.col("condition") == ADVERSARIAL).then(None).otherwise(0.9999)
    )
    figure = heatmaps_figure({**vgg.tables, "similarity": similarity}, vgg.record, vgg.gallery)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert (texts.count("zero map"), texts.count(">0.99")) == (3 * 13, 3 * 13)


def test_names_are_text_whatever_signs_they_hold():
    odd = ("a$b$", "x_{1}^2", "\u540d\u524d", "tab\there", "q" * 60)
    made = study(odd, strengths=(1.0,), targets=("seed",), gallery_seeds=1)
    figure = gain_figure(made.tables, made.record)
    figure.savefig(BytesIO(), format="pdf")
    said = words(figure)
    assert "a$b$" in said
    assert "x_{1}^2" in said
    assert "\ufffd\ufffd" in said
    assert "tab here" in said


def test_long_names_of_layers_stay_short_and_apart():
    """The number of a block outlives its words; names that would become alike keep more of them."""
    deep = [f"model.encoder.layers.{i}.{part}" for i in (9, 11) for part in ("mlp.fc2", "attention.self.query")]
    assert layer_names(deep) == [
        *("model.encoder.layers.9.mlp.fc2", "…layers.9.attention.self.query"),
        *("…encoder.layers.11.mlp.fc2", "…layers.11…self.query"),
    ]
    assert layer_names(["swin.encoder.layers.2.blocks.17.attention.self.query"]) == ["…layers.2.blocks.17…self.query"]
    assert layer_names(["features10.a_word.another_word.and_a_last"]) == ["features10…and_a_last"]
    alike = [f"0.{sign * 30}.conv" for sign in "ab"]
    assert layer_names(alike) == alike
    assert layer_names(["one name.0.conv", "one name.0.conv"]) == ["one name.0.conv"] * 2


def test_two_hundred_layers_are_bands_and_their_names_say_which_block():
    labels = [f"model.encoder.layers.{i}.{part}" for i in range(33) for part in ("mlp.fc1", "mlp.fc2")]
    made = study(labels, strengths=(1.0,), targets=("seed",), analysed=4, gallery_seeds=1)
    figures = {name: figure.axes[0] for name, figure in all_figures(made).items()}
    for name, low, high in (
        ("figure_6_compromised_probability", "compromised_low", "compromised_high"),
        ("figure_8_gain", "gain_low", "gain_high"),
    ):
        (band,) = (c for c in figures[name].collections if type(c).__name__ == "FillBetweenPolyCollection")
        for end, column_name in ((np.min, low), (np.max, high)):
            drawn = [end(band.get_paths()[0].vertices[:, 1])]
            np.testing.assert_allclose(drawn, end(column(made, column_name, "seed", 1.0)))
        named = [text.get_text() for text in figures[name].texts if "layers." in text.get_text()]
        assert (named[0], named[-1], len(set(named))) == (labels[0], "…encoder.layers.32.mlp.fc1", 33)
    rows = made.tables["similarity"].filter(condition=ADVERSARIAL, strength=1.0, target="seed")
    tails = rows.group_by("layer_index").agg(pl.col("similarity").quantile(0.05, "linear")).sort("layer_index")
    pale, dark = (
        c
        for c in figures["figure_4a_similarity_adversarial"].collections
        if type(c).__name__ == "FillBetweenPolyCollection"
    )
    assert min(pale.get_paths()[0].vertices[:, 1]) == pytest.approx(tails["similarity"].min())
    assert min(dark.get_paths()[0].vertices[:, 1]) > min(pale.get_paths()[0].vertices[:, 1])


def test_long_names_keep_both_ends():
    assert printable("features.denseblock3.denselayer14.conv2", 20) == "feature…ayer14.conv2"
    assert len(printable("x" * 99, 20)) == 20


def test_text_is_measured_as_it_is_drawn():
    figure = Figure()
    text = figure.text(0, 0, "blocks.3.2.conv_pwl", size=7, family="DejaVu Sans")
    canvas = FigureCanvasAgg(figure)
    drawn = text.get_window_extent(canvas.get_renderer()).width / figure.dpi
    assert text_width("blocks.3.2.conv_pwl", 7) == pytest.approx(drawn, rel=0.06)


def test_without_an_adversarial_example_every_figure_says_why():
    made = study(analysed=0, resistant=3, unreadable=2, failed=1)
    for name, figure in all_figures(made).items():
        if name == NAMES[0]:
            assert "no adversarial example, nothing to add" in words(figure)
            assert [line.get_color() for line in figure.axes[0].lines] == [COLOURS[CLEAN]]
        else:
            assert (
                "Nothing to show. Of 6 images, 3 kept the model's prediction throughout the attack, 2 could not be "
                "read, 1 failed."
            ) in words(figure)


def test_n_is_a_range_where_layers_differ(vgg):
    # One adversarial similarity is undefined at strength 4, so n is 13 there.
    assert "n = 13 to 14 seeds per layer and strength" in words(strength_adversarial_figure(vgg.tables, vgg.record))
    assert "n = 14 seeds per layer." in words(similarity_adversarial_figure(vgg.tables, vgg.record))


def test_draws_are_counted_as_images_not_as_seeds():
    made = study(VGG16[:2], draws=3, strengths=(1.0,))
    said = words(similarity_noise_figure(made.tables, made.record))
    assert "n = 42 noisy images per layer (3 draws per seed)" in said


def test_scope_orders_targets_and_finds_the_lowest_strength_that_fools():
    made = study(VGG16[:2], strengths=(0.5, 1.25, 4.0), targets=("label", "own", "seed"))
    scope = scope_of(made.tables, made.record)
    assert scope.targets == ("seed", "own", "label")
    assert scope.reference == 1.25
    assert (scope.analysed, scope.readable, scope.total) == (14, 18, 19)
    assert 8.0 in LADDER
    assert 8.0 not in scope.strengths


def test_layers_of_an_empty_study_come_from_the_record():
    made = study(VGG16[:3], analysed=0)
    assert scope_of(made.tables, made.record).labels == VGG16[:3]
    chosen = {**made.record, "arguments": {"effective": {"layers": ["features.2"]}}}
    assert scope_of(made.tables, chosen).labels == (VGG16[2],)


@pytest.mark.parametrize("dpi", [72, 96, 120])
def test_lines_of_text_end_before_the_margin_whatever_the_resolution(dpi):
    """Hinting widens small letters by up to 8 percent."""
    buffer, note = BytesIO(), "moves the map further (arrow up) or less " * 9
    sheet("A title", note, width=5.0, body=0.2).figure.savefig(buffer, dpi=dpi)
    pixels, margin = np.asarray(Image.open(buffer).convert("L")), int(MARGIN * dpi / 2)
    assert pixels[:, :-margin].min() < 255
    assert pixels[:, -margin:].min() == 255
