#!/usr/bin/env bash
# adversarial-robustness-toolbox 1.20.1: the loss gradient of an image is divided by the number of images beside it, and the
# metric `loss_sensitivity` with it: twice as many images, half the sensitivity.
#
# `PyTorchClassifier.loss_gradient` takes the gradient of the mean loss of the batch, while `compute_loss` gives one loss
# per image. `loss_sensitivity` is documented as the mean norm of the gradients and hands over all images as one batch.
#
# Seen, torch 2.15.0 on a CPU, the same image repeated 1, 2, 4 and 8 times:
#   loss of the first image        2.434  2.434  2.434  2.434
#   norm of its loss gradient      0.196  0.098  0.049  0.024
#   loss_sensitivity of all        0.196  0.098  0.049  0.024
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 adversarial-robustness-toolbox==1.20.1 numpy==2.4.6 packaging==26.4
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from art.metrics import loss_sensitivity
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10)).eval()
classifier = PyTorchClassifier(
    network, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu"
)
image, label = torch.rand(1, 3, 32, 32).numpy(), np.eye(10, dtype=np.float32)[:1]
rows = {"loss of the first image": [], "norm of its loss gradient": [], "loss_sensitivity of all": []}
for count in (1, 2, 4, 8):
    images, labels = image.repeat(count, 0), label.repeat(count, 0)
    rows["loss of the first image"].append(classifier.compute_loss(images, labels, reduction="none")[0])
    rows["norm of its loss gradient"].append(np.linalg.norm(classifier.loss_gradient(images, labels)[0]))
    rows["loss_sensitivity of all"].append(loss_sensitivity(classifier, images, labels))
for name, values in rows.items():
    print(f"{name:<27}", *(f"{value:6.3f}" for value in values))
loss, gradient, sensitivity = (np.array(values) for values in rows.values())
assert np.allclose(loss, loss[0])
assert np.allclose(gradient, gradient[0] / [1, 2, 4, 8], rtol=1e-3), "a gradient stands by itself now"
assert np.allclose(sensitivity, sensitivity[0] / [1, 2, 4, 8], rtol=1e-3), "the metric stands by itself now"
PYTHON
