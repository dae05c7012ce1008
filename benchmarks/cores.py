"""How a study's cores are used: all threads at one batch, or batches side by side with a thread each.

    python benchmarks/cores.py [IMAGES] [--model SPEC] [--attack SPEC] [--limit 8] [--cores 2] [--rounds 3]

Every round computes the images as one chunk three ways, in turn, in one process: with all threads at one batch after
the other (as up to 45aee8a), with batches side by side, and with one core. Seconds are of the clock; ratios are medians
over the rounds. Their tables say what the number of threads does to similarities. The peak of memory is that of a
process that computes the chunk once, one way.

Run it on a machine that does nothing else.
"""

import argparse
import resource
import subprocess
import sys
from contextlib import nullcontext
from statistics import median
from time import perf_counter
from unittest import mock

import torch

from camdrift import load_model
from camdrift.images.selection import select_images
from camdrift.pipeline import chunk
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.plan import study_plan
from camdrift.pipeline.settings import Settings

ALL, SIDE, ONE = "all threads", "side by side", "one core"


class Chunk:
    """The chunk that is computed again and again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.files = select_images(options.images, limit=options.limit, per_class=None, rng_seed=0).files
        settings = Settings(attack=options.attack, limit=options.limit, batch_size=options.batch_size)
        self.plan = study_plan(load_model(options.model, device="cpu"), self.files, settings, Clock())

    def compute(self, way, cores):
        """Seconds of the clock, and the similarities."""
        torch.set_num_threads(1 if way == ONE else cores)
        alone = mock.patch.object(chunk, "replicated", return_value=nullcontext())
        start = perf_counter()
        with alone if way == ALL else nullcontext(), self.plan.classifier.numerics():
            _, result = chunk.fit_chunk(self.plan, self.files, lambda *_: None, lambda _: None)
        return perf_counter() - start, result.tables["similarity"]


def apart(one, other):
    """How far two tables of similarities lie apart, in words."""
    if one.height != other.height:
        return f"{one.height} rows against {other.height}"
    gaps = (one["similarity"] - other["similarity"]).abs()
    return f"{int((gaps == 0).sum())} of {gaps.count()} equal, largest difference {gaps.max() or 0.0:.2g}"


def peak(way, arguments):
    """GiB that a process of its own holds at most."""
    command = [sys.executable, __file__, *arguments, "--way", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main():
    """Measure, or compute once for the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--attack", default="dlfuzz")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=(ALL, SIDE, ONE), help=argparse.SUPPRESS)
    options = parser.parse_args()
    ways = (ALL, SIDE, ONE)
    if options.way:
        Chunk(options).compute(options.way, options.cores)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    memory = {way: peak(way, sys.argv[1:]) for way in ways}  # first: a process begins with the peak of its parent
    work = Chunk(options)
    seconds, tables = {way: [] for way in ways}, {}
    for number in range(-1, options.rounds):  # the first is not counted
        for way in ways[:: -1 if number % 2 else 1]:
            took, tables[way] = work.compute(way, options.cores)
            if number >= 0:
                seconds[way].append(took)
    print(f"{options.model}, {len(work.files)} images, {options.attack}, batches of {work.plan.batch_size}")
    for way in ways:
        ratio = median(one / other for one, other in zip(seconds[way], seconds[ALL], strict=True))
        print(f"  {way}: {median(seconds[way]):.2f} s, {ratio:.2f} of all threads, peak {memory[way]:.2f} GiB")
    print(f"  side by side, and one core: {apart(tables[SIDE], tables[ONE])}")
    print(f"  all threads, and one core: {apart(tables[ALL], tables[ONE])}")


if __name__ == "__main__":
    main()
