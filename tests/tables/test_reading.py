"""Tables read piece by piece: every piece holds whole seeds or whole values, and nothing that is said changes."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import camdrift
from camdrift.errors import StoreError, UserError
from camdrift.figures.scope import scope_of
from camdrift.report.data import study_data
from camdrift.report.page.assets import script_json
from camdrift.report.page.rendering import render
from camdrift.report.pictures import picture_data
from camdrift.statistics.controls import study_controls
from camdrift.statistics.dose import dose_response
from camdrift.statistics.focus import focus_medians
from camdrift.statistics.layers import compromised_counts, layer_statistics
from camdrift.study.detect import readings
from camdrift.tables import reading as pieces
from camdrift.tables.measures import of_first_measure
from camdrift.tables.reading import Stored, by_seeds, by_values, distinct, scan
from camdrift.tables.study import FLOOR, SIMILARITY
from camdrift.tables.words import NOISE
from support import synthetic
from support.studies import SMALL, skip_report, study_of, write_factory, write_images
from support.study_tables import random_study

ROOT = Path(__file__).parents[2]
NAMES = ("b", "a, b", "'c'", "a", "\N{SNOWMAN}", "a/1.png", "10", "9")


@pytest.fixture
def tiny_pieces(monkeypatch):
    """Pieces of two or three seeds, one combination of values at a time."""
    monkeypatch.setattr(pieces, "MOST_ROWS", 40)


def stored(table, folder, name="table"):
    table.write_parquet(folder / f"{name}.parquet", row_group_size=25)
    return pl.scan_parquet(folder / f"{name}.parquet", glob=False)


def shuffled(n=200):
    rng = np.random.default_rng(0)
    return pl.DataFrame({"seed_id": rng.choice(NAMES, n), "strength": rng.choice([0.5, 1.0], n), "value": range(n)})


class TestPieces:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_every_seed_lies_whole_in_one_piece(self, tiny_pieces, tmp_path, lazy):
        table = shuffled()
        found = list(by_seeds(stored(table, tmp_path) if lazy else table, "seed_id", "value"))
        seeds = [set(piece["seed_id"]) for piece in found]
        assert len(found) > 2
        assert sum(map(len, seeds)) == len(set.union(*seeds)) == len(NAMES)
        for piece, its in zip(found, seeds, strict=True):
            expected = table.filter(pl.col("seed_id").is_in(its)).select("seed_id", "value")
            assert_frame_equal(piece, expected)

    def test_a_small_table_is_one_piece(self):
        (piece,) = by_seeds(shuffled())
        assert_frame_equal(piece, shuffled())
        (piece,) = by_values(shuffled().lazy(), "strength")
        assert_frame_equal(piece, shuffled())

    def test_every_value_has_a_piece_of_its_own(self, tiny_pieces, tmp_path):
        table = shuffled()
        found = list(by_values(stored(table, tmp_path), "strength", "seed_id"))
        assert len(found) == len(NAMES) * 2
        for piece in found:
            strength, seed_id, _ = piece.select("strength", "seed_id", "value").row(0)
            assert_frame_equal(piece, table.filter(strength=strength, seed_id=seed_id))

    def test_values_come_in_the_order_in_which_they_are_first_seen(self, tmp_path):
        table = shuffled()
        expected = table.select("seed_id", "strength").unique(maintain_order=True)
        assert_frame_equal(distinct(stored(table, tmp_path), "seed_id", "strength"), expected)
        assert_frame_equal(distinct(table, "seed_id", "strength"), expected)

    def test_tables_are_read_when_they_are_asked_for(self, tmp_path):
        tables = Stored({"one": stored(shuffled(), tmp_path, "one"), "two": stored(shuffled(), tmp_path, "two")})
        (tmp_path / "two.parquet").unlink()
        assert (list(tables), len(tables)) == (["one", "two"], 2)
        assert "two" in tables
        assert {"one", "two"} <= tables.keys()
        assert "three" not in tables
        assert tables["one"] is tables["one"]
        assert scan(tables, "one").select(pl.len()).collect().item() == 200
        with pytest.raises(StoreError, match="a table cannot be read: "):
            tables["two"]


def exactly(found, expected):
    assert_frame_equal(found, expected, check_exact=True)


class TestSameNumbers:
    """In pieces from a file as at once from memory, to the last digit."""

    @pytest.fixture
    def tables(self):
        similarity, variants = random_study(20, 4, n_draws=2, undefined=0.1)
        measured = {"explanation": pl.lit("gradcam"), "metric": pl.lit("cosine")}
        first = similarity.with_columns(**measured)
        second = first.with_columns(metric=pl.lit("pearson"), similarity=pl.col("similarity") ** 2)
        both = pl.concat([first, second]).sort("seed_id", maintain_order=True)
        rng = np.random.default_rng(1)
        flips = variants.with_columns(is_flipped=pl.Series(rng.random(variants.height) < 0.5))
        seeds = sorted(set(first["seed_id"]))
        floor = first.select("seed_id", "target", "explanation", "metric", "layer", "similarity").unique(
            ["seed_id", "target", "layer"], keep="first", maintain_order=True
        )
        floor = FLOOR.frame(floor.with_columns(other_seed_id=pl.lit(seeds[0])).to_dict())
        names = pl.DataFrame({"seed_id": seeds, "sha256": [f"{i:02d}" for i in range(20)]})
        return {"similarity": both, "variants": flips, "floor": floor, "seeds": names}

    @pytest.fixture
    def scanned(self, tables, tmp_path):
        return Stored({name: stored(table, tmp_path, name) for name, table in tables.items()})

    def results(self, tables):
        similarity, floor = scan(tables, "similarity"), scan(tables, "floor")
        options = {"rng_seed": 3, "n_bootstrap": 60}
        layers = layer_statistics(similarity, tables["variants"], floor, **options)
        first = of_first_measure(tables)
        return {
            "layers": layers,
            "counts": compromised_counts(similarity, layers),
            "controls": study_controls(first, **options),
            "dose": dose_response(scan(first, "similarity"), tables["variants"]),
            "images": readings("attack", first).images,
        }

    def test_statistics_controls_and_detectors(self, tables, scanned, monkeypatch):
        expected = self.results(tables)
        monkeypatch.setattr(pieces, "MOST_ROWS", 300)
        found = self.results(scanned)
        assert expected["layers"]["metric"].unique().sort().to_list() == ["cosine", "pearson"]
        assert expected["controls"]["control"].n_unique() == 5
        for name in ("layers", "counts", "controls", "dose"):
            exactly(found[name], expected[name])
        for key, images in expected["images"].items():
            for part in ("features", "conditions", "strengths", "seeds"):
                np.testing.assert_array_equal(getattr(found["images"][key], part), getattr(images, part))

    def test_two_rows_for_one_cell_are_refused_across_pieces(self, tables, tiny_pieces):
        similarity = tables["similarity"].filter(metric="cosine")
        twice = pl.concat([similarity, similarity.tail(1)])
        with pytest.raises(ValueError, match="must have one row per cell, got: "):
            layer_statistics(twice, tables["variants"], tables["floor"], rng_seed=0, n_bootstrap=2)
        assert (
            layer_statistics(similarity, tables["variants"], tables["floor"], rng_seed=0, n_bootstrap=2)["n"].sum() > 0
        )

    def test_the_page(self, tmp_path, monkeypatch):
        made = synthetic.study(("one", "two"), strengths=(0.5, 1.0), analysed=6, draws=2, gallery_seeds=2)
        similarity = made.tables["similarity"].with_columns(
            undefined_reason=pl.when(pl.col("similarity").is_null()).then(pl.lit("zero_map_variant"))
        )
        tables = {**made.tables, "similarity": similarity}
        expected = render(of_first_measure(tables), made.record, made.gallery)
        files = Stored({name: stored(table, tmp_path, name) for name, table in tables.items()})
        monkeypatch.setattr(pieces, "MOST_ROWS", 10)
        found = render(of_first_measure(files), made.record, made.gallery)
        assert "similarities are undefined (zero_map_variant" in found
        assert found == expected
        exactly(focus_medians(scan(files, "focus")), focus_medians(scan(tables, "focus")))


def test_a_page_of_many_seeds_is_bounded(monkeypatch):
    """With pictures and numbers of as many seeds as fit, and no more."""
    most = 250_000
    made = synthetic.study(synthetic.EFFICIENTNET, analysed=40, gallery_seeds=40)
    assert len(render(made.tables, made.record, made.gallery)) < 10e6
    for key, value in list(made.gallery.items()):
        if key.rpartition("/")[2] in ("clean", "perturbation", "noise"):
            made.gallery[key] = value[:4, :4]
        if "/map/" in key:
            made.gallery[key] = value[..., :2, :2]
    monkeypatch.setattr("camdrift.report.pictures.MOST_BYTES", most)
    scope = scope_of(made.tables, made.record)
    shown, pictures = picture_data(made.gallery, scope.indices)
    data = study_data(made.tables, made.record, scope, shown)
    without = study_data(made.tables, made.record, scope, [])
    size = len(script_json(pictures)) + len(script_json(data)) - len(script_json(without))
    assert 2 < len(shown) < 40
    assert 0.5 * most < size < 1.1 * most


class TestStudy:
    @pytest.fixture
    def study(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            skip_report(patch)
            classifier = camdrift.load_model(write_factory(tmp_path))
            return study_of(classifier, write_images(tmp_path / "photos", 3), tmp_path / "run", **SMALL)

    def test_scan_is_the_table_not_read_yet(self, study):
        rows = study.scan("similarity").filter(pl.col("condition") == NOISE).select("seed_id", "similarity").collect()
        assert_frame_equal(rows, study.similarity.filter(condition=NOISE).select("seed_id", "similarity"))

    def test_scan_names_the_tables_that_there_are(self, study):
        with pytest.raises(UserError, match=r"`table` must be one of seeds, variants, .*, got: similarities$"):
            study.scan("similarities")
        with pytest.raises(StoreError, match=r"claims\.parquet is missing"):
            study.scan("claims")

    def test_rows_that_cannot_be_read_are_told_in_one_line(self, study):
        path = study.path / "similarity.parquet"
        whole = path.read_bytes()
        assert SIMILARITY.schema == pl.read_parquet_schema(path)
        path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
        record = json.loads((study.path / "run.json").read_text())
        (study.path / "run.json").write_text(json.dumps({**record, "files": None}))  # or its checksum would tell first
        again = camdrift.open(study.path)
        assert again.scan("similarity").collect_schema() == SIMILARITY.schema
        with pytest.raises(StoreError, match=r"cannot be read: \S.*") as caught:
            again.report()
        assert "\n" not in caught.value.message

    def test_a_table_over_which_polars_panics_is_told_in_one_line(self, study, monkeypatch):
        def panic(*_, **__):
            raise pl.exceptions.PanicException("assertion failed: offset + length <= self.length\nstack")

        monkeypatch.setattr(pl.LazyFrame, "collect", panic)
        with pytest.raises(StoreError) as caught:
            study.report()
        assert re.fullmatch(
            r".*cannot be read: assertion failed: offset \+ length <= self\.length", caught.value.message
        )


MEASURE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import made_study
from pathlib import Path
run = Path(sys.argv[2])
import camdrift
from camdrift.statistics.controls import study_controls
from camdrift.tables.measures import of_first_measure
from camdrift.tables.reading import scan
from camdrift.report.page.rendering import render
from camdrift.statistics.layers import compromised_counts, layer_statistics
from camdrift.storage.run_directory import RunDirectory
directory = RunDirectory.open(run)
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
before = peak()
tables = directory.stored_tables("similarity", "variants", "floor")
layers = layer_statistics(scan(tables, "similarity"), tables["variants"], scan(tables, "floor"), rng_seed=0)
directory.write_table("layers", layers)
directory.write_table("counts", compromised_counts(scan(tables, "similarity"), layers))
directory.write_table("controls", study_controls(of_first_measure(tables), rng_seed=0))
made_study.complete(run)
study = camdrift.open(run)
page = render(study._tables, study.record, {})
problems = camdrift.verify(run, sample=0).problems
print(json.dumps({"before": before, "peak": peak(), "page": len(page), "problems": problems}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_and_page_stay_flat(tmp_path, monkeypatch):
    """0.6 and 2.5 million similarity rows: four times the rows, hardly more memory and the same page."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    made_study = importlib.import_module("made_study")

    def measured(seeds):
        run = tmp_path / f"{seeds}"
        made_study.make(run, seeds, 24)
        made_study.merge(run)
        arguments = [sys.executable, "-c", MEASURE, str(ROOT / "benchmarks"), str(run)]
        return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)

    small, large = measured(500), measured(2000)
    assert small["problems"] == large["problems"] == []
    assert large["peak"] < small["peak"] + 150
    assert large["peak"] < 1100
    assert large["page"] < 1.05 * small["page"]
