#!/usr/bin/env bash
# dnn-tip 0.1.1: the data that set the bounds of a neuron lie beyond them. "Strong activation" coverage (SNAC) of the
# training data against its own bounds is 1.0 and boundary coverage (NBC) too, where DeepGauge's definitions, which count
# what lies strictly outside, give 0. K-multisection coverage (KMNC) leaves out the highest value, so that the image which
# set the bound does not hit its own last section. Where outputs tie, the k strongest (TKNC) are the last of the layer.
#
# NBC and SNAC compare with >= and <=, KMNC's last section is open. Behind a ReLU most minima are an exact 0, which ordinary
# images reach again and again: they count as corner cases.
#
# Seen, NumPy 2.4.6:
#   SNAC of the training data against its own bounds            1.00
#   NBC of the same                                             1.00
#   sections hit by 0, 1 and the middles of the first 99 of 100  99
#   strongest of (1, 1, 0)                                      neuron 1
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet dnn-tip==0.1.1 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
export OMP_NUM_THREADS=1
cd "$folder"
python -W ignore - <<'PYTHON'
import numpy as np
from dnn_tip.neuron_coverage import KMNC, NBC, SNAC, TKNC

training = [np.random.default_rng(0).normal(size=(200, 30))]
low, high, deviation = ([f(layer, axis=0) for layer in training] for f in (np.min, np.max, np.std))
snac = SNAC(high, deviation, 0)(training)[1].any(0).mean()
nbc = NBC(low, high, deviation, 0)(training)[1].any(0).mean()
steps = np.array([*(np.arange(99) + 0.5) / 100, 0.0, 1.0])[:, None]
sections = KMNC([steps.min(0)], [steps.max(0)], 100)([steps])[1].any(0).sum()
strongest = np.flatnonzero(TKNC(1)([np.array([[1.0, 1.0, 0.0]])])[1][0])
print(f"SNAC {snac:.2f}, NBC {nbc:.2f}, sections hit {sections} of 100, strongest of (1, 1, 0): neuron {strongest.tolist()}")
assert snac == 1, "the training data keep their bounds now"
assert nbc == 1, "the training data keep their bounds now"
assert sections < 100, "the highest value has a section now"
assert strongest.tolist() == [1], "ties go elsewhere now"
PYTHON
