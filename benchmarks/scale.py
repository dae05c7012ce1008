"""What a study costs as it grows: seconds and peak memory of every part.

    python benchmarks/scale.py seeds [--counts 500,2000,10000]   studies of made images by a tiny network
    python benchmarks/scale.py rows [--seeds 20040] [--layers 48] [--out DIR]   tables of 50 million similarity rows

Every study, and everything that is done to the large tables, runs in a process of its own. Peak memory is that of the
process; in the first form it is reset between the parts of a run (Linux), so that each part shows its own.
"""

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ATTACK = "dlfuzz(scores='logit', step=1/255)"
STAGES = ("read", "attack", "noise", "explain", "compare", "focus", "gallery", "coverage", "write", "statistics")
STEPS = ("merge", "layers", "counts", "controls", "complete", "scan", "open", "report", "compare", "detect", "verify")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    seeds = commands.add_parser("seeds")
    seeds.add_argument("--counts", default="500,2000,10000")
    rows = commands.add_parser("rows")
    rows.add_argument("--seeds", type=int, default=20_040)
    rows.add_argument("--layers", type=int, default=48)
    rows.add_argument("--out", type=Path)
    rows.add_argument("--steps", default=",".join(STEPS))
    one = commands.add_parser("one-study")
    one.add_argument("images", type=Path)
    one.add_argument("count", type=int)
    step = commands.add_parser("one-step")
    step.add_argument("name")
    step.add_argument("run", type=Path)
    options = parser.parse_args()
    if options.command == "seeds":
        several_studies([int(count) for count in options.counts.split(",")])
    elif options.command == "one-study":
        one_study(options.images, options.count)
    elif options.command == "one-step":
        one_step(options.name, options.run)
    else:
        with tempfile.TemporaryDirectory() as folder:
            large_tables(options.out or Path(folder) / "run", options.seeds, options.layers, options.steps.split(","))


def again(*arguments: object) -> None:
    """This script in a process of its own."""
    subprocess.run([sys.executable, __file__, *map(str, arguments)], check=True)


def several_studies(counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), max(counts))
        for count in counts:
            again("one-study", folder, count)


def write_images(folder: Path, count: int) -> None:
    """Small smooth images, one shard."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    with tarfile.open(folder / "made.tar", "w") as shard:
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            coarse.resize((32, 32), Image.Resampling.BILINEAR).save(buffer, "PNG")
            entry = tarfile.TarInfo(f"{i:07d}.png")
            entry.size = buffer.tell()
            shard.addfile(entry, io.BytesIO(buffer.getvalue()))


def tiny_network():
    import torch
    from torch import nn

    torch.manual_seed(1)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(192, 10)).eval()


def one_study(images: Path, count: int) -> None:
    import torch

    import camdrift

    torch.set_num_threads(1)
    peaks: dict[str, float] = {}
    spent: dict[str, float] = {}
    now = {"part": "compute", "since": time.process_time()}
    marks: list[tuple[int, float]] = []

    def close() -> None:
        peaks[now["part"]] = peak()
        spent[now["part"]] = time.process_time() - now["since"]

    def note(progress: object) -> None:
        stage = progress.stage
        if stage == "write":
            marks.append((progress.seeds_done, time.process_time()))
        done = progress.seeds_done == progress.seeds_total
        part = {"statistics": "statistics", "report": "report"}.get(stage, "merge" if done else "compute")
        if part != now["part"]:
            close()
            reset_peak()
            now.update(part=part, since=time.process_time())

    model = camdrift.wrap(tiny_network(), mean=(0.5,) * 3, std=(0.25,) * 3, size=32)
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "run", time.perf_counter()
        study = camdrift.run(
            model, str(images / "made.tar"), out=out, attack=ATTACK, limit=count, on_progress=note, batch_size=64
        )
        wall = time.perf_counter() - start
        close()
        timings, analysed = study.record["timings"], study.seeds.filter(status="analysed").height
        sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.is_file()}
        rows = study.scan("similarity").select("seed_id").collect().height
    print(
        f"{count:,} seeds, {analysed:,} analysed, {rows:,} similarities; {1000 * timings['total'] / count:.2f} ms/seed"
    )
    print("  ms/seed: " + ", ".join(f"{name} {1000 * timings.get(name, 0) / count:.2f}" for name in STAGES))
    print(f"  report {wall - timings['total']:.1f} s, {sizes['report.html'] / 2**20:.2f} MiB")
    print("  CPU ms/seed of each tenth: " + ", ".join(f"{value:.2f}" for value in tenths(marks)))
    print("  CPU ms/seed: " + ", ".join(f"{part} {1000 * value / count:.2f}" for part, value in spent.items()))
    print("  peak memory, MiB: " + ", ".join(f"{part} {value:.0f}" for part, value in peaks.items()), flush=True)


def tenths(marks: list[tuple[int, float]]) -> list[float]:
    """CPU time per seed of the tenths of a run, in ms, from the time at the end of each chunk."""
    ends = [marks[round(i * (len(marks) - 1) / 10)] for i in range(11)]
    return [1000 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(ends) if b[0] > a[0]]


def peak() -> float:
    """Peak resident memory of this process in MiB, since `reset_peak` where that is possible."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def reset_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("5")


