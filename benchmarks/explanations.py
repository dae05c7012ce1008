"""What several explanations cost together, as a ratio to Grad-CAM alone: one forward and one backward pass serve all.

    python benchmarks/explanations.py [--batch 2] [--rounds 5] [--model efficientnet-lite0]

The sets take turns, round by round; CPU time on one thread, medians of the ratios within a round. Without --model it is
torchvision's VGG-16 with random weights: the time does not depend on them.
"""

import argparse
import statistics
import time
from typing import Final

import torch
import torchvision

from camdrift import load_model, wrap
from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.registry import make_explainer

SETS: Final = {
    "gradcam": ("gradcam",),
    "gradcam and activation": ("gradcam", "activation"),
    "four made of gradients": ("gradcam", "gradcam++", "hirescam", "layercam"),
    "all five made of gradients": ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam"),
    "gradcam and eigencam": ("gradcam", "eigencam"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.model is None:
        classifier = wrap(torchvision.models.vgg16(weights=None).eval())
    else:
        classifier = load_model(options.model, device="cpu")
    images = torch.rand((options.batch, 3, classifier.size, classifier.size))
    explainers = {name: [make_explainer(spec) for spec in specs] for name, specs in SETS.items()}
    rounds = []
    with classifier.numerics():
        explain_batch(classifier, images, [None], explainers=explainers["gradcam"])  # warm
        for _ in range(options.rounds):
            seconds = {}
            for name, chosen in explainers.items():
                start = time.process_time()
                explain_batch(classifier, images, [None], explainers=chosen)
                seconds[name] = time.process_time() - start
            rounds.append(seconds)
    alone = statistics.median(seconds["gradcam"] for seconds in rounds) / options.batch
    print(f"gradcam alone: {alone:.3f} s per image")
    for name in SETS:
        print(f"{name}: {statistics.median(s[name] / s['gradcam'] for s in rounds):.2f} x gradcam")


if __name__ == "__main__":
    main()
