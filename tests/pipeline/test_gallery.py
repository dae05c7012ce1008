"""Pictures kept for display: what is stored of a seed, under which keys, and of which seeds."""

import numpy as np
import polars as pl
import pytest
import torch

from camdrift.pipeline.gallery import (
    HeatmapCollector,
    deviations,
    header,
    numbered,
    picture_arrays,
    renumbered,
    share,
    spanning,
)
from camdrift.pipeline.receivers import TargetMaps
from camdrift.pipeline.settings import Settings
from camdrift.pipeline.variants import Variant, variant_batch
from camdrift.tables.study import SEEDS, SIMILARITY
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import perturbed


class TestPictures:
    def test_values_worked_by_hand(self):
        pixels = torch.tensor([[[0.0, 0.2]], [[0.5, 1.0]], [[0.1, 0.9]]])
        delta = torch.tensor([[[0.25, -0.5]], [[0.0, 0.125]], [[0.5, 0.1]]])
        arrays = picture_arrays(pixels, delta, torch.zeros(3, 1, 2))
        # One row of two pixels, red, green, blue each; 127 * 0.25 / 0.5 = 63.5 and 127 * 0.125 / 0.5 = 31.75.
        assert arrays["clean"].tolist() == [[[0, 128, 26], [51, 255, 230]]]
        assert arrays["perturbation"].tolist() == [[[64, 0, 127], [-127, 32, 25]]]
        assert arrays["noise"].tolist() == [[[0, 0, 0], [0, 0, 0]]]
        assert arrays["peaks"].tolist() == [0.5, 0.0]
        assert [arrays[key].dtype for key in arrays] == [np.uint8, np.int8, np.int8, np.float64]

    @pytest.mark.parametrize("strength", [0.25, 1.0, 4.0, 40.0])
    def test_every_variant_can_be_rebuilt_to_within_rounding(self, strength):
        generator = torch.Generator().manual_seed(5)
        pixels = torch.rand((3, 9, 7), generator=generator)
        added = [scale * torch.randn((3, 9, 7), generator=generator) for scale in (0.02, 0.03)]
        arrays = picture_arrays(pixels, *added)
        for name, difference, peak in zip(("perturbation", "noise"), added, arrays["peaks"], strict=True):
            rebuilt = np.clip(arrays["clean"] / 255 + strength * peak * arrays[name] / 127, 0, 1)
            exact = perturbed(pixels, difference, strength).permute(1, 2, 0).double().numpy()
            assert np.abs(rebuilt - exact).max() <= 1 / 510 + strength * peak / 254 + 1e-6


SETTINGS = Settings(strengths=(2.0, 0.5), targets=("own", "label", "seed"), noise_ladder=(8.0,), noise_draws=2)


def maps(*percents):
    """Maps of as many images, by layer: one value in so many per cent of the largest, which is 3 or 4."""
    values = torch.tensor(percents, dtype=torch.float32)[:, None, None] / 100
    one = torch.cat([values, torch.ones_like(values)], dim=2)
    return {"first": 3 * one, "second": 4 * one.transpose(1, 2)}


def collector(seeds, settings=SETTINGS, layers=("first", "second")):
    return HeatmapCollector(seeds, layers=layers, settings=settings)


def only(values):
    """What is stored of one map of a single seed, all variants alike."""
    heatmaps = collector(1, Settings(targets=("own",)), ["only"])
    heatmaps.add_clean(TargetMaps(({"only": values[None]},), (0,)))
    return heatmaps.arrays(0)["map/0"][0, 0]


def pictured(variants):
    """Some variants with images, which heatmaps do not look at."""
    return variant_batch(variants, torch.zeros(len(variants), 3, 2, 2), torch.zeros(len(variants), 3, 2, 2))