def large_tables(run: Path, seeds: int, layers: int, steps: list[str]) -> None:
    import made_study

    start = time.perf_counter()
    if not run.exists():
        rows = made_study.make(run, seeds, layers)
        print(f"{seeds:,} seeds, {layers} layers: {rows:,} similarities made in {time.perf_counter() - start:.0f} s")
    for step in steps:
        again("one-step", step, run)
    if (run / "similarity.parquet").is_file():
        for path in sorted(run.glob("*.parquet")):
            print(f"  {path.name:20} {path.stat().st_size / 2**20:8.1f} MiB")


def one_step(name: str, run: Path) -> None:
    import camdrift
    import made_study
    from camdrift.statistics.controls import study_controls
    from camdrift.statistics.layers import compromised_counts, layer_statistics
    from camdrift.storage.run_directory import RunDirectory
    from camdrift.tables.measures import of_first_measure
    from camdrift.tables.reading import scan

    directory = RunDirectory.open(run)

    def tables() -> tuple:
        made = directory.stored_tables("similarity", "variants", "floor")
        return made, scan(made, "similarity"), scan(made, "floor")

    def layers() -> None:
        made, similarity, floor = tables()
        directory.write_table("layers", layer_statistics(similarity, made["variants"], floor, rng_seed=0))

    def counts() -> None:
        directory.write_table("counts", compromised_counts(tables()[1], directory.read_table("layers")))

    def controls() -> None:
        directory.write_table("controls", study_controls(of_first_measure(tables()[0]), rng_seed=0))

    def report() -> None:
        page = camdrift.open(run).report()
        print(f"  report.html {page.stat().st_size / 2**20:.2f} MiB, figures", end=" ")
        print(f"{sum(p.stat().st_size for p in (run / 'figures').iterdir()) / 2**20:.2f} MiB")

    actions = {
        "merge": lambda: made_study.merge(run),
        "layers": layers,
        "counts": counts,
        "controls": controls,
        "complete": lambda: made_study.complete(run),
        "scan": lambda: camdrift.open(run).scan("similarity").filter(strength=1.0, target="seed").collect(),
        "open": lambda: [getattr(camdrift.open(run), t) for t in ("seeds", "variants", "layers", "counts", "coverage")],
        "report": report,
        "compare": lambda: camdrift.compare(run, out=run.parent / f"compared-{os.getpid()}"),
        "detect": lambda: camdrift.detect(camdrift.open(run)),
        "verify": lambda: print("  ", camdrift.verify(run, sample=0).lines()[-1]),
    }
    start = time.perf_counter()
    actions[name]()
    wall, cpu = time.perf_counter() - start, time.process_time()
    print(f"{name:10} {wall:8.1f} s   CPU {cpu:8.1f} s   peak {peak() / 2**10:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
