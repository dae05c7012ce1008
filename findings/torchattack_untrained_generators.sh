#!/usr/bin/env bash
# torchattack 1.7.2: the generators of BIA, CDA, GAMA and LTP have random weights unless their weights are named by a
# string; the default, and every member of their enumerations, loads nothing and warns of nothing.
#
# The check of the argument returns the member for a string, but None for a member, and None means no weights.
#
# Seen, torch 2.15.0 on a CPU, the default settings under two random seeds:
#   BIA    weights: None   perturbations equal: False
#   CDA    weights: None   perturbations equal: False
#   GAMA   weights: None   perturbations equal: False
#   LTP    weights: None   perturbations equal: False
# Exits with 1 once that is no longer so; nothing is fetched but the packages.
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
import torchattack

images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def answer(name, seed):
    torch.manual_seed(seed)
    attack = getattr(torchattack, name)(device=torch.device("cpu"))
    with torch.no_grad():
        return attack.weights, attack(images)


is_random = {}
for name in ("BIA", "CDA", "GAMA", "LTP"):
    (weights, one), (_, other) = answer(name, 0), answer(name, 1)
    print(f"{name:<6} weights: {weights}   perturbations equal: {torch.equal(one, other)}")
    is_random[name] = weights is None and not torch.equal(one, other)
assert all(is_random.values()), "default weights are loaded now"
PYTHON
