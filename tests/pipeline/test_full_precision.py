"""Lower precision: its effect is measured on some seeds of every study, and said."""

import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import camdrift
from camdrift.pipeline.full_precision import FULL_SEEDS
from camdrift.statistics.rounding import rounding
from camdrift.tables.further import PRECISION
from camdrift.tables.study import SIMILARITY, VARIANTS
from support.studies import ATTACK, SMALL, draw_only, skip_report, study_of, tiny_classifier, write_images

KEYS = ["seed_id", "condition", "strength", "draw", "target", "explanation", "metric", "layer"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("precision") / "images", 12)


@pytest.fixture(scope="module")
def study(images, tmp_path_factory):
    """In bfloat16, four chunks of three images."""
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return study_of(tiny_classifier(precision="bf16"), images, tmp_path_factory.mktemp("bf16") / "run", **SMALL)


class TestTable:
    def test_every_chunk_gives_its_share(self, study, images, tmp_path, monkeypatch):
        """Eight of the first chunk, four of the second and so on, as far as they have so many."""
        analysed = study.seeds.filter(status="analysed")["seed_id"].to_list()
        chunks = [study.seeds["seed_id"].to_list()[start : start + 3] for start in range(0, 12, 3)]
        shares = [-(-FULL_SEEDS // number) for number in range(1, 5)]
        expected = [s for chunk, n in zip(chunks, shares, strict=True) for s in [s for s in chunk if s in analysed][:n]]
        assert study.precision["seed_id"].unique(maintain_order=True).to_list() == expected
        assert study.precision.select(KEYS).equals(
            study.similarity.filter(pl.col("seed_id").is_in(expected)).select(KEYS)
        )

    def test_it_holds_what_float32_makes_of_the_same_images(self, images, tmp_path, monkeypatch):
        """With adversarial images from files: other photographs, which are predicted otherwise."""
        skip_report(monkeypatch)
        files = sorted(images.iterdir())
        (tmp_path / "adversarial").mkdir()
        for file, other in zip(files, reversed(files), strict=True):
            shutil.copyfile(other, tmp_path / "adversarial" / file.name)
        options = {**SMALL, "adversarial": tmp_path / "adversarial"}
        study, full = (
            camdrift.run(tiny_classifier(precision=name), images, out=tmp_path / name, **options)
            for name in ("bf16", "fp32")
        )
        seeds = study.precision["seed_id"].unique().to_list()
        assert len(seeds) >= FULL_SEEDS // 2
        assert_frame_equal(study.precision, full.similarity.filter(pl.col("seed_id").is_in(seeds)), abs_tol=1e-6)
        assert not study.precision.equals(study.similarity.filter(pl.col("seed_id").is_in(seeds)))

    def test_in_float32_there_is_none(self, images, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        study = study_of(tiny_classifier(), images, tmp_path / "run", limit=3, **SMALL)
        assert not (study.path / "precision.parquet").exists()


class TestRounding:
    def rows(self, values, condition="adversarial", strength=1.0, target="seed"):
        """Similarities by seed and layer."""
        names = ["a", "b", "c"]
        return SIMILARITY.frame(
            [
                {
                    "seed_id": seed, "condition": condition, "strength": strength, "draw": 0, "target": target,
                    "explanation": "gradcam", "metric": "cosine", "layer": name, "layer_label": name,
                    "layer_index": names.index(name), "similarity": value,
                }
                for seed, of_seed in values.items()
                for name, value in zip(names, of_seed, strict=True)
            ]
        )  # fmt: skip

    def study(self, attacked, noisy):
        """Noise at strengths 1 and 4; all perturbations as long as their strength."""
        similarity = pl.concat(
            [self.rows(attacked)]
            + [self.rows(values, "noise", strength) for strength, values in zip((1.0, 4.0), noisy, strict=True)]
        )
        variants = VARIANTS.frame(
            [
                {"seed_id": seed, "condition": condition, "strength": s, "draw": 0, "realised_l2": s}
                for seed in attacked
                for condition, s in (("adversarial", 1.0), ("noise", 1.0), ("noise", 4.0))
            ]
        )
        return similarity, variants

    def test_by_hand(self):
        """Two seeds of three layers; in float32 layers a and b change places."""
        noise = ({"x": [0.99, 0.99, 0.99], "y": [0.99, 0.99, 0.99]}, {"x": [0.8, 0.8, 0.8], "y": [0.8, 0.8, 0.8]})
        low, variants = self.study({"x": [0.9, 0.92, 0.95], "y": [0.9, 0.92, 0.95]}, noise)
        full, _ = self.study({"x": [0.93, 0.92, 0.95], "y": [0.93, None, 0.95]}, noise)
        more = self.rows({"z": [0.0, 0.5, 1.0]})  # computed once only
        found = rounding(pl.concat([low, more]), full, variants)
        assert (found.n_seeds, found.n, found.n_lone) == (2, 17, 1)
        assert found.mean_change == pytest.approx((0.03 + 0.03) / 17)
        assert found.largest_change == pytest.approx(0.03)
        (row,) = found.ranks.rows(named=True)
        assert (row["target"], row["strength"], row["n_layers"], row["largest_move"]) == ("seed", 1.0, 3, 1)
        assert row["kendall_tau"] == pytest.approx(1 / 3)  # two of three pairs agree

    def test_the_same_numbers_cost_nothing(self, study):
        same = PRECISION.frame(study.similarity.to_dict())
        found = rounding(study.similarity, same, study.variants)
        assert (found.mean_change, found.largest_change, found.n_lone) == (0.0, 0.0, 0)
        assert set(found.ranks["kendall_tau"]) == {1.0}
        assert set(found.ranks["largest_move"]) == {0}

    def test_bfloat16_costs_something_but_little(self, study):
        found = rounding(study.similarity, study.precision, study.variants)
        assert 1e-5 < found.mean_change < 0.02


def test_summary_and_report_say_it(study, monkeypatch):
    draw_only(monkeypatch)
    found = rounding(study.similarity, study.precision, study.variants)
    text = study.summary()
    seeds, change = found.n_seeds, f"{found.mean_change:.2g}"
    said = f"In bf16 the similarities of {seeds} images, computed again in float32, differ by {change} on average"
    assert said in text
    assert "no layer's rank by gain changes by more than" in text
    assert said in study.report().read_text()


def test_it_resumes(images, study, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    classifier, out = tiny_classifier(precision="bf16"), tmp_path / "run"

    def stop(progress):
        if progress.stage == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study_of(classifier, images, out, on_progress=stop, **SMALL)
    again = study_of(classifier, images, out, resume=True, **SMALL)
    assert again.precision.equals(study.precision)
    with pytest.raises(camdrift.StoreError, match="precision was bf16, now fp32"):
        study_of(tiny_classifier(), images, out, resume=True, attack=ATTACK, **SMALL)
