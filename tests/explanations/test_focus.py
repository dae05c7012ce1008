"""How the focus of a map moves: worked by hand, against plain NumPy, its properties, and as a table of a study."""

import inspect
import math

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import camdrift
from camdrift.explanations.focus import LARGEST_GRID_SIDE, focus_change, local_rms, locate, reduced
from camdrift.images.pixels import read_image
from camdrift.models.classifier import Classifier
from camdrift.pipeline.noise import matched_noise
from camdrift.tables.study import FOCUS, FOCUS_MEASURES
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import perturbed
from support.attacks import perturbations
from support.maps import random_maps
from support.studies import ATTACK, TinyNet, skip_report, study_of, write_images

KEYS = ["seed_id", "condition", "strength", "target", "layer"]


def measured(seed, variant, squares=None):
    """The five measures of one pair of maps, by name."""
    seed, variant = (torch.as_tensor(m, dtype=torch.float32)[None] for m in (seed, variant))
    squares = torch.ones(seed.shape) if squares is None else torch.as_tensor(squares, dtype=torch.float64)[None]
    values = focus_change(seed, variant, squares)[:, 0].tolist()
    return dict(zip(FOCUS_MEASURES, values, strict=True))


def naive_average(image, shape):
    """The mean over each cell, cells reaching to whole pixels, one by one."""
    height, width = image.shape
    cells = np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            rows = slice(i * height // shape[0], math.ceil((i + 1) * height / shape[0]))
            columns = slice(j * width // shape[1], math.ceil((j + 1) * width / shape[1]))
            cells[i, j] = image[rows, columns].mean()
    return cells


def naive_reduced(one):
    one = np.asarray(one, dtype=np.float64)
    return naive_average(one, tuple(min(side, LARGEST_GRID_SIDE) for side in one.shape))


def naive_centre(one):
    """Centre of mass and root mean square distance from it, cell by cell."""
    height, width = one.shape
    places = [((i + 0.5) / height, (j + 0.5) / width, one[i, j]) for i in range(height) for j in range(width)]
    total = sum(value for *_, value in places)
    y, x = (sum(place[axis] * place[2] for place in places) / total for axis in (0, 1))
    square = sum(value * ((a - y) ** 2 + (b - x) ** 2) for a, b, value in places) / total
    return y, x, math.sqrt(square)


def naive_entropy(one):
    shares = [value / one.sum() for value in one.ravel() if value > 0]
    return -sum(p * math.log(p) for p in shares) / math.log(one.size) if one.size > 1 else np.nan


def naive_top(one):
    """Places of the largest fifth; ties with the last are in, zeros are not."""
    last = sorted(one.ravel(), reverse=True)[math.ceil(one.size / 5) - 1]
    return {place for place, value in enumerate(one.ravel()) if value >= last and value > 0}


def naive_measures(seed, variant, squares):
    """All five from their definitions, in float64; NaN where a map is all zero."""
    if not np.any(seed) or not np.any(variant):
        return [np.nan] * 5
    a, b = naive_reduced(seed), naive_reduced(variant)
    rms = np.sqrt(naive_average(np.asarray(squares, dtype=np.float64), a.shape))
    (ya, xa, spread_a), (yb, xb, spread_b) = naive_centre(a), naive_centre(b)
    top_a, top_b = naive_top(a), naive_top(b)
    moved = np.abs(b / np.linalg.norm(b) - a / np.linalg.norm(a)).ravel()
    even = np.ptp(moved) < 1e-7 or np.ptp(rms) < 1e-7
    return [
        math.dist((ya, xa), (yb, xb)),
        spread_b - spread_a,
        naive_entropy(b) - naive_entropy(a),
        2 * len(top_a & top_b) / (len(top_a) + len(top_b)),
        np.nan if even else np.corrcoef(moved, rms.ravel())[0, 1],
    ]


class TestValues:
    """Worked by hand."""

    def test_a_point_that_moves_by_a_cell(self):
        found = measured([[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0.09, 0], [0, 0]])
        # Change (1, 1, 0, 0), centred (.5, .5, -.5, -.5); rms (.3, 0, 0, 0), centred (.225, -.075, -.075, -.075).
        correlation = 0.5 * (0.225 - 0.075 + 0.075 + 0.075) / math.sqrt(0.225**2 + 3 * 0.075**2)
        expected = {"centroid_shift": 0.5, "spread_change": 0, "entropy_change": 0, "top_overlap": 0}
        assert found == pytest.approx({**expected, "perturbation_correlation": correlation}, abs=1e-12)

    def test_the_centre_is_in_sides_of_the_image_on_both_axes(self):
        start, end = np.zeros((4, 10)), np.zeros((4, 10))
        start[0, 0] = end[3, 5] = 7
        assert measured(start, end)["centroid_shift"] == pytest.approx(math.hypot(3 / 4, 5 / 10))

    def test_the_centre_of_a_cell_lies_in_its_middle(self):
        corner = torch.zeros(1, 4, 10)
        corner[0, 0, 9] = 2
        found = locate(reduced(corner))
        assert (found.row.item(), found.column.item()) == (0.125, 0.95)
        assert (found.spread.item(), found.entropy.item(), found.length.item()) == (0, 0, 2)

    def test_spread(self):
        # Cells at 1/8, 3/8, 5/8, 7/8: distances from the centre 3/8 and 1/8.
        found = measured([[2, 0, 0, 2]], [[0, 5, 5, 0]])
        assert found["spread_change"] == pytest.approx(1 / 8 - 3 / 8)
        assert (found["centroid_shift"], found["entropy_change"]) == pytest.approx((0, 0), abs=1e-12)

    def test_entropy(self):
        assert measured([[1, 0], [0, 0]], [[3, 3], [3, 3]])["entropy_change"] == pytest.approx(1)
        # Two of eight cells: log 2 / log 8 = 1/3; three to one over two: 0.5623 / log 8.
        found = measured([[1, 1, 0, 0, 0, 0, 0, 0]], [[3, 1, 0, 0, 0, 0, 0, 0]])["entropy_change"]
        assert found == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(8) - 1 / 3)

    @pytest.mark.parametrize(
        ("seed", "variant", "expected"),
        [
            ([9, 8, 1, 1, 1, 1, 1, 1, 1, 1], [9, 1, 8, 1, 1, 1, 1, 1, 1, 1], 1 / 2),
            # A fifth of six is rounded up to two.
            ([9, 8, 1, 1, 1, 1], [8, 9, 1, 1, 1, 1], 1),
            # Of the largest two one is zero: 2 * 1 / (1 + 2).
            ([9, 0, 0, 0, 0, 0, 0, 0, 0, 0], [9, 8, 0, 0, 0, 0, 0, 0, 0, 0], 2 / 3),
            # Three share the second place, and all are in: 2 * 2 / (2 + 4).
            ([9, 8, 1, 1, 1, 1, 1, 1, 1, 1], [9, 5, 5, 5, 1, 1, 1, 1, 1, 1], 2 / 3),
            ([9, 8, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 9, 8, 1, 1, 1, 1, 1, 1], 0),
        ],
    )
    def test_overlap_of_the_top_fifth(self, seed, variant, expected):
        assert measured([seed], [variant])["top_overlap"] == pytest.approx(expected)

    def test_correlation_is_one_where_the_map_changes_by_the_perturbation(self):
        seed = np.array([[3.0, 0, 4, 0]])
        variant = seed / 5 + [[0.2, 0.1, 0, 0.4]]
        change = np.abs(variant / np.linalg.norm(variant) - seed / 5)
        squares = np.float64(np.float32(change)) ** 2
        assert measured(seed, variant, squares)["perturbation_correlation"] == pytest.approx(1, abs=1e-6)
        assert measured(seed, variant, (1 - change) ** 2)["perturbation_correlation"] == pytest.approx(-1, abs=1e-6)

    def test_the_perturbation_counts_by_the_mean_square_of_each_cell(self):
        squares = torch.zeros(1, 4, 4)
        squares[0, 0, 0], squares[0, 2, 2:], squares[0, 3, 2:] = 4.0, 1.0, 1.0
        assert local_rms(squares, (2, 2)).tolist() == [[[1.0, 0.0], [0.0, 1.0]]]

    def test_large_maps_are_averaged_down_to_56_along_each_long_side(self):
        maps = torch.rand((2, 112, 14), generator=torch.Generator().manual_seed(0))
        expected = maps.double().view(2, 56, 2, 14).mean(2)
        torch.testing.assert_close(reduced(maps), expected)
        assert reduced(maps[:, :56]).tolist() == maps[:, :56].double().tolist()


@pytest.mark.parametrize("shape", [(1, 5), (7, 7), (9, 13), (14, 14), (56, 56), (57, 3), (60, 70), (112, 112)])
def test_every_measure_is_that_of_plain_numpy(shape):
    seeds, variants = random_maps((3, *shape)), random_maps((3, *shape), rng_seed=1)
    variants[1] = seeds[1] * 1.5 + 0.1 * variants[1]
    squares = torch.rand((3, 100, 90), dtype=torch.float64, generator=torch.Generator().manual_seed(2)) ** 8
    found = focus_change(seeds, variants, squares).T
    expected = [naive_measures(*each) for each in zip(seeds.numpy(), variants.numpy(), squares.numpy(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


class TestProperties:
    @pytest.fixture
    def squares(self):
        return torch.rand((4, 28, 28), dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def test_the_same_map_stays_where_it_is(self, squares):
        maps = random_maps((4, 9, 9))
        found = focus_change(maps, maps, squares)
        assert found[:4].tolist() == [[0.0] * 4, [0.0] * 4, [0.0] * 4, [1.0] * 4]
        assert found[4].isnan().all()

    @pytest.mark.parametrize("scale", [1e-30, 3.0, 1e20])
    def test_scale_does_not_matter(self, squares, scale):
        seeds, variants = random_maps((4, 9, 9)), random_maps((4, 9, 9), rng_seed=1)
        scaled = focus_change(seeds * scale, variants, squares)
        torch.testing.assert_close(scaled, focus_change(seeds, variants, squares), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(focus_change(seeds, variants * scale, squares), scaled, rtol=1e-5, atol=1e-6)
        # A map and a multiple of it differ by rounding alone: nothing to correlate.
        again = focus_change(seeds, seeds * scale, squares)
        torch.testing.assert_close(again[:4], focus_change(seeds, seeds, squares)[:4], rtol=0, atol=1e-6)
        assert again[4].isnan().all()

    @pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 3), (5, 4)])
    def test_a_blob_moves_the_centre_by_its_own_shift(self, squares, down, right):
        blob = random_maps((4, 5, 5), share=1.0)
        seeds, variants = torch.zeros(4, 14, 20), torch.zeros(4, 14, 20)
        seeds[:, 2:7, 3:8] = blob
        variants[:, 2 + down : 7 + down, 3 + right : 8 + right] = blob
        found = focus_change(seeds, variants, squares)
        expected = math.hypot(down / 14, right / 20)
        np.testing.assert_allclose(found[0], expected, rtol=1e-12)
        np.testing.assert_allclose(found[1:3], 0, atol=1e-12)

    def test_exchanging_seed_and_variant_turns_the_changes_around(self, squares):
        seeds, variants = random_maps((4, 9, 9)), random_maps((4, 9, 9), rng_seed=1)
        there, back = focus_change(seeds, variants, squares), focus_change(variants, seeds, squares)
        signs = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0], dtype=torch.float64)[:, None]
        torch.testing.assert_close(back, signs * there)

    def test_unrelated_maps_overlap_by_a_fifth(self):
        rng = np.random.default_rng(0)
        seeds, variants = (torch.from_numpy(rng.random((50, 20, 20))) for _ in range(2))
        overlap = focus_change(seeds, variants, torch.rand((50, 20, 20), generator=torch.Generator()))[3]
        assert overlap.mean() == pytest.approx(0.2, abs=0.01)

    def test_a_batch_is_its_maps_one_by_one(self, squares):
        seeds, variants = random_maps((4, 9, 9)), random_maps((4, 9, 9), rng_seed=1)
        one_by_one = [focus_change(seeds[i : i + 1], variants[i : i + 1], squares[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(torch.cat(one_by_one, 1), focus_change(seeds, variants, squares))

    def test_the_maps_are_left_alone(self, squares):
        seeds, variants = random_maps((4, 9, 9)), random_maps((4, 9, 9), rng_seed=1)
        before = [part.clone() for part in (seeds, variants, squares)]
        focus_change(seeds, variants, squares)
        assert all(torch.equal(*pair) for pair in zip(before, (seeds, variants, squares), strict=True))


class TestUndefined:
    @pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
    @pytest.mark.parametrize("side", [0, 1])
    def test_without_a_map_there_is_no_focus(self, value, side):
        maps = [random_maps((2, 6, 6)), random_maps((2, 6, 6), rng_seed=1)]
        if value == 0:
            maps[side][1] = 0
        else:
            maps[side][1, 2, 3] = value
        found = focus_change(*maps, torch.rand((2, 12, 12), generator=torch.Generator()))
        assert found[:, 1].isnan().all()
        assert found[:, 0].isfinite().all()

    def test_an_even_perturbation_has_no_place(self):
        found = measured(*random_maps((2, 6, 6)), np.full((6, 6), 0.01))
        assert math.isnan(found.pop("perturbation_correlation"))
        assert all(math.isfinite(value) for value in found.values())

    def test_nor_has_one_that_is_uneven_by_the_rounding_of_pixels(self):
        pixels = torch.rand((3, 24, 24), generator=torch.Generator().manual_seed(0)) * 0.8
        realised = perturbed(pixels, torch.full((3, 24, 24), 0.01)) - pixels
        squares = realised.double().square().mean(0)
        assert squares.std() > 0
        assert math.isnan(measured(*random_maps((2, 6, 6)), squares)["perturbation_correlation"])

    def test_a_map_that_changes_alike_everywhere(self):
        # At unit length (1, 0) becomes (0, 1): both cells change by 1.
        assert math.isnan(measured([[2, 0]], [[0, 7]], [[0.1, 0.2]])["perturbation_correlation"])

    def test_a_single_cell_stays_and_has_no_entropy(self):
        found = measured([[2]], [[7]], [[0.1]])
        assert [found[name] for name in ("centroid_shift", "spread_change", "top_overlap")] == [0, 0, 1]
        assert math.isnan(found["entropy_change"])
        assert math.isnan(found["perturbation_correlation"])

    def test_maps_of_different_shapes_are_refused(self):
        message = r"`seeds` and `variants` must have the same shape, got: \(1, 2, 2\) and \(1, 2, 3\)"
        with pytest.raises(ValueError, match=message):  # without the shape checker
            inspect.unwrap(focus_change)(torch.ones(1, 2, 2), torch.ones(1, 2, 3), torch.ones(1, 4, 4))


SIDE = 64
OPTIONS = {"strengths": (0.5, 1.0), "noise_ladder": (8.0,), "noise_draws": 2, "chunk_size": 4}


class TestTable:
    """A study whose first layer has more than 56 values along a side."""

    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls, tmp_path_factory):
        return write_images(tmp_path_factory.mktemp("photos"), 7)

    @pytest.fixture(scope="class")
    @classmethod
    def classifier(cls):
        return Classifier(TinyNet().eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIDE)

    @pytest.fixture(scope="class")
    @classmethod
    def study(cls, classifier, photos, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            skip_report(patch)
            return study_of(classifier, photos, tmp_path_factory.mktemp("study") / "run", **OPTIONS)

    def test_rows_are_those_of_similarity_at_the_studys_strengths_and_first_draw(self, study):
        assert study.focus.schema == FOCUS.schema
        rows = study.similarity.filter(pl.col("strength") <= 1, draw=0)
        keys = [*KEYS, "layer_label", "layer_index"]
        assert_frame_equal(study.focus.select(keys), rows.select(keys))
        # All of a seed's measures are defined where its similarity is.
        defined = rows["similarity"].is_not_null()
        for name in ("centroid_shift", "spread_change", "entropy_change", "top_overlap"):
            assert (study.focus[name].is_not_null() == defined).all()
        assert 0 < study.focus["centroid_shift"].null_count() < study.focus.height

    def test_values_are_those_of_maps_computed_one_by_one(self, study, classifier, photos):
        pixels = {p.name: read_image(p, size=SIDE, resize=SIDE).pixels for p in sorted(photos.iterdir())}
        names = list(pixels)[:4]
        clean_class = dict(study.seeds.select("seed_id", "clean_class").iter_rows())
        found = perturbations(ATTACK, classifier, {name: pixels[name] for name in names}, batch_size=2)
        found = {name: delta for name, delta in found.items() if delta is not None}
        assert len(found) >= 2
        rows = study.focus.filter(pl.col("seed_id").is_in(list(found)))
        assert rows["seed_id"].n_unique() == len(found)
        for (name, condition, strength, target), part in rows.group_by(*KEYS[:4]):
            delta = found[name]
            if condition == NOISE:
                delta = matched_noise(delta, rng_seed=0, seed_id=name, draw=0)
            image = perturbed(pixels[name], delta, strength)
            squares = (image - pixels[name]).double().square().mean(0).numpy()
            explained = "own" if target == "own" else clean_class[name]
            clean = camdrift.attribute(classifier, pixels[name][None], clean_class[name])
            moved = camdrift.attribute(classifier, image[None], explained)
            for row in part.iter_rows(named=True):
                maps = (clean[row["layer"]][0].numpy(), moved[row["layer"]][0].numpy())
                values = [np.nan if row[measure] is None else row[measure] for measure in FOCUS_MEASURES]
                np.testing.assert_allclose(values, naive_measures(*maps, squares), rtol=1e-3, atol=2e-3)

    @pytest.mark.parametrize("batch_size", [1, 5])
    def test_batch_size_changes_rounding_only(self, study, classifier, photos, tmp_path, batch_size):
        again = study_of(classifier, photos, tmp_path / "run", batch_size=batch_size, **OPTIONS)
        assert_frame_equal(again.focus, study.focus, rel_tol=1e-3, abs_tol=1e-3)

    def test_seeds_without_a_label_have_no_rows_for_it(self, photos, tmp_path):
        labels = [f"class {number}" for number in range(10)]
        model = Classifier(TinyNet().eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIDE, labels=labels)
        for number, path in enumerate(sorted(photos.iterdir())):
            folder = tmp_path / "sorted" / ("class_7" if number % 2 else ".")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
        options = {**OPTIONS, "targets": ("label", "own", "seed")}
        found = study_of(model, tmp_path / "sorted", tmp_path / "run", **options)
        rows = found.similarity.filter(pl.col("strength") <= 1, draw=0)
        assert_frame_equal(found.focus.select(KEYS), rows.select(KEYS))
        label = set(found.focus.filter(target="label")["seed_id"])
        assert label == set(found.seeds.filter(pl.col("label").is_not_null(), status="analysed")["seed_id"])
        assert 0 < len(label) < found.focus["seed_id"].n_unique()
        # The label is a class of its own: its maps are those of neither of the others.
        value = found.focus.filter(layer="last", condition=ADVERSARIAL, strength=1.0).pivot(
            "target", index="seed_id", values="centroid_shift"
        )
        assert (value["label"] != value["seed"]).any()
