#!/usr/bin/env bash
# datasets 5.2.0 and litdata 0.2.76: a JPEG that was opened with Pillow and then changed in place
# (made small, masked, drawn upon) is stored as the file that it came from. The change is lost without a word.
#
# Pillow leaves `filename` on a picture whatever is done to it in place, and both take the file of that name instead of
# the pixels: `datasets` stores the path, litdata copies the bytes. Methods that return a new picture (`resize`, `crop`)
# drop the name, and WebDataset encodes the pixels: there the change is kept.
#
# Seen, Pillow 13.0.0: a white photograph of 640 x 480, `thumbnail((64, 64))` and a black rectangle over all of it:
#   in memory    64 x 48     mean 0
#   datasets     640 x 480   mean 255
#   litdata      640 x 480   mean 255
#   webdataset   64 x 48     mean 0
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet datasets==5.2.0 litdata==0.2.76 webdataset==1.0.2 pillow==13.0.0 torch==2.15.0
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import io

import datasets
import numpy as np
import webdataset
from litdata.streaming.serializers import JPEGSerializer
from PIL import Image, ImageDraw

Image.new("RGB", (640, 480), "white").save("photo.jpg")


def masked():
    picture = Image.open("photo.jpg")
    picture.thumbnail((64, 64))
    ImageDraw.Draw(picture).rectangle((0, 0, *picture.size), fill="black")
    return picture


def by_datasets():
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": [masked()]}, features=features)[0]["image"]


def by_litdata():
    content, _ = JPEGSerializer().serialize(masked())
    return Image.open(io.BytesIO(content))


def by_webdataset():
    with webdataset.TarWriter("shard.tar") as writer:
        writer.write({"__key__": "photo", "jpg": masked()})
    (sample,) = webdataset.WebDataset("shard.tar", shardshuffle=False).decode("pil")
    return sample["jpg"]


sizes = {}
for name, function in (
    ("in memory", masked),
    ("datasets", by_datasets),
    ("litdata", by_litdata),
    ("webdataset", by_webdataset),
):
    picture = function()
    sizes[name] = picture.size
    print(f"{name:<12} {picture.width} x {picture.height}   mean {np.asarray(picture).mean():.0f}")
assert sizes["in memory"] == sizes["webdataset"] == (64, 48)
lost = [name for name in ("datasets", "litdata") if sizes[name] == (640, 480)]
assert len(lost) == 2, f"only these store the file now: {lost}"
PYTHON
