#!/usr/bin/env bash
# torchmetrics 1.9.0: the universal image quality index and the spatial correlation coefficient of an image with itself are
# the share of it that is not flat: 0.10 and 0.17 for an image that is black but for a tenth.
#
# A window without variance counts 0, not 1. Saliency maps, masks and medical images are mostly flat. SSIM and VIF of the
# same library give 1.
#
# Seen, torch 2.15.0, noise of 64 x 64 pixels, of which the left part is black; similarity to itself:
#   black       0 %    50 %   90 %
#   UQI         1.00   0.57   0.10
#   SCC         1.00   0.56   0.17
#   SSIM        1.00   1.00   1.00
#   VIF         1.00   1.00   1.00
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchvision==0.29.2 torchmetrics==1.9.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import torch
from torchmetrics.functional import image as metrics

noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
functions = {
    "UQI": metrics.universal_image_quality_index,
    "SCC": metrics.spatial_correlation_coefficient,
    "SSIM": lambda one, other: metrics.structural_similarity_index_measure(one, other, data_range=1.0),
    "VIF": metrics.visual_information_fidelity,
}
values = {}
for name, function in functions.items():
    values[name] = []
    for width in (0, 32, 57):
        image = noise.clone()
        image[..., :width] = 0
        values[name].append(float(function(image, image)))
    print(f"{name:<5}", *(f"{value:6.2f}" for value in values[name]))
assert all(abs(value - 1) < 1e-3 for name in ("SSIM", "VIF") for value in values[name])
assert all(abs(row[0] - 1) < 1e-3 for row in values.values())
assert max(values["UQI"][2], values["SCC"][2]) < 0.3, "flat parts are like themselves now"
PYTHON
