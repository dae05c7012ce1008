"""The whole command `camdrift run`, from the first import to the end of its process, in turns with other builds.

    python benchmarks/whole_command.py [SOURCE ...] [--rounds 3] [--arguments "--limit 5"]

SOURCE is a folder `src` of another build (`git worktree add --detach old COMMIT`). One of before the page's script came
with the package draws it by vl-convert, which must be installed. Seconds are of the clock; memory is the peak of the
process alone, not of those that it starts.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = """
import sys
try:
    from camdrift.cli.start import start
except ModuleNotFoundError:  # builds of before
    start = __import__("camdrift.cli").cli.main
sys.argv[0] = "camdrift"
start()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arguments", default="", help="of `camdrift run`")
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1] / "src"
    seconds: dict[Path, list[float]] = {source.resolve(): [] for source in [*options.sources, here]}
    for _ in range(options.rounds):
        for source, taken in seconds.items():
            took, memory = run(source, shlex.split(options.arguments))
            taken.append(took)
            print(f"{source}: {took:.1f} s, {memory:.2f} GiB", flush=True)
    for source, taken in seconds.items():
        ratio = statistics.median(seconds[here]) / statistics.median(taken)
        print(f"{source}: {statistics.median(taken):.1f} s; this build takes {ratio:.2f} of it")


def run(source: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds and GiB of one run of a build."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", COMMAND, "run", *arguments, "--out", f"{folder}/run"]
        start = time.perf_counter()
        # Not the whole peak of this process's children, but that of one.
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{source}: the command ended with {process.returncode}")
        return time.perf_counter() - start, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
