#!/usr/bin/env bash
# transformers 5.23.0: what an image processor's file says of means and channels is not what the processor does. Whoever
# prepares images by the file (another language, a server, an export) gives the network other values, of the right shape.
#
# MobileViT: the file has a mean and a standard deviation of 0.5, and no `do_normalize`. For most processors that means
# yes; this one does not normalise. PP-LCNet: nothing in the file says that channels are reversed. They are: only the
# order of the means shows it.
#
# Seen, Pillow 13.0.0, torchvision 0.29.2, on a CPU; one pixel of a picture of pure red, (255, 0, 0):
#   MobileViTImageProcessor  do_normalize: not in the file, mean 0.5, std 0.5       values 0, 0, 1
#   PPLCNetImageProcessor    do_flip_channel_order: not in the file, do_normalize   values -2.118, -2.036, 2.640
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet transformers==5.23.0 torch==2.15.0 torchvision==0.29.2 pillow==13.0.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import MobileViTImageProcessor, PPLCNetImageProcessor

# A picture of pure red, so that neither resizing nor cropping matters.
red = Image.fromarray(np.full((300, 300, 3), (255, 0, 0), np.uint8))
seen = {}
for kind in (MobileViTImageProcessor, PPLCNetImageProcessor):
    folder = Path(tempfile.mkdtemp(dir="."))
    processor = kind(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    processor.save_pretrained(folder)
    file = json.loads((folder / "preprocessor_config.json").read_text())
    values = np.asarray(kind.from_pretrained(folder)(red, return_tensors="np")["pixel_values"])[0, :, 100, 100]
    keys = ("do_normalize", "image_mean", "image_std", "do_flip_channel_order")
    print(kind.__name__, "file:", {key: file[key] for key in keys if key in file}, "values:", values.round(3).tolist())
    seen[kind.__name__] = file, values
file, values = seen["MobileViTImageProcessor"]
assert "image_mean" in file and "do_normalize" not in file, "the file says whether it normalises now"
assert np.allclose(values, (0, 0, 1)), "it normalises now"
file, values = seen["PPLCNetImageProcessor"]
assert "do_flip_channel_order" not in file, "the file says that channels are reversed now"
assert np.allclose(values, (-2.118, -2.036, 2.640), atol=2e-3), "channels keep their order now"
PYTHON
