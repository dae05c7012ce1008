"""A comparison's first sentence and pictures: who stands the attack better, where it takes hold, on the same photo."""

import re

import numpy as np
import polars as pl
import pytest
from PIL import Image

from camdrift.comparison.photos import side_photos
from camdrift.comparison.sides import sides_of
from camdrift.figures.sides import compared_sides
from camdrift.report.photos import first_layers, photo_rows
from camdrift.report.standing import comparison_headline, outcome_sentences
from camdrift.statistics.estimates import paired_shares, wilson_interval
from camdrift.study.study import open_study
from camdrift.tables.comparison import COMPARISON_TABLES
from camdrift.tables.words import ADVERSARIAL
from support.comparisons import random_run
from support.pages import plain
from support.synthetic import gallery_of

LABELS = ("stem", "block1.a", "block1.b", "block2.a", "block2.b")


def tables_of(*sides, gains=None, fooled=(9, 9)):
    """Tables of two sides of 20 images, told by name, model, attack and successes."""
    rows, profiles, flips = [], [], []
    for place, (name, model, attack, hits) in enumerate(sides):
        low, high = (float(end[0]) for end in wilson_interval(np.array([hits]), np.array([20])))
        rows.append({"side": name, "run": name, "model": model, "attack": attack, "explanation": name.split(", ")[-1]}
                    | {"n_attacked": 20, "n_analysed": hits, "success": hits / 20, "success_low": low}
                    | {"success_high": high, "metric": "cosine"})  # fmt: skip
        for strength, k in zip((0.5, 1.0), (fooled[place % 2], hits), strict=True):
            common = {"side": name, "strength": strength}
            flips.append(common | {"condition": ADVERSARIAL, "draw": 0, "n": hits, "flipped": k})
            order = (gains or {}).get(name, (1, 2, 3, 4, 5))
            for i, (label, gain) in enumerate(zip(LABELS, order, strict=True)):
                rank = 1 + sum(other > gain for other in order)
                ends = {"rank_low": rank, "rank_high": rank} if max(order) < 9 else {"rank_low": 1, "rank_high": 5}
                profiles.append(common | {"target": "seed", "layer": label, "layer_label": label, "layer_index": i}
                                | {"relative_depth": i / 4, "gain": float(gain), "rank": rank, **ends})  # fmt: skip
    made = {"sides": rows, "profiles": profiles, "flips": flips}
    return {name: table.frame(made.get(name)) for name, table in COMPARISON_TABLES.items()}


@pytest.mark.parametrize(
    ("sides", "gains", "sentence"),
    [
        (
            [("a, gradcam", "a", "pgd", 19), ("b, gradcam", "b", "pgd", 4)],
            {},
            "b stands the attack better: it is fooled on 4 of 20 images, a on 19 of 20 images; the attack takes hold "
            "in the last block, in a and b alike",
        ),
        (
            [("a, gradcam", "a", "pgd", 17), ("b, gradcam", "b", "pgd", 15)],
            {"a, gradcam": (1, 5, 2, 3, 4)},
            "Whether b or a stands the attack better cannot be told: b is fooled on 15 of 20 images, a on 17 of 20 "
            "images; the attack takes hold in the first block in a and in the last block in b",
        ),
        (
            [("pgd", "a", "pgd(steps=10)", 19), ("fgsm", "a", "fgsm", 3)],
            {"pgd": (9, 1, 2, 3, 4)},
            "pgd fools the network more: on 19 of 20 images, fgsm on 3 of 20 images; the attack takes hold in the last "
            "block under fgsm (under pgd it cannot be told where)",
        ),
        (
            [("gradcam", "a", "pgd", 17), ("hirescam", "a", "pgd", 17)],
            {"hirescam": (5, 1, 2, 3, 4)},
            "The same attack takes hold in the last block by gradcam and in the first layer by hirescam",
        ),
        (
            [("gradcam", "a", "pgd", 17), ("hirescam", "a", "pgd", 17), ("layercam", "a", "pgd", 17)],
            {},
            "The same attack, seen in 3 ways",
        ),
        (
            # Networks under different attacks: neither can be said to stand more.
            [("a, fgsm", "a", "fgsm", 2), ("a, pgd", "a", "pgd", 19), ("b, pgd", "b", "pgd", 9)],
            {},
            "The fewest images are fooled in \u201ca, fgsm\u201d, 2 of 20 images, the most in \u201ca, pgd\u201d, 19 "
            "of 20 images",
        ),
        (
            [("pgd(eps=4/255, steps=5)", "a", "p4", 4), ("pgd(eps=8/255, steps=9)", "a", "p8", 19)],
            {"pgd(eps=4/255, steps=5)": (0.1, 0.2, 0.3, 0.4, 0.5)},
            "pgd(eps=8/255, steps=9) fools the network more: on 19 of 20 images, pgd(eps=4/255, steps=5) on 4 of 20 "
            "images; the attack takes hold in no layer under pgd(eps=4/255, steps=5) and in the last block under "
            "pgd(eps=8/255, steps=9)",
        ),
    ],
)
def test_the_sentence_says_who_stands_it_better_and_where(sides, gains, sentence):
    assert comparison_headline(tables_of(*sides, gains=gains)) == sentence


