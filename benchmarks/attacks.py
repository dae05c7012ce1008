"""PGD with ten steps: camdrift's batches against foolbox on all images as one batch, and image by image.

    python benchmarks/attacks.py [--model SPEC] [--images 8] [--batch-size 4] [--rounds 3] [--device cpu]

Candidates take turns; seconds are of the processor on a processor, else of the clock; the least of the rounds counts.
foolbox gets the plain network behind its normalisation, as its users hand it over, and the same images and classes.
"""

import argparse
import time
from collections.abc import Callable

import foolbox
import torch

from camdrift import load_model
from camdrift.attacks.base import SeedBatch
from camdrift.attacks.making import make_attack
from camdrift.coverage.neurons import observe
from camdrift.images.pixels import read_image
from camdrift.images.sources import default_photographs

EPSILON, STEPS = 8 / 255, 10


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    """Prints a line for every candidate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    classifier = load_model(options.model, device=options.device)
    device = classifier.device
    files = default_photographs()[: options.images]
    images = torch.stack([read_image(file, **classifier.geometry).pixels for file in files]).to(device)
    seeds = SeedBatch(images, *observe(classifier, images), [file.seed_id for file in files], 0)
    settings = f"eps={EPSILON}, steps={STEPS}"
    attacks = {
        "camdrift": make_attack(f"pgd({settings})"),
        "image by image": make_attack(f"foolbox:LinfPGD({settings})"),
    }
    columns = [torch.tensor(values, device=device).view(3, 1, 1) for values in (classifier.mean, classifier.std)]
    whole = foolbox.PyTorchModel(
        classifier.module.eval(),
        bounds=(0, 1),
        device=device,
        preprocessing={"mean": columns[0], "std": columns[1]},
    )
    classes = seeds.logits.argmax(1)

    def as_one_batch() -> None:
        foolbox.attacks.LinfPGD(steps=STEPS)(whole, images, classes, epsilons=EPSILON)

    def by(name: str) -> Callable[[], object]:
        attack = attacks[name]
        return lambda: attack(classifier, seeds, batch_size=options.batch_size, advance=lambda *_: None)

    candidates = {
        "camdrift": by("camdrift"),
        "foolbox, one batch": as_one_batch,
        "foolbox, image by image": by("image by image"),
    }
    least = dict.fromkeys(candidates, float("inf"))
    for _ in range(options.rounds):
        for name, run in candidates.items():
            least[name] = min(least[name], seconds(run, device))
    print("| PGD, 10 steps | seconds an image | camdrift / it |\n|---|---|---|")
    for name, value in least.items():
        print(f"| {name} | {value / len(images):.2f} | {least['camdrift'] / value:.2f} |")


if __name__ == "__main__":
    main()