class TestHeatmaps:
    def test_clean_then_attack_then_noise_each_by_ascending_strength(self):
        """Every map has a value of its own: ten per target, and one per variant; the second seed's are 50 more."""
        heatmaps = collector(2)
        shared = maps(1, 51)
        heatmaps.add_clean(TargetMaps((shared, shared, maps(21, 71)), same_as=(0, 0, 2)))
        values = {(ADVERSARIAL, 0.5): 2, (ADVERSARIAL, 2.0): 3, (NOISE, 0.5): 4, (NOISE, 2.0): 5}
        for (condition, strength), value in reversed(values.items()):
            batch = [Variant(1, condition, strength), Variant(0, condition, strength)]
            parts = tuple(maps(value + 50 + 10 * t, value + 10 * t) for t in range(3))
            heatmaps.add_variants(pictured(batch), TargetMaps(parts, same_as=(0, 1, 2)))
        # Further draws and the strengths of the ladder have no place.
        for strength, draw in ((8.0, 0), (0.5, 1)):
            heatmaps.add_variants(pictured([Variant(0, NOISE, strength, draw)]), TargetMaps((maps(99),) * 3, (0, 0, 0)))
        expected = np.array([[1, 2, 3, 4, 5], [1, 12, 13, 14, 15], [21, 22, 23, 24, 25]])
        for position in range(2):
            arrays = heatmaps.arrays(position)
            assert list(arrays) == ["map/0", "map/1"]
            assert arrays["map/0"].shape == (3, 5, 1, 2)
            assert arrays["map/1"].shape == (3, 5, 2, 1)
            for array in arrays.values():
                assert array.dtype == np.uint8
                flat = array.reshape(3, 5, 2)
                assert (flat[..., 1] == 255).all()
                assert flat[..., 0].tolist() == np.round(2.55 * (expected + 50 * position)).tolist()

    def test_large_maps_are_averaged_down_then_scaled(self):
        values = torch.zeros(224, 100)
        values[0, 0], values[2:4, 5] = 4.0, 3.0  # pairs of rows: means 2 and 3
        stored = only(values)
        assert stored.shape == (112, 100)
        assert (stored[0, 0], stored[1, 5]) == (170, 255)  # 255 * 2 / 3
        assert stored.sum() == 170 + 255

    def test_maps_of_112_are_kept_as_they_are(self):
        values = torch.zeros(112, 112)
        values[3, 4], values[3, 5] = 1e-30, 5e-31
        stored = only(values)
        assert (stored.shape, stored[3, 4], stored[3, 5]) == ((112, 112), 255, 128)

    @pytest.mark.parametrize("odd", [0.0, float("nan"), float("inf")])
    def test_a_map_without_a_finite_maximum_is_black(self, odd):
        assert not only(torch.tensor([[odd, odd / 2], [0.0, 0.0]])).any()


def seeds_table(*names, statuses=None):
    return SEEDS.frame(
        [{"seed_id": n, "status": s} for n, s in zip(names, statuses or ["analysed"] * len(names), strict=True)]
    )


def similarity_rows(seed_id, values, *, condition=ADVERSARIAL, strength=1.0, target="seed"):
    common = {"seed_id": seed_id, "condition": condition, "strength": strength, "target": target}
    return [{**common, "layer": f"layer{i}", "similarity": value} for i, value in enumerate(values)]


def found(rows, seeds, **options):
    return deviations(seeds, SIMILARITY.frame(rows), settings=Settings(**options)).rows()


class TestDeviations:
    def test_mean_over_the_layers_that_have_a_similarity(self):
        rows = [*similarity_rows("b", [0.75, None, 0.25]), *similarity_rows("a", [1.0, 0.5, 0.75])]
        assert found(rows, seeds_table("a", "b")) == [("a", 0.25), ("b", 0.5)]

    def test_seeds_without_a_similarity_and_seeds_not_analysed(self):
        seeds = seeds_table("a", "b", "c", statuses=["analysed", "no_adversarial", "analysed"])
        assert found(similarity_rows("c", [None, None]), seeds) == [("a", None), ("c", None)]
        assert found([], seeds_table()) == []

    @pytest.mark.parametrize(
        ("strengths", "targets", "expected"),
        [
            ((0.5, 1.0, 4.0), ("own", "seed"), 0.125),
            ((0.5, 4.0), ("own", "seed"), 0.25),
            ((0.5, 1.0), ("label", "own"), 0.375),
            ((0.5, 1.0), ("own", "label"), 0.5),
        ],
    )
    def test_it_counts_the_attack_at_the_strength_nearest_to_one_under_seed_or_the_first_target(
        self, strengths, targets, expected
    ):
        rows = [
            *similarity_rows("a", [0.875]),
            *similarity_rows("a", [0.75], strength=0.5),
            *similarity_rows("a", [0.0], strength=4.0),
            *similarity_rows("a", [0.625], target="label"),
            *similarity_rows("a", [0.5], target="own"),
            *similarity_rows("a", [0.0], condition=NOISE),
        ]
        assert found(rows, seeds_table("a"), strengths=strengths, targets=targets) == [("a", expected)]

    def test_it_counts_the_attack_at_the_strength_that_is_asked_for(self):
        rows = [*similarity_rows("a", [0.875]), *similarity_rows("a", [0.75], strength=0.5)]
        settings = Settings(strengths=(0.5, 1.0))
        assert deviations(seeds_table("a"), SIMILARITY.frame(rows), settings=settings, strength=0.5).rows() == [
            ("a", 0.25)
        ]


def moved(values):
    """A table of deviations: seeds by name, or by letter in order."""
    named = values if isinstance(values, dict) else {chr(97 + i): v for i, v in enumerate(values)}
    table = {"seed_id": list(named), "deviation": list(named.values())}
    return pl.DataFrame(table, schema={"seed_id": pl.String, "deviation": pl.Float64})


# By rank: c 0.9, g 0.8, a 0.7, e 0.6, b 0.5, f 0.4, d 0.3
SEVEN = moved([0.7, 0.5, 0.9, 0.3, 0.6, 0.4, 0.8])


