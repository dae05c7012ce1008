"""Images in WebDataset shards: the same study as from a folder, and no harm from a hostile or damaged archive."""

import io
import json
import os
import tarfile

import pytest
from polars.testing import assert_frame_equal

from camdrift.errors import ImageError, UserError
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images
from camdrift.images.shards import braces
from camdrift.images.sources import find_images
from camdrift.study.run import run
from support.files import touch
from support.studies import SMALL, picture, skip_report, stop_when, tiny_classifier


def png(number=0):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, members, **options):
    """A shard of (name, bytes) or of members as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for member in members.items() if isinstance(members, dict) else members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def ids(source):
    return [file.seed_id for file in find_images(source)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{9..11}.tar", ["s-9.tar", "s-10.tar", "s-11.tar"]),
        ("{0..1}/{1..2}.tar", ["0/1.tar", "0/2.tar", "1/1.tar", "1/2.tar"]),
        ("s-{3..1}.tar", []),
        ("{a,b}.tar", ["{a,b}.tar"]),
    ],
)
def test_braces_stand_for_ranges(pattern, names):
    assert braces(pattern) == names


def test_no_range_is_endless():
    for pattern in ("{0..99999999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(UserError, match="at most 1,000,000 shards"):
            braces(pattern)


@pytest.fixture
def shards(tmp_path):
    """Three shards of four images, in two classes."""
    for number in range(3):
        members = {f"{name}.{end}": data for name, end, data in _members(number)}
        write_shard(tmp_path / "data" / f"s-{number:03d}.tar", members)
    return tmp_path / "data"


def _members(number):
    for n in range(4):
        yield f"img_{n}", "png", png(4 * number + n)
        yield f"img_{n}", "cls", str(n % 2).encode()


EXPECTED = [f"s-{shard:03d}.tar/img_{n}.png" for shard in range(3) for n in range(4)]


def test_a_shard_a_range_a_glob_a_folder_and_a_list_give_the_same_images(shards, tmp_path):
    (tmp_path / "all.txt").write_text("".join(f"data/s-{n:03d}.tar\n" for n in range(3)))
    sources = [shards, shards / "s-{000..002}.tar", shards / "*.tar", shards / "s-*", tmp_path / "all.txt"]
    for source in [*sources, [str(shards / f"s-00{n}.tar") for n in (2, 0, 1)]]:
        assert ids(source) == EXPECTED
    assert ids(tmp_path) == [f"data/{seed_id}" for seed_id in EXPECTED]
    assert ids(shards / "s-001.tar") == EXPECTED[4:8]


def test_members_are_read_in_place(shards):
    files = find_images(shards)
    assert [file.read() for file in files] == [png(n) for n in range(12)]
    assert str(files[5].path) == f"{shards}/s-001.tar/img_1.png"
    assert [file.label for file in files[:4]] == [0, 1, 0, 1]
    assert read_image(files[5], size=8, resize=8).pixels.shape == (3, 8, 8)


def test_a_shard_is_opened_once_to_be_listed(shards, monkeypatch):
    opened, open_ = [], tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *args, **options: (opened.append(1), open_(*args, **options))[1])
    for file in find_images(shards):
        file.read()
    assert len(opened) == 3


def test_labels_come_with_their_sample(tmp_path):
    members = {
        "a/1.jpg": b"x", "a/1.cls": b"7\n", "b/1.JPEG": b"x", "b/1.json": json.dumps({"label": 3}).encode(),
        "c.png": b"x", "c.cls": b"tench", "d.webp": b"x", "d.json": b'{"cls": true}', "e.ppm": b"x", "e.json": b"[1",
        "f.png": b"x", "f.cls": b"-1", "g.png": b"x", "g.cls": b"1" * 65, "h.png": b"x", "h.json": b"[" * 100_000,
    }  # fmt: skip
    files = find_images(write_shard(tmp_path / "x.tar", members))
    assert {file.seed_id[6:]: (file.folder, file.label) for file in files} == {
        "a/1.jpg": ("a", 7), "b/1.JPEG": ("b", 3), "c.png": (None, None), "d.webp": (None, None),
        "e.ppm": (None, None), "f.png": (None, None), "g.png": (None, None), "h.png": (None, None),
    }  # fmt: skip


def test_names_with_dots_keep_their_own_label(tmp_path):
    """As WebDataset's TarWriter writes keys with dots; what images of one sample share is the label of its own name."""
    names = ("photo.v1", "photo.v2", "2026.11.01", "2026.11.02")
    members = {
        f"{name}.{end}": data for i, name in enumerate(names) for end, data in (("png", png(i)), ("cls", b"%d" % i))
    }
    members |= {"cat.left.png": png(4), "cat.right.png": png(5), "cat.cls": b"7"}
    members |= {"dog.one.png": png(6), "dog.two.png": png(7), "dog.three.cls": b"8"}  # a label of neither
    write_shard(tmp_path / "a.tar", members)
    labels = {file.seed_id.removeprefix("a.tar/"): file.label for file in find_images(tmp_path / "a.tar")}
    assert [labels[f"{name}.png"] for name in names] == [0, 1, 2, 3]
    assert [labels[f"{name}.png"] for name in ("cat.left", "cat.right", "dog.one", "dog.two")] == [7, 7, None, None]


