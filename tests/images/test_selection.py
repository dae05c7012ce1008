"""Which images are studied: the same sample whatever else lies there, and a remark where a class is short."""

import random

import pytest

from camdrift.errors import UserError
from camdrift.images.places import Folder, ImageFile
from camdrift.images.selection import sample_images, select_images
from camdrift.study.run import run
from support.files import touch
from support.studies import SMALL, skip_report, tiny_classifier, write_images


def files_of(sizes):
    """So many images of each class, by its folder."""
    return [
        ImageFile(f"{name}/{n}.jpg", Folder(), f"{name}/{n}.jpg", name) for name in sizes for n in range(sizes[name])
    ]


def ids(selection):
    return [file.seed_id for file in selection.files]


FOUR = {"ant": 30, "bee": 30, "cat": 30, "dog": 30}


def test_a_sample_has_as_many_of_every_class_in_the_order_of_the_files():
    files = files_of(FOUR)
    drawn = sample_images(files, 5, rng_seed=0)
    assert [sum(file.folder == name for file in drawn.files) for name in FOUR] == [5] * 4
    assert ids(drawn) == [file.seed_id for file in files if file in drawn.files]
    assert drawn.remarks == ()


def test_a_sample_is_drawn_and_not_the_head_of_each_class():
    """Over 200 streams every image of a class is as likely as any other: 5 of 30, 33.3 times expected."""
    files = files_of({"ant": 30})
    counts = dict.fromkeys([file.seed_id for file in files], 0)
    for rng_seed in range(200):
        for seed_id in ids(sample_images(files, 5, rng_seed=rng_seed)):
            counts[seed_id] += 1
    assert sum(counts.values()) == 1000
    assert 15 < min(counts.values()) < max(counts.values()) < 55  # 3.5 standard deviations of 5.3
    assert ids(sample_images(files, 5, rng_seed=1)) == ids(sample_images(files, 5, rng_seed=1))


def test_the_order_of_the_list_changes_no_sample():
    files = files_of(FOUR)
    shuffled = random.Random(1).sample(files, len(files))
    assert sorted(ids(sample_images(shuffled, 5, rng_seed=3))) == sorted(ids(sample_images(files, 5, rng_seed=3)))


def test_a_class_that_is_added_changes_no_sample_of_the_others(tmp_path):
    touch(tmp_path, *(f"{name}/{n}.jpg" for name in ("bee", "dog") for n in range(20)))
    before = ids(select_images(tmp_path, per_class=3))
    touch(tmp_path, *(f"{name}/{n}.jpg" for name in ("ant", "cat") for n in range(20)))
    after = ids(select_images(tmp_path, per_class=3))
    assert [seed_id for seed_id in after if seed_id[:3] in ("bee", "dog")] == before
    assert len(after) == 12


def test_a_class_with_fewer_images_gives_all_of_them_and_says_so():
    drawn = sample_images(files_of({"ant": 2, "bee": 30, "cat": 4}), 5, rng_seed=0)
    assert len(drawn.files) == 11
    assert drawn.remarks == ("2 classes have fewer than 5 images, all of which are taken: ant (2), cat (4)",)
    many = sample_images(files_of({f"c{n}": 1 for n in range(8)}), 2, rng_seed=0)
    assert many.remarks[0].endswith("c0 (1), c1 (1), c2 (1), c3 (1), c4 (1) and 3 more")


def test_images_of_no_class_are_left_out_and_counted(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg", "ant/1.jpg", "ant/2.jpg")
    drawn = select_images(tmp_path, per_class=1)
    assert len(drawn.files) == 1
    assert drawn.remarks == ("2 images of no known class are left out of the sample",)


def test_without_classes_there_is_nothing_to_sample_by(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    message = r"`sample` must have images whose class is known, got: 2 images in no class \(first: 1.jpg\)"
    with pytest.raises(UserError, match=message):
        select_images(tmp_path, per_class=1)


def test_labels_are_classes_too():
    drawn = select_images(None, per_class=1)
    assert len(drawn.files) == len({file.label for file in drawn.files}) > 10


def test_a_study_records_its_sample_and_warns(tmp_path, monkeypatch):
    skip_report(monkeypatch)
    for name, count in (("ant", 4), ("bee", 1)):
        write_images(tmp_path / "photos" / name, count)
    seen = []
    out = tmp_path / "run"
    study = run(tiny_classifier(), tmp_path / "photos", out=out, sample="2-per-class", on_progress=seen.append, **SMALL)
    assert study.record["arguments"]["effective"]["sample"] == "2-per-class"
    assert study.seeds["seed_id"].str.head(3).to_list() == ["ant", "ant", "bee"]
    warning = "1 class has fewer than 2 images, all of which are taken: bee (1)"
    assert seen[0].warnings == (warning,)
    assert study.record["preflight"]["warnings"][0] == warning  # then that one image is a copy
