"""What a person sees while a run is going."""

import io
import re

import pytest
from rich.console import Console

from camdrift.cli.progress import show_progress
from camdrift.engine.progress import Progress


def shown(*, terminal, steps):
    """What is printed of some steps that come at once."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with show_progress(console) as progress:
        progress.say("loading my[/]net")
        for step in steps:
            progress(step)
    return console.file.getvalue()


def test_a_terminal_gets_a_bar():
    text = shown(terminal=True, steps=[Progress("attack", 3, 8, 2, attacked=6)])
    assert "56 %  3/8 images, 2 adversarial" in text
    assert max(map(len, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines())) <= 100
    loading, _, _ = text.partition("3/8")
    assert "left" not in loading
    assert "/?" not in loading


def test_what_is_finished_has_no_time_left():
    text = shown(terminal=True, steps=[Progress("attack", 3, 8, 2), Progress("report", 8, 8, 5)])
    last = text.rpartition("8/8")[2]
    assert "0:00:00 in all" in last
    assert "left" not in last


def test_names_are_no_markup():
    assert "loading my[/]net" in shown(terminal=True, steps=[])


@pytest.mark.parametrize("terminal", [True, False])
def test_an_interrupted_run_says_how_to_go_on(terminal, tmp_path):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=40)

    def interrupted():
        with show_progress(console, lambda path: f"to go on: {path}") as progress:
            progress.start(tmp_path / "my [bold]run")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue().endswith(f"to go on: {tmp_path}/my [bold]run\n")


def test_interrupted_before_it_began_there_is_nothing_to_resume():
    console = Console(file=io.StringIO(), force_terminal=False)

    def interrupted():
        with show_progress(console, str):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue() == ""
