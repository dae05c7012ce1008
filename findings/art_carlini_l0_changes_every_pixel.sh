#!/usr/bin/env bash
# adversarial-robustness-toolbox 1.20.1: `CarliniL0Method`, which is to change as few values of an image as it can, changes
# nearly all of them.
#
# The published attack fixes values one after the other until no adversarial example is left. ART does so at most
# `x.shape[1] + 1` times: for images (batch, channels, height, width) that is 4, whatever their size. Height times width
# does not enter, and neither do `max_iter` and `binary_search_steps`.
#
# Seen, torch 2.15.0 on a CPU, values of 3072 that change in each of two images:
#   CarliniL2Method            3028 2984
#   CarliniL0Method            3028 2984
#   CarliniL0Method, 30 steps  3028 2984
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
from art.attacks.evasion import CarliniL0Method, CarliniL2Method
from art.estimators.classification import PyTorchClassifier
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
).eval()
for part in network:
    if hasattr(part, "weight"):
        nn.init.kaiming_normal_(part.weight)
classifier = PyTorchClassifier(
    network, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu"
)
images = torch.rand(2, 3, 32, 32).numpy()
classes = np.eye(10)[classifier.predict(images).argmax(1)]
changed = {}
for name, attack in (
    ("CarliniL2Method", CarliniL2Method(classifier, batch_size=2, verbose=False)),
    ("CarliniL0Method", CarliniL0Method(classifier, batch_size=2, verbose=False)),
    ("CarliniL0Method, 30 steps", CarliniL0Method(classifier, batch_size=2, max_iter=30, verbose=False)),
):
    answer = attack.generate(images, classes)
    assert (classifier.predict(answer).argmax(1) != classes.argmax(1)).all()
    changed[name] = (answer != images).reshape(2, -1).sum(1)
    print(f"{name:<27}", *changed[name])
assert min(count.min() for count in changed.values()) > 0.8 * images[0].size, "it leaves values as they are now"
PYTHON
