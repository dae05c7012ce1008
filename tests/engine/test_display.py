"""What a person sees of a run in a pipe, in a terminal and in a notebook; and that a listener hears instead."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from camdrift.engine import display
from camdrift.engine.display import display_on, library_display
from camdrift.engine.progress import Progress, attacked_seeds
from camdrift.study.launch import Launch


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(display, "monotonic", lambda: now.seconds)
    return now


def timed(steps, clock, show):
    """Show steps, each a few seconds after the one before."""
    for seconds, step in steps:
        clock.seconds += seconds
        show(step)


def in_a_pipe(steps, clock):
    console = Console(file=io.StringIO(), force_terminal=False, width=20)
    with display_on(console) as show:
        timed(steps, clock, show)
    return console.file.getvalue().splitlines()


def test_a_seed_that_is_attacked_is_half_done():
    assert [Progress("attack", 2, 8, 3, attacked=n).share for n in (0, 2, 8)] == [0.25, 0.25, 0.625]
    assert Progress("report", 8, 8, 3).share == 1
    assert Progress("start", 0, 0, 0).share == 0
    # One image withstands, three are fooled; then one of the three is explained.
    assert (attacked_seeds("attack", 1, 3, 6), attacked_seeds("explain", 2, 3, 6)) == (4, 6)


def test_a_pipe_gets_a_line_every_half_minute_with_percent_and_time_left(clock):
    """Two images a minute are attacked; how long explaining them takes is not known yet, and counts as much."""
    steps = [(0, Progress("attack", 0, 8, 0)), *((20, Progress("attack", i, 8, i // 2)) for i in range(1, 6))]
    assert in_a_pipe(steps, clock) == [
        "attack, 25 %: 2/8 images, 1 adversarial example, 0:00:40 so far, 0:04:00 left",
        "attack, 50 %: 4/8 images, 2 adversarial examples, 0:01:20 so far, 0:02:40 left",
    ]


def test_time_left_is_that_of_the_work_that_is_left(clock):
    """What was stored before says nothing of the speed; attack and explanation have speeds of their own."""
    steps = [
        (0, Progress("preflight", 0, 8, 0)),
        (35, Progress("write", 2, 8, 2)),
        (5, Progress("attack", 3, 8, 3, attacked=3)),
        (5, Progress("attack", 3, 8, 7, attacked=7)),  # four images in five seconds
        (25, Progress("explain", 4, 8, 7, attacked=7)),  # one in 25 seconds: four are left, and one attack
        (15, Progress("write", 7, 8, 7, attacked=7)),  # four in 40 seconds
        (31, Progress("report", 8, 8, 7)),
    ]
    assert in_a_pipe(steps, clock) == [
        "write, 25 %: 2/8 images, 2 adversarial examples, 0:00:35 so far",
        "explain, 68 %: 4/8 images, 7 adversarial examples, 0:01:10 so far, 0:01:41 left",
        "report, 100 %: 8/8 images, 7 adversarial examples, 0:01:56 so far",
    ]


def test_time_left_runs_down_and_begins_anew_with_another_run(clock):
    pace = display.Pace()
    for stage in ("1/2 preflight", "1/2 attack", "1/2 explain", "1/2 write", "2/2 preflight"):
        pace.note(Progress(stage, 4 * (stage == "1/2 write"), 4, 0, attacked=4 * (stage != "1/2 preflight")))
        clock.seconds += 10
    pace.note(Progress("2/2 attack", 0, 4, 0))
    # The first run took 10 seconds to attack four images, 20 to explain them; ten went by before the second's attack.
    assert pace.left == pytest.approx(40)
    clock.seconds += 7
    assert pace.left == pytest.approx(33)


def test_other_work_has_a_speed_of_its_own(clock):
    """Fifty passes took ten seconds, one failure six: three are left."""
    pace = display.Pace()
    for seconds, done, total, stage, unit in (
        (0, 0, 100, "fuzz", "passes"),
        (10, 50, 100, "fuzz", "passes"),
        (20, 100, 100, "fuzz", "passes"),
        (0, 0, 4, "explain", "failures"),
        (6, 1, 4, "explain", "failures"),
    ):
        clock.seconds += seconds
        pace.note(Progress(stage, done, total, 0, unit=unit))
        if (stage, done) == ("fuzz", 50):
            assert pace.left == pytest.approx(10)
    assert pace.left == pytest.approx(18)


def test_a_warning_is_a_line_at_once(clock):
    steps = [(0, Progress("attack", 0, 8, 0, ("the [bold]network\x1b[2J is odd",)))]
    assert in_a_pipe(steps, clock) == ["warning: the [bold]network\\x1b[2J is odd"]


class TestCell:
    """The display in a notebook: what IPython would be asked to show."""

    @pytest.fixture
    def shown(self, monkeypatch):
        shown = []
        handle = SimpleNamespace(update=lambda bundle, raw: shown.append(bundle))

        def show(bundle, raw, display_id):
            assert (raw, display_id) == (True, True)
            shown.append(bundle)
            return handle

        shell = SimpleNamespace(kernel=object())
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=show))
        return shown

    def test_shows_a_bar_with_percent_and_time_left_and_leaves_a_line(self, clock, shown, capfd):
        steps = [
            (1, Progress("preflight", 0, 8, 0, ("<b>odd</b>",))),
            (1, Progress("attack", 0, 8, 0)),
            (10, Progress("attack", 0, 8, 4, attacked=4)),
            (0.1, Progress("attack", 0, 8, 5, attacked=5)),  # too soon to be shown
            (10, Progress("report", 8, 8, 6)),
        ]
        with library_display() as show:
            timed(steps, clock, show)
        html = [bundle["text/html"] for bundle in shown]
        assert len(html) == 6
        assert "starting" in html[0]
        assert "&lt;b&gt;odd&lt;/b&gt;" in html[1]
        assert 'value="0.250"' in html[3]
        assert "25 %: 0/8 images, 4 adversarial examples, 0:00:12 so far, 0:00:30 left" in html[3]
        assert "<progress" not in html[-1]
        assert shown[-1]["text/plain"].splitlines() == [
            "warning: <b>odd</b>",
            "8/8 images, 6 adversarial examples, 0:00:22 in all",
        ]
        assert capfd.readouterr() == ("", "")


class TestLaunch:
    def test_a_study_shows_its_progress_on_standard_error(self, clock, capfd):
        with Launch().displayed() as launch:
            launch.show(Progress("attack", 0, 8, 0, ("odd",)))
            clock.seconds += 31
            launch.show(Progress("attack", 4, 8, 1))
        out, err = capfd.readouterr()
        assert out == ""
        assert err.splitlines()[0] == "warning: odd"
        assert "attack, 50 %: 4/8 images, 1 adversarial example, 0:00:31 so far, 0:01:02 left" in err

    def test_a_listener_hears_instead_and_silence_is_silent(self, capfd):
        heard = []
        for launch in (Launch(on_progress=heard.append), Launch(progress=False)):
            with launch.displayed() as audible:
                audible.show(Progress("attack", 0, 8, 0, ("odd",)))
        assert len(heard) == 1
        assert capfd.readouterr() == ("", "")

    def test_a_reader_that_has_gone_stops_nothing(self, monkeypatch):
        class Gone(io.StringIO):
            def write(self, _):
                raise BrokenPipeError

        monkeypatch.setattr(sys, "stderr", Gone())
        with Launch().displayed() as launch:
            launch.show(Progress("attack", 0, 8, 0, ("odd",)))
            launch.show(Progress("attack", 1, 8, 0, ("odd",)))
