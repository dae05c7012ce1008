"""A finished study grows: its tables are those of a fresh study of all images, and until then it stays whole."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from polars.testing import assert_frame_equal

import camdrift
from camdrift.errors import StoreError
from camdrift.study.extension import _common_chunks
from camdrift.tables.further import RUN_TABLES
from camdrift.tables.study import SEEDS
from support.studies import SMALL, listing, stop_when, study_of, tiny_classifier, write_images

# Every table that chunks make but `precision`, which takes long.
QUICK = {**SMALL, "targets": ("seed",), "layers": ("body", "last")}
OPTIONS = {**QUICK, "denoised": True, "gallery": None}
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 12)


def made(classifier, images, folder, limit):
    return study_of(classifier, images, folder / "run", **OPTIONS, limit=limit)


@pytest.fixture(scope="module")
def small(classifier, images, tmp_path_factory, no_report):
    """Seven images: two chunks of three, and one of one."""
    return made(classifier, images, tmp_path_factory.mktemp("small"), 7)


@pytest.fixture(scope="module")
def fresh(classifier, images, tmp_path_factory, no_report):
    """Eleven images: three chunks of three, and one of two."""
    return made(classifier, images, tmp_path_factory.mktemp("fresh"), 11)


def copied(study, tmp_path):
    return shutil.copytree(study.path, tmp_path / "run")


def assert_equal(study, fresh):
    """Every table and picture, and the names of all files."""
    assert {path.name for path in study.path.iterdir()} == {path.name for path in fresh.path.iterdir()}
    names = [name for name in RUN_TABLES if (fresh.path / f"{name}.parquet").is_file()]
    assert {"denoised", "ceiling", "newly_covered", "focus"} <= {*names}
    for name in names:
        assert_frame_equal(getattr(study, name), getattr(fresh, name), check_exact=True)
    with np.load(study.path / "gallery.npz") as mine, np.load(fresh.path / "gallery.npz") as theirs:
        assert mine.files == theirs.files
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine.files)
    assert camdrift.verify(study.path, sample=0).problems == ()


def grow(classifier, images, out, limit=11, **options):
    return study_of(classifier, images, out, **{**OPTIONS, "limit": limit, **options}, resume=True)


def test_it_grows_to_the_tables_of_a_fresh_study(classifier, images, small, fresh, tmp_path):
    out, steps = copied(small, tmp_path), []
    study = grow(classifier, images, out, on_progress=steps.append)
    assert_equal(study, fresh)
    # The first two chunks stay, that of one image is no chunk of the larger study.
    assert min(step.seeds_done for step in steps if step.stage in ("attack", "explain")) == 6
    texts = [text for step in steps for text in step.warnings]
    assert "the study grows from 7 to 11 images: 6 stay as they are, 5 are computed" in texts[0]
    assert study.record["extension"] == {"images": 7, "kept": 6, "started": small.record["started"]}
    assert study.record["preflight"]["warnings"] is not None
    assert study.record["timings"]["total"] > small.record["timings"]["total"]
    before = listing(out)
    assert_equal(grow(classifier, images, out, on_progress=pytest.fail), fresh)
    assert listing(out) == before


@pytest.mark.parametrize(
    "condition",
    [lambda p: p.stage == "preflight", lambda p: p.seeds_done >= 9],
    ids=["at once", "third chunk"],
)
def test_stopped_while_it_grows_it_is_the_old_study_and_goes_on(classifier, images, small, fresh, tmp_path, condition):
    out = copied(small, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        grow(classifier, images, out, on_progress=stop_when(condition))
    old = camdrift.open(out)
    assert_frame_equal(old.layers, small.layers, check_exact=True)
    assert camdrift.verify(out, sample=0).problems == ()
    with pytest.raises(StoreError, match="limit was 11, now 12") as refusal:
        grow(classifier, images, out, 12)
    assert f"; removing {out / '.next'} gives it up, and keeps the run that it was to replace" in refusal.value.hint
    assert_equal(grow(classifier, images, out), fresh)


def test_it_goes_on_with_the_batch_size_that_the_finished_study_needed(classifier, images, small, tmp_path):
    out = copied(small, tmp_path)
    file = out / "run.json"
    record = json.loads(file.read_text())
    record["arguments"]["effective"]["batch_size"] = 2
    file.write_text(json.dumps(record))
    with pytest.raises(KeyboardInterrupt):
        grow(classifier, images, out, on_progress=stop_when(lambda _: True))
    assert json.loads((out / ".next" / "run.json").read_text())["arguments"]["effective"]["batch_size"] == 2


@pytest.mark.parametrize(
    ("change", "kept"),
    [({}, ["abc", "def"]), ({"label": ("e", 9)}, ["abc"]), ({"label": ("a", None)}, []), ({"order": "abdcefg"}, [])],
    ids=["the same", "another label", "no label", "another order"],
)
def test_a_chunk_stays_that_has_the_same_images_in_the_same_order_with_the_same_labels(change, kept):
    """A label changes when a folder is added whose name is no class."""
    labels = dict.fromkeys("abcdefgh", 1)
    seeds = SEEDS.frame({"seed_id": [*"abcdef"], "label": [*labels.values()][:6], "status": ["analysed"] * 6})
    labels |= dict([change["label"]] if "label" in change else [])
    plan = SimpleNamespace(settings=SimpleNamespace(chunk_size=3), label=lambda file: labels[file.seed_id])
    names = change.get("order", "abcdefgh")
    chunks = [[SimpleNamespace(seed_id=name) for name in names[i : i + 3]] for i in range(0, len(names), 3)]
    assert ["".join(file.seed_id for file in chunk) for chunk in _common_chunks(plan, chunks, seeds)] == kept


def test_killed_before_the_larger_study_has_a_record(classifier, images, small, fresh, tmp_path, monkeypatch):
    out = copied(small, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("camdrift.storage.run_directory.RunDirectory.write_record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            grow(classifier, images, out)
    assert camdrift.open(out).layers.equals(small.layers)
    assert_equal(grow(classifier, images, out), fresh)


def test_more_images_in_the_folder(classifier, images, tmp_path):
    """New names behind the old ones leave chunks as they are; others among them need all again, to the same end."""
    folder = tmp_path / "images"
    folder.mkdir()
    for file in sorted(images.iterdir())[1:8]:
        shutil.copy(file, folder)
    (folder / "img_02.png").write_text("no picture")
    options = {**QUICK, "gallery": 0}
    study_of(classifier, folder, tmp_path / "run", **options)
    for name, kept in (("img_09.png", 6), ("img_00.png", 0)):
        shutil.copy(images / name, folder)
        study = study_of(classifier, folder, tmp_path / "run", **options, resume=True)
        assert study.record["extension"]["kept"] == kept
    fresh = study_of(classifier, folder, tmp_path / "fresh", **options)
    for table in ("seeds", "similarity", "layers", "coverage", "newly_covered", "floor", "ceiling"):
        assert_frame_equal(getattr(study, table), getattr(fresh, table), check_exact=True)
    # It can be read now, which changes the coverage that its chunk shares.
    shutil.copy(images / "img_02.png", folder)
    shutil.copy(images / "img_10.png", folder)
    assert study_of(classifier, folder, tmp_path / "run", **options, resume=True).record["extension"]["kept"] == 0


def test_what_cannot_grow_is_refused_in_a_line(classifier, images, small, tmp_path):
    out = copied(small, tmp_path)
    before = listing(out)
    refusals = {
        r"keep the 7 images of a finished study, got: 3 without 4 of them \(first: img_09\.png\)": {"limit": 3},
        r"attack was dlfuzz\(scores='logit'.*, now fgsm": {"attack": "fgsm"},
        "rng_seed was 0, now 1": {"rng_seed": 1},
        "chunk_size was 3, now 2": {"chunk_size": 2},
        r"batch_size was \d+, now 2": {"batch_size": 2},
    }
    for text, options in refusals.items():
        with pytest.raises(StoreError, match=text):
            grow(classifier, images, out, **options)
    with pytest.raises(StoreError, match="weights was those of checksum"):
        grow(tiny_classifier(rng_seed=5), images, out)
    other = shutil.copytree(images, tmp_path / "other")
    shutil.copy(images / "img_05.png", other / "img_09.png")
    with pytest.raises(StoreError, match=r"keep the 7 images of a finished .*, got: 1 changed \(first: img_09\.png\)"):
        grow(classifier, other, out)
    assert listing(out) == before
    table = out / "similarity.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"is damaged: similarity\.parquet"):
        grow(classifier, images, out)


def test_a_sample_grows_and_a_run_of_before_is_computed_again(classifier, images, tmp_path):
    """Images of a class that a smaller sample draws are among those of a larger one."""
    for number, file in enumerate(sorted(images.iterdir())):
        (tmp_path / "images" / f"class {number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "images" / f"class {number % 2}")
    options = {**QUICK, "gallery": 0}
    study_of(classifier, tmp_path / "images", tmp_path / "run", **options, sample=1)
    file = tmp_path / "run" / "run.json"
    record = json.loads(file.read_text())
    record["files"].pop("newly_covered.parquet")
    file.write_text(json.dumps(record))
    (tmp_path / "run" / "newly_covered.parquet").unlink()
    runs = [
        study_of(classifier, tmp_path / "images", tmp_path / out, **options, sample=3, **more)
        for out, more in (("run", {"resume": True}), ("fresh", {}))
    ]
    assert runs[0].record["extension"]["kept"] == 0
    assert_frame_equal(*(run.layers for run in runs), check_exact=True)
