"""The entry of the command line: Ctrl-C ends it in a line from the first import on."""

import ctypes
import gc
import os
import signal
import sys
from contextlib import suppress

_INTERRUPTED = 130
# How often a thread of libgomp, which torch's Linux builds use, looks for work before it sleeps. It never sleeps unless
# told so: where other programs hold the processors, threads then wait for each other at full speed. With this number
# passes took down to a fifth of the time there, and no longer on a quiet machine (docs/benchmarks.md).
_SPINS = "10000"
_POLICIES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# What glibc shall do with freed memory, by the variable of the user's that goes before: number of the parameter, value.
# It keeps what a thread has freed for that thread, unless all share one place: EfficientNet-Lite0's study held 2.0 GiB
# on two cores, and 1.7 so. It gives tensors of a megabyte back to the system whenever they are freed, until a larger
# one was: operations on such took up to twelve times as long, for each page is asked for anew. These two are the most
# that it comes to by itself.
_MEMORY = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**25),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**26),
}
# New objects after which Python looks for garbage. The imports make 300,000 that stay: with its own number, 700 (2,000
# from 3.13 on), they take a sixth longer.
_NEW_OBJECTS = 10_000


def start() -> None:
    """Run the command line; once it ends, further signals cannot turn its end into a traceback."""
    if not any(name in os.environ for name in _POLICIES):
        os.environ["GOMP_SPINCOUNT"] = _SPINS  # read when torch is imported, which it is not yet
    if sys.platform == "linux":
        with suppress(AttributeError):  # other C libraries know no such settings
            for parameter in (values for name, values in _MEMORY.items() if name not in os.environ):
                ctypes.CDLL(None).mallopt(*parameter)
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    try:
        from camdrift.cli.app import main as command

        command()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if sys.stderr is not None:  # it is closed
            sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.freeze()  # what is left now ends with the process: going through it took most of a second
