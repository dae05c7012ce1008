#!/usr/bin/env bash
# quantus 0.6.0: `SensitivityN` gives the exact attributions of a linear network 0.30 where its definition gives 1,
# and looks at no image after the first batch.
#
# Sensitivity-n (Ancona 2018) correlates the sum of the attributions of removed features with the change of the
# output. Quantus removes more features in every step, and so measures the change by all that are gone, but sums the
# attributions of the last step alone. Of several batches only the first is evaluated, and the number of scores does
# not say so.
#
# Seen, torch 2.15.0 on a CPU, a linear network on images of 64 pixels, attributions weight times pixel, baseline 0:
#   SensitivityN                               0.30
#   correlation of sums of all that is gone    1.00
#   SensitivityN, all after batch 1 shuffled   0.30
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
import torch
from quantus import SensitivityN
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)).eval()
weights = network[1].weight.detach().numpy()
images = np.random.default_rng(0).random((8, 1, 8, 8)).astype(np.float32)
images[..., 0, 0] = 0  # so that the baseline "black", the least pixel of an image, is 0
classes = np.arange(8) % 3
exact = weights[classes].reshape(images.shape) * images


def score(attributions):
    options = {"abs": False, "normalise": False, "n_max_percentage": 1.0, "disable_warnings": True}
    metric = SensitivityN(features_in_step=1, perturb_baseline="black", **options)
    return float(metric(network, images, classes, attributions.copy(), device="cpu", batch_size=4)[0])


def definition(steps):
    """Mean correlation, over the images, of what is removed after 1, 2, ... features with the change of the output."""
    values = []
    for image, own, weight in zip(images.reshape(8, -1), exact.reshape(8, -1), weights[classes], strict=True):
        order, left, sums, changes = np.argsort(-own), image.copy(), [], []
        for step in range(steps):
            left[order[step]] = 0
            sums.append(own[order[: step + 1]].sum())
            changes.append(weight @ image - weight @ left)
        values.append(np.corrcoef(sums, changes)[0, 1])
    return np.mean(values)


shuffled = exact.copy()
shuffled[4:] = np.random.default_rng(1).permutation(shuffled[4:].ravel()).reshape(4, 1, 8, 8)
first, second, third = score(exact), definition(64), score(shuffled)
print(f"SensitivityN                               {first:.2f}")
print(f"correlation of sums of all that is gone    {second:.2f}")
print(f"SensitivityN, all after batch 1 shuffled   {third:.2f}")
assert second > 0.999
assert first < 0.9, "exact attributions are sensitive now"
assert first == third, "later batches count now"
PYTHON