def test_labels_beyond_the_models_classes_are_no_labels_at_all(tmp_path):
    shard = write_shard(tmp_path / "x.tar", {"1.png": b"x", "1.cls": b"2", "2.png": b"x", "2.cls": b"10"})
    (first, _) = find_images(shard)
    assert (first.place.counts(11), first.place.counts(10)) == (True, False)


def test_other_parts_of_a_sample_are_no_images_of_their_own(tmp_path):
    members = dict.fromkeys(["cat.jpg", "cat.mask.png", "cat.txt", "dog.v2.jpg", "a.b/cow.jpg", "._cat.jpg", "x"], b"x")
    assert ids(write_shard(tmp_path / "x.tar", members)) == ["x.tar/a.b/cow.jpg", "x.tar/cat.jpg", "x.tar/dog.v2.jpg"]


def test_names_that_lead_out_of_the_folder_are_only_names(tmp_path):
    """No member is extracted, whatever its name: the folder is as it was."""
    outside = tmp_path / "outside.png"
    names = ["/etc/x.png", "../outside.png", "a/../../outside.png", str(outside), "<b>&.png", "./plain.png"]
    shard = write_shard(tmp_path / "in" / "x.tar", dict.fromkeys(names, png()))
    files = find_images(shard)
    expected = ["<b>&.png", *names[1:3], names[0], names[3], "plain.png"]
    assert sorted(file.seed_id for file in files) == sorted(f"x.tar/{name}" for name in expected)
    assert {file.read() for file in files} == {png()}
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", shard]


def test_links_and_devices_in_a_shard_are_not_followed(tmp_path):
    link, hard, device = (tarfile.TarInfo(f"{name}.jpg") for name in ("link", "hard", "device"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/passwd"
    device.type = tarfile.FIFOTYPE
    assert ids(write_shard(tmp_path / "x.tar", [link, hard, device, ("a.jpg", b"x")])) == ["x.tar/a.jpg"]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_ordinary(tmp_path, kind):
    names = ["d" * 90 + "/" + "n" * 120 + ".jpg", "Ü 猫.jpg", "a\nb.jpg"]
    shard = write_shard(tmp_path / "x.tar", {name: name.encode() for name in names}, format=kind)
    assert {file.seed_id[6:]: file.read().decode() for file in find_images(shard)} == {name: name for name in names}


def test_of_two_members_with_one_name_the_later_counts(tmp_path):
    (file,) = find_images(write_shard(tmp_path / "x.tar", [("a.jpg", b"first"), ("a.jpg", b"second")]))
    assert file.read() == b"second"


def test_shards_of_the_same_name_are_told_apart(tmp_path):
    for folder in "ab":
        write_shard(tmp_path / folder / "0.tar", {"1.jpg": folder.encode()})
    assert {file.seed_id: file.read() for file in find_images([tmp_path / "a/0.tar", tmp_path / "b/0.tar"])} == {
        "a/0.tar/1.jpg": b"a",
        "b/0.tar/1.jpg": b"b",
    }


def test_a_linked_shard_has_the_name_of_the_link(tmp_path):
    blob = write_shard(tmp_path / "blobs" / "3f2a", {"1.jpg": b"x"})
    (tmp_path / "s.tar").symlink_to(blob)
    assert ids(tmp_path / "s.tar") == ["s.tar/1.jpg"]


def test_images_are_taken_before_shards(tmp_path):
    touch(tmp_path, "a.jpg")
    write_shard(tmp_path / "s.tar", {"1.jpg": b"x"})
    assert ids(tmp_path) == ids(tmp_path / "*") == ["a.jpg"]


def cut(data):
    return data[:-5000]


def flipped(data):
    """A header amid the shard is damaged: tarfile would take it for the end."""
    return data[:1024] + bytes([data[1024] ^ 1]) + data[1025:]


def negative(data):
    """A size below zero, which leads from the member back to itself."""
    header = bytearray(data[1024:1536])
    header[124:136] = b"\xff" * 10 + (-512 & 0xFFFF).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:1024] + bytes(header) + data[1536:]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "unexpected end of data"),
        (flipped, "damaged at byte 1,024"),
        (negative, "a member ends before it starts"),
        (lambda data: b"\x1f\x8b" + data, "invalid header|bad checksum|truncated header"),
        (lambda data: b"", "empty file"),
        (lambda data: b"PK\3\4 no archive", "truncated header"),
    ],
    ids=["cut", "flipped", "negative size", "no tar", "empty", "other"],
)
def test_a_damaged_shard_is_refused(tmp_path, damage, why):
    shard = write_shard(tmp_path / "x.tar", {f"{n}.jpg": b"x" * 400 for n in range(4)})
    shard.write_bytes(damage(shard.read_bytes()[: 4 * 1024 + (5000 - 400 if damage is cut else 10240)]))
    with pytest.raises(UserError, match=rf"cannot read the shard .*x\.tar: .*({why}).*\(hint: a shard is a plain"):
        find_images(shard)


