"""Noise against noise, again and again: how often does camdrift find what is not there?

    python benchmarks/null_controls.py [MODEL] [IMAGES] [REPETITIONS]

In every repetition one draw of noise stands for the attack, another for the noise. Printed: repetitions in which any
layer differs after Holm's correction at 5 % (1 in 20 is what is expected), mean compromised fraction (half), and the
share of Wilcoxon tests below 5 % before correction.
"""

import sys

import polars as pl
import torch

from camdrift.explanations.attribution import explain_batch
from camdrift.explanations.similarity import compare_layers
from camdrift.images.pixels import read_image
from camdrift.images.sources import default_photographs, find_images
from camdrift.models.loading import load_model
from camdrift.pipeline.noise import matched_noise
from camdrift.statistics.layers import layer_statistics
from camdrift.tables.study import FLOOR, SIMILARITY
from camdrift.tables.words import ADVERSARIAL, NOISE
from camdrift.tensors import perturbed

STEP = 1.5 / 255


def main(model: str = "efficientnet-lite0", images: str = "", repetitions: str = "20") -> None:
    """Run the repetitions and print what they found."""
    classifier = load_model(model)
    files = find_images(images) if images else default_photographs()
    pixels = [read_image(f.path, size=classifier.size, resize=classifier.resize).pixels for f in files]
    deltas = [STEP * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) for i, p in enumerate(pixels)]
    clean = [explain_batch(classifier, p[None], [None]) for p in pixels]
    rejected, fractions, small, tests = 0, [], 0, 0
    for repetition in range(int(repetitions)):
        rows = []
        for condition, draw in ((ADVERSARIAL, 2 * repetition), (NOISE, 2 * repetition + 1)):
            for i, (p, delta) in enumerate(zip(pixels, deltas, strict=True)):
                noise = matched_noise(delta, rng_seed=1, seed_id=str(i), draw=draw)
                target = clean[i].logits.argmax(1)
                maps = explain_batch(classifier, perturbed(p, noise)[None], [target]).maps[0]
                values = compare_layers(clean[i].maps[0], maps, (classifier.size,) * 2).similarity[:, 0].tolist()
                for index, (layer, value) in enumerate(zip(classifier.layers, values, strict=True)):
                    known = value if value == value else None
                    rows.append((str(i), condition, 1.0, 0, "seed", layer, layer, index, known, None))
        table = pl.DataFrame(rows, schema=SIMILARITY.schema, orient="row")
        variants = table.select("seed_id", "condition", "strength", "draw").unique()
        found = layer_statistics(
            table, variants.with_columns(realised_l2=pl.lit(1.0)), FLOOR.frame(), rng_seed=0, n_bootstrap=0
        )
        rejected += bool((found["wilcoxon_p_holm"] < 0.05).any())
        small += int((found["wilcoxon_p"] < 0.05).sum())
        tests += found["wilcoxon_p"].drop_nulls().len()
        fractions.append(found["compromised_fraction"].mean())
        print(f"{repetition + 1}: compromised {fractions[-1]:.3f}, repetitions that reject {rejected}", flush=True)
    mean = sum(fractions) / len(fractions)
    print(f"{rejected} of {repetitions} repetitions reject; compromised {mean:.3f}; {small} of {tests} tests below 5 %")


if __name__ == "__main__":
    main(*sys.argv[1:])
