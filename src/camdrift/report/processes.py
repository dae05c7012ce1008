"""Further processes that draw figures beside this one, which makes the page: drawing holds the interpreter.

Such a process imports what drawing takes as soon as it is started. It draws the figures that it is asked for on its
standard input until that ends. Where none can be started, or one ends too early, this process draws by itself.
"""

import os
import pickle
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from threading import Lock
from typing import IO, Any, Final

import matplotlib as mpl

from camdrift.figures.study import FIGURE_ROWS
from camdrift.processors import processors_here, wanted_threads
from camdrift.report.encoding import figure_files
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record

_Files = list[tuple[str, bytes]]

# The standard library comes first: this process has long imported it, and a file of the same name in a folder that a
# program has put before it since then would run there.
_PATH: Final = "import sys, site; sys.path += sys.argv[1:]; site.main()\n"
_PROGRAM: Final = f"{_PATH}from camdrift.report.processes import serve; serve()"
# The page takes as long as the figures that three more processes draw.
_MOST: Final = 3
# Seconds that a process has for the figure it draws, once all others are drawn.
_PATIENCE: Final = 60.0
_LENGTH_BYTES: Final = 8

# What the system refuses a process or a thread with.
_REFUSED: Final = (OSError, ValueError, RuntimeError)
# matplotlib's settings are the process's, and each figure has its own: reports in several threads take turns.
_ONE_FIGURE: Final = Lock()
# Processes that wait for the next report.
_WAITING: Final[list["_Process"]] = []


@contextmanager
def prepared() -> Iterator[None]:
    """Inside the block processes get ready for a report while this one does something else."""
    with suppress(*_REFUSED):
        for _ in range(_room()):
            _WAITING.append(_Process())
    try:
        yield
    finally:
        with suppress(IndexError):  # another thread's study takes from them, too
            while True:
                _WAITING.pop().end()


class Drawing:
    """Figures of a study that further processes draw inside a block.

    Args:
        stems: Stems of the figures, in order.
        tables: As for `report_files`.
        record: As for `report_files`.
        gallery: As for `report_files`.
    """

    def __init__(self, stems: Sequence[str], tables: Tables, record: Record, gallery: Gallery) -> None:
        self._stems = stems
        self._parts = (tables, record, gallery)
        # What a program of the user's has set counts in every process. It is taken here: while a figure is drawn others
        # hold. And past its own way to read, which chooses a window's backend.
        with _ONE_FIGURE:
            settings = [*dict.items(mpl.rcParams)]
        self._settings = {name: value for name, value in settings if not name.startswith("backend")}
        self._left = deque(stems)
        self._files: dict[str, _Files] = {}
        self._processes: list[_Process] = []
        self._pool = ThreadPoolExecutor()
        self._futures: list[Future[None]] = []

    def __enter__(self) -> "Drawing":
        with suppress(*_REFUSED):
            for _ in range(min(_room(), len(self._stems))):
                self._processes.append(_waiting() or _Process())
                self._futures.append(self._pool.submit(self._employ, self._processes[-1]))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and threads; once more changes nothing."""
        self._left.clear()
        for process in self._processes:
            process.kill()
        self._pool.shutdown()
        for process in self._processes:
            process.end()

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield names and bytes of all files, in the order of the stems; this process draws what no other has begun."""
        while self._left:
            with suppress(IndexError):  # another was faster
                self._draw(self._left.popleft())
        # One that has drawn nothing yet is still starting: it has nothing in hand.
        wait([f for f, process in zip(self._futures, self._processes, strict=False) if process.is_ready], _PATIENCE)
        for stem in self._stems:
            if stem not in self._files:
                self._draw(stem)
            yield from self._files[stem]

    def _draw(self, stem: str) -> None:
        self._files[stem] = _files_of(stem, *self._parts)

    def _employ(self, process: "_Process") -> None:
        """Let a process draw for as long as something is left; what it fails at is drawn here."""
        with suppress(Exception):
            process.ask((self._settings, self._parts))
            process.is_ready = True
            while self._left:
                stem = self._left.popleft()
                self._files[stem] = process.ask(stem)


class _Process:
    """A process that draws.

    Attributes:
        is_ready: Has it answered?
    """

    def __init__(self) -> None:
        self.is_ready = False
        # Its path begins with the standard library, not with the current folder (-P), nor with packages (-S).
        options = ["-P", "-S", *(["-E"] if sys.flags.ignore_environment else [])]
        path = [entry for entry in sys.path if isinstance(entry, str)]  # Python passes over others
        command = [sys.executable, *options, "-c", _PROGRAM, *path]
        self._popen = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)

    def ask(self, question: Any) -> Any:
        """Return its answer to a question."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        _send(question, self._popen.stdin)
        return _receive(self._popen.stdout)

    def kill(self) -> None:
        """Stop it, whatever it does."""
        self._popen.kill()

    def end(self) -> None:
        """Stop it and forget it."""
        self.kill()
        with suppress(OSError), self._popen:  # which waits for it and closes the pipes
            pass


def _waiting() -> _Process | None:
    """One of the processes that wait; None where there is none."""
    with suppress(IndexError):
        return _WAITING.pop()
    return None


def _room() -> int:
    """Processes that draw beside this one; none where this program is no interpreter that could start another."""
    is_python = "python" in Path(sys.executable or "").name.lower() and not getattr(sys, "frozen", False)
    return min(_MOST, min(processors_here(), wanted_threads() or _MOST + 1) - 1) if is_python else 0


def _files_of(stem: str, tables: Tables, record: Record, gallery: Gallery) -> _Files:
    """Names and bytes of a figure's files."""
    (figure,) = (figure for figure in FIGURE_ROWS if figure.stem == stem)
    with _ONE_FIGURE:
        return list(figure_files(stem, figure.draw(tables, record, gallery)))


def _send(message: Any, pipe: IO[bytes]) -> None:
    content = pickle.dumps(message)
    pipe.write(len(content).to_bytes(_LENGTH_BYTES))
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """The next message of a pipe.

    Raises:
        EOFError: There is none any more.
    """
    if not (length := pipe.read(_LENGTH_BYTES)):
        raise EOFError
    return pickle.loads(pipe.read(int.from_bytes(length)))


def serve() -> None:
    """Draw the figures whose stems come on standard input, for parts that come first, until it ends."""
    # Whatever is printed must not lie between answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        settings, parts = _receive(sys.stdin.buffer)
        mpl.rcParams.update(settings)
        answer: Any = None
        while True:
            _send(answer, answers)
            answer = _files_of(_receive(sys.stdin.buffer), *parts)
