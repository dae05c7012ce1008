"""Mutants judged a second: a campaign of camdrift beside a plain loop of OpenCV and dnn-tip, image by image.

    python -m pip install opencv-python-headless
    python benchmarks/fuzzing.py [--model efficientnet-lite0] [--mutants 120] [--rounds 3] [--threads 2]

Both fuzz the same network from the same seeds and count KMNC (k=1000) against the same profile. The plain loop is what
a script would do: one operator of OpenCV on an image of 8 bits, one pass forward with hooks that average each channel,
the prediction, and dnn-tip's KMNC of that image, added to a set of sections. The two take turns; ratios are of one run.
"""

import argparse
import importlib
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from dnn_tip.neuron_coverage import KMNC

import camdrift
from camdrift.coverage.base import neuron_layout, observe_batch
from camdrift.coverage.profile import ProfileBuilder
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images

SEEDS = 4


def mutated(cv2, image, rng):
    """One mutant of an image of 8 bits, by one of six operators."""
    side = image.shape[0]
    match rng.integers(6):
        case 0:
            shift = rng.uniform(-0.1, 0.1, 2) * side
            return cv2.warpAffine(image, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), (side, side))
        case 1:
            turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-15, 15), rng.uniform(0.7, 1.1))
            return cv2.warpAffine(image, turn, (side, side))
        case 2:
            return cv2.convertScaleAbs(image, alpha=rng.uniform(0.5, 1.2), beta=0)
        case 3:
            return cv2.convertScaleAbs(image, alpha=1, beta=rng.uniform(0, 20))
        case 4:
            return cv2.blur(image, (3, 3))
        case _:
            noise = rng.normal(0, 5, image.shape)
            return np.clip(image + noise, 0, 255).astype(np.uint8)


class PlainLoop:
    """The loop of a script."""

    def __init__(self, classifier, images, profile):
        self.cv2, self.classifier = importlib.import_module("cv2"), classifier
        self.images = [(image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for image in images]
        layout = neuron_layout(classifier)
        self.slices = list(layout.slices.values())
        low, high = ([row[part] for part in self.slices] for row in (profile.low, profile.high))
        self.kmnc, self.sections = KMNC(low, high, 1000), None

    def __call__(self, mutants):
        rng = np.random.default_rng(0)
        for number in range(mutants):
            mutant = mutated(self.cv2, self.images[number % len(self.images)], rng)
            pixels = torch.as_tensor(mutant).permute(2, 0, 1)[None].float() / 255
            neurons = observe_batch(self.classifier, pixels)
            int(neurons.logits.argmax())
            layers = [neurons.raw[:, part].numpy() for part in self.slices]
            profiles = self.kmnc(layers)[1][0]
            self.sections = profiles if self.sections is None else self.sections | profiles


def main():
    """Let both take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--mutants", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    classifier = camdrift.load_model(options.model, device="cpu")
    files = select_images(None, limit=SEEDS + 1).files
    images = [read_image(file, **classifier.geometry).pixels for file in files]
    builder = ProfileBuilder(neuron_layout(classifier), ())
    builder.add(observe_batch(classifier, torch.stack(images)))
    profile, plain, ratios = builder.profile(), PlainLoop(classifier, images, builder.profile()), []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            start = perf_counter()
            campaign = camdrift.fuzz(
                classifier,
                limit=SEEDS + 1,
                profile=profile,
                frameworks="random",
                mutators=("translate", "rotate", "contrast", "brightness", "noise"),
                budget=f"{options.mutants + SEEDS}-passes",
                out=Path(folder) / "run",
                progress=False,
            )
            last = campaign.growth.row(-1, named=True)
            ours = last["mutants"] / last["seconds"]
            whole = perf_counter() - start
        start = perf_counter()
        plain(options.mutants)
        theirs = options.mutants / (perf_counter() - start)
        ratios.append(ours / theirs)
        words = f"ours {ours:.2f} a second ({whole:.0f} s with seeds and page), the plain loop {theirs:.2f}"
        print(f"{number + 1}: {words}, {ours / theirs:.2f} times", flush=True)
    print(f"median {median(ratios):.2f} times")


if __name__ == "__main__":
    main()
