"""Numbers that cannot be trusted say so: images that are there twice, thresholds of few seeds."""

import re
import shutil

import polars as pl
import pytest

from camdrift.figures.compromise import compromised_layers_figure, compromised_probability_figure
from camdrift.figures.scope import few_seeds, scope_of
from camdrift.figures.similarity import similarity_adversarial_figure
from camdrift.report.page.rendering import render
from camdrift.storage.integrity import repeated_images
from camdrift.tables.study import SEEDS
from support.studies import SMALL, draw_only, skip_report, study_of, tiny_classifier, write_images

CAUTION = "Caution: thresholds rest on as few as"


class TestRepeatedImages:
    def test_copies_are_told_with_the_first(self):
        names = [("a", "1"), ("b", "2"), ("c", "1"), ("d", None), ("e", None), ("f", "1")]
        seeds = SEEDS.frame([{"seed_id": name, "sha256": checksum, "status": "analysed"} for name, checksum in names])
        (warning,) = repeated_images(seeds)
        assert warning.startswith("2 of 4 seed images repeat another one (first: c is a)")
        assert repeated_images(seeds.head(2)) == []

    def test_console_record_and_report_have_the_warning(self, tmp_path, monkeypatch):
        draw_only(monkeypatch)
        images = write_images(tmp_path / "images", 5)
        shutil.copyfile(images / "img_01.png", images / "img_03.png")
        seen = []
        study = study_of(tiny_classifier(), images, tmp_path / "run", **SMALL, on_progress=seen.append)
        warning = "1 of 5 seed images repeat another one (first: img_03.png is img_01.png)"
        (shown,) = [text for progress in seen for text in progress.warnings if "repeat" in text]
        assert shown.startswith(warning)
        assert study.record["preflight"]["warnings"] == [shown]
        assert study.record["preflight"]["n"] == 5
        assert warning in (study.path / "report.html").read_text()

    def test_different_images_have_none(self, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        study = study_of(tiny_classifier(), write_images(tmp_path / "images", 3), tmp_path / "run", **SMALL)
        assert study.record["preflight"]["warnings"] == []


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Eighteen images, of which ten or more are analysed."""
    folder = tmp_path_factory.mktemp("few")
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return study_of(tiny_classifier(), write_images(folder / "images", 18), folder / "run", **SMALL)


class TestFewSeeds:
    def tables(self, study, n_noise, layers=None):
        """The study's tables as if (some) layers' thresholds were medians of so many noisy images."""
        chosen = pl.col("layer").is_in(layers) if layers else pl.lit(True)
        changed = study.layers.with_columns(n_noise=pl.when(chosen).then(n_noise).otherwise(50).cast(pl.Int64))
        return {**study._tables, "layers": changed}

    @pytest.mark.parametrize(("n_noise", "words"), [(10, ""), (9, f"{CAUTION} 9 images"), (1, f"{CAUTION} 1 image,")])
    def test_from_nine_down(self, study, n_noise, words):
        tables = self.tables(study, n_noise)
        text = few_seeds(tables, scope_of(tables, study.record))
        assert text.startswith(words)
        assert bool(text) == bool(words)

    def test_layers_are_counted(self, study):
        names = sorted(set(study.layers["layer"]))
        tables = self.tables(study, 4, names[:1])
        assert f"fewer than 10 in 1 of {len(names)} layers" in few_seeds(tables, scope_of(tables, study.record))

    def test_draws_are_no_seeds(self, study):
        tables = self.tables(study, 18)
        twice = tables["similarity"].with_columns(draw=pl.lit(1, dtype=pl.Int64))
        tables |= {"similarity": pl.concat([tables["similarity"], twice])}
        assert f"{CAUTION} 9 images" in few_seeds(tables, scope_of(tables, study.record))

    @pytest.mark.parametrize(
        "draw", [compromised_probability_figure, compromised_layers_figure, similarity_adversarial_figure]
    )
    def test_captions(self, study, draw):
        for n_noise, is_told in ((12, False), (5, True)):
            figure = draw(self.tables(study, n_noise), study.record)
            words = " ".join(" ".join(text.get_text().split()) for text in figure.texts)
            assert (CAUTION in words) == is_told

    def test_summary_and_report(self, study, tmp_path, monkeypatch):
        assert CAUTION not in study.summary()
        skip_report(monkeypatch)
        small = study_of(tiny_classifier(), write_images(tmp_path / "images", 5), tmp_path / "run", **SMALL)
        assert f"{CAUTION} " in small.summary()
        page = render(small._tables, small.record, {})
        assert len(re.findall(CAUTION, page)) >= 4
        assert CAUTION not in render(study._tables, study.record, {})
