#!/usr/bin/env bash
# imagecorruptions-imaug 1.1.5: a higher severity is not a stronger corruption. `saturate` changes a photograph less at
# severity 3 than at 1 or 2, and `glass_blur` less at 4 than at 3.
#
# The severities 1 and 2 of `saturate` take colour away, 3 to 5 add colour; those of `glass_blur` trade reach against
# repetitions. The tables are those of ImageNet-C, so curves over its severities have these kinks, too.
#
# Seen, NumPy 2.4.6, mean absolute change of the photograph of an astronaut at 224 x 224, severities 1 to 5:
#   saturate         19.8   25.5   13.3   28.3   47.5
#   glass_blur       12.8   13.4   21.7   21.1   23.7
#   gaussian_noise   14.6   21.5   30.9   42.3   56.7
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet imagecorruptions-imaug==1.1.5 numpy==2.4.6 scikit-image==0.26.0 pillow==13.0.0
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import numpy as np
from imagecorruptions import corruptions
from PIL import Image
from skimage.data import astronaut

image = np.asarray(Image.fromarray(astronaut()).resize((224, 224), Image.Resampling.BICUBIC))
changes = {}
for name, settings in (("saturate", {}), ("glass_blur", {"seed": 0}), ("gaussian_noise", {})):
    np.random.seed(0)
    answers = [getattr(corruptions, name)(Image.fromarray(image), severity, **settings) for severity in range(1, 6)]
    changes[name] = [np.abs(np.asarray(answer) - image).mean() for answer in answers]
    print(f"{name:<15}", *(f"{change:6.1f}" for change in changes[name]))
assert changes["gaussian_noise"] == sorted(changes["gaussian_noise"])
assert changes["saturate"][2] < min(changes["saturate"][:2]), "severity 3 of saturate is stronger than 1 now"
assert changes["glass_blur"][2] > changes["glass_blur"][3], "severity 4 of glass_blur is stronger than 3 now"
PYTHON
