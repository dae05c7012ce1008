"""Which memory format, and whether compiling pays: explaining pass by network, side by side.

    python benchmarks/memory_format.py [--models vgg16,...] [--batch-size 4] [--rounds 7] [--threads N] [--compile]

Every network takes turns with itself: its explaining pass (all layers: one forward and one backward pass with all
hooks) on weights in NCHW and in channels-last order. With --compile also the bare passes, forward and backward to the
image without any hook, as they are and through torch.compile: with hooks in every layer less of it would be left.
Weights are random: they do not matter to the clock. Printed are medians over the rounds and their ratio; with one
thread they are processor time, which other programs disturb less.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

from camdrift.explanations.attribution import explain_batch
from camdrift.models.classifier import Classifier

MODELS = "vgg16,resnet50,efficientnet_lite0,mobilenetv3_large_100,convnext_tiny,densenet121,vit_small_patch16_224"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 and options.device == "cpu" else time.perf_counter
    print(
        f"{'network':24}{'NCHW':>10}{'channels-last':>15}{'ratio':>8}" + ("   bare, compiled, ratio" * options.compile)
    )
    for name in options.models.split(","):
        images = torch.rand((options.batch_size, 3, 224, 224), device=options.device)
        passes = {
            order: _explaining(_network(name, options.device).to(memory_format=order), images)
            for order in (torch.contiguous_format, torch.channels_last)
        }
        first, second = _medians(list(passes.values()), options.rounds, clock)
        line = f"{name:24}{first:9.3f}s{second:14.3f}s{first / second:8.2f}"
        if options.compile:
            network = _network(name, options.device).to(memory_format=torch.channels_last)
            bare, compiled = _medians(
                [_bare(network, images), _bare(torch.compile(network), images)], options.rounds, clock
            )
            line += f"   {bare:.3f}s {compiled:.3f}s {bare / compiled:.2f}"
        print(line, flush=True)


def _network(name: str, device: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False).eval().to(device).requires_grad_(False)


def _explaining(network: nn.Module, images: Tensor) -> Callable[[], object]:
    classifier = Classifier(network, device=images.device)
    return lambda: explain_batch(classifier, images, [None])


def _bare(network: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], object]:
    def compute() -> None:
        network(images.clone().requires_grad_()).sum().backward()

    return compute


def _medians(passes: list[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of each, taken in turns; the first round warms up."""
    seconds: list[list[float]] = [[] for _ in passes]
    for _ in range(rounds + 1):
        for compute, taken in zip(passes, seconds, strict=True):
            start = clock()
            compute()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(clock() - start)
    return [statistics.median(taken[1:]) for taken in seconds]


if __name__ == "__main__":
    main()
