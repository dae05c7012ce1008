"""Kills every command that writes, before its file operations and at random moments, and lets it go on.

    python benchmarks/kills.py [--kills 300] [--only run,report] [--rng-seed N]

Torch and camdrift are imported once; every command is a fork of this process. An audit hook ends it with SIGKILL before
the N-th operation on a file of its folder (opening for writing, renaming, removing, making or removing a folder); one
in eight is killed at a random moment. After each kill, what was there before must be whole, or what takes its place;
the command that is the natural next one must succeed; tables, pictures and names of files must then be those of a
command that nobody disturbed. Figures and pages are short texts here, but for `report` and `detect`.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

ATTACK = "dlfuzz(scores='logit', step=8/255)"
NET = """
import torch
from torch import nn
MEAN, STD, SIZE = (0.5,) * 3, (0.25,) * 3, 32


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.ModuleList(), nn.Linear(8, 10)
        self.body.extend(nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 8), (8, 8)))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(torch.randn(value.shape, generator=generator) * (0.35 if value.dim() > 1 else 0.05))

    def forward(self, x):
        for layer in self.body:
            x = torch.relu(layer(x))
        return self.head(x.mean((2, 3)) * 8)


def build():
    return Net()
"""
GRID = f"""images = "images"
strengths = [1]
noise_ladder = [4]
chunk_size = 2
gallery = 1
limit = 4
targets = "seed"
[[models]]
model = "net.py:build"
[[attacks]]
attack = "{ATTACK}"
[[attacks]]
attack = "{ATTACK.replace("8/255", "16/255")}"
"""
STUDY = ("images", "--model", "net.py:build", "--chunk-size", "2", "--strengths", "1", "--noise-ladder", "4")
SMALL = (*STUDY, "--gallery", "1", "--target", "seed", "--attack", ATTACK)
DEFENCES = (
    "--defence",
    "bits",
    "--defence",
    "median",
    "--detector",
    "softmax",
    "--adaptive",
    "pgd(eps=8/255, steps=2)",
)
CAMPAIGN = (
    "images", "--model", "net.py:build", "--frameworks", "deephunter,keep-random", "--trials", "2",
    "--budget", "80-passes",
)  # fmt: skip
# Columns that no two runs of a command share.
TIMES = ("run", "seconds")
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree"}


@dataclass
class Command:
    """A command that is killed.

    Attributes:
        name: Its name.
        folder: The folder that it writes into.
        words: The command line.
        again: Command lines that may follow a stop: the same again, and one that goes on.
        before: Command lines that make what is there before; one behind `kill NAME` is killed at a file of that name.
        is_drawn: Are figures and page drawn?
        weight: Share of the kills.
    """

    name: str
    folder: str
    words: tuple[str, ...]
    again: tuple[tuple[str, ...], ...]
    before: tuple[tuple[str, ...], ...] = ()
    is_drawn: bool = False
    weight: int = 1
    failures: list[str] = field(default_factory=list)


def commands() -> list[Command]:
    """All commands, with what comes before and after each."""
    run = ("run", *SMALL, "--limit", "6", "--out", "r")
    other = ("run", *SMALL, "--limit", "6", "--rng-seed", "1", "--out", "r")
    lone = [("run", *SMALL, "--limit", "4", "--rng-seed", seed, "--out", f"w{seed}") for seed in "012"]
    compare = ("compare", "w0", "w1", "--out", "c")
    anew = ("compare", "w0", "w2", "--out", "c", "--overwrite")
    defend = ("defend", "r", *DEFENCES, "--model", "net.py:build")
    fuzz = ("fuzz", *CAMPAIGN, "--out", "f")
    reproduce = ("reproduce", *STUDY, "--limit", "4", "--gallery", "1", "--out", "r")
    sweep = ("sweep", "grid.toml")
    resume, overwrite = (*run, "--resume"), (*run, "--overwrite")
    smaller = ("run", *SMALL, "--limit", "4", "--out", "r")
    return [
        Command("run", "r", run, (run, resume), weight=6),
        Command(
            "run --resume", "r", (*run, "--resume"), ((*run, "--resume"),), (("kill", "chunks/00001", *run),), weight=3
        ),
        Command("run --overwrite", "r", overwrite, (overwrite, resume), (other,), weight=5),
        Command("run --resume, larger", "r", resume, (resume,), (smaller,), weight=4),
        Command("report", "r", ("report", "r"), (("report", "r"),), (run,), is_drawn=True, weight=2),
        Command("compare", "c", compare, (compare, (*compare, "--overwrite")), tuple(lone[:2]), weight=2),
        Command("compare --overwrite", "c", anew, (anew,), (*lone, compare), weight=4),
        Command("detect", "r", ("detect", "r"), (("detect", "r"),), (run,), is_drawn=True, weight=2),
        Command("defend", "r", defend, (defend,), (run,), weight=3),
        Command("fuzz", "f", fuzz, (fuzz, (*fuzz, "--resume")), weight=3),
        Command("reproduce", "r", reproduce, (reproduce, (*reproduce, "--resume")), weight=2),
        Command("sweep", "runs", sweep, (sweep,), weight=3),
        Command("sweep again", "runs", sweep, (sweep,), (sweep,), weight=3),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--only", default="")
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    import_all()
    chosen = [command for command in commands() if not options.only or command.name in options.only.split(",")]
    total = sum(command.weight for command in chosen)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare()
        for command in chosen:
            kills = round(options.kills * command.weight / total)
            count, operations = kill_all(command, kills, random.Random(options.rng_seed))
            failures = f"{len(command.failures)} not recovered" if command.failures else "all recovered"
            print(f"{command.name:<20} {operations:>4} operations, {count:>3} kills: {failures}", flush=True)
            for text in command.failures:
                print(f"    {text}", flush=True)
    print(f"{time.monotonic() - start:.0f} seconds")
    sys.exit(any(command.failures for command in chosen))


def import_all() -> None:
    """Import everything that the commands need; polars and its threads must not be used before a fork."""
    import torch

    torch.set_num_threads(1)
    for name in (
        "cli.app",
        "comparison.sweep",
        "study.defend",
        "study.detect",
        "study.fuzz",
        "study.reproduce",
        "study.verify",
    ):
        __import__(f"camdrift.{name}")
    import PIL.Image

    PIL.Image.init()


def prepare() -> None:
    """Images, a network and a grid in the working directory."""
    import numpy as np
    from PIL import Image

    Path("images").mkdir()
    for number in range(6):
        small = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((40, 36), Image.Resampling.BICUBIC).save(f"images/{number}.png")
    Path("net.py").write_text(NET)
    Path("grid.toml").write_text(GRID)


def kill_all(command: Command, kills: int, draw: random.Random) -> tuple[int, int]:
    """Kill a command so many times; return the number of kills, and that of its file operations."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        before, whole, place = (Path(folder) / name for name in ("before", "whole", "killed"))
        # All of it happens in one place: records and tables of a sweep hold absolute paths.
        make(command, place, home).rename(before)
        shutil.copytree(before, place)
        os.chdir(place)
        start = time.monotonic()
        status, text = in_child(lambda: invoke(command.words, command, is_told=True))
        assert status == 0, text
        place.rename(whole)
        seconds = time.monotonic() - start
        told = json.loads(text.rsplit("told ", 1)[1])
        operations = told["operations"]
        for module in told["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(module)
        n_random = kills // 8
        step = max(1, -(-operations // (kills - n_random)))
        first = draw.randrange(1, step + 1)
        points: list[int | float] = list(range(first, operations + 1, step))
        points += [draw.uniform(0, seconds) for _ in range(kills - len(points))]
        done = 0
        for number, point in enumerate(points):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(before, place)
            os.chdir(place)
            done += one_kill(command, point, number, (before, whole))
        os.chdir(home)
    return done, operations


def make(command: Command, place: Path, home: Path) -> Path:
    """A folder with what is there before a command."""
    shutil.copytree(home, place)
    os.chdir(place)
    for words in command.before:
        if words[0] == "kill":
            status, text = in_child(lambda words=words: invoke(words[2:], command, kill_at=words[1]))
            assert status == -signal.SIGKILL, text
        else:
            status, text = in_child(lambda words=words: invoke(words, command))
            assert status == 0, text
    os.chdir(home)
    return place


def one_kill(command: Command, point: int | float, number: int, references: tuple[Path, Path]) -> bool:
    """Kill a command once and let it go on; was it killed?"""
    at = {"kill_before": point} if isinstance(point, int) else {"kill_after": point}
    status, text = in_child(lambda: invoke(command.words, command, **at), at.get("kill_after"))
    where = f"killed at {point if isinstance(point, int) else f'{point:.2f} s'}"
    if status not in (0, -signal.SIGKILL):
        command.failures.append(f"{where}: ended by itself with {status}: {text[-300:]}")
        return False
    again = next_words(command, number)
    code, problem = in_child(lambda: go_on(command, again, references))
    if code:
        command.failures.append(f"{where}, then {' '.join((again[0], again[-1]))}: {problem[-300:]}")
    return status == -signal.SIGKILL


def go_on(command: Command, words: tuple[str, ...], references: tuple[Path, Path]) -> int:
    """Look at what a killed command has left, let another one go on, and look again; 1 if something is wrong."""
    still_whole(command, *references)
    if code := invoke(words, command):
        return code
    return equal(Path(command.folder), references[1] / command.folder)


def next_words(command: Command, number: int) -> tuple[str, ...]:
    """The command line that follows a stop: the same again, or one that goes on where something can."""
    record = {"compare": "comparison.json", "fuzz": "fuzz.json"}.get(command.words[0], "run.json")
    if command.name == "run --overwrite":
        goes_on = number % 2 and (Path(command.folder) / ".next" / record).exists()
    else:
        places = (Path(command.folder) / name for name in ("", "trials", ".ready.tmp", ".moving.tmp"))
        goes_on = any((place / record).exists() for place in places)
    return command.again[-1 if goes_on else 0]


def in_child(work: Callable[[], int], kill_after: float | None = None) -> tuple[int, str]:
    """Exit status of some work in a fork of this process (minus the signal that ended it), and what it printed."""
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
            sys.stdout, sys.stderr = (os.fdopen(k, "w", buffering=1, closefd=False, errors="replace") for k in (1, 2))
            try:
                code = work()
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log.seek(0)
        return code, log.read().decode(errors="replace")


def invoke(
    words: tuple[str, ...],
    command: Command,
    *,
    kill_before: int | None = None,
    kill_at: str | None = None,
    kill_after: float | None = None,
    is_told: bool = False,
) -> int:
    """Run a command line in this process, which an audit hook may kill; return its exit code."""
    before = set(sys.modules)
    import camdrift.cli.app

    if not (command.is_drawn and words[0] == command.words[0]):
        draw_nothing()
    count = watch(Path(command.folder).resolve(), kill_before, kill_at)
    sys.argv = ["camdrift", *words]
    try:
        camdrift.cli.app.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    if is_told:
        modules = [name for name in sys.modules if name not in before and not name.startswith("camdrift_model")]
        print("told", json.dumps({"operations": len(count), "modules": modules}))
    return code


def draw_nothing() -> None:
    """Let figures and pages be short texts."""

    sys.modules["camdrift.study.study"].report_files = lambda *_: [
        ("figures/figure_1.png", b"picture"), ("figures/figure_1.pdf", b"picture"), ("report.html", b"page"),
    ]  # fmt: skip
    sys.modules["camdrift.study.fuzz"].campaign_files = lambda *_: [
        ("figures/figure_1.png", b"picture"), ("report.html", b"page"),
    ]  # fmt: skip
    sys.modules["camdrift.comparison.compare"].comparison_files = lambda tables, *_: [
        ("figures/comparison_1.png", b"picture"),
        ("comparison.html", ", ".join(tables["sides"]["side"]).encode()),
    ]


def watch(folder: Path, number: int | None, name: str | None) -> list[str]:
    """Kill this process before the N-th operation on a file in a folder, or one on a name; return a list of them."""
    operations: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        is_writing = event == "open" and (
            any(sign in str(arguments[1]) for sign in "wax+") or int(arguments[2] or 0) & os.O_CREAT  # type: ignore[call-overload]
        )
        if not (is_writing or event in WRITES):
            return
        path = arguments[1] if event == "os.rename" else arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        if not (text == str(folder) or text.startswith(f"{folder}/")):
            return
        operations.append(text)
        if len(operations) == number or (name is not None and text.endswith(name)):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return operations


def still_whole(command: Command, before: Path, whole: Path) -> None:
    """Raise `AssertionError` unless a reader finds what was there before or what is there afterwards, all of it."""
    import camdrift

    folder = Path(command.folder)
    if command.name in ("report", "detect", "defend", "run --overwrite", "run --resume, larger"):
        camdrift.open(folder)  # a reader ends what was begun
        assert camdrift.verify(folder, sample=0).problems == ()
        sides = [tables(place / folder) for place in (before, whole)]
        assert any(equal_tables(tables(folder), side) for side in sides), "neither the old nor the new tables"
    if command.name == "compare --overwrite":
        from camdrift.comparison.directory import ComparisonDirectory

        ComparisonDirectory(folder, overwrite=True).check_free()
        page = (folder / "comparison.html").read_bytes()
        at = [place for place in (before, whole) if (place / folder / "comparison.html").read_bytes() == page]
        assert at, "neither the old nor the new page"
        assert equal_tables(tables(folder), tables(at[0] / folder)), "page and tables do not fit each other"


def tables(folder: Path) -> dict:
    import polars as pl

    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.parquet")}
    visible = {name: path for name, path in paths.items() if f"/{name}".count("/.") == 0}
    return {name: pl.read_parquet(path, glob=False).drop(TIMES, strict=False) for name, path in visible.items()}


def equal_tables(mine: dict, theirs: dict) -> bool:
    return mine.keys() == theirs.keys() and all(mine[name].equals(theirs[name]) for name in mine)


def equal(folder: Path, whole: Path) -> int:
    """Has a folder the same tables, pictures and names of files as another? Else 1, and a line on the difference."""
    import numpy as np

    mine, theirs = ({str(path.relative_to(place)) for path in place.rglob("*")} for place in (folder, whole))
    if mine != theirs:
        print(f"more: {sorted(mine - theirs)}, fewer: {sorted(theirs - mine)}")
        return 1
    one, other = tables(folder), tables(whole)
    if not equal_tables(one, other):
        print(f"tables differ: {[name for name in one if not one[name].equals(other[name])]}")
        return 1
    for path in folder.rglob("gallery.npz"):
        with np.load(path) as a, np.load(whole / path.relative_to(folder)) as b:
            assert a.files == b.files
            assert all(np.array_equal(a[key], b[key]) for key in a.files), "pictures differ"
    for path in folder.rglob("run.json"):
        assert json.loads(path.read_text())["status"] == "done"
    return 0


if __name__ == "__main__":
    main()
