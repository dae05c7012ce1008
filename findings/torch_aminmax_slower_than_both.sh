#!/usr/bin/env bash
# torch 2.15.0 on a CPU: `aminmax(dim=1)`, which finds the smallest and the largest value of each row in one go, takes
# many times as long as `amin(1)` and `amax(1)`, which go over the rows twice. `aminmax()` of each row alone is fast.
# The values are equal.
#
# Seen, one thread, microseconds (shortest of 30), rows and columns:
#                            4 x 401,408   4,096 x 100
#   amin(1) and amax(1)              135           103
#   aminmax(dim=1)                 3,521           794
#   aminmax() of each row            180
# Exits with 1 once `aminmax(dim=1)` of four long rows takes less than three times as long as both.
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
from time import process_time_ns

import torch

torch.manual_seed(0)
torch.set_num_threads(1)


def microseconds(action):
    action()
    times = []
    for _ in range(30):
        start = process_time_ns()
        action()
        times.append(process_time_ns() - start)
    return min(times) / 1000


for shape in ((4, 401_408), (4096, 100)):
    rows = torch.randn(shape)
    lowest, highest = rows.aminmax(dim=1)
    assert torch.equal(lowest, rows.amin(1)) and torch.equal(highest, rows.amax(1))
    both = microseconds(lambda: (rows.amin(1), rows.amax(1)))
    one = microseconds(lambda: rows.aminmax(dim=1))
    each = microseconds(lambda: [row.aminmax() for row in rows]) if len(rows) < 10 else float("nan")
    print(f"{shape}: both {both:,.0f}, aminmax {one:,.0f} ({one / both:.1f} times), row by row {each:,.0f}")
    if len(rows) == 4:
        assert one > 3 * both, "aminmax is as fast as it should be"
PYTHON
