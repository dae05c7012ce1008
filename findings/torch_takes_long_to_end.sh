#!/usr/bin/env bash
# torch 2.15.0: a program that has done nothing but import it takes half a second to end, after its last line. That is
# half of what the import takes, and is paid by every command of a tool that uses torch.
#
# Python searches what is left for garbage when it ends, several times, and the import leaves 200,000 objects. Handed to
# the collector's permanent generation before (`gc.freeze()`), they are passed over; everything registered for the end
# still runs.
#
# Seen, Python 3.11.7 on a CPU, seconds after the last line, the least of five:
#   import numpy               0.01
#   import torch               0.47
#   import torch, gc.freeze()  0.16
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 numpy==2.4.6
export OMP_NUM_THREADS=1
cd "$folder"
python - <<'PYTHON'
import subprocess
import sys
import time

LAST_LINE = "; import time; print(time.time(), flush=True)"


def seconds(program):
    taken = []
    for _ in range(5):
        text = subprocess.run([sys.executable, "-c", program + LAST_LINE], stdout=subprocess.PIPE, check=True).stdout
        taken.append(time.time() - float(text))
    return min(taken)


programs = {
    "import numpy": "import numpy",
    "import torch": "import torch",
    "import torch, gc.freeze()": "import torch, gc; gc.freeze()",
}
ends = {words: seconds(program) for words, program in programs.items()}
for words, value in ends.items():
    print(f"{words:<27}{value:.2f}")
plain, torch_alone, frozen = ends.values()
assert torch_alone > 5 * plain, "it ends as fast as others"
assert frozen < 0.6 * torch_alone, "freezing its objects no longer helps"
PYTHON