def test_what_is_missing_has_a_cure(tmp_path):
    write_shard(tmp_path / "s-0.tar", {"1.jpg": b"x"})
    with pytest.raises(UserError, match=r"no such shard: .*s-1\.tar \(2 of 3 missing\)"):
        find_images(tmp_path / "s-{0..2}.tar")
    with pytest.raises(UserError, match=r"no such file or folder, and no image matches it: .*gone\.tar"):
        find_images(tmp_path / "gone.tar")
    write_shard(tmp_path / "empty.tar", {"1.txt": b"x"})
    with pytest.raises(UserError, match=r"no images in the shard .*empty\.tar \(hint: in a shard"):
        find_images(tmp_path / "empty.tar")


def test_a_shard_that_changes_after_it_was_listed_gives_reasons(tmp_path):
    shard = write_shard(tmp_path / "x.tar", {"1.png": png(), "2.png": b""})
    first, second = find_images(shard)
    with pytest.raises(ImageError, match="empty file"):
        second.read()
    os.truncate(shard, 600)
    with pytest.raises(ImageError, match="truncated: the shard ends"):
        first.read()
    shard.unlink()
    with pytest.raises(ImageError, match="cannot be opened: no such file"):
        first.read()


def test_limit_and_sample_work_as_for_folders(shards):
    limited = select_images(shards, limit=3)
    assert [file.seed_id for file in limited.files] == [EXPECTED[0], EXPECTED[6], EXPECTED[3]]
    sampled = select_images(shards, per_class=2)
    assert sorted(file.label for file in sampled.files) == [0, 0, 1, 1]


def test_a_study_of_shards_equals_that_of_a_folder_and_is_resumed(shards, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    for shard in range(3):
        for n in range(4):
            path = tmp_path / "folder" / f"s-{shard:03d}.tar" / f"img_{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(4 * shard + n))
    classifier, options = tiny_classifier(), {**SMALL, "attack": "dlfuzz(scores='logit', step=1/255)"}
    whole = run(classifier, tmp_path / "folder", out=tmp_path / "whole", **options)
    stop = stop_when(lambda p: p.seeds_done >= 6)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, shards, out=tmp_path / "run", **options, on_progress=stop)
    study = run(classifier, shards, out=tmp_path / "run", resume=True, **options)
    assert_frame_equal(study.seeds.drop("path", "label"), whole.seeds.drop("path", "label"))
    assert_frame_equal(study.similarity, whole.similarity)
    assert study.seeds["label"].to_list() == [0, 1] * 6
    assert study.seeds["path"][0] == f"{shards}/s-000.tar/img_0.png"
    assert study.record["images"]["sha256"] == whole.record["images"]["sha256"]
