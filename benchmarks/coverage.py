"""What coverage criteria cost beside the bare forward passes of the same images.

    python benchmarks/coverage.py [--models efficientnet-lite0 vgg16] [--rounds 11] [--batch 4] [--threads 2]

Four images are a pass of a campaign on a processor. The bare pass of a batch, and the same batch observed and folded
into the state of each criterion, take turns in one process, in an order that changes from round to round. The first
ratio is that of the shortest times, which other programs disturb least; the second is the median over rounds, each
against its own bare pass. With one thread times are those of the processor. VGG-16 has a thousand classes and drawn
weights: arithmetic does not ask what they are.
"""

import argparse
import random
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
import torchvision

import camdrift
from camdrift.coverage.base import neuron_layout, observe_batch
from camdrift.coverage.criteria import make_criterion
from camdrift.coverage.profile import ProfileBuilder
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images

BITMAPS = ("nc", "kmnc", "nbc", "snac", "tknc")
SETS = {
    "observed alone": (),
    **{spec: (spec,) for spec in (*BITMAPS, "tknp", "cc", "nlc", "nlc(guided=True)")},
    f"{', '.join(BITMAPS)} at once": BITMAPS,
}


def classifier_of(name):
    """A classifier of one of the two networks."""
    if name != "vgg16":
        return camdrift.load_model(name, device="cpu")
    torch.manual_seed(0)
    return camdrift.wrap(torchvision.models.vgg16(weights=None), mean=0.5, std=0.25, size=224)


def photographs(classifier, count):
    """Pixels of the default photographs, turned over and darkened where more are wanted: up to 320."""
    files = select_images(None).files
    images = torch.stack([read_image(file, **classifier.geometry).pixels for file in files])
    turns = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    return torch.cat([turn * light for light in (1, 0.8, 0.6, 0.4) for turn in turns])[:count]


def profile_of(classifier, images):
    """The profile of a few images, with the features that criteria ask for."""
    builder = ProfileBuilder(neuron_layout(classifier), ("logits",))
    for part in images.split(8):
        builder.add(observe_batch(classifier, part))
    return builder.profile()


def seconds(action):
    """Time that an action takes."""
    clock = process_time if torch.get_num_threads() == 1 else perf_counter
    start = clock()
    action()
    return clock() - start


def measure(name, rounds, size):
    """Print the ratios of one network."""
    classifier = classifier_of(name)
    images = photographs(classifier, 24 + size * rounds)
    profile, suite = profile_of(classifier, images[:24]), images[24:]
    sets = {key: [make_criterion(spec, classifier, profile) for spec in specs] for key, specs in SETS.items()}
    states = {key: [criterion.start() for criterion in criteria] for key, criteria in sets.items()}

    def bare(batch):
        with torch.no_grad(), classifier.numerics():
            classifier(batch)

    def covered(key, batch):
        is_scaled = any(criterion.is_of_scaled for criterion in sets[key])
        neurons = observe_batch(classifier, batch, is_scaled=is_scaled)
        for state in states[key]:
            state.fold(neurons, np.ones(len(batch), np.bool_))

    order, times = ["bare", *SETS], {key: [] for key in ("bare", *SETS)}
    for number in range(-1, rounds):  # the first is not counted
        batch = suite[max(number, 0) * size :][:size]
        random.Random(number).shuffle(order)
        for key in order:
            took = seconds(lambda: bare(batch) if key == "bare" else covered(key, batch))  # noqa: B023
            if number >= 0:
                times[key].append(took)
    print(f"{name}: bare pass {min(times['bare']) / size:.3f} s per image")
    for key in SETS:
        ratios = [one / other for one, other in zip(times[key], times["bare"], strict=True)]
        print(f"  {key:40s} {min(times[key]) / min(times['bare']):.2f}  {median(ratios):.2f}", flush=True)


def main():
    """Measure both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["efficientnet-lite0", "vgg16"])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.models:
        measure(name, options.rounds, options.batch)


if __name__ == "__main__":
    main()
