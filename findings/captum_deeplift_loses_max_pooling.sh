#!/usr/bin/env bash
# captum 0.9.0: DeepLIFT's attributions do not sum to the change of the logit where max pooling follows an activation, or
# where its windows overlap, although all parts are modules that are used once. Nothing is said unless the convergence
# delta is asked for.
#
# Behind an activation: Captum notes the gradient at an activation's output, and replaces that at the pooling's input. Both
# are one tensor, and the note is made first: the pooling's rule is lost, and its gradient stays. With a
# copy in between the sum is right. Overlapping windows: a value that is the largest of several gets the share of one
# (`max_unpool2d` writes where it should add).
#
# Seen, torch 2.15.0 on a CPU, double precision; sum of the attributions, and change of the logit from another image on:
#   ReLU, then MaxPool2d(2)              0.010037  0.000390
#   ReLU, a copy, MaxPool2d(2)           0.000390  0.000390
#   MaxPool2d(3, stride=2), then ReLU    0.000481  0.000432
#   AvgPool2d(3, stride=2), then ReLU   -0.000227 -0.000227
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 captum==0.9.0
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import warnings

import torch
from captum.attr import DeepLift
from torch import nn

warnings.simplefilter("ignore")  # of hooks that will be removed


class Same(nn.Module):
    def forward(self, values):
        return values.clone()


def network(*pooling):
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3, padding=1), *pooling, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).double().eval()


torch.manual_seed(1)
image, other = torch.rand(2, 1, 3, 32, 32).double()
shares = {}
for name, pooling in (
    ("ReLU, then MaxPool2d(2)", (nn.ReLU(), nn.MaxPool2d(2))),
    ("ReLU, a copy, MaxPool2d(2)", (nn.ReLU(), Same(), nn.MaxPool2d(2))),
    ("MaxPool2d(3, stride=2), then ReLU", (nn.MaxPool2d(3, 2, 1), nn.ReLU())),
    ("AvgPool2d(3, stride=2), then ReLU", (nn.AvgPool2d(3, 2, 1), nn.ReLU())),
):
    model = network(*pooling)
    total = float(DeepLift(model).attribute(image, other, target=0).sum())
    with torch.no_grad():
        change = float((model(image) - model(other))[0, 0])
    print(f"{name:<35} {total:9.6f} {change:9.6f}")
    shares[name] = abs(total - change) / abs(change)
wrong, right, overlapping, average = shares.values()
assert max(right, average) < 1e-9
assert wrong > 1e-4, "the rule of pooling behind an activation is kept now"
assert overlapping > 1e-4, "windows may overlap now"
PYTHON
