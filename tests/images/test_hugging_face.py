"""Hugging Face data sets: columns by type, rows by number, from the disk or from a stream; nothing from a network."""

import io
import pickle
import sys

import pytest
from polars.testing import assert_frame_equal

from camdrift.errors import ImageError, UserError
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images
from camdrift.images.sources import find_images
from camdrift.study.run import run
from support.files import touch
from support.studies import SMALL, picture, skip_report, stop_when, tiny_classifier, write_images

datasets = pytest.importorskip("datasets")
NAMES = ["ant", "bee", "cat"]


def png(number=0):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count=12, *, label=lambda n: n % 3, split="train"):
    """Pictures in a column `photo`, classes in `kind`, beside columns that are neither."""
    features = datasets.Features(
        {
            "number": datasets.Value("int64"),
            "photo": datasets.Image(),
            "kind": datasets.ClassLabel(names=NAMES),
            "text": datasets.Value("string"),
        }
    )
    columns = {
        "number": list(range(count)),
        "photo": [{"bytes": png(n), "path": None} for n in range(count)],
        "kind": [label(n) for n in range(count)],
        "text": ["x"] * count,
    }
    return datasets.Dataset.from_dict(columns, features=features, split=split)


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    """No progress bars; what `datasets` prepares lies in a folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def saved(tmp_path):
    rows().save_to_disk(tmp_path / "saved")
    return f"hf-dataset:{tmp_path / 'saved'}"


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """A data set of the hub, as far as anyone can tell; returns how often its rows were gone through, by columns."""
    rows(30).to_parquet(tmp_path / "rows.parquet")
    load, passes = datasets.load_dataset, []

    def from_hub(name, **options):
        assert (name, options) == ("somebody/photos", {"streaming": True})
        return load("parquet", data_files={"train": str(tmp_path / "rows.parquet")}, streaming=True)

    iterate = datasets.IterableDataset.__iter__

    def counted(data):
        passes.append(tuple(data.column_names))
        return iterate(data)

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", counted)
    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    return passes


def test_columns_are_found_by_their_type(saved):
    files = find_images(saved)
    assert [file.seed_id for file in files] == [f"train/{n:08d}" for n in range(12)]
    assert [(file.folder, file.label) for file in files[:3]] == [("ant", 0), ("bee", 1), ("cat", 2)]
    assert [file.read() for file in files] == [png(n) for n in range(12)]
    assert str(files[3].path) == f"{saved}/train/00000003"
    assert read_image(files[0], size=8, resize=8).pixels.shape == (3, 8, 8)


def test_a_parquet_file_and_a_folder_of_pictures_are_data_sets_too(tmp_path):
    rows().to_parquet(tmp_path / "rows.parquet")
    parquet = find_images(f"hf-dataset:{tmp_path / 'rows.parquet'}")
    assert [file.read() for file in parquet] == [png(n) for n in range(12)]
    assert [file.label for file in parquet] == [0, 1, 2] * 4
    write_images(tmp_path / "photos" / "train" / "ant", 2)
    folder = find_images(f"hf-dataset:{tmp_path / 'photos'}:train")
    assert [file.seed_id for file in folder] == ["train/00000000", "train/00000001"]
    assert folder[1].read() == (tmp_path / "photos" / "train" / "ant" / "img_01.png").read_bytes()
    (tmp_path / "photos" / "train" / "ant" / "img_01.png").unlink()
    with pytest.raises(ImageError, match="cannot be opened: no such file"):
        folder[1].read()


def test_splits_are_named_where_there_are_several(tmp_path):
    splits = {"train": rows(4), "test": rows(2, split="test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both:here")
    source = f"hf-dataset:{tmp_path / 'both:here'}"
    assert [file.seed_id for file in find_images(f"{source}:test")] == ["test/00000000", "test/00000001"]
    assert str(find_images(f"{source}:test")[1].path) == f"{source}/test/00000001"
    with pytest.raises(
        UserError, match=r"must name a split of train, test, got: none \(hint: like hf-dataset:.*:SPLIT"
    ):
        find_images(source)
    with pytest.raises(UserError, match="must name a split of train, test, got: val"):
        find_images(f"{source}:val")


def test_labels_that_are_not_known_are_none(tmp_path):
    rows(3, label=lambda n: [-1, None, 2][n]).save_to_disk(tmp_path / "saved")
    files = find_images(f"hf-dataset:{tmp_path / 'saved'}")
    assert [(file.folder, file.label) for file in files] == [(None, None), (None, None), ("cat", 2)]


def test_numbers_are_labels_of_a_model_with_as_many_classes(saved):
    place = find_images(saved)[0].place
    assert (place.counts(3), place.counts(10)) == (True, False)


def test_rows_without_a_picture_have_a_reason(tmp_path):
    values = [None, {"bytes": b"", "path": None}]
    data = datasets.Dataset.from_dict({"image": values}, features=datasets.Features({"image": datasets.Image()}))
    data.save_to_disk(tmp_path / "saved")
    reasons = []
    for file in find_images(f"hf-dataset:{tmp_path / 'saved'}"):
        with pytest.raises(ImageError) as caught:
            file.read()
        reasons.append(caught.value.message)
    assert file.seed_id == "all/00000001"
    assert reasons == ["no image in this row", "empty file (0 bytes)"]


def test_what_is_no_data_set_of_images_is_the_users_mistake(tmp_path, monkeypatch):
    touch(tmp_path, "notes.pdf", "folder/notes.md")
    datasets.Dataset.from_dict({"text": ["x"]}).save_to_disk(tmp_path / "text")
    sources = {
        "": "`images` must name a data set, got: hf-dataset:",
        ":train": "`images` must name a data set, got: hf-dataset::train",
        "name:": "`images` must name a data set, got: hf-dataset:name:",
        f"{tmp_path}/gone": "no such file or folder: .*gone",
        f"{tmp_path}/notes.pdf": r"`images` must be a data set, got: .*notes\.pdf",
        f"{tmp_path}/folder": r"cannot open hf-dataset:.*folder: \w+",
        f"{tmp_path}/text": r"text has no column of type Image, got: text \(Value\)",
    }
    for source, message in sources.items():
        with pytest.raises(UserError, match=message):
            find_images(f"hf-dataset:{source}")

    monkeypatch.setattr(datasets, "load_from_disk", lambda name: rows(0))
    with pytest.raises(UserError, match=r"no images in hf-dataset:.*text: it has no rows"):
        find_images(f"hf-dataset:{tmp_path}/text")

    def no_network(name, **options):
        raise ConnectionError("the hub cannot be reached")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    with pytest.raises(UserError, match="cannot open hf-dataset:a/b: ConnectionError: the hub cannot be reached"):
        find_images("hf-dataset:a/b")


def test_without_the_extra_there_is_a_cure(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs datasets, which is not installed \(hint: .*\[hf\]"):
        find_images(saved)


def test_limit_and_sample_work_as_for_folders(saved):
    limited = select_images(saved, limit=3)
    assert [file.seed_id for file in limited.files] == ["train/00000000", "train/00000006", "train/00000003"]
    sampled = select_images(saved, per_class=2)
    assert sorted(file.folder for file in sampled.files) == ["ant", "ant", "bee", "bee", "cat", "cat"]
    assert limited.remarks == sampled.remarks == ()


def test_a_stream_gives_its_first_images_and_says_so(streamed):
    selection = select_images("hf-dataset:somebody/photos:train", limit=4)
    assert [file.seed_id for file in selection.files] == [f"train/{n:08d}" for n in range(4)]
    assert [file.folder for file in selection.files] == ["ant", "bee", "cat", "ant"]
    assert selection.remarks == ("hf-dataset:somebody/photos:train is streamed: its first 4 images are taken",)
    assert streamed == [("kind",)]  # labels alone, no picture
    assert [file.read() for file in selection.files] == [png(n) for n in range(4)]
    assert streamed == [("kind",), ("photo",)]  # one pass for all
    assert [selection.files[n].read() for n in (3, 0, 2)] == [png(3), png(0), png(2)]
    assert streamed[2:] == [("photo",)] * 2  # back to the start for 3 and for 0; 2 lies ahead


@pytest.mark.usefixtures("streamed")
def test_images_travel_to_another_process_in_the_middle_of_a_stream():
    files = select_images("hf-dataset:somebody/photos:train", limit=4).files
    assert files[2].read() == png(2)
    there = pickle.loads(pickle.dumps(tuple(files[1:3])))
    assert [file.read() for file in there] == [png(1), png(2)]
    assert files[3].read() == png(3)


def test_images_of_a_data_set_on_the_disk_travel_to_another_process(saved):
    there = pickle.loads(pickle.dumps(tuple(find_images(saved)[4:6])))
    assert [file.read() for file in there] == [png(4), png(5)]


def test_a_stream_gives_the_first_images_of_every_class_and_says_so(streamed):
    selection = select_images("hf-dataset:somebody/photos", per_class=2)
    assert [file.seed_id for file in selection.files] == [f"train/{n:08d}" for n in range(6)]
    said = "hf-dataset:somebody/photos is streamed: the first 2 images of each class are taken"
    assert selection.remarks == (said,)
    short = select_images("hf-dataset:somebody/photos", per_class=11)
    assert short.remarks[1].startswith("3 classes have fewer than 11 images, all of which are taken: ant (10), ")


def test_a_whole_stream_is_not_studied(streamed):
    with pytest.raises(
        UserError, match=r"streamed must come with `limit` or `sample`, got: .*photos \(hint: .*save_to"
    ):
        select_images("hf-dataset:somebody/photos")


def test_a_stream_that_breaks_stops_the_run_and_leaves_no_unreadable_rows(streamed, monkeypatch):
    (first, second) = select_images("hf-dataset:somebody/photos", limit=2).files

    def broken(data):
        raise ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(datasets.IterableDataset, "__iter__", broken)
        with pytest.raises(UserError, match=r"cannot read image 1 of .*: ConnectionError: reset by peer") as caught:
            second.read()
    assert not isinstance(caught.value, ImageError)
    assert second.read() == png(1)
    assert first.read() == png(0)


def test_a_study_of_a_data_set_equals_that_of_a_folder_and_is_resumed(saved, streamed, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    (tmp_path / "folder" / "train").mkdir(parents=True)
    for n in range(8):
        (tmp_path / "folder" / "train" / f"{n:08d}").write_bytes(png(n))
    (tmp_path / "list.txt").write_text("".join(f"folder/train/{n:08d}\n" for n in range(8)))
    classifier, options = tiny_classifier(), {**SMALL, "attack": "dlfuzz(step=1/255)"}
    data = run(classifier, "hf-dataset:somebody/photos", out=tmp_path / "whole", limit=8, **options)
    stop = stop_when(lambda p: p.seeds_done >= 4)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, "hf-dataset:somebody/photos", out=tmp_path / "run", limit=8, **options, on_progress=stop)
    again = run(classifier, "hf-dataset:somebody/photos", out=tmp_path / "run", limit=8, resume=True, **options)
    assert_frame_equal(again.seeds, data.seeds)
    assert_frame_equal(again.similarity, data.similarity)
    assert again.seeds["path"][0] == "hf-dataset:somebody/photos/train/00000000"
    assert again.record["preflight"]["warnings"][0].endswith("is streamed: its first 8 images are taken")
    plain = run(classifier, tmp_path / "list.txt", out=tmp_path / "plain", **options)
    assert again.seeds["sha256"].to_list() == plain.seeds["sha256"].to_list()
