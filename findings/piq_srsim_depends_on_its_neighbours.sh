#!/usr/bin/env bash
# piq 0.8.0: the SR-SIM of a pair of images depends on the other pairs of the batch, also with `reduction="none"`.
#
# The spectral residual saliency is divided by its largest value in the whole batch, not in each image. SR-SIM is a mean
# weighted by that saliency, and compares saliencies with a constant of fixed size.
#
# Seen, torch 2.15.0 on a CPU, the same pair:
#   alone                         0.9686
#   beside a dark pair            0.9623
#   beside a bright square        0.9687
#   FSIM, in all three            0.9429
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchvision==0.29.2 piq==0.8.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import piq
import torch

generator = torch.Generator().manual_seed(0)
clean = torch.rand(1, 3, 64, 64, generator=generator)
noisy = (clean + 0.1 * torch.randn(1, 3, 64, 64, generator=generator)).clamp(0, 1)
square = torch.full((1, 3, 64, 64), 0.5)
square[..., 20:40, 20:40] = 1
pairs = {"alone": None, "beside a dark pair": clean * 0.01, "beside a bright square": square}
values = {piq.srsim: [], piq.fsim: []}
for name, other in pairs.items():
    one = clean if other is None else torch.cat([clean, other])
    two = noisy if other is None else torch.cat([noisy, other * 0.9])
    for metric, row in values.items():
        row.append(float(metric(one, two, reduction="none")[0]))
    print(f"{name:<24}", *(f"{metric.__name__} {row[-1]:.4f}" for metric, row in values.items()))
assert max(values[piq.fsim]) - min(values[piq.fsim]) < 1e-5
assert max(values[piq.srsim]) - min(values[piq.srsim]) > 0.003, "an image stands by itself now"
PYTHON
