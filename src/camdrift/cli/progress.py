"""Progress of a command, and what whoever stops it reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from camdrift.engine.display import Display, display_on, print_line
from camdrift.engine.interruption import Interruption, interruptible
from camdrift.engine.progress import Progress
from camdrift.errors import FOREIGN

INTERRUPTED: Final = 130  # what typer returns for a KeyboardInterrupt, as shells do


class Watch:
    """What a command shows of a run, and where it stops when a person asks for it. Call it with a `Progress`.

    Attributes:
        path: Run directory or its URL, once known.
        is_begun: Has the run shown anything yet?
    """

    def __init__(self, display: Display, interruption: Interruption) -> None:
        self.path: Path | str | None = None
        self.is_begun = False
        self._display, self._interruption = display, interruption

    def say(self, text: str) -> None:
        """Show a line until the first seed."""
        self._display.say(text)

    def start(self, path: Path | str) -> None:
        """Learn where the run is written."""
        self.path = path

    def __call__(self, progress: Progress) -> None:
        self.is_begun = True
        self._display(progress)
        self._interruption.at(progress.stage)


@contextmanager
def show_progress(console: Console, advice: Callable[[Path | str], str] | None = None) -> Iterator[Watch]:
    """Yield what to call with every `Progress`; Ctrl-C ends the block after the chunk in hand.

    Args:
        console: Where to show progress.
        advice: Returns how to go on with the run in a directory, for whoever has stopped it.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped it.
        typer.Exit: Another signal stopped it.
    """
    watch: Watch | None = None

    def advise(is_due: bool) -> None:
        if is_due and watch is not None and watch.path is not None and advice is not None:
            print_line(console, advice(watch.path))

    with interruptible() as interruption:
        try:
            with display_on(console) as display:
                watch = Watch(display, interruption)
                yield watch
        except KeyboardInterrupt as stop:
            # Whoever presses the key again must still read how to go on.
            interruption.end()
            advise(is_due=True)
            code = getattr(stop, "exit_code", INTERRUPTED)
            if code == INTERRUPTED:
                raise
            raise typer.Exit(code) from stop
        except FOREIGN:
            advise(is_due=watch is not None and watch.is_begun)
            raise
