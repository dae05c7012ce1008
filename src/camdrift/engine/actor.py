"""The process of one worker, as Ray sees it: set up before torch is imported; it returns errors as values."""

import os
import pickle
import traceback
from typing import TYPE_CHECKING, Any

from camdrift.errors import UserError, one_line

if TYPE_CHECKING:
    from camdrift.engine.jobs import JobWorker


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
        self._worker: JobWorker | None = None

    def prepare(self, task: bytes) -> Exception | None:
        """Make what all jobs of a pickled task need; return the error, if there is one."""
        try:
            self._limit()
            self._worker = pickle.loads(task).worker()
            self._worker.prepare()
        except Exception as error:
            return portable(error)
        return None

    def compute(self, number: int, *arguments: Any) -> Any:
        """Do one job; return its outcome, or the error."""
        assert self._worker is not None
        try:
            self._limit()
            return self._worker.compute(number, *arguments)
        except Exception as error:
            return portable(error)

    def progress(self) -> Any:
        """The worker's progress with the job in hand."""
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
