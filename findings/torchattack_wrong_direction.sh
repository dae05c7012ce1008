#!/usr/bin/env bash
# torchattack 1.7.2: the attack MIG makes the class that it is to leave likelier; GRA with a target makes the target
# less likely.
#
# MIG adds the signed gradient of the class's own probability, where leaving the class would subtract it. GRA negates
# one of its two gradients for a target, but not the other one, which it draws from the neighbourhood. Neither warns.
#
# Seen, torch 2.15.0 on a CPU, mean cross-entropy of the class over 8 images, before and after:
#   MIFGSM, away from the class     1.48 -> 2.95
#   MIG, away from the class        1.48 -> 0.51
#   MIFGSM, towards another class   1.99 -> 0.82
#   GRA, towards another class      1.99 -> 3.19
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchvision==0.29.2 torchattack==1.7.2
cd "$folder"
python - <<'PYTHON'
import torch
from torch import nn
from torchattack import GRA, MIFGSM, MIG

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
).eval()
for part in model:
    if hasattr(part, "weight"):
        nn.init.kaiming_normal_(part.weight)
images = torch.rand(8, 3, 32, 32)
with torch.no_grad():
    first, second = model(images).topk(2).indices.T


def loss(batch, classes):
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(batch), classes))


differences = {}
for name, kind, classes, is_targeted in (
    ("MIFGSM, away from the class", MIFGSM, first, False),
    ("MIG, away from the class", MIG, first, False),
    ("MIFGSM, towards another class", MIFGSM, second, True),
    ("GRA, towards another class", GRA, second, True),
):
    attack = kind(model, device=torch.device("cpu"), targeted=is_targeted)
    before, after = loss(images, classes), loss(attack(images, classes), classes)
    print(f"{name:<31} {before:.2f} -> {after:.2f}")
    differences[name.partition(",")[0] + str(is_targeted)] = after - before
assert differences["MIFGSMFalse"] > 0 > differences["MIFGSMTrue"]
assert differences["MIGFalse"] < 0 < differences["GRATrue"], "the directions are others now"
PYTHON
