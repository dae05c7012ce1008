#!/usr/bin/env bash
# scikit-learn 1.9.1: `IsotonicRegression` takes float32 values that differ by less than about a millionth for one value,
# in absolute terms. Ten scores from 1e-7 to 1e-6, which are in perfect order, give one constant.
#
# The same scores times a thousand, or the same float32 numbers as float64, are told apart. Scores that are distances or
# small probabilities lose their order so; roc_auc_score of the very same arrays is 1.
#
# Seen, NumPy 2.4.6, ten scores and ten rising targets from 0 to 1:
#   float32                thresholds 1    predictions 0.50 to 0.50
#   float32, times 1000    thresholds 10   predictions 0.00 to 1.00
#   float64                thresholds 10   predictions 0.00 to 1.00
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet scikit-learn==1.9.1 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

scores, targets = np.linspace(1e-7, 1e-6, 10, dtype=np.float32), np.linspace(0, 1, 10)
assert roc_auc_score(targets > 0.5, scores) == 1
counts = {}
for name, values in (
    ("float32", scores),
    ("float32, times 1000", scores * np.float32(1000)),
    ("float64", scores.astype(np.float64)),
):
    curve = IsotonicRegression().fit(values, targets)
    answer = curve.predict(values)
    counts[name] = len(np.unique(answer))
    print(f"{name:<22} predictions {answer.min():.2f} to {answer.max():.2f}, {counts[name]} of them")
assert counts["float32, times 1000"] == counts["float64"] == 10
assert counts["float32"] == 1, "small scores are told apart now"
PYTHON
