#!/usr/bin/env bash
# captum 0.9.0: without a loss function of one's own, FGSM and PGD make the class that they are to leave likelier, and
# the class that they are to reach less likely, wherever its logit is negative. They warn of nothing.
#
# The default loss is called the negative log likelihood, but it is the logarithm of the model's output as it stands.
# For logits that is no likelihood: the slope of -log(z) changes sign with z. Which class a logit belongs to says the
# softmax, which a common shift of all logits leaves as it is; the attack turns round under that shift.
#
# Seen, torch 2.15.0 on a CPU, mean cross-entropy of the class over 16 images, before and after; the two networks differ
# by 40 in every logit, so that their probabilities are equal:
#   FGSM, away from the class      logits + 20   1.56 -> 2.94    logits - 20   1.56 -> 0.59
#   FGSM, towards another class    logits + 20   1.99 -> 0.89    logits - 20   1.99 -> 3.40
#   PGD, away from the class       logits + 20   1.56 -> 3.00    logits - 20   1.56 -> 0.56
#   PGD, towards another class     logits + 20   1.99 -> 0.85    logits - 20   1.99 -> 3.46
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
import torch
from captum.robust import FGSM, PGD
from torch import nn
from torch.nn.functional import cross_entropy


class Shifted(nn.Module):
    """A network whose every logit is larger by the same constant: its probabilities stay."""

    def __init__(self, network, shift):
        super().__init__()
        self.network, self.shift = network, shift

    def forward(self, images):
        return self.network(images) + self.shift


torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
).eval()
for part in network:
    if hasattr(part, "weight"):
        nn.init.kaiming_normal_(part.weight)
images = torch.rand(16, 3, 32, 32)
first, second = network(images).topk(2).indices.T
high, low = Shifted(network, 20), Shifted(network, -20)
assert torch.allclose(high(images).softmax(1), low(images).softmax(1), atol=1e-5)

settings = {FGSM: {"epsilon": 8 / 255}, PGD: {"radius": 8 / 255, "step_size": 1 / 255, "step_num": 20}}
changes = {}
for kind, arguments in settings.items():
    for aim, classes, is_targeted in (("away from the class", first, False), ("towards another class", second, True)):
        for name, model in (("logits + 20", high), ("logits - 20", low)):
            answer = kind(model).perturb(images, target=classes, targeted=is_targeted, **arguments)
            before, after = (float(cross_entropy(model(batch), classes)) for batch in (images, answer))
            print(f"{kind.__name__:<5} {aim:<22} {name}   {before:.2f} -> {after:.2f}")
            changes[kind.__name__, is_targeted, name] = after - before
for kind in ("FGSM", "PGD"):
    assert changes[kind, False, "logits + 20"] > 0 > changes[kind, True, "logits + 20"]
    assert changes[kind, False, "logits - 20"] < 0 < changes[kind, True, "logits - 20"], "negative logits are fine now"
PYTHON
