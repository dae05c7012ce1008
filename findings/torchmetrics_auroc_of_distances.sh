#!/usr/bin/env bash
# torchmetrics 1.9.0: the AUROC of scores that separate two groups perfectly is 0.5 where the scores are large, and the
# AUROC of logits depends on how they are cut into batches.
#
# An AUROC is a matter of order alone. But each batch that holds a value outside [0, 1] goes through a sigmoid, in its own
# number type: in float32 every score above 17 becomes exactly 1, and all are ties. A batch that happens to lie within
# [0, 1] is taken as it is, and is then ranked among the sigmoids of the others. Detectors of adversarial or foreign images
# give distances and energies of that size. scikit-learn 1.9.1 gives 1.0 and 0.75.
#
# Seen, torch 2.15.0:
#   distances 20 to 40, all of the one group above all of the other   0.50
#   the same, divided by 100                                          1.00
#   eight logits at once                                              0.75
#   the same eight logits, four a batch                               0.69
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchmetrics==1.9.0 scikit-learn==1.9.1 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import BinaryAUROC


def auroc(*batches):
    metric = BinaryAUROC()
    for scores, labels in batches:
        metric.update(scores, labels)
    return float(metric.compute())


distances, groups = torch.linspace(20, 40, 20), torch.arange(20) // 10
logits, labels = torch.tensor([0.2, 0.9, 0.6, 0.7, -1.0, 2.0, 3.0, 0.95]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
values = {
    "distances 20 to 40": auroc((distances, groups)),
    "the same, divided by 100": auroc((distances / 100, groups)),
    "eight logits at once": auroc((logits, labels)),
    "the same, four a batch": auroc((logits[:4], labels[:4]), (logits[4:], labels[4:])),
}
for name, value in values.items():
    print(f"{name:<26} {value:.2f}")
assert roc_auc_score(groups, distances) == 1 and roc_auc_score(labels, logits) == 0.75
assert values["the same, divided by 100"] == 1
assert values["distances 20 to 40"] == 0.5, "distances keep their order now"
assert values["eight logits at once"] != values["the same, four a batch"], "batches make no difference now"
PYTHON
