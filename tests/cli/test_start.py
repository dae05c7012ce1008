"""The entry of the command line."""

import gc
import os
import signal
from types import SimpleNamespace

import pytest

from camdrift.cli import app, start


@pytest.fixture
def command(monkeypatch):
    """The entry, with a command that does nothing; signals and the search for garbage stay as they are."""
    monkeypatch.setattr(app, "main", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    return start.start


def test_threads_that_wait_go_to_sleep_unless_told_otherwise(command, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    command()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"


@pytest.mark.parametrize(
    ("platform", "own", "expected"),
    [
        ("linux", {}, [(-8, 1), (-3, 2**25), (-1, 2**26)]),
        ("linux", {"MALLOC_ARENA_MAX": "4", "MALLOC_TRIM_THRESHOLD_": "0"}, [(-3, 2**25)]),
        ("darwin", {}, []),
    ],
)
def test_freed_memory_is_kept_unless_told_otherwise(command, monkeypatch, platform, own, expected):
    calls = []
    library = SimpleNamespace(mallopt=lambda *values: calls.append(values))
    monkeypatch.setattr(start.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(start.sys, "platform", platform)
    monkeypatch.setattr(os, "environ", {n: v for n, v in os.environ.items() if not n.startswith("MALLOC_")} | own)
    command()
    assert calls == expected


def test_garbage_is_looked_for_seldom_and_not_at_the_end(command, monkeypatch):
    """Before the imports of the command, and after it: each takes most of a second otherwise."""
    calls = []
    later = gc.get_threshold()[1:]
    monkeypatch.setattr(gc, "set_threshold", lambda *numbers: calls.append(numbers))
    monkeypatch.setattr(app, "main", lambda: calls.append("command"))
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    command()
    assert calls == [(10_000, *later), "command", "freeze"]


def test_a_c_library_without_such_settings_will_do(command, monkeypatch):
    monkeypatch.setattr(start.ctypes, "CDLL", lambda _: SimpleNamespace())
    command()


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")])
def test_the_users_choice_stands(command, monkeypatch, name, value):
    monkeypatch.setattr(os, "environ", {**os.environ, name: value})
    command()
    assert {key: os.environ.get(key) for key in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} == {
        "GOMP_SPINCOUNT": None,
        "OMP_WAIT_POLICY": None,
    } | {name: value}


@pytest.mark.parametrize("is_open", [True, False])
def test_ctrl_c_ends_in_a_line(command, monkeypatch, capsys, is_open):
    """Also where standard error is closed: there is nobody to read it."""

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "main", interrupt)
    with monkeypatch.context() as patch:
        if not is_open:
            patch.setattr(start.sys, "stderr", None)
        with pytest.raises(SystemExit) as end:
            command()
    assert end.value.code == 130
    assert capsys.readouterr().err == ("interrupted\n" if is_open else "")
