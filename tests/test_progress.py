"""What a person sees while a run is going."""

import io
import signal

import pytest
from rich.console import Console

from camdrift.progress import show_progress
from camdrift.records import Progress


def shown(*, terminal, steps, seconds=0.0, monkeypatch=None):
    """What is printed when `steps` come `seconds` apart."""
    if monkeypatch is not None:
        ticks = iter(range(100))
        monkeypatch.setattr("camdrift.progress.monotonic", lambda: seconds * next(ticks))
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with show_progress(console) as progress:
        progress.say("loading my[/]net")
        for step in steps:
            progress(step)
    return console.file.getvalue()


def test_a_terminal_gets_a_bar():
    text = shown(terminal=True, steps=[Progress("attack", 3, 8, 2)])
    assert "3/8" in text
    assert "2 adversarial" in text


def test_names_are_no_markup():
    assert "loading my[/]net" in shown(terminal=True, steps=[])


def test_a_pipe_gets_a_line_every_half_minute(monkeypatch):
    steps = [Progress("attack", i, 8, i // 2) for i in range(5)]
    assert shown(terminal=False, steps=steps) == ""
    text = shown(terminal=False, steps=steps, seconds=20.0, monkeypatch=monkeypatch)
    assert text.splitlines() == [
        "attack: 1/8 images, 0 adversarial examples",
        "attack: 3/8 images, 1 adversarial examples",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_an_interrupted_run_says_how_to_go_on(terminal, tmp_path):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=40)

    def interrupted():
        with show_progress(console) as progress:
            progress.started(tmp_path / "my [bold]run")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    advice = f"the same command with --resume --out '{tmp_path}/my [bold]run' goes on\n"
    assert console.file.getvalue().endswith(advice)


def test_interrupted_before_it_began_there_is_nothing_to_resume():
    console = Console(file=io.StringIO(), force_terminal=False)

    def interrupted():
        with show_progress(console):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["SIGINT", "SIGTERM"]
)
class TestSignals:
    def test_the_chunk_in_hand_is_finished(self, number, error, tmp_path):
        console = Console(file=io.StringIO(), force_terminal=False, width=100)
        before, seen = signal.getsignal(number), []

        def run():
            with show_progress(console) as progress:
                progress.started(tmp_path)
                progress(Progress("1/4 attack", 0, 8, 0))
                signal.raise_signal(number)
                for stage in ("attack", "explain", "write", "attack"):
                    progress(Progress(stage, 3, 8, 0))
                    seen.append(stage)

        with pytest.raises(error) as caught:
            run()
        assert seen == ["attack", "explain"]
        assert getattr(caught.value, "code", 143) == 143
        lines = console.file.getvalue().splitlines()
        assert lines[0] == "stopping once these images are stored; again stops at once"
        assert lines[1].endswith(f"the same command with --resume --out {tmp_path} goes on")
        assert signal.getsignal(number) is before

    def test_asked_twice_it_stops_at_once(self, number, error):
        def run():
            with show_progress(Console(file=io.StringIO())) as progress:
                progress(Progress("explain", 0, 8, 0))
                signal.raise_signal(number)
                with pytest.raises(error):
                    signal.raise_signal(number)

        run()

    def test_between_chunks_it_stops_at_once(self, number, error):
        def run():
            with show_progress(Console(file=io.StringIO())) as progress:
                progress(Progress("statistics", 8, 8, 0))
                signal.raise_signal(number)

        with pytest.raises(error):
            run()
