"""Where the time of a study goes, how far it is from the network's own passes, and its peak memory.

    python benchmarks/study.py [IMAGES] [--model SPEC] [--attack SPEC] [--limit 8] [--out run]

Neuron coverage is counted inside the forward passes, and part of their time. On a processor batches go side by side:
the network's time is what the rest of the study waits for it, and similarity and focus run beside it.

The bare passes are what any program must compute for the same images: every forward and backward pass of the study is
counted, and some are timed of the plain module on random images, without hooks, with all of torch's threads at one
batch, before the study and after it. Backward passes for maps end at the first layer that is explained, those of the
attack at the image, as in the study.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from camdrift import load_model, run
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--attack", default="dlfuzz")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path, help="keep the run directory here")
    options = parser.parse_args()
    passes = count_passes()
    classifier = load_model(options.model, device=options.device, precision=options.precision)
    bare = BarePasses(classifier, options.batch_size or 4)
    bare.measure()
    passes.clear()
    with tempfile.TemporaryDirectory() as folder:
        study = run(
            classifier,
            options.images,
            out=options.out or Path(folder) / "run",
            attack=options.attack,
            limit=options.limit,
            batch_size=options.batch_size,
        )
        seeds, timings, made = study.seeds, study.record["timings"], Counter(passes)
    bare.measure()
    show(timings, seeds.height, (seeds["status"] == "analysed").sum())
    bare.show(made, timings["total"])


ROUNDS = 6
# The kinds of passes: forward without and with a graph; backward to the image and to the first explained layer.
FORWARD, GRAPH, TO_IMAGE, TO_LAYER = "forward", "forward with graph", "backward to the image", "backward to the layer"


def count_passes() -> Counter:
    """Counts the images of every pass of any classifier, by kind."""
    passes: Counter = Counter()
    forward, gradient, reduce = Classifier._forward, torch.autograd.grad, hooks.reduce_gradients
    state, lock = threading.local(), threading.Lock()  # a thread has its own batch in hand

    def counting_forward(self: Classifier, images: Tensor) -> Tensor:
        state.batch = len(images)
        with lock:
            passes[GRAPH if torch.is_grad_enabled() else FORWARD] += len(images)
        return forward(self, images)

    def counting_gradient(*arguments: Any, **options: Any) -> Any:
        with lock:
            passes[getattr(state, "kind", TO_IMAGE)] += state.batch
        return gradient(*arguments, **options)

    def of_layers(*arguments: Any, **options: Any) -> Any:
        state.kind = TO_LAYER
        try:
            return reduce(*arguments, **options)
        finally:
            state.kind = TO_IMAGE

    counting_forward.__wrapped__, counting_gradient.__wrapped__ = forward, gradient
    Classifier._forward, torch.autograd.grad, hooks.reduce_gradients = counting_forward, counting_gradient, of_layers
    return passes


class BarePasses:
    """Times passes of the plain module."""

    def __init__(self, classifier: Classifier, batch: int) -> None:
        self.classifier, self.batch = classifier, batch
        self.seconds: dict[str, list[float]] = {FORWARD: [], GRAPH: [], TO_IMAGE: [], TO_LAYER: []}
        self.first = dict(classifier.module.named_modules()).get(classifier.layers[0])
        for _ in range(2):  # in which memory is asked for
            self._round()
        for values in self.seconds.values():
            values.clear()

    def measure(self) -> None:
        """Time some rounds."""
        for _ in range(ROUNDS):
            self._round()

    def _round(self) -> None:
        classifier = self.classifier
        forward = Classifier._forward.__wrapped__
        images = torch.rand((self.batch, 3, classifier.size, classifier.size), device=classifier.device)
        with classifier.numerics(), classifier.undisturbed():
            with torch.no_grad():
                start = now()
                forward(classifier, images)
                self.seconds[FORWARD].append(now() - start)
            for kind in (TO_IMAGE, TO_LAYER):
                self._there_and_back(images.clone(), kind)

    def _there_and_back(self, images: Tensor, kind: str) -> None:
        root: list[Tensor] = []
        handle = None
        if kind == TO_IMAGE or self.first is None:
            root.append(images.requires_grad_())
        else:
            handle = self.first.register_forward_hook(lambda module, inputs, output: leaf(output, root))
        with torch.enable_grad():
            start = now()
            logits = Classifier._forward.__wrapped__(self.classifier, images)
            self.seconds[GRAPH].append(now() - start)
            if handle is not None:
                handle.remove()
            start = now()
            torch.autograd.grad.__wrapped__(logits.max(1).values.sum(), root)
            self.seconds[kind].append(now() - start)

    def show(self, made: Counter, total: float) -> None:
        """Print how long the study's passes would have taken, and how many times as long it took."""
        bare = 0.0
        for kind, images in made.items():
            seconds = statistics.median(self.seconds[kind]) / self.batch
            bare += images * seconds
            print(f"{images:7,} x {kind:24}{seconds:8.4f} s{images * seconds:9.2f} s")
        rounds = len(self.seconds[FORWARD])
        print(f"bare passes ({rounds} rounds): {bare:.1f} s; study: {total:.1f} s, {total / bare:.2f} times as long")


def leaf(output: Tensor, root: list[Tensor]) -> Tensor:
    """Lets gradients end at a layer's output; the copy is for modules that write over what they are given."""
    root.append(output.detach().requires_grad_())
    return root[0].clone()


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def show(timings: dict, seeds: int, analysed: int) -> None:
    total = timings["total"]
    rows = {
        "attack (network)": timings["attack"],
        "passes (network)": timings["explain"],
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
