"""Figures that a further process draws: the same bytes, and a whole report whatever becomes of that process."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import matplotlib as mpl
import pytest

from camdrift.report import processes
from camdrift.report import study as report
from camdrift.report.study import report_files
from support.synthetic import VGG16, Study, study

# Says that it is ready, and then takes a figure and is busy for ever.
BUSY = """
import sys, time
from camdrift.report.processes import _receive, _send
_receive(sys.stdin.buffer), _send(None, sys.stdout.buffer), _receive(sys.stdin.buffer), time.sleep(600)
"""


@pytest.fixture(scope="module")
def small() -> Study:
    return study(VGG16[:3], strengths=(0.25, 1.0), targets=("seed",), analysed=3, gallery_seeds=1)


@pytest.fixture
def alone(small, monkeypatch) -> dict[str, bytes]:
    """Files of a report that one process has made."""
    monkeypatch.setattr(processes, "processors_here", lambda: 1)
    return dict(report_files(small.tables, small.record, small.gallery))


@pytest.fixture
def further(monkeypatch):
    """Lets one further process draw; holds those that were started, which must have ended."""
    processes_started, begin = [], processes._Process.__init__

    def noted(process):
        begin(process)
        processes_started.append(process)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "processors_here", lambda: 2)
    monkeypatch.setattr(processes._Process, "__init__", noted)
    yield processes_started
    (process,) = processes_started
    assert process._popen.poll() is not None
    assert process._popen.stdin.closed
    assert process._popen.stdout.closed


@pytest.fixture
def answers(monkeypatch) -> list[str]:
    """Stems of the figures that came from a further process; the page waits until it is ready."""
    stems, ask = [], processes._Process.ask

    def noted(process, question):
        answer = ask(process, question)
        if isinstance(question, str):
            stems.append(question)
        return answer

    monkeypatch.setattr(processes._Process, "ask", noted)
    return stems


def page_once(monkeypatch, condition):
    """Let the page take until a condition holds."""

    def render(*_):
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        return "page"

    monkeypatch.setattr("camdrift.report.study.render", render)


def test_a_further_process_draws_the_same(small, alone, further, answers, monkeypatch):
    page_once(monkeypatch, lambda: len(answers) > 1)
    files = dict(report_files(small.tables, small.record, small.gallery))
    assert len(answers) > 1
    assert list(files) == list(alone)
    assert [name for name in files if files[name] != alone[name] and name != "report.html"] == []


def test_settings_of_the_program_count_in_every_process(small, alone, further, answers, monkeypatch):
    page_once(monkeypatch, lambda: len(answers) > 1)
    with mpl.rc_context({"lines.dash_capstyle": "round", "axes.axisbelow": False, "font.weight": "bold"}):
        files = dict(report_files(small.tables, small.record, small.gallery))
        monkeypatch.setattr(processes, "processors_here", lambda: 1)
        same = dict(report_files(small.tables, small.record, small.gallery))
    assert files == same
    first = f"figures/{answers[0]}.png"
    assert files[first] != alone[first]


def test_settings_of_a_figure_in_hand_count_in_no_other_process(small, alone, further, answers, monkeypatch):
    """A thread that begins late finds those of what this process draws by then."""
    is_drawing, employ = Event(), processes.Drawing._employ
    monkeypatch.setattr(processes.Drawing, "_employ", lambda *own: is_drawing.wait() and employ(*own))
    page_once(monkeypatch, lambda: is_drawing.set() or answers)
    wait_for_answers = report.render

    def render(*parts):
        with mpl.rc_context({"font.weight": "bold"}):
            return wait_for_answers(*parts)

    monkeypatch.setattr(report, "render", render)
    files = dict(report_files(small.tables, small.record, small.gallery))
    assert answers
    assert {**files, "report.html": b""} == {**alone, "report.html": b""}


def test_a_process_that_waits_is_the_one_that_draws(small, further, answers, monkeypatch):
    page_once(monkeypatch, lambda: answers)
    with processes.prepared():
        assert len(further) == 1
        assert list(report_files(small.tables, small.record, small.gallery))
    assert answers


def test_a_file_with_the_name_of_a_module_is_not_run(small, further, answers, tmp_path, monkeypatch):
    """In a folder that the program has put before the standard library, which it had imported by then."""
    (tmp_path / "random.py").write_text("open(__file__ + '.ran', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    page_once(monkeypatch, lambda: answers or further[0]._popen.poll() is not None)
    assert list(report_files(small.tables, small.record, small.gallery))
    assert answers
    assert not (tmp_path / "random.py.ran").exists()


@pytest.mark.parametrize("is_isolated", [0, 1])
def test_a_python_that_ignores_its_environment_starts_such(is_isolated, monkeypatch):
    """`python -I` takes nothing from PYTHONPATH."""
    commands: list[list[str]] = []
    flags = SimpleNamespace(ignore_environment=is_isolated)
    monkeypatch.setattr(processes, "sys", SimpleNamespace(executable="python", path=["/folder"], flags=flags))
    monkeypatch.setattr(processes, "Popen", lambda command, **_: commands.append(command))
    processes._Process()
    assert ("-E" in commands[0]) == is_isolated
    assert commands[0][-1] == "/folder"


def test_a_process_that_is_not_needed_ends(further):
    with processes.prepared():
        assert further[0]._popen.poll() is None


@pytest.mark.parametrize("program", ["raise SystemExit", "import time; time.sleep(600)", BUSY])
def test_the_report_is_whole_without_it(program, small, alone, further, monkeypatch):
    """A process that ends at once, one that never begins, and one that stops in the middle of a figure."""
    monkeypatch.setattr(processes, "_PROGRAM", processes._PATH + program)
    monkeypatch.setattr(processes, "_PATIENCE", 0.2)
    page_once(monkeypatch, lambda: further[0].is_ready or program != BUSY)
    files = dict(report_files(small.tables, small.record, small.gallery))
    assert {**files, "report.html": b""} == {**alone, "report.html": b""}


def test_the_report_is_whole_where_no_process_can_be_started(small, alone, tmp_path, monkeypatch):
    """A Python that is no longer where it was, and an entry of the path that Python itself passes over."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "processors_here", lambda: 2)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("sys.path", [*sys.path, None])
    with processes.prepared():
        files = dict(report_files(small.tables, small.record, small.gallery))
    assert {**files, "report.html": b""} == {**alone, "report.html": b""}


