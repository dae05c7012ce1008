#!/usr/bin/env bash
# quantus 0.6.0: `RandomLogit` compares maps by SSIM unless told otherwise, but hands it each map as one line of
# numbers. The score is not that of the pictures: it changes where both maps are turned by a quarter.
#
# A map of height by width is flattened, so that the window of 7 x 7 becomes one of 7 values along the rows; pixels
# above each other are no neighbours any more. `MPRT` with `similarity_func=ssim` does the same.
#
# Seen, torch 2.15.0 on a CPU, a map of vertical stripes and one of the same stripes with other noise, and both
# turned:
#   RandomLogit, vertical stripes     0.94
#   RandomLogit, horizontal stripes   0.38
#   SSIM of the pictures, both        0.93
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 quantus==0.6.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python -W ignore - <<'PYTHON'
import numpy as np
from quantus import RandomLogit
from skimage.metrics import structural_similarity
from torch import nn

generator = np.random.default_rng(0)
stripes = np.tile(generator.random(16).astype(np.float32), (16, 1))  # the same in every row
first, second = (stripes + 0.3 * generator.random((16, 16)).astype(np.float32) for _ in range(2))
network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
image = np.ones((1, 1, 16, 16), np.float32)


def score(of_class_0, of_class_1):
    maps = [of_class_0[None, None], of_class_1[None, None]]
    explain = lambda model, inputs, targets, **_: maps[int(np.ravel(targets)[0])].copy()
    metric = RandomLogit(abs=False, normalise=False, num_classes=2, disable_warnings=True)
    return float(metric(network, image, np.array([0]), maps[0].copy(), explain_func=explain, device="cpu")[0])


def pictures(one, other):
    both = np.stack([one, other])
    return structural_similarity(one, other, data_range=float(both.max() - both.min()))


upright, turned = score(first, second), score(first.T.copy(), second.T.copy())
expected = [pictures(first, second), pictures(first.T, second.T)]
print(f"RandomLogit, vertical stripes     {upright:.2f}")
print(f"RandomLogit, horizontal stripes   {turned:.2f}")
print(f"SSIM of the pictures, both        {expected[0]:.2f}")
assert abs(expected[0] - expected[1]) < 1e-6
assert abs(upright - turned) > 0.1, "it compares pictures now"
PYTHON
