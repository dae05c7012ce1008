"""Sources of seed images: every name is ordinary, every folder is searched once, every image is a file with a name."""

import contextlib
import inspect
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from camdrift.errors import ImageError, UserError
from camdrift.images.pixels import read_image
from camdrift.images.places import Folder, ImageFile, display_path
from camdrift.images.selection import select_images
from camdrift.images.sources import default_photographs, find_images, limit_images
from support.files import lock, touch


def ids(source):
    return [file.seed_id for file in find_images(source)]


def listed_as(monkeypatch, change):
    """Folders are listed as `change` makes of their entries; gives the folders that are listed from now on."""
    listed, scan = [], os.scandir

    @contextlib.contextmanager
    def scandir(path):
        listed.append(str(path))
        with scan(path) as entries:
            yield change(list(entries))

    monkeypatch.setattr(os, "scandir", scandir)
    return listed


def reason_for(path):
    with pytest.raises(ImageError) as caught:
        read_image(path, size=8, resize=8)
    return caught.value.message


def test_folders_are_searched_for_visible_images(tmp_path):
    touch(tmp_path, "b/2.JPG", "b/1.png", "a/deep/er/x.webp", "top.mpo", "a/notes.txt", "a/x.eps", "a/y.mpg")
    touch(tmp_path, ".hidden.jpg", ".cache/x.jpg", "a/._x.jpg", "a/table.pdf", "a/README")
    files = find_images(tmp_path)
    assert [file.seed_id for file in files] == ["a/deep/er/x.webp", "b/1.png", "b/2.JPG", "top.mpo"]
    assert [file.folder for file in files] == ["a", "b", "b", None]
    assert [file.path for file in files] == [tmp_path / file.seed_id for file in files]
    assert {file.label for file in files} == {None}


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{folder}/{name}.jpg" for folder in "ab" for name in "321"))
    expected = ids(tmp_path)
    listed_as(monkeypatch, lambda entries: sorted(entries, key=lambda entry: entry.name, reverse=True))
    assert ids(tmp_path) == expected == sorted(expected)
    listed_as(monkeypatch, lambda entries: sorted(entries, key=lambda entry: entry.name))
    assert ids(tmp_path) == expected


NAMES = ["a b.jpg", "a,b.jpg", "a[1].png", "[0].png", "*.jpg", "a\nb.jpg", "Ü 猫.jpg", "#1.jpg", "{'\"}.jpg"]


def test_odd_names_are_ordinary(tmp_path):
    touch(tmp_path, *NAMES, "class [1], a/x.jpg", "a1.png")
    assert ids(tmp_path) == sorted([*NAMES, "class [1], a/x.jpg", "a1.png"])
    for name in NAMES:
        assert ids(tmp_path / name) == [name]
        assert ids([str(tmp_path / name)]) == [name]
    assert ids(tmp_path / "class [1], a" / "*.jpg") == ["x.jpg"]
    lines = [f"./{name}" for name in NAMES if "\n" not in name]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    assert ids(tmp_path / "list.txt") == sorted(name for name in NAMES if "\n" not in name)


