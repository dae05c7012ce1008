"""Comparisons that no order of additions decides.

A sum of terms that cancel is small, and its rounding error is not: it grows with the terms, and depends on the order in
which processor, threads and library add. A tolerance relative to the result of a float32 computation is then right on
one machine and wrong on the next: for maps before ReLU, gradients behind norms, units near the kink of a ReLU, and
most of all quotients by a sum that may lie near 0, as in XGrad-CAM and Grad-CAM++. In float64 the same errors are
2^29 times smaller, below any tolerance that is worth testing.
"""

from contextlib import contextmanager

import pytest
import torch


@contextmanager
def in_float64(*classifiers):
    """Inside the block these classifiers, and all that camdrift makes of them, compute in float64.

    The networks' weights become float64, and `Tensor.float()`, by which camdrift goes down to float32, keeps float64.
    Images must be float64. Camdrift stores maps as float32: `STORED` is the rounding error that is left.
    """
    for classifier in classifiers:
        classifier.layers  # noqa: B018 - traced on images of its own, which are float32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        try:
            for classifier in classifiers:
                classifier.module.double()
            yield
        finally:
            patch.undo()
            for classifier in classifiers:
                classifier.module.float()


# Relative error of a number stored as float32, and room for the float64 errors before it.
STORED = 2.0**-23


def assert_same_maps(found, expected):
    """Two maps are one, computed `in_float64` by two ways: they differ by no more than how they are stored."""
    peak = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=STORED, atol=1e-9 * peak, check_dtype=False)
