#!/usr/bin/env bash
# safetensors 0.8.0: saving the same tensors with the same metadata gives other bytes each time, also within one process:
# the entries of `__metadata__` stand in a random order. A checksum of the file tells no two equal files; without metadata,
# or with one entry, the bytes are the same.
#
# Seen, NumPy 2.4.6: ten files of the same tensor and six entries of metadata have at least five different checksums; with
# one entry they have one.
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
python -W ignore - <<'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import load, save

tensors = {"weight": np.arange(4, dtype=np.float32).reshape(2, 2)}
six = {f"key {number}": str(number) for number in range(6)}


def checksums(metadata):
    return {hashlib.sha256(save(tensors, metadata=metadata)).hexdigest() for _ in range(10)}


print(f"checksums of ten files: six entries {len(checksums(six))}, one entry {len(checksums({'key': 'value'}))}")
assert len(checksums(six)) >= 5, "the order of the metadata is fixed now"
assert len(checksums({"key": "value"})) == 1, "one entry gives different bytes"
assert np.array_equal(load(save(tensors, metadata=six))["weight"], tensors["weight"])
PYTHON
