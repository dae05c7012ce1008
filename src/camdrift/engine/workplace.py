"""The surroundings of a run, which every worker must find again on its machine."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from camdrift.errors import StoreError, UserError

# A shared folder may show late what another machine has written.
_PATIENCE: Final = 30.0


@dataclass(frozen=True)
class Workplace:
    """The surroundings of a run.

    Attributes:
        folder: Working directory, from which relative paths count.
        modules: Folders in which Python looks for modules.
        out: Path or URL of the run directory.
        started: The time at which the run began, as its record has it.
    """

    folder: Path
    modules: tuple[str, ...]
    out: Path | str
    started: str

    @classmethod
    def here(cls, out: Path | str, started: str) -> "Workplace":
        """The surroundings of this process.

        Args:
            out: Path or URL of the run directory.
            started: The time at which the run began.
        """
        modules = tuple(os.path.abspath(place) for place in sys.path)  # noqa: PTH100, "" is the working directory
        return cls(Path.cwd(), modules, out if isinstance(out, str) else out.absolute(), started)

    def enter(self, read_record: Callable[[], dict[str, Any]], cure: str) -> None:
        """Give relative paths and names of modules their meaning, and wait until the run directory is to be seen.

        Args:
            read_record: Reads the record of the run directory; it raises `StoreError` where there is none.
            cure: What helps where the directory is not to be seen.

        Raises:
            UserError: There is no such folder on this machine.
            StoreError: The run directory is not here, or is another.
        """
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UserError(
                "`engine` ray needs the folder of the command on every worker, got: none at "
                f"{self.folder} ({error.strerror})",
                "start the command in a folder that all machines share",
            ) from error
        sys.path += [place for place in self.modules if place not in sys.path]
        deadline = time.monotonic() + _PATIENCE
        while not self._is_there(read_record):
            if time.monotonic() > deadline:
                raise StoreError(
                    f"`out` must be a folder that every worker sees, got: {self.out}, which one does not", cure
                )
            time.sleep(0.5)

    def _is_there(self, read_record: Callable[[], dict[str, Any]]) -> bool:
        try:
            return bool(read_record().get("started") == self.started)
        except StoreError:
            return False
