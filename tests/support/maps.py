"""Maps to test with."""

import numpy as np
import torch


def random_maps(shape, rng_seed=0, share=0.4):
    """Maps as ReLU leaves them: many zeros, values over some orders of magnitude."""
    rng = np.random.default_rng(rng_seed)
    values = rng.lognormal(-6, 2, shape) * (rng.random(shape) < share)
    return torch.from_numpy(values).float()