def with_outcomes(tables, both, only_a, only_b, neither):
    """The tables with the outcome of their two sides on the same images."""
    a, b = tables["sides"]["side"]
    n = both + only_a + only_b + neither
    change = paired_shares(both, only_a, only_b, neither)
    row = {"side_a": a, "side_b": b, "n": n, "both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    row |= {"share_a": (both + only_a) / n, "share_b": (both + only_b) / n, "difference": change.difference}
    row |= {"difference_low": change.low, "difference_high": change.high, "p": change.p}
    return tables | {"outcomes": COMPARISON_TABLES["outcomes"].frame([row])}


@pytest.mark.parametrize(
    ("counts", "sides", "beginning"),
    [
        # Six images are fooled in a alone, p = 2 / 2^6, though the intervals of 17 and 11 of 20 overlap.
        ((11, 6, 0, 3), "ab", "b stands the attack better: of the same 20 images it is fooled on 11, a on 17;"),
        (
            (10, 7, 2, 1),
            "ab",
            "Whether b or a stands the attack better cannot be told: of the same 20 images b is fooled on 12, a on 17;",
        ),
        ((11, 6, 0, 3), "pf", "p fools the network more: of the same 20 images on 17, f on 11;"),
        (
            (10, 7, 2, 1),
            "pf",
            "Whether p or f fools the network more cannot be told: of the same 20 images p fools it on 17, f on 12;",
        ),
    ],
)
def test_the_same_images_decide_by_a_paired_test(counts, sides, beginning):
    hits = (counts[0] + counts[1], counts[0] + counts[2])
    is_of_attacks = sides == "pf"
    rows = [
        (s, "a" if is_of_attacks else s, s if is_of_attacks else "pgd", h) for s, h in zip(sides, hits, strict=True)
    ]
    assert comparison_headline(with_outcomes(tables_of(*rows), *counts)).startswith(beginning)


def test_the_shares_on_the_same_images_and_their_difference_are_told():
    tables = tables_of(("a", "a", "pgd", 19), ("b", "b", "pgd", 4))
    assert outcome_sentences(tables) == []
    (sentence,) = outcome_sentences(with_outcomes(tables, 4, 15, 0, 1))
    assert plain(sentence) == (
        "On the 20 images that both runs attacked, the attack succeeds on 95 % in a and on 20 % in b, a difference of "
        "-75 [-88, -46] percentage points: 15 fooled in a alone, 0 in b alone (McNemar's exact test, p < 0.001)."
    )


def test_of_several_runs_those_furthest_apart_must_pass_a_stricter_test():
    """Six images alone in a: p = 2 / 2^6 = 0.03, three times as much among the pairs of three runs."""
    tables = with_outcomes(tables_of(("a", "a", "pgd", 17), ("b", "b", "pgd", 11)), 11, 6, 0, 3)
    third = tables["sides"].head(1).with_columns(side=pl.lit("c"), run=pl.lit("c"), model=pl.lit("c"), success=0.7)
    more = tables | {"sides": pl.concat([tables["sides"], third])}
    more["profiles"] = pl.concat(
        [tables["profiles"], tables["profiles"].filter(side="a").with_columns(side=pl.lit("c"))]
    )
    assert comparison_headline(more).startswith("Whether b or a stands the attack better cannot be told")


def test_the_strength_is_the_lowest_at_which_half_of_every_side_still_fool():
    sides = [("a", "a", "pgd", 18), ("b", "b", "pgd", 18)]
    assert compared_sides(tables_of(*sides, fooled=(9, 9))).reference == 0.5
    assert compared_sides(tables_of(*sides, fooled=(9, 8))).reference == 1.0


def test_the_layer_of_a_side_is_the_one_of_first_rank():
    tables = tables_of(("a", "a", "pgd", 18), ("b", "b", "pgd", 18), gains={"b": (1, 5, 2, 3, 4)})
    assert {side: row["layer"] for side, row in first_layers(tables).items()} == {"a": "block2.b", "b": "block1.a"}
    blank = tables["profiles"].with_columns(rank=pl.lit(None, pl.Int64))
    assert [row["layer"] for row in first_layers({**tables, "profiles": blank}).values()] == ["block2.b", "block1.a"]


class TestPhotos:
    @pytest.fixture
    def runs(self, tmp_path):
        folders = [random_run(tmp_path / name, attack=name, rng_seed=i) for i, name in enumerate("xy")]
        for i, folder in enumerate(folders):
            strengths, targets = (0.5, 1.0), ("own", "seed")
            arrays = gallery_of(["s01", f"s0{3 + i}"], strengths=strengths, targets=targets, layers=5)
            np.savez(folder / "gallery.npz", **arrays)
        return [open_study(folder) for folder in folders]

    def test_are_of_the_same_image_in_all_sides(self, runs):
        sides = sides_of(runs)
        tables = tables_of(*((side.name, "a", side.name, 8) for side in sides), fooled=(8, 8))
        profiles = tables["profiles"].with_columns(layer=pl.concat_str(pl.lit("l"), "layer_index"))
        photos = side_photos(sides, {**tables, "profiles": profiles})
        assert [(photo.side, photo.seed_id, photo.layer) for photo in photos] == [
            ("x", "s01", "block2.b"),
            ("y", "s01", "block2.b"),
        ]
        with runs[0].open_gallery() as gallery:
            clean, delta = gallery["0/clean"] / 255, gallery["0/perturbation"] / 127 * gallery["0/peaks"][0]
            expected = (255 * np.clip(clean + 0.5 * delta, 0, 1)).round()
            np.testing.assert_array_equal(photos[0].attacked, expected.astype(np.uint8))
            np.testing.assert_array_equal(photos[0].maps[1], gallery["0/map/4"][1, 1])  # target seed, strength 0.5
        (row, _) = photo_rows(photos)
        assert all(re.match("data:image/webp;base64,", picture) for picture in (row["clean"], *row["maps"]))
        # Cold places of a map leave the photo as it is.
        cold = Image.new("L", (7, 7), 0)
        photos[0].maps[0] = np.asarray(cold)
        row = photo_rows(photos)[0]
        assert (row["maps"][0], row["are_zero"]) == (row["clean"], [True, False])

    def test_are_of_an_image_that_is_fooled_where_there_is_one(self, tmp_path):
        """The first image of both galleries is fooled in neither side, the second in both, the third in one."""
        flips = {"x": (False, True, True), "y": (False, True, False)}
        for name, flags in flips.items():
            folder = random_run(tmp_path / name, attack=name, rng_seed=1)
            ids = ["s01", "s02", "s03"]
            np.savez(folder / "gallery.npz", **gallery_of(ids, strengths=(0.5, 1.0), targets=("own",), layers=5))
            path = folder / "variants.parquet"
            is_one = {seed_id: pl.col("seed_id") == seed_id for seed_id in ids}
            flag = pl.coalesce(pl.when(is_one[i]).then(pl.lit(flag)) for i, flag in zip(ids, flags, strict=True))
            pl.read_parquet(path).with_columns(is_flipped=flag.fill_null(pl.col("is_flipped"))).write_parquet(path)
        sides = sides_of([open_study(tmp_path / name) for name in flips])
        tables = tables_of(*((side.name, "a", side.name, 8) for side in sides), fooled=(8, 8))
        assert {photo.seed_id for photo in side_photos(sides, tables)} == {"s02"}

    def test_are_of_an_image_with_maps_where_there_is_one(self, runs):
        """Of two images in both galleries the first has maps that are zero in one side."""
        for run in runs:
            arrays = gallery_of(["s01", "s02"], strengths=(0.5, 1.0), targets=("own",), layers=5)
            if run is runs[1]:
                arrays |= {f"0/map/{i}": 0 * arrays[f"0/map/{i}"] for i in range(5)}
            np.savez(run.path / "gallery.npz", **arrays)
            path = run.path / "variants.parquet"
            pl.read_parquet(path).with_columns(is_flipped=pl.lit(value=True)).write_parquet(path)
        sides = sides_of([open_study(run.path) for run in runs])
        tables = tables_of(*((side.name, "a", side.name, 8) for side in sides), fooled=(8, 8))
        tables["profiles"] = tables["profiles"].with_columns(target=pl.lit("own"))
        assert {photo.seed_id for photo in side_photos(sides, tables)} == {"s02"}

    def test_maps_are_those_of_the_explanation_whatever_the_metric(self, tmp_path):
        measures = [("gradcam", "cosine"), ("gradcam", "pearson"), ("hirescam", "cosine")]
        folder = random_run(tmp_path / "x", measures=measures)
        np.savez(folder / "gallery.npz", **gallery_of(["s01"], strengths=(0.5, 1.0), targets=("seed",), layers=5))
        sides = sides_of([open_study(folder)])
        tables = tables_of(*((side.name, "a", "x", 8) for side in sides), fooled=(8, 8))
        assert [len(photo.maps) for photo in side_photos(sides, tables)] == [2, 2, 0]

    def test_are_none_where_the_sides_show_no_image_in_common(self, runs):
        sides = sides_of(runs)
        with runs[1].open_gallery() as gallery:
            arrays = {key: gallery[key] for key in gallery} | {"seed_ids": np.array(["s05", "s06"])}
        np.savez(runs[1].path / "gallery.npz", **arrays)
        tables = tables_of(*((side.name, "a", side.name, 8) for side in sides), fooled=(8, 8))
        assert side_photos(sides, tables) == []
