"""What takes the place of something is made aside and swapped whole, whenever one is stopped, and nothing is left."""

import json
import os
import sys

import pytest

from camdrift.storage.replacement import MOVING, READY, drop_leftovers, replace_files, settle, write_files
from support.studies import listing, python

NAMES = ("a.parquet", "b.parquet", "page.html", "figures/one.png", "run.json")
OLD, NEW = ({name: f"{age} {name}".encode() for name in NAMES} for age in ("old", "new"))


def is_ours(name):
    return name in (*NAMES, "obsolete.parquet", "figures", "chunks")


def state(folder):
    """Bytes of every file below a folder by its path from there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A fork for every operation on a file, which kills the fork; no thread runs in this process.
KILLS = """
import json, os, signal, sys
from functools import partial
from pathlib import Path
from camdrift.storage.replacement import replace_files, settle

old, new, top = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
ours = lambda name: name in (*old, *new, "figures", "chunks")
writers = lambda texts: [(name, partial(Path.write_text, data=text)) for name, text in texts.items()]
state = lambda folder: {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}

def killed(folder, number):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
            count += str(folder) in str(arguments[0])
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
    if os.fork() == 0:
        sys.addaudithook(hook)
        replace_files(folder, writers(new), ours, is_all=True)
        os._exit(0)
    return os.wait()[1] == signal.SIGKILL

number, states = 1, []
while True:
    folder = top / str(number)
    folder.mkdir()
    replace_files(folder, writers({**old, "notes.txt": "mine"}))
    if not killed(folder, number):
        break
    settle(folder, ours)
    kept = {name: text for name, text in state(folder).items() if name[0] != "."}
    states.append([kept == {**old, "notes.txt": "mine"}, kept == {**new, "notes.txt": "mine"}])
    replace_files(folder, writers(new), ours, is_all=True)
    number += 1
print(json.dumps(states))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_any_file_operation_the_old_or_the_new_is_whole(tmp_path):
    old, new = ({name: data.decode() for name, data in files.items()} for files in (OLD, NEW))
    done = python(KILLS, json.dumps({**old, "obsolete.parquet": "old"}), json.dumps(new), str(tmp_path), cwd=tmp_path)
    states = json.loads(done.stdout)
    is_old, is_new = ([state[k] for state in states] for k in (0, 1))
    assert len(states) > 30
    assert sorted(is_new) == is_new, "once new, always new"
    assert [a != b for a, b in zip(is_old, is_new, strict=True)] == [True] * len(states)
    assert any(is_old)
    assert any(is_new)


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        write_files(tmp_path, OLD.items(), is_ours)
        (tmp_path / "notes.txt").write_text("mine")
        return tmp_path

    def test_all_or_none_where_one_cannot_be_written(self, folder):
        before = state(folder)

        def fail(path):
            path.write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            replace_files(folder, [("a.parquet", lambda path: path.write_text("new")), ("b.parquet", fail)], is_ours)
        assert state(folder) == before

    def test_others_stay_unless_these_are_all(self, folder):
        write_files(folder, [("a.parquet", b"new")], is_ours)
        assert state(folder) == {**OLD, "a.parquet": b"new", "notes.txt": b"mine"}
        replace_files(folder, [("run.json", lambda path: path.write_bytes(b"new"))], is_ours, is_all=True)
        assert state(folder) == {"run.json": b"new", "notes.txt": b"mine"}
        assert not (folder / "figures").exists()

    def test_what_killed_commands_left_goes_and_the_rest_stays(self, folder):
        left = (".a.parquet.part", ".run.json.0123456789abcdef.part", ".page.html.4711.tmp", "figures/.one.png.12.tmp")
        others = (".notes.part", ".hidden", ".other.json.part", "figures/.mine.tmp", "x.part")
        for name in (*left, *others):
            (folder / name).write_text("x")
        (folder / ".0123456789abcdef.tmp").mkdir()
        drop_leftovers(folder, lambda name: is_ours(name) or name == "figures/one.png")
        assert state(folder).keys() == {*OLD, "notes.txt", *others}
        assert not (folder / ".0123456789abcdef.tmp").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
class TestLinks:
    """A folder that somebody handed over leads nowhere else."""

    @pytest.fixture
    def collection(self, tmp_path):
        folder = tmp_path / "collection"
        (folder / "figures").mkdir(parents=True)
        for name in ("a.parquet", "figures/one.png", "run.json"):
            (folder / name).write_text("precious")
        return folder

    @pytest.fixture
    def run(self, tmp_path):
        (tmp_path / "run").mkdir()
        return tmp_path / "run"

    @pytest.mark.parametrize("name", [READY, MOVING, "figures", "chunks", "a.parquet"])
    @pytest.mark.parametrize("is_all", [False, True])
    def test_a_link_is_not_followed(self, run, collection, name, is_all):
        before = listing(collection)
        (run / name).symlink_to(collection / name if (collection / name).exists() else collection)
        replace_files(run, [(name, lambda path: path.write_text("new")) for name in NAMES], is_ours, is_all=is_all)
        assert listing(collection) == before
        assert state(run) == dict.fromkeys(NAMES, b"new")

    def test_nor_one_inside_what_waits(self, run, collection):
        before = listing(collection)
        (run / MOVING).mkdir()
        (run / MOVING / "figures").symlink_to(collection / "figures")
        settle(run, is_ours)
        assert listing(collection) == before
        assert list(run.iterdir()) == []
