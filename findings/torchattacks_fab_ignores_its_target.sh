#!/usr/bin/env bash
# torchattacks 3.5.1: FAB says that it supports targets, but never reaches for the one that it is given. By label it hands
# back the images unchanged.
#
# FAB takes the label that it is given for the class to leave. The images are not of the target's class, so each counts as
# adversarial already. With the least likely class it looks for the nearest other class of its own.
#
# Seen, torch 2.15.0 on a CPU, eight images, epsilon 32/255, share predicted as the target and largest change:
#   PGD, second class by label     1.00   0.125
#   FAB, second class by label     0.00   0.000
#   PGD, least likely class        1.00   0.125
#   FAB, least likely class        0.12   0.032
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchattacks==3.5.1 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import torch
import torchattacks
from torch import nn

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
).eval()
for part in network:
    if hasattr(part, "weight"):
        nn.init.kaiming_normal_(part.weight)
images = torch.rand(8, 3, 32, 32)
order = network(images).argsort(1, descending=True)
shares, sizes = {}, {}
for mode, targets in (("second class by label", order[:, 1]), ("least likely class", order[:, -1])):
    for kind in ("PGD", "FAB"):
        settings = {"n_classes": 10} if kind == "FAB" else {"steps": 40}
        attack = getattr(torchattacks, kind)(network, eps=32 / 255, **settings)
        assert "targeted" in attack.supported_mode
        if mode == "least likely class":
            attack.set_mode_targeted_least_likely(quiet=True)
            answer = attack(images, order[:, 0])
        else:
            attack.set_mode_targeted_by_label(quiet=True)
            answer = attack(images, targets)
        shares[kind, mode] = float((network(answer).argmax(1) == targets).float().mean())
        sizes[kind, mode] = float((answer - images).abs().max())
        print(f"{kind}, {mode:<24} {shares[kind, mode]:.2f}   {sizes[kind, mode]:.3f}")
assert shares["PGD", "second class by label"] == 1
assert sizes["FAB", "second class by label"] == 0, "FAB changes the images now"
assert shares["FAB", "least likely class"] < 0.5 < shares["PGD", "least likely class"], "FAB reaches its target now"
PYTHON
