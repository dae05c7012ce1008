#!/usr/bin/env bash
# imagecorruptions-imaug 1.1.5: the glass blur of ImageNet-C does not shuffle pixels. Where its comment says `swap`, one of
# the two pixels is copied over the other, and most pixels of an image are lost.
#
# `x[h, w], x[i, j] = x[i, j], x[h, w]` swaps numbers, but of an array of three axes these are views: the first assignment
# changes what the second one reads. The original code of ImageNet-C has the same line, and so have imagecorruptions 1.1.2
# and imagenet-c 0.0.3; results published for this corruption were made with it.
#
# Seen, NumPy 2.4.6, an image of 224 x 224 pixels, all of different colour, after the local shuffling alone:
#   severity 1   54 % of the colours are left
#   severity 2   52 %
#   severity 3   28 %
#   severity 4   33 %
#   severity 5   32 %
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet imagecorruptions-imaug==1.1.5 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import numpy as np
from imagecorruptions import corruptions

# The image is blurred before and after: without that, what the shuffling leaves can be counted.
corruptions.gaussian = lambda image, **settings: image
index = np.arange(224 * 224)
image = np.stack([index // 256, index % 256, 0 * index], axis=-1).reshape(224, 224, 3).astype(np.uint8)


def colours(picture):
    return len(np.unique(picture.round().astype(np.uint8).reshape(-1, 3), axis=0))


# `* 255 / 255` in floats may lose a level: without any swap all but a few colours must be there.
same = np.uint8(image / 255.0 * 255)
print(f"before shuffling: {colours(same) / colours(image):.0%} of the colours")
assert colours(same) > 0.9 * colours(image)
shares = []
for severity in range(1, 6):
    shares.append(colours(corruptions.glass_blur(image, severity, seed=0)) / colours(same))
    print(f"severity {severity}   {shares[-1]:.0%} of them are left")
assert max(shares) < 0.7, "pixels are swapped now"
PYTHON
