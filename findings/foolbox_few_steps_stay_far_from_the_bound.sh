#!/usr/bin/env bash
# foolbox 3.3.4: the length of a step does not depend on the number of steps. LinfPGD(steps=10) moves a pixel by at most a
# third of `epsilons`, L2PGD(steps=10) by a quarter of it, and LinfBasicIterativeAttack(steps=2) by 40 %: on a linear
# network, whose gradient is the same everywhere, so that nothing but the steps' length holds them back. A robust accuracy
# from fewer steps is that of a smaller bound. With its random start, which is on by default, LinfPGD hides this: some
# pixels begin near the bound, and the largest change is the whole of it, while most pixels stay far away.
#
# A step is rel_stepsize * epsilon, by default 1/30 for LinfPGD (made for 40 steps), 0.025 for L2PGD, 0.2 for BIM.
#
# Seen, torch 2.11.0, share of the bound that the change reaches:
#   LinfPGD, 10, 20, 40 steps, no random start   0.33, 0.67, 1.00
#   LinfPGD, 10 steps, random start              largest 1.00, mean below 0.75
#   L2PGD, 10 steps                              0.25
#   LinfBasicIterativeAttack, 2 steps            0.40
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet foolbox==3.3.4 torch==2.11.0 numpy==2.3.5 setuptools==80.9.0
export OMP_NUM_THREADS=1
cd "$folder"
python -W ignore - <<'PYTHON'
import foolbox
import torch
from torch import nn

BOUND = 0.25
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2)).eval()
with torch.no_grad():
    net[1].weight.copy_(torch.stack([torch.ones(768), -torch.ones(768)]) / 768)
    net[1].bias.zero_()
model = foolbox.PyTorchModel(net, bounds=(0, 1))
image, label = torch.full((1, 3, 16, 16), 0.5), torch.tensor([0])


def change(attack):
    raw, _, _ = attack(model, image, label, epsilons=BOUND)
    return (raw - image) / BOUND


shares = [change(foolbox.attacks.LinfPGD(steps=n, random_start=False)).abs().max().item() for n in (10, 20, 40)]
start = change(foolbox.attacks.LinfPGD(steps=10)).abs()
l2 = change(foolbox.attacks.L2PGD(steps=10, random_start=False)).norm().item()
bim = change(foolbox.attacks.LinfBasicIterativeAttack(steps=2)).abs().max().item()
print("LinfPGD, no random start:", ", ".join(f"{share:.2f}" for share in shares))
print(f"LinfPGD, 10 steps, random start: largest {start.max():.2f}, mean {start.mean():.2f}")
print(f"L2PGD, 10 steps: {l2:.2f}; LinfBasicIterativeAttack, 2 steps: {bim:.2f}")
assert [round(share, 2) for share in shares] == [0.33, 0.67, 1.0], "steps have another length now"
assert start.max() > 0.99, "the random start reaches less now"
assert start.mean() < 0.75, "the random start reaches more now"
assert round(l2, 2) == 0.25, "steps of L2PGD have another length now"
assert round(bim, 2) == 0.4, "steps of BIM have another length now"
PYTHON
