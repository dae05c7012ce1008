"""Broken files, hostile names, models that fail now and then: a study goes on, and says what it left out."""

import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal

import camdrift
from camdrift.models.classifier import Classifier
from support.studies import (
    SIZE,
    SMALL,
    TinyNet,
    draw_only,
    listing,
    picture,
    skip_report,
    study_of,
    tiny_classifier,
    write_images,
)

QUICK = {**SMALL, "chunk_size": 0}
MEASURED = [
    "adversarial_class", "adversarial_probability", "iterations", "perturbation_mean", "perturbation_std",
    "perturbation_l2", "perturbation_linf", "relative_l2", "noise_mean", "noise_std", "survives_uint8",
]  # fmt: skip


def giant(path):
    """A PNG of a few bytes whose header promises 60,000 x 60,000 pixels."""

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")
    )


def write_broken(folder):
    """Files that no study can read; returns what each is left out for."""
    folder.mkdir(parents=True, exist_ok=True)
    picture(1).save(folder / "truncated.jpg")
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image at all")
    picture(2).save(folder / "animated.gif", save_all=True, append_images=[picture(3)], duration=100)
    picture(4, (1, 1)).save(folder / "one pixel.png")
    giant(folder / "giant.png")
    (folder / "folder.png").mkdir()
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    return {
        "truncated.jpg": "truncated: the file ends before the picture does",
        "empty.png": r"empty file \(0 bytes\)",
        "text.jpg": "not an image in a known format",
        "animated.gif": "several frames or pages",
        "one pixel.png": "too small: 1 x 1 pixels",
        "giant.png": "too large: 3,600,000,000 pixels",
        "dangling.png": "cannot be opened: no such file or directory",
    }


