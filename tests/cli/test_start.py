"""The entry of the command line."""

import gc
import os
import signal

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


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")])
def test_the_users_choice_stands(command, monkeypatch, name, value):
    monkeypatch.setattr(os, "environ", {**os.environ, name: value})
    command()
    assert {key: os.environ.get(key) for key in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} == {
        "GOMP_SPINCOUNT": None,
        "OMP_WAIT_POLICY": None,
    } | {name: value}
