"""The entry of the command line: Ctrl-C ends it in a line from the first import on."""

import os
import signal
import sys

_INTERRUPTED = 130
# How often a thread of libgomp, which torch's Linux builds use, looks for work before it sleeps. It never sleeps unless
# told so: where other programs hold the processors, threads then wait for each other at full speed. With this number
# passes took down to a fifth of the time there, and no longer on a quiet machine (docs/benchmarks.md).
_SPINS = "10000"
_POLICIES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def start() -> None:
    """Run the command line; once it ends, further signals cannot turn its end into a traceback."""
    if not any(name in os.environ for name in _POLICIES):
        os.environ["GOMP_SPINCOUNT"] = _SPINS  # read when torch is imported, which it is not yet
    try:
        from camdrift.cli.app import main as command

        command()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
