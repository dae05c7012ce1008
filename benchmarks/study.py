"""Where the time of a study goes: attack, passes, similarity, coverage, writing; and its peak memory.

    python benchmarks/study.py [IMAGES] [--model SPEC] [--attack SPEC] [--limit 8] [--out run]

The passes are what the network itself needs; everything else is camdrift's own work. Neuron coverage is counted inside
the forward passes, so its time is taken there and subtracted from theirs.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from camdrift import load_model, run
from camdrift.coverage import NeuronObserver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--attack", default="dlfuzz")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the run directory here")
    options = parser.parse_args()
    counted = {"attack": 0.0, "explain": 0.0}
    time_coverage(counted)
    with tempfile.TemporaryDirectory() as folder:
        study = run(
            load_model(options.model, device=options.device),
            options.images,
            out=options.out or Path(folder) / "run",
            attack=options.attack,
            limit=options.limit,
            batch_size=options.batch_size,
            on_progress=lambda progress: counted.update(stage=progress.stage),
        )
        show(study.record["timings"], counted, study.seeds.height, (study.seeds["status"] == "analysed").sum())


def time_coverage(counted: dict) -> None:
    """Add up the time spent on neuron outputs inside the passes, by the stage that runs them."""
    add = NeuronObserver._add

    def timed(self: NeuronObserver, *arguments: object) -> None:
        start = time.perf_counter()
        add(self, *arguments)
        stage = "explain" if counted.get("stage") == "explain" else "attack"
        counted[stage] += time.perf_counter() - start

    NeuronObserver._add = timed


def show(timings: dict, counted: dict, seeds: int, analysed: int) -> None:
    total = timings["total"]
    rows = {
        "attack (network)": timings["attack"] - counted["attack"],
        "passes (network)": timings["explain"] - counted["explain"],
        "coverage": timings["coverage"] + counted["attack"] + counted["explain"],
        "similarity": timings.get("compare", 0.0),
        "focus": timings["focus"],
        "reading": timings["read"],
        "noise": timings["noise"],
        "statistics": timings["statistics"],
        "pictures": timings["gallery"],
        "writing": timings["write"],
    }
    rows["other"] = total - sum(rows.values())
    print(f"{seeds} seed images, {analysed} analysed, {total:.1f} s")
    for name, value in rows.items():
        print(f"{name:18}{value:8.2f} s{100 * value / total:7.1f} %")
    outside = total - rows["attack (network)"] - rows["passes (network)"]
    print(f"outside the network: {100 * outside / total:.1f} %")
    unit = 1 if sys.platform == "darwin" else 1024
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
