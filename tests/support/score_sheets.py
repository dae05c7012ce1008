"""Made scores of detectors."""

import numpy as np

from camdrift.detectors.sheet import DetectorScores, ScoreSheet


def sheet_of(attack, rng_seed, *, seeds=40, layers=3, gap=3.0, strengths=(1.0, 2.0)):
    """A run in which the first layer tells attacked images, and noise does nothing."""
    rng = np.random.default_rng(rng_seed)
    sheet = ScoreSheet(attack, epsilon=1 / 255, columns={"made": ["a", "b", "c"][:layers], "single": [""]})
    names = [f"seed {number}" for number in range(seeds)]
    for condition, at in (("clean", (0.0,)), ("adversarial", strengths), ("noise", strengths)):
        for strength in at:
            values = rng.normal(size=(seeds, layers))
            values[:, 0] += gap * (condition == "adversarial")
            scores = {
                "made": DetectorScores(values.mean(1), values),
                "single": DetectorScores(values[:, 0], values[:, :1]),
            }
            sheet.add(condition, strength, scores, names)
    return sheet
