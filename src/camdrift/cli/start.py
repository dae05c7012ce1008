"""The entry of the command line: Ctrl-C ends it in a line from the first import on."""

import signal
import sys

_INTERRUPTED = 130


def start() -> None:
    """Run the command line; once it ends, further signals cannot turn its end into a traceback."""
    try:
        from camdrift.cli.app import main as command

        command()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
