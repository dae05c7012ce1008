"""Threads against processes: the chunks of a study on a processor.

    python benchmarks/processes.py [IMAGES] [--model SPEC] [--limit 8] [--chunk-size 2] [--processes 2] [--rounds 3]

The processes make the model once, and compute a chunk before the clock runs. Then every round computes the same chunks
three ways, in turn: all in one process with as many threads as there are processes, all in one process with one thread,
and in the processes side by side, each with one thread. Ratios are medians over the rounds.

In brackets are the seconds of the processor of the thread that calls torch, of the busiest process. With
OMP_WAIT_POLICY=passive, under which a thread that waits for others takes none, the clock cannot show less where nothing
else runs: this is the number to read on a machine that is busy with other work.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from statistics import median
from time import perf_counter, thread_time

import polars as pl
import torch

from camdrift import load_model
from camdrift.images.places import ImageFile
from camdrift.images.selection import select_images
from camdrift.pipeline.chunk import fit_chunk
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.plan import parts, study_plan
from camdrift.pipeline.settings import Settings


def serve(connection: Connection, model: str, files: Sequence[ImageFile], settings: Settings) -> None:
    """Compute chunks for whoever asks: numbers of chunks and threads in, similarities out."""
    torch.set_num_threads(1)
    classifier = load_model(model, device="cpu")
    plan, chunks = study_plan(classifier, files, settings, Clock()), parts(files, settings)
    connection.send(len(chunks))
    while (order := connection.recv()) is not None:
        numbers, threads = order
        torch.set_num_threads(threads)
        tables, start = {}, thread_time()
        with classifier.numerics():
            for number in numbers:
                _, result = fit_chunk(plan.at_chunk(number), chunks[number], lambda *_: None, lambda _: None)
                tables[number] = result.tables["similarity"]
        connection.send((tables, thread_time() - start))


@dataclass
class Lap:
    """One way to compute all chunks: seconds of the clock, of the busiest calling thread, and similarities by chunk."""

    clock: float
    thread: float
    tables: dict[int, pl.DataFrame]


def lap(connections: Sequence[Connection], chunks: int, threads: int) -> Lap:
    """Hand out the chunks one by one to the processes behind some connections, and wait for all."""
    start, tables, numbers = perf_counter(), dict[int, pl.DataFrame](), iter(range(chunks))
    busy = {id(connection): 0.0 for connection in connections}
    open_ = [connection for connection in connections if _give(connection, numbers, threads)]
    while open_:
        for connection in wait(open_):
            table, seconds = connection.recv()
            tables |= table
            busy[id(connection)] += seconds
            if not _give(connection, numbers, threads):
                open_.remove(connection)
    return Lap(perf_counter() - start, max(busy.values()), tables)


def _give(connection: Connection, numbers: Iterator[int], threads: int) -> bool:
    number = next(numbers, None)
    if number is not None:
        connection.send(([number], threads))
    return number is not None


def apart(tables: dict[int, pl.DataFrame], others: dict[int, pl.DataFrame]) -> str:
    """How far two sets of similarities lie apart, in words."""
    pairs = [(table, others[number]) for number, table in tables.items()]
    gaps = [(table["similarity"] - other["similarity"]).abs() for table, other in pairs if table.height == other.height]
    equal, rows = sum(int((gap == 0).sum()) for gap in gaps), sum(gap.count() for gap in gaps)
    return f"{equal} of {rows} similarities equal, largest difference {max([gap.max() or 0.0 for gap in gaps]):.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--attack", default="dlfuzz")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--chunk-size", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = select_images(options.images, limit=options.limit, per_class=None, rng_seed=0).files
    settings = Settings(attack=options.attack, limit=options.limit, chunk_size=options.chunk_size, gallery=0)
    context, connections, processes = get_context("spawn"), [], []
    begin = perf_counter()
    for _ in range(options.processes):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, options.model, files, settings), daemon=True)
        process.start()
        connections.append(here)
        processes.append(process)
    chunks = [connection.recv() for connection in connections][-1]
    print(
        f"{options.model}: {len(files)} images, {chunks} chunks; processes ready after {perf_counter() - begin:.1f} s"
    )
    lap(connections, min(chunks, options.processes), 1)
    ways = {"threads": (connections[:1], options.processes), "one": (connections[:1], 1), "processes": (connections, 1)}
    laps: dict[str, list[Lap]] = {name: [] for name in ways}
    for number in range(options.rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            laps[name].append(lap(ways[name][0], chunks, ways[name][1]))
        words = [f"{name} {laps[name][-1].clock:.2f} s ({laps[name][-1].thread:.2f})" for name in ways]
        print("  ".join(words), f" load {os.getloadavg()[0]:.1f}", flush=True)
    for kind in ("clock", "thread"):
        for name in ("one", "processes"):
            pairs = zip(laps[name], laps["threads"], strict=True)
            ratios = [getattr(mine, kind) / getattr(theirs, kind) for mine, theirs in pairs]
            print(f"{kind}: {name} / threads {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    tables = {name: laps[name][-1].tables for name in ways}
    print(f"processes and one: {apart(tables['processes'], tables['one'])}")
    print(f"threads and one: {apart(tables['threads'], tables['one'])}")
    for connection, process in zip(connections, processes, strict=True):
        connection.send(None)
        process.join()


if __name__ == "__main__":
    main()
