"""The process of one worker, as Ray sees it: set up before torch is imported; it returns errors as values."""

import os
import pickle
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from camdrift.errors import UserError, one_line

if TYPE_CHECKING:
    from camdrift.engine.worker import ChunkProgress, Outcome, Worker
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
        """Make the model of a pickled `Task`; return the error, if there is one."""
        try:
            self._limit()
            from camdrift.engine.worker import Worker

            self._worker = Worker(pickle.loads(task))
            self._worker.prepare()
        except Exception as error:
            return portable(error)
        return None

    def study(self, index: int, files: "Sequence[ImageFile]") -> "Outcome | Exception":
        """Compute and store one chunk; return its outcome, or the error."""
        assert self._worker is not None
        try:
            self._limit()
            return self._worker.study(index, files)
        except Exception as error:
            return portable(error)

    def progress(self) -> "ChunkProgress":
        """The worker's progress with the chunk in hand."""
        assert self._worker is not None
        return self._worker.progress

    def _limit(self) -> None:
        """Limit the threads of the calling thread: torch counts them for each, and Ray calls from several."""
        import torch

        torch.set_num_threads(self._threads)


def portable(error: Exception) -> Exception:
    """An error that another process can raise; one that is not the user's mistake says where it arose."""
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