def test_an_error_of_a_figure_is_raised_here(small, further, answers, monkeypatch):
    page_once(monkeypatch, lambda: True)
    tables = {name: table for name, table in small.tables.items() if name != "layers"}
    with pytest.raises(KeyError, match="layers"):
        list(report_files(tables, small.record, small.gallery))


def test_an_interrupt_that_comes_twice_leaves_no_process(small, further, monkeypatch):
    """Out of polars, and at the first line of what ends the processes, where Python looks for signals."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("camdrift.report.study.render", interrupted)
    monkeypatch.setattr(processes.Drawing, "__exit__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(report_files(small.tables, small.record, small.gallery))
    assert further[0]._popen.poll() is not None


def test_reports_in_two_threads_have_the_same_bytes(small, alone):
    """matplotlib's settings are the process's: figures that two threads draw at once take each other's."""
    with ThreadPoolExecutor(2) as pool:
        reports = [pool.submit(report_files, small.tables, small.record, small.gallery) for _ in range(2)]
        both = [*pool.map(dict, [report.result() for report in reports])]
    assert [name for files in both for name in files if files[name] != alone[name]] == []


@pytest.mark.parametrize("threads", ["1", "2"])
def test_as_many_processes_as_threads(threads, monkeypatch):
    monkeypatch.setattr(processes, "processors_here", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert processes._room() == int(threads) - 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert processes._room() == 3


@pytest.mark.parametrize("program", ["", "/opt/host/bin/blender"])
def test_no_other_program_is_started(program, monkeypatch):
    """Inside a program that is no interpreter `sys.executable` is empty, or that program."""
    monkeypatch.setattr(processes, "processors_here", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("sys.executable", program)
    assert processes._room() == 0
