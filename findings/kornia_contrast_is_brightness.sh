#!/usr/bin/env bash
# kornia 0.9.0: `adjust_contrast` is what torchvision calls `adjust_brightness`, to the last bit: it multiplies the pixels.
# A flat grey image, which has no contrast, becomes twice as bright.
#
# In the same library `ColorJiggle` does this, while `ColorJitter` does what torchvision's `ColorJitter` does. Augmentations
# and corruptions that are ported by name change their meaning.
#
# Seen, torch 2.15.0, a factor of 2 on an image that is 0.4 everywhere:
#   torchvision adjust_contrast     0.4
#   kornia      adjust_contrast     0.8
#   kornia      ColorJitter         0.4
#   kornia      ColorJiggle         0.8
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchvision==0.29.2 kornia==0.9.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import kornia
import torch
from torchvision.transforms.v2 import functional

grey = torch.full((1, 3, 4, 4), 0.4)
photo = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
jitter = kornia.augmentation.ColorJitter(0.0, (2.0, 2.0), 0.0, 0.0, p=1.0)
jiggle = kornia.augmentation.ColorJiggle(0.0, (2.0, 2.0), 0.0, 0.0, p=1.0)
values = {}
for name, function in (
    ("torchvision adjust_contrast", lambda image: functional.adjust_contrast(image, 2.0)),
    ("kornia adjust_contrast", lambda image: kornia.enhance.adjust_contrast(image, 2.0)),
    ("kornia ColorJitter", jitter),
    ("kornia ColorJiggle", jiggle),
):
    values[name] = round(float(function(grey).mean()), 3)
    print(f"{name:<29} {values[name]}")
is_equal = torch.equal(kornia.enhance.adjust_contrast(photo, 1.5), functional.adjust_brightness(photo, 1.5))
print(f"equal to torchvision's adjust_brightness: {is_equal}")
assert values["torchvision adjust_contrast"] == values["kornia ColorJitter"] == 0.4
assert values["kornia adjust_contrast"] == values["kornia ColorJiggle"] == 0.8, "contrast is contrast now"
assert is_equal
PYTHON
