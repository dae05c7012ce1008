"""Processors of the machine, and how many threads shall work on them."""

import os


def processors_here() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wanted_threads() -> int | None:
    """Threads that a process shall have, as `OMP_NUM_THREADS` says; None where it says nothing."""
    words = os.environ.get("OMP_NUM_THREADS", "")
    return int(words) if words.isdecimal() and int(words) else None
