#!/usr/bin/env bash
# torchvision 0.29.2: `import torchvision` imports torch's compiler, torch._dynamo and torch._inductor, and with it sympy.
# torch itself leaves them until something is compiled. `torchvision.ops.roi_align` asks for one function of
# `torch._dynamo.utils` at its top, although a helper below it is there to put that import off. `torchvision.models`,
# `torchvision.transforms` and timm get it this way.
#
# A program that only wants a network or a transform waits two to three times as long as for torch.
#
# Seen, torch 2.15.0 on a CPU: modules of Python, and of these the compiler's
#   import torch        1,205, of the compiler    0
#   import torchvision  2,299, of the compiler  541
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchvision==0.29.2 numpy==2.4.6
cd "$folder"
python - <<'PYTHON'
import subprocess
import sys
import time

COMPILER = ("torch._dynamo", "torch._inductor", "sympy")
COUNT = f"import {{0}}, sys; print(len(sys.modules), sum(name.startswith({COMPILER}) for name in sys.modules))"
counts = {}
for name in ("torch", "torchvision"):
    start = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", COUNT.format(name)], capture_output=True, text=True, check=True)
    counts[name] = [int(number) for number in answer.stdout.split()]
    every, compiler = counts[name]
    print(f"import {name:<12} {every:,}, of the compiler {compiler:>4}   ({time.perf_counter() - start:.1f} s)")
assert counts["torch"][1] == 0, "torch imports its compiler now"
assert counts["torchvision"][1] > 100, "torchvision no longer imports torch's compiler"
PYTHON
