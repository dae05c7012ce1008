#!/usr/bin/env bash
# torchattack 1.7.2: on a network without parts named `maxpool`, `layer3` and `layer4`, the attack BPA is MIFGSM, to the
# last bit, and says nothing. A ResNet inside a module that normalises is such a network.
#
# BPA sets `model.maxpool`, which is then a new part that nobody calls, and replaces the `relu` of `layer3` and
# `layer4`, if there are any.
#
# Seen, torch 2.15.0 on a CPU, an untrained ResNet-18 of torchvision:
#   bare      equal to MIFGSM: False
#   wrapped   equal to MIFGSM: True
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
import torchvision
from torch import nn
from torchattack import BPA, MIFGSM

images, labels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])


class Normalised(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images - 0.5) / 0.25)


def answer(kind, is_wrapped):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=10).eval()
    model = Normalised(network).eval() if is_wrapped else network
    return kind(model, device=torch.device("cpu"), steps=3)(images, labels).detach()


equal = {
    name: torch.equal(answer(BPA, is_wrapped), answer(MIFGSM, is_wrapped))
    for name, is_wrapped in (("bare", False), ("wrapped", True))
}
for name, is_equal in equal.items():
    print(f"{name:<9} equal to MIFGSM: {is_equal}")
assert equal == {"bare": False, "wrapped": True}, "BPA tells its networks apart now"
PYTHON
