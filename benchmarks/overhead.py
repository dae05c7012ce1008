"""Time outside the network per analysed seed: chunks of two tiny networks, of 13 and of 49 convolutions.

    python benchmarks/overhead.py [SOURCE ...] [--rounds 3] [--profile]

SOURCE is a folder `src` of another build (`git worktree add --detach old COMMIT`): builds take turns, each in a process
of its own with one thread, and the least of the rounds counts. Seconds are of the processor. The bare passes, as many
forward and backward passes of the plain module on as many images as the chunks made, are timed in the same process and
taken off.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

LAYERS = (13, 49)
SIDE, SEEDS = 32, 16

MEASURE = """
import cProfile, importlib, json, pstats, sys, tempfile, time
from collections import Counter
from pathlib import Path
import numpy as np, torch
from PIL import Image
from torch import nn
torch.set_num_threads(1)
import camdrift

layers, side, seeds, is_profiled = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
passes = Counter()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        parts, width = [], 3
        for number in range(layers):
            parts += [nn.Conv2d(width, 8, 3, padding=1), nn.ReLU(inplace=True)]
            width = 8
            if number in (2, 5, 8):
                parts.append(nn.MaxPool2d(2))
        self.body, self.head = nn.Sequential(*parts), nn.Linear(8, 10)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
                nn.init.zeros_(part.bias)
        # Classes are equally likely for a made-up picture, so that little is needed to change a prediction.
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias.sub_(self(torch.rand(8, 3, side, side) * 2 - 1).mean(0))

    def forward(self, x):
        passes["forward", len(x)] += 1
        return self.head(self.body(x).mean((2, 3)) * 8)


grad = torch.autograd.grad


def counted(*args, **kwargs):
    passes["backward", 0] += 1
    return grad(*args, **kwargs)


class Done(BaseException):
    pass  # ends the run behind its chunk


result = []


def timed(*args, **kwargs):
    passes.clear()
    torch.autograd.grad = counted
    profile = cProfile.Profile() if is_profiled else None
    start = time.process_time()
    _, chunk = profile.runcall(fit, *args, **kwargs) if profile else fit(*args, **kwargs)
    torch.autograd.grad = grad
    result.extend([time.process_time() - start, Counter(passes), (chunk.tables["seeds"]["status"] == "analysed").sum()])
    if profile:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(60)
    raise Done


try:
    engine = importlib.import_module("camdrift.engine.local")
except ModuleNotFoundError:
    engine = importlib.import_module("camdrift.run")
fit, engine.fit_chunk = engine.fit_chunk, timed
net = Net().eval()
classifier = camdrift.wrap(net, size=side, mean=(0.5,) * 3, std=(0.25,) * 3)
with tempfile.TemporaryDirectory() as folder:
    photos = Path(folder) / "photos"
    photos.mkdir()
    for number in range(seeds):
        small = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(photos / f"{number:03d}.png")
    try:
        camdrift.run(classifier, photos, out=Path(folder) / "run", attack="fgsm(eps=16/255)")
    except Done:
        pass


def bare(size, backward):
    images = torch.rand(size, 3, side, side)
    least = 1e9
    for _ in range(30):
        start = time.process_time()
        with torch.set_grad_enabled(backward):
            x = images.clone().requires_grad_(backward)
            y = net(x)
            if backward:
                grad(y.sum(), x)
        least = min(least, time.process_time() - start)
    return least


for parameter in net.parameters():
    parameter.requires_grad_(False)
total, counts, analysed = result
forwards = {size: count for (kind, size), count in counts.items() if kind == "forward"}
network = sum(count * bare(size, False) for size, count in forwards.items())
# Backward passes are of the size of most forward passes.
size = max(forwards, key=forwards.get)
network += counts["backward", 0] * (bare(size, True) - bare(size, False))
print(json.dumps([total, network, int(analysed)]))
"""


def measure(source: Path, layers: int, *, is_profiled: bool = False) -> tuple[float, float, int]:
    """Seconds of the chunks, those of the bare passes, and analysed seeds."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    arguments = [str(layers), str(SIDE), str(SEEDS), "1" if is_profiled else "0"]
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    if is_profiled:
        print(done.stderr)
    total, network, seeds = json.loads(done.stdout.splitlines()[-1])
    return total, network, seeds


def main() -> None:
    """Prints a line for every network and build."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    sources = [Path(__file__).resolve().parents[1] / "src", *options.sources]
    print("| layers | build | ms a seed outside | in the network | analysed |\n|---|---|---|---|---|")
    for layers in LAYERS:
        least = {source: (float("inf"), 0.0, 0) for source in sources}
        for _ in range(options.rounds):
            for source in sources:
                total, network, seeds = measure(source, layers, is_profiled=options.profile)
                least[source] = min(least[source], ((total - network) / seeds, network / seeds, seeds))
        for source, (outside, inside, seeds) in least.items():
            print(f"| {layers} | {source} | {1000 * outside:.1f} | {1000 * inside:.1f} | {seeds} |", flush=True)


if __name__ == "__main__":
    main()