class TestSpanning:
    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (0, ""), (1, "e"), (2, "cd"), (3, "ced"), (4, "cabd"),
            (6, "cgabfd"),  # ranks 0, 1.2, 2.4, 3.6, 4.8, 6
            (7, "cgaebfd"), (8, "cgaebfd"), (None, "cgaebfd"),
        ],
    )  # fmt: skip
    def test_evenly_spaced_ranks_from_the_largest_to_the_smallest(self, count, expected):
        assert "".join(spanning(SEVEN, count)) == expected

    def test_one_of_an_even_number_is_the_larger_in_the_middle(self):
        assert spanning(moved([0.1, 0.4, 0.3, 0.2]), 1) == ["c"]
        assert spanning(moved([0.1]), 1) == ["a"]

    def test_seeds_alike_stay_in_order(self):
        assert spanning(moved([0.5, 0.7, 0.5, 0.5]), None) == ["b", "a", "c", "d"]
        assert spanning(moved([0.5] * 5), 3) == ["a", "c", "e"]

    def test_seeds_without_a_deviation_take_places_that_are_left(self):
        table = moved([None, 0.2, None, 0.4])
        assert [spanning(table, n) for n in (1, 2, 3, None)] == [["d"], ["d", "b"], ["d", "b", "a"], list("dbac")]
        assert spanning(moved([]), 5) == []

    def test_the_nearest_that_can_be_had(self):
        """Wanted are ranks 0, 3, 6; to be had are 0, 1, 4, 6, then 0, 2, 5, 6, then fewer than wanted."""
        assert "".join(spanning(SEVEN, 3, available="cgbd")) == "cbd"
        assert "".join(spanning(SEVEN, 3, available="cafd")) == "cad"
        assert "".join(spanning(SEVEN, 5, available="gcd")) == "cgd"
        assert spanning(moved([None, 0.2, None]), 3, available="bc") == ["b", "c"]


def test_a_chunk_keeps_twice_its_part():
    assert [share(24, chunks) for chunks in (1, 2, 4, 7, 16, 48, 1000)] == [24, 24, 12, 7, 3, 3, 3]
    assert [share(count, 5) for count in (0, 1, 2, 3, 10, None)] == [0, 1, 2, 3, 4, None]


def pictures(name):
    return {"clean": np.full(1, ord(name)), "map/0": np.full(2, ord(name)), "map/12": np.full(3, ord(name))}


def gallery(*names):
    """A gallery whose pictures are the seeds' letters."""
    arrays = header(names, SETTINGS)
    for place, name in enumerate(names):
        arrays |= numbered(place, pictures(name))
    return arrays


def through_chunks(values, count, size):
    """Names and arrays of the gallery of a study whose chunks have `size` seeds, all of them analysed."""
    chunks = [values[start : start + size] for start in range(0, len(values), size)]
    kept = [gallery(*spanning(chunk, share(count, len(chunks)))) for chunk in chunks]
    chosen = spanning(values, count, [name for part in kept for name in part["seed_ids"].tolist()])
    return chosen, dict(pair for part in kept for pair in renumbered(part, chosen))


class TestChunks:
    @pytest.mark.parametrize("count", [7, 20, None])
    @pytest.mark.parametrize("size", [1, 3, 4, 7])
    def test_a_gallery_of_all_seeds_does_not_depend_on_chunks(self, count, size):
        chosen, arrays = through_chunks(SEVEN, count, size)
        assert chosen == list("cgaebfd")
        assert len(arrays) == 7 * 3
        for place, name in enumerate(chosen):
            for key, value in pictures(name).items():
                assert arrays[f"{place}/{key}"].tolist() == value.tolist()

    @pytest.mark.parametrize("count", [2, 5, 12, 24])
    @pytest.mark.parametrize("size", [16, 32, 150])
    def test_a_gallery_of_some_spans_the_range_however_many_chunks(self, count, size):
        """600 seeds: the extremes are in it, and no rank between is off by more than a quarter of the seeds."""
        values = np.random.default_rng(0).permutation(600) / 600
        table = moved({f"{i}": float(v) for i, v in enumerate(values)})
        kept = [spanning(table[start : start + size], share(count, 600 // size)) for start in range(0, 600, size)]
        chosen = spanning(table, count, [name for part in kept for name in part])
        ranks = np.array([599 - round(600 * values[int(name)]) for name in chosen])
        assert (np.diff(ranks) > 0).all()
        assert (ranks[0], ranks[-1], len(ranks)) == (0, 599, count)
        assert np.abs(ranks - np.linspace(0, 599, count)).max() < 600 / 4


def test_what_a_gallery_says_of_the_study():
    arrays = header(["b", "a"], SETTINGS)
    assert {key: value.tolist() for key, value in arrays.items()} == {
        "seed_ids": ["b", "a"], "strengths": [0.5, 2.0], "targets": ["own", "label", "seed"]
    }  # fmt: skip
    assert header([], SETTINGS)["seed_ids"].dtype.kind == "U"
