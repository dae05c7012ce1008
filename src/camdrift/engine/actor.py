"""The process of one worker, as Ray sees it: set up before torch is imported; every error is handed back as a value."""

import os
import pickle
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from camdrift.errors import UserError, one_line

if TYPE_CHECKING:
    from camdrift.engine.worker import Look, Outcome, Worker
    from camdrift.images.places import ImageFile


class Actor:
    """A worker in a process of its own.

    Args:
        threads: Threads that it may use.
    """

    def __init__(self, threads: int) -> None:
        # Read when torch and polars are imported, which they are not yet.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            os.environ[name] = str(threads)
        self._threads = threads
        self._worker: Worker | None = None

    def prepare(self, task: bytes) -> Exception | None:
        """Make the model of a pickled `Task`; what went wrong, if anything did."""
        try:
            self._limit()
            from camdrift.engine.worker import Worker

            self._worker = Worker(pickle.loads(task))
            self._worker.prepare()
        except Exception as error:
            return portable(error)
        return None

    def study(self, index: int, files: "Sequence[ImageFile]") -> "Outcome | Exception":
        """Compute and store one chunk; what went wrong, if anything did."""
        assert self._worker is not None
        try:
            self._limit()
            return self._worker.study(index, files)
        except Exception as error:
            return portable(error)

    def look(self) -> "Look":
        """How far the chunk in hand is."""
        assert self._worker is not None
        return self._worker.look

    def _limit(self) -> None:
        """Threads are counted for the thread that asks, and Ray calls from several."""
        import torch

        torch.set_num_threads(self._threads)


def portable(error: Exception) -> Exception:
    """An error that another process can raise; one that is nobody's mistake says where it arose."""
    if not isinstance(error, UserError):
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        notes = getattr(error, "__notes__", [])
        error = RuntimeError(one_line(error))
        for note in notes:
            error.add_note(note)
    return error
