#!/usr/bin/env bash
# foolbox 3.3.4: `LinfMomentumIterativeFastGradientMethod` (MI-FGSM) adds up the signs of the gradients. Its paper adds
# the gradients themselves, each over its L1 norm, so that large ones keep their weight.
#
# What comes out is another perturbation. Who compares foolbox's MI-FGSM with that of another library compares two attacks.
#
# Seen, torch 2.15.0 on a CPU, eight images, epsilon 8/255, ten steps, share of pixels that differ from foolbox's:
#   momentum of signs                    0.000
#   momentum of gradients over L1 norms  0.075
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 foolbox==3.3.4 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import foolbox
import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
).eval()
for part in network:
    if hasattr(part, "weight"):
        nn.init.kaiming_normal_(part.weight)
images = torch.rand(8, 3, 32, 32)
classes = network(images).argmax(1)
epsilon, step, steps = 8 / 255, 1 / 255, 10


def by_hand(weigh):
    """MI-FGSM with a momentum of what `weigh` makes of a gradient."""
    answer, total = images.clone(), torch.zeros_like(images)
    for _ in range(steps):
        leaf = answer.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(network(leaf), classes, reduction="sum"), leaf)
        total = total + weigh(gradient)
        answer = answer + step * total.sign()
        answer = (images + (answer - images).clamp(-epsilon, epsilon)).clamp(0, 1)
    return answer


model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
attack = foolbox.attacks.LinfMomentumIterativeFastGradientMethod(abs_stepsize=step, steps=steps)
_, theirs, _ = attack(model, images, classes, epsilons=epsilon)
shares = {}
for name, weigh in (
    ("momentum of signs", torch.sign),
    ("momentum of gradients over L1 norms", lambda g: g / g.abs().sum((1, 2, 3), keepdim=True)),
):
    shares[name] = float(((by_hand(weigh) - theirs).abs() > 1e-5).float().mean())
    print(f"{name:<36} {shares[name]:.3f}")
signs, published = shares.values()
assert signs < 0.001, "it no longer adds signs"
assert published > 0.05, "it is the published attack now"
PYTHON
