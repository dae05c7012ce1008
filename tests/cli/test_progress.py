"""What a person sees while a run is going."""

import io

import pytest
from rich.console import Console

from camdrift.cli.progress import show_progress
from camdrift.engine.progress import Progress


def shown(*, terminal, steps, seconds=0.0, monkeypatch=None):
    """What is printed when `steps` come `seconds` apart."""
    if monkeypatch is not None:
        ticks = iter(range(100))
        monkeypatch.setattr("camdrift.cli.progress.monotonic", lambda: seconds * next(ticks))
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with show_progress(console) as progress:
        progress.say("loading my[/]net")
        for step in steps:
            progress(step)
    return console.file.getvalue()


def test_a_terminal_gets_a_bar():
    text = shown(terminal=True, steps=[Progress("attack", 3, 8, 2)])
    assert "3/8 images, 2 adversarial" in text
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


def test_a_pipe_gets_a_line_every_half_minute(monkeypatch):
    steps = [Progress("attack", i, 8, i // 2) for i in range(5)]
    assert shown(terminal=False, steps=steps) == ""
    text = shown(terminal=False, steps=steps, seconds=20.0, monkeypatch=monkeypatch)
    assert text.splitlines() == [
        "attack: 1/8 images (12%), 0 adversarial examples, 0:00:40 so far, 0:02:20 left",
        "attack: 3/8 images (38%), 1 adversarial example, 0:01:20 so far, 0:01:40 left",
    ]


def test_images_that_a_run_has_already_say_nothing_of_the_time_left(monkeypatch):
    """Then a sweep's second study, which begins with none."""
    steps = [Progress("preflight", 0, 100, 0), *(Progress("attack", 64 + i, 100, 0) for i in range(3))]
    steps += [Progress("2 of 2 preflight", 0, 8, 0), *(Progress("2 of 2 attack", i, 8, 0) for i in range(2))]
    lines = shown(terminal=False, steps=steps, seconds=31.0, monkeypatch=monkeypatch).splitlines()
    # 34 images at 31 seconds each; 7 at 31 seconds.
    assert [line.partition(" so far")[2] for line in lines] == [
        "",
        "",
        ", 0:18:05 left",
        ", 0:17:34 left",
        "",
        "",
        ", 0:03:37 left",
    ]


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
