"""What workers cost and bring: the same study by this process and by one, two, ... workers that Ray starts.

    python benchmarks/scale_out.py [IMAGES] [--model SPEC] [--limit 20] [--chunk-size 2] [--workers 1,2] [--rounds 2]

Every round runs every engine once, in turn; the fastest counts. Seconds are those of the chunks, from the first image
read to the last chunk stored, without statistics and report; the workers' start, which imports torch and loads the
model, is part of them. Ray is started once, before. The tables are held against each other.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from camdrift import Study, load_model, run
from camdrift.cluster import cluster, processors_here
from camdrift.records import Progress


class Stopwatch:
    """Seconds of the chunks."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0

    def __call__(self, progress: Progress) -> None:
        now = perf_counter()
        if progress.stage == "preflight":
            self.begin = now
        elif progress.stage == "statistics":
            self.end = now

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--attack", default="dlfuzz")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--chunk-size", type=int, default=2)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    counts = [int(word) for word in options.workers.split(",")]
    classifier = load_model(options.model, device="cpu")
    kept: dict[str, list[Stopwatch]] = {}
    studies: dict[str, Study] = {}
    start = perf_counter()
    with cluster(None, max(processors_here(), *counts)), tempfile.TemporaryDirectory() as folder:
        print(f"starting Ray: {perf_counter() - start:.1f} s")
        for round_ in range(options.rounds):
            for name, engine in {"local": {}, **{f"ray {n}": {"engine": "ray", "workers": n} for n in counts}}.items():
                watch = Stopwatch()
                studies[name] = run(
                    classifier,
                    options.images,
                    out=Path(folder) / f"{name} {round_}",
                    attack=options.attack,
                    limit=options.limit,
                    chunk_size=options.chunk_size,
                    gallery=0,
                    on_progress=watch,
                    **engine,
                )
                kept.setdefault(name, []).append(watch)
        show(kept, studies)


def show(kept: dict[str, list[Stopwatch]], studies: dict[str, Study]) -> None:
    """Seconds, ratios to the local engine, and by how much the tables differ from its."""
    base = min(watch.seconds for watch in kept["local"])
    print(f"{studies['local'].seeds.height} seed images, {processors_here()} processors")
    print("engine     threads  seconds  of local  largest difference of a similarity")
    for name, watches in kept.items():
        seconds = min(watch.seconds for watch in watches)
        threads = studies[name].record["engine"].get("threads") or torch.get_num_threads()
        apart = (studies[name].similarity["similarity"] - studies["local"].similarity["similarity"]).abs().max()
        print(f"{name:10} {threads:7} {seconds:8.1f} {seconds / base:9.2f}  {apart:.2g}")


if __name__ == "__main__":
    main()