def test_names_that_are_not_utf_8_are_found_and_shown(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (file,) = find_images(tmp_path)
    assert file.seed_id == r"caf\udce9.jpg"
    assert display_path(file.path).encode("utf-8").endswith(rb"/caf\udce9.jpg")
    assert file.path.read_bytes() == b"x"


def test_globs_match_images_and_folders(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "a/2.png", "b/1.jpg", "b/c/3.jpg", "b/notes.md", ".h/1.jpg")
    assert ids(tmp_path / "*" / "*.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert ids(tmp_path / "**" / "*.jpg") == ["a/1.jpg", "b/1.jpg", "b/c/3.jpg"]
    assert ids(tmp_path / "*") == ["a/1.jpg", "a/2.png", "b/1.jpg", "b/c/3.jpg"]
    monkeypatch.chdir(tmp_path / "a")
    assert ids("?.jpg") == ["1.jpg"]
    files = find_images("../[ab]/1.*")
    assert [(file.seed_id, file.folder) for file in files] == [("a/1.jpg", "a"), ("b/1.jpg", "b")]


def test_lists_are_taken_as_they_are(tmp_path):
    touch(tmp_path, "lists/near.dat", "photos/b.jpg", "photos/c.jpg ")
    lines = ["# seeds", "", "near.dat", "  ../photos/b.jpg  ", f"{tmp_path}/photos/c.jpg "]
    lines += ["../gone.jpg", "near.dat"]
    (tmp_path / "lists" / "all.TXT").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    files = find_images(str(tmp_path / "lists" / "all.TXT"))
    assert [file.seed_id for file in files] == ["gone.jpg", "lists/near.dat", "photos/b.jpg", "photos/c.jpg "]
    assert [file.folder for file in files] == [None, "lists", "photos", "photos"]
    assert reason_for(files[0].path) == "cannot be opened: no such file or directory"


def test_the_same_file_is_taken_once(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "a/2.jpg")
    monkeypatch.chdir(tmp_path)
    files = find_images(["a", tmp_path / "a" / "1.jpg", "a/../a/1.jpg"])
    assert [file.seed_id for file in files] == ["1.jpg", "2.jpg"]
    assert [file.path for file in files] == [Path("a/1.jpg"), Path("a/2.jpg")]


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "root/real/1.jpg", "elsewhere/2.jpg")
    root = tmp_path / "root"
    (root / "real" / "loop").symlink_to(root)
    (root / "alias").symlink_to(root / "real")
    (root / "outside").symlink_to(tmp_path / "elsewhere")
    (root / "self").symlink_to(root / "self")
    (root / "link.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    (root / "broken.jpg").symlink_to(tmp_path / "gone.jpg")
    assert ids(root) == ["broken.jpg", "link.jpg", "outside/2.jpg", "real/1.jpg"]


def test_a_folder_that_cannot_be_opened_becomes_a_row(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "locked/2.jpg")
    lock(monkeypatch, "locked")
    assert ids(tmp_path) == ["a/1.jpg", "locked"]
    assert reason_for(tmp_path / "locked") == "cannot be opened: permission denied"
    with pytest.raises(UserError, match=r"the folder cannot be opened: .*locked"):
        find_images(tmp_path / "locked")


def test_a_loop_of_links_above_the_studied_folder_ends(tmp_path):
    touch(tmp_path, "a/b/1.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "b" / "up.jpg").symlink_to(tmp_path / "a" / "b" / "up.jpg")
    assert ids(tmp_path / "a" / "b") == ["1.jpg", "up.jpg"]
    assert "too many levels" in reason_for(tmp_path / "a" / "b" / "up.jpg")


def test_a_path_with_dots_is_the_folder_it_leads_to(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "a/..jpg", "a/...x.jpg")
    assert ids(tmp_path / "a" / ".." / "b") == ["2.jpg"]
    assert ids([tmp_path / "a" / ".." / "a" / "1.jpg", tmp_path / "b" / ".." / "b" / "2.jpg"]) == ["a/1.jpg", "b/2.jpg"]
    monkeypatch.chdir(tmp_path / "a")
    assert [(file.seed_id, file.folder) for file in find_images("..")] == [("a/1.jpg", "a"), ("b/2.jpg", "b")]


def test_a_large_folder_is_listed_once_and_no_file_is_looked_at(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{folder}/{n}.jpg" for folder in ("a", "b", "c") for n in range(50)))
    looked, status = [], os.stat

    def watched(path, **options):
        looked.append(os.fspath(path))
        return status(path, **options)

    listed = listed_as(monkeypatch, lambda entries: entries)
    monkeypatch.setattr(os, "stat", watched)
    assert len(find_images(tmp_path)) == 150
    assert sorted(listed) == [f"{tmp_path}{end}" for end in ("", "/a", "/b", "/c")]
    assert not [path for path in looked if path.endswith(".jpg")]


def test_a_file_of_a_large_folder_takes_few_bytes(tmp_path):
    touch(tmp_path, *(f"n01440764/ILSVRC2012_val_{n:08d}.JPEG" for n in range(2000)))
    find_images(tmp_path)
    tracemalloc.start()
    try:
        files = find_images(tmp_path)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(files) < 200  # a name of 40 letters and one object of 72 bytes; a path would take 500 more


def test_sources_without_images_are_the_users_mistake(tmp_path):
    touch(tmp_path, "documents/thesis.pdf")
    (tmp_path / "empty.txt").write_text("\n  \n# nothing\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.jpg\n")
    sources = {
        tmp_path / "gone": r"no such file or folder.*gone \(hint: give a folder, an image, a glob",
        tmp_path / "gone[1].jpg": r"no such file or folder.*gone\[1\]\.jpg",
        tmp_path / "**jpg": r"no such file or folder|not a valid glob",
        tmp_path / "documents": r"no images in the folder: .*documents \(1 .pdf left out\) \(hint: .*ending",
        tmp_path / "empty.txt": r"the list holds no paths: .*empty\.txt",
        tmp_path / "latin.txt": r"not UTF-8 text: .*latin\.txt",
        "": "the path of the images is empty",
        ("a.jpg", " "): "the path of the images is empty",
        "null\0byte.jpg": "no such file or folder",
        (): "the list of paths is empty",
    }
    for source, message in sources.items():
        with pytest.raises(UserError, match=message):
            find_images(source)


def test_looking_changes_nothing(tmp_path):
    touch(tmp_path, "a/1.jpg")
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a" / "1.jpg")
    paths = [tmp_path, tmp_path / "a", tmp_path / "a" / "1.jpg"]
    before = [(path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
    read_image(find_images(tmp_path)[0].path, size=8, resize=8)
    assert [(path.stat().st_mtime_ns, path.stat().st_size) for path in paths] == before


def test_limits_spread_over_the_list():
    files = [ImageFile(f"{folder}/{n}", Folder(), "x", str(folder)) for folder in range(5) for n in range(4)]
    # 0, 20/2, 20/4, 20 * 3/4, 20/8, 20 * 5/8 by the sequence of van der Corput
    assert [file.seed_id for file in limit_images(files, 6)] == ["0/0", "2/2", "1/1", "3/3", "0/2", "3/0"]
    assert limit_images(files, 20) == limit_images(files, 99)
    assert sorted(limit_images(files, 99), key=files.index) == files
    for count in range(1, 20):
        assert limit_images(files, count) == limit_images(files, 20)[:count]
        assert limit_images(files[:count], count + 1)[0] == files[0]
        assert sorted(limit_images(files[:count], 99), key=files.index) == files[:count]
    with pytest.raises(UserError, match="`limit` must be at least 1, got: 0"):
        limit_images(files, 0)


def test_the_default_photographs_are_read_and_labelled():
    files = default_photographs()
    assert [file.seed_id for file in files[::19]] == ["imagenet_00_243.jpg", "imagenet_19_305.jpg"]
    assert [file.label for file in files[::19]] == [243, 305]
    assert len(files) == 20
    assert len({read_image(file.path, size=224, resize=224).sha256 for file in files}) == 20


def test_the_default_photographs_do_not_import_foolbox(tmp_path, monkeypatch):
    touch(tmp_path, "foolbox/data/imagenet_00_7.jpg", "foolbox/data/cifar10_00_3.png")
    (tmp_path / "foolbox" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "foolbox", raising=False)
    assert [file.label for file in default_photographs()] == [7]


def test_missing_foolbox_has_a_cure(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"foolbox.* \(hint: pip install foolbox\)"):
        default_photographs()


def test_files_that_are_passed_over_are_counted(tmp_path):
    for name in ("a.jpg", "IMG_1.HEIC", "sub/IMG_2.heic", "b.jxl", "scan", "labels.csv", ".hidden.heic"):
        touch(tmp_path, name)
    for source in (tmp_path, [tmp_path], tmp_path / "*"):
        remark = select_images(source).remarks[0]
        assert remark.startswith("4 files are left out, since Pillow reads no such picture: 2 .heic")
        assert all(words in remark for words in ("1 .jxl", "1 without an ending", "convert them to JPEG or PNG"))
    (tmp_path / "a.jpg").unlink()
    for source in (tmp_path, tmp_path / "*.[Hh]*"):
        with pytest.raises(UserError, match=r"\.heic.* left out\) \(hint: .*convert them"):
            find_images(source)


@pytest.mark.parametrize(
    ("source", "kind"), [(np.zeros((2, 2)), "ndarray"), ([np.zeros(2)], "ndarray in a list"), (3, "int")]
)
def test_images_in_memory_are_no_paths(source, kind):
    with pytest.raises(UserError, match=f"a glob or a list of paths, got: {kind} .*camdrift.attribute"):
        inspect.unwrap(find_images)(source)