def write_unusual(folder):
    """Files that hold the same picture in unusual ways; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    image = picture(1, (40, 36))
    image.save(folder / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    rgba = image.convert("RGBA")
    rgba.save(folder / "opaque.png")
    grey = image.convert("L")
    grey.save(folder / "grey.png")
    deep = np.asarray(grey).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "sixteen bits.png")
    image.quantize(64).save(folder / "palette.png")
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    return sorted(path.name for path in folder.iterdir())


class TestImages:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    def test_unreadable_files_are_rows_and_change_nothing_else(self, tmp_path):
        mixed = write_images(tmp_path / "mixed", 5)
        good = study_of(tiny_classifier(), mixed, tmp_path / "good", **QUICK)
        reasons = write_broken(mixed)
        before = listing(mixed)
        study = study_of(tiny_classifier(), mixed, tmp_path / "run", **QUICK)
        assert listing(mixed) == before
        bad = study.seeds.filter(status="unreadable")
        assert set(bad["seed_id"]) == set(reasons)
        for row in bad.iter_rows(named=True):
            assert re.search(reasons[row["seed_id"]], row["reason"]), row
            assert all(row[name] is None for name in ["sha256", "clean_class", "clean_probability", *MEASURED])
        for name in ("variants", "similarity", "focus", "floor", "layers", "counts", "coverage"):
            assert_frame_equal(getattr(study, name), getattr(good, name))
        assert_frame_equal(study.seeds.filter(pl.col("status") != "unreadable"), good.seeds)

    def test_unusual_files_are_read_as_what_they_show(self, tmp_path):
        names = write_unusual(tmp_path / "unusual")
        study = study_of(tiny_classifier(), tmp_path / "unusual", tmp_path / "run", **QUICK)
        assert study.seeds["seed_id"].to_list() == names
        assert not set(study.seeds["status"]) & {"unreadable", "failed"}
        seen = {
            row["seed_id"]: (row["clean_class"], row["clean_probability"]) for row in study.seeds.iter_rows(named=True)
        }
        assert seen["turned.png"] == seen["opaque.png"] == seen["plain.png"]
        assert seen["sixteen bits.png"] == seen["grey.png"] != seen["plain.png"]

    def test_names_that_are_no_utf8(self, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        path = folder / b"caf\xe9.png".decode("utf-8", "surrogateescape")
        try:
            picture(1).save(folder / "good.png")
            path.write_bytes((folder / "good.png").read_bytes())
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        study = study_of(tiny_classifier(), folder, tmp_path / "run", **QUICK)
        assert study.seeds["seed_id"].to_list() == ["caf\\udce9.png", "good.png"]
        assert study.seeds["path"][0].endswith("photos/caf\\udce9.png")
        assert study.seeds["clean_class"].n_unique() == 1

    def test_one_image_alone(self, tmp_path):
        picture(0).save(tmp_path / "alone.png")
        study = study_of(tiny_classifier(), tmp_path / "alone.png", tmp_path / "run", **QUICK)
        assert study.seeds["status"].to_list() == ["analysed"]
        assert study.floor.is_empty()
        assert set(study.layers["n"]) <= {0, 1}
        assert study.layers["floor"].null_count() == study.layers.height
        assert (
            study.layers.select("gain_low", "rank_low", "auc_low").null_count().sum_horizontal().item()
            == 3 * study.layers.height
        )

    def test_one_list_may_mix_folders(self, tmp_path):
        write_images(tmp_path / "a", 2)
        write_images(tmp_path / "b", 1)
        (tmp_path / "list.txt").write_text("# mine\na\nb/img_00.png\nmissing.png\n")
        study = study_of(tiny_classifier(), tmp_path / "list.txt", tmp_path / "run", **QUICK)
        assert study.seeds["seed_id"].to_list() == ["a/img_00.png", "a/img_01.png", "b/img_00.png", "missing.png"]
        assert study.seeds["status"].to_list()[-1] == "unreadable"
        assert study.record["images"]["n"] == 4


class Moody(TinyNet):
    """`TinyNet` that returns NaN for images `is_bad` says so of, given their mean in pixel space."""

    def __init__(self, is_bad):
        super().__init__()
        self.is_bad = is_bad

    def forward(self, x):
        brightness = x.detach().mean((1, 2, 3)) * 0.25 + 0.5
        return torch.where(self.is_bad(brightness)[:, None], torch.nan, super().forward(x))


def moody(is_bad):
    return Classifier(Moody(is_bad).eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)


class TestModels:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    def test_nan_for_a_clean_image(self, tmp_path):
        photos = write_images(tmp_path / "photos", 4)
        good = study_of(moody(lambda mean: mean > 0.95), photos, tmp_path / "good", **QUICK)
        Image.new("RGB", (40, 40), "white").save(photos / "a white.png")
        study = study_of(moody(lambda mean: mean > 0.95), photos, tmp_path / "run", **QUICK)
        row = study.seeds.row(by_predicate=pl.col("seed_id") == "a white.png", named=True)
        assert (row["status"], row["reason"]) == ("failed", "the model returned NaN or infinity for the clean image")
        assert row["sha256"] is not None
        assert all(row[name] is None for name in ["clean_class", "clean_probability", *MEASURED])
        for name in ("variants", "similarity", "focus", "floor", "layers", "counts", "coverage"):
            assert_frame_equal(getattr(study, name), getattr(good, name))

    def test_nan_for_a_variant(self, tmp_path):
        """Strong noise brightens a dark image, and there the model breaks: the seed is left out of every table."""
        photos = write_images(tmp_path / "photos", 3)
        Image.new("RGB", (40, 40), (12, 10, 11)).save(photos / "dark.png")
        options = {**QUICK, "noise_ladder": (32.0,), "attack": "dlfuzz(scores='logit', step=4/255, iterations=9)"}
        plain = study_of(tiny_classifier(), photos, tmp_path / "plain", **options)
        assert plain.seeds.filter(seed_id="dark.png")["status"].item() == "analysed"
        study = study_of(moody(lambda mean: (mean > 0.1) & (mean < 0.45)), photos, tmp_path / "run", **options)
        row = study.seeds.row(by_predicate=pl.col("seed_id") == "dark.png", named=True)
        assert row["status"] == "failed"
        assert row["reason"] == "the model returned NaN or infinity for the noise image at strength 32"
        assert row["clean_class"] is not None
        for table in (study.variants, study.similarity):
            others = getattr(plain, "variants" if table is study.variants else "similarity")
            assert_frame_equal(table, others.filter(pl.col("seed_id") != "dark.png"))
        # Its clean image still counts for coverage, its variants do not.
        first = study.coverage.filter(step=1, seed_id="dark.png")["covered"].to_list()
        assert first == [first[0]] * 3
        assert plain.coverage.filter(step=1)["covered"].n_unique() > 1
        assert "dark.png" in set(plain.focus["seed_id"])
        assert_frame_equal(study.focus, plain.focus.filter(pl.col("seed_id") != "dark.png"))
        assert "dark.png" not in {*study.floor["seed_id"], *study.floor["other_seed_id"]}

    def test_a_model_that_always_says_the_same(self, tmp_path):
        """Nothing can be fooled, and no gradient says where to go."""

        class Constant(TinyNet):
            def forward(self, x):
                return super().forward(x) * 0 + torch.arange(10.0)

        model = Classifier(Constant().eval(), size=SIZE)
        study = study_of(model, write_images(tmp_path / "photos", 2), tmp_path / "run", **QUICK)
        assert set(study.seeds["status"]) == {"no_adversarial"}
        assert set(study.seeds["clean_class"]) == {9}


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(Path(path).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


class TestReports:
    """Studies in which there is little to show are finished studies, and say why."""

    def test_all_images_unreadable(self, tmp_path, monkeypatch):
        reasons = write_broken(tmp_path / "broken")
        study = study_of(tiny_classifier(), tmp_path / "broken", tmp_path / "run", **QUICK)
        assert study.record["status"] == "done"
        assert set(study.seeds["status"]) == {"unreadable"}
        for name in ("variants", "similarity", "focus", "floor", "layers", "counts", "coverage"):
            assert getattr(study, name).is_empty()
        page = Page(study.path / "report.html")
        assert f"{len(reasons)} could not be read" in page.text
        assert all(name in page.text for name in reasons)
        assert "could not be read" in study.summary()
        draw_only(monkeypatch)  # drawn once already
        assert camdrift.open(study.path).report() == study.path / "report.html"

    def test_no_adversarial_example_at_all(self, tmp_path):
        photos = write_images(tmp_path / "photos", 3)
        study = study_of(tiny_classifier(), photos, tmp_path / "run", attack="dlfuzz(step=0)", **QUICK)
        assert set(study.seeds["status"]) == {"no_adversarial"}
        assert set(study.seeds["reason"]) == {"no adversarial example in 3 iterations"}
        assert study.seeds["clean_class"].null_count() == 0
        for name in ("variants", "similarity", "focus", "floor", "layers", "counts"):
            assert getattr(study, name).is_empty()
        # Coverage of the clean images stands, and perturbed conditions add nothing to it.
        covered = study.coverage.pivot("condition", index=["step"], values="covered", aggregate_function="max")
        assert covered["adversarial"].to_list() == covered["clean"].to_list() == covered["noise"].to_list()
        page = Page(study.path / "report.html")
        assert "3 withstood the attack" in page.text
        assert "DLFuzz fools the network on none of 3 images." in page.text
        assert {path.suffix for path in (study.path / "figures").iterdir()} == {".png", ".pdf"}

    def test_names_and_labels_stay_text(self, tmp_path):
        """What looks like HTML, markup or a list is an ordinary name."""
        names = [
            "<script>alert(1)<img src=x onerror=y>.png",
            "a, b [1] (2) {x}.png",
            "$x_1$ & 'q' \"d\".png",
            "[bold]b[ bold] %s.jpg",
        ]
        folder = tmp_path / "<b>photos, 100% [all]"
        folder.mkdir()
        for number, name in enumerate(names):
            picture(number).convert("RGB").save(folder / name)
        (folder / "<i>broken<i>.png").write_text("no image")
        labels = [f"<b>class {number}</b>, [{number}] $\\frac" for number in range(10)]
        model = tiny_classifier(labels=labels, spec="<script>net</script>")
        study = study_of(model, folder, tmp_path / "run", command="camdrift run <script>", **QUICK)
        assert study.seeds["seed_id"].to_list() == sorted([*names, "<i>broken<i>.png"])
        assert set(study.seeds["status"]) >= {"analysed", "unreadable"}
        page = Page(study.path / "report.html")
        assert not {"iframe", "object", "link"} & {tag for tag, _ in page.tags}
        # Its own scripts: the study, the pictures, the plotting library and the views.
        assert len([tag for tag, _ in page.tags if tag == "script"]) == 4
        assert all(not attributes.get("src", "data:").startswith(("http", "x")) for _, attributes in page.tags)
        assert "<i>broken<i>.png" in page.text
        assert "camdrift run <script>" in page.text
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
