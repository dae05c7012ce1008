#!/usr/bin/env bash
# foolbox 3.3.4: `L2FMNAttack`, which looks for the smallest L2 perturbation, returns one whose norm is that of its first
# step (1 by default), however near the boundary lies and however many steps it is given.
#
# Its projection on the ball divides the norm by itself instead of epsilon by the norm, so nothing is ever drawn back.
# The L1 and L-infinity attacks of the same family shrink as published.
#
# Seen, torch 2.15.0 on a CPU, L2 norms of eight images, smallest and largest:
#   L2DeepFoolAttack                0.006  0.616
#   L2FMNAttack                     0.980  0.992
#   L2FMNAttack(steps=1000)         0.980  0.992
#   L2FMNAttack(max_stepsize=0.1)   0.100  0.681
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

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
).eval()
for part in network:
    if hasattr(part, "weight"):
        nn.init.kaiming_normal_(part.weight)
images = torch.rand(8, 3, 32, 32)
classes = network(images).argmax(1)
model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")


def norms(attack):
    answer, _, is_adversarial = attack(model, images, classes, epsilons=None)
    assert is_adversarial.all()
    return (answer - images).flatten(1).norm(dim=1)


attacks = foolbox.attacks
sizes = {
    "L2DeepFoolAttack": norms(attacks.L2DeepFoolAttack()),
    "L2FMNAttack": norms(attacks.L2FMNAttack()),
    "L2FMNAttack(steps=1000)": norms(attacks.L2FMNAttack(steps=1000)),
    "L2FMNAttack(max_stepsize=0.1)": norms(attacks.L2FMNAttack(max_stepsize=0.1)),
}
for name, size in sizes.items():
    print(f"{name:<31} {size.min():.3f}  {size.max():.3f}")
assert (sizes["L2DeepFoolAttack"] < 0.7).all()
assert (sizes["L2FMNAttack"] > 0.9).all(), "it finds small perturbations now"
assert torch.equal(sizes["L2FMNAttack"], sizes["L2FMNAttack(steps=1000)"]), "further steps help now"
PYTHON
