"""What workers cost and bring: the same study by this process and by one, two, ... workers that Ray starts.

    python benchmarks/scale_out.py [IMAGES] [--model SPEC] [--limit 20] [--chunk-size 2] [--workers 1,2] [--rounds 2]

Every round runs every engine once, in turn; the fastest counts. Seconds are those of the chunks, from the first image
read to the last chunk stored, without statistics and report. The workers' start, which imports torch and loads the
model, is part of them; `each` leaves it out: seconds per chunk after the first. Ray is started once, before. The tables
are held against each other.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from camdrift import Study, load_model, run
from camdrift.engine.progress import Progress
from camdrift.engine.ray_cluster import cluster
from camdrift.processors import processors_here


class Stopwatch:
    """Seconds of the chunks, and until the first of them was stored."""

    def __init__(self) -> None:
        self.begin = self.first = self.end = 0.0

    def __call__(self, progress: Progress) -> None:
        now = perf_counter()
        if progress.stage == "preflight":
            self.begin = now
        elif progress.stage == "statistics":
            self.end = now
        elif progress.stage == "write" and not self.first:
            self.first = now

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
        show(kept, studies, -(-studies["local"].seeds.height // options.chunk_size))


def show(kept: dict[str, list[Stopwatch]], studies: dict[str, Study], chunks: int) -> None:
    """Seconds, ratios to the local engine, and by how much the tables differ from its."""
    base = min(watch.seconds for watch in kept["local"])
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{studies['local'].seeds.height} seed images, {chunks} chunks, {processors_here()} processors{load}")
    print("engine     threads  seconds  of local   each  of local  largest difference of a similarity")
    first = min((watch.end - watch.first) / (chunks - 1) for watch in kept["local"])
    for name, watches in kept.items():
        seconds = min(watch.seconds for watch in watches)
        each = min((watch.end - watch.first) / (chunks - 1) for watch in watches)
        threads = studies[name].record["engine"].get("threads") or torch.get_num_threads()
        apart = (studies[name].similarity["similarity"] - studies["local"].similarity["similarity"]).abs().max()
        numbers = f"{seconds:8.1f} {seconds / base:9.2f} {each:6.2f} {each / first:9.2f}"
        print(f"{name:10} {threads:7} {numbers}  {apart:.2g}", flush=True)


if __name__ == "__main__":
    main()
