#!/usr/bin/env bash
# torch 2.15.0: `clamp(0, 1)` has the gradient 0 at exactly 0 and 1, and 0.5 there if its bounds are tensors, where earlier
# versions had 1. `relu6` and `hardtanh` do the same at their bounds.
#
# Images are full of exact zeros and ones. A model that clamps its input to [0, 1] shows attacks and saliency methods no
# gradient at any saturated pixel, whichever way it points; an attack that clamps within the graph sees half of it.
#
# Seen, gradient of the sum at 0, 0.5 and 1:
#   clamp(0, 1)                            0.0   1.0   0.0
#   clamp(tensor(0), tensor(1))            0.5   1.0   0.5
#   maximum(0), then minimum(1)            0.5   1.0   0.5
#   clamp(min=0)                           0.0   1.0   1.0
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import torch

zero, one = torch.tensor(0.0), torch.tensor(1.0)
functions = {
    "clamp(0, 1)": lambda x: x.clamp(0, 1),
    "clamp(tensor(0), tensor(1))": lambda x: x.clamp(zero, one),
    "maximum(0), then minimum(1)": lambda x: torch.minimum(torch.maximum(x, zero), one),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "hardtanh(0, 1)": lambda x: torch.nn.functional.hardtanh(x, 0, 1),
}
gradients = {}
for name, function in functions.items():
    x = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    gradients[name] = torch.autograd.grad(function(x).sum(), x)[0].tolist()
    print(f"{name:<30}", *(f"{value:5.1f}" for value in gradients[name]))
assert gradients["clamp(0, 1)"] == [0, 1, 0], "the bounds have a gradient now"
assert gradients["clamp(tensor(0), tensor(1))"] == [0.5, 1, 0.5], "tensor bounds have another gradient now"
assert gradients["clamp(min=0)"] == [0, 1, 1]
PYTHON
