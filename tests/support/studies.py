"""A whole study in seconds: a tiny classifier that DLFuzz fools, images for it, and what a study of them must hold."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from polars.testing import assert_frame_equal
from torch import nn

import camdrift
from camdrift.models.classifier import Classifier
from camdrift.tables.study import TABLES

ATTACK = "dlfuzz(scores='logit', step=1/255)"
SIZE = 32
# Three chunks of eight images, in half a second.
SMALL = {"strengths": (1.0,), "noise_ladder": (4.0,), "chunk_size": 3}
SOURCE = Path(__file__).parents[2] / "src"

# The command line as Python code, for `python`.
MAIN = "from camdrift.cli.app import main; main()"

# Run first in a process, it makes every import of torch fail; asking whether torch is there stays allowed.
WITHOUT_TORCH = """
import sys
from importlib.machinery import ModuleSpec
class Blocked:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] in ("torch", "torchvision", "timm") else None
    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")
    def exec_module(self, module):
        raise ImportError
sys.meta_path.insert(0, Blocked())
"""


# Run first in a process, it makes a stub of every study's report.
WITHOUT_REPORT = """
import camdrift.study.study
camdrift.study.study.report_files = lambda *_: [("report.html", b"stub")]
"""


class TinyNet(nn.Module):
    """Convolutions with batch norm, in-place ReLU, pool and linear head; weights fixed, ten classes.

    The branch `side` speaks against classes 0 and 2 and for all others, so that its map for these two is all zero.
    """

    def __init__(self, rng_seed=1):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.body, self.last = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
        self.body_norm, self.head = nn.BatchNorm2d(12), nn.Linear(16 * 16, 10)
        self.average, self.side = nn.AdaptiveAvgPool2d(4), nn.Conv2d(8, 4, 1)
        generator = torch.Generator().manual_seed(rng_seed)
        with torch.no_grad():
            for part in (self.stem, self.body, self.last, self.head, self.side):
                scale = (2 / part.weight[0].numel()) ** 0.5
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * scale)
                part.bias.copy_(0.1 * torch.randn(part.bias.shape, generator=generator))
            self.norm.running_mean.fill_(0.1)
            self.body_norm.running_var.fill_(0.7)

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.stem(x))))
        side = torch.relu(self.side(x)).mean((1, 2, 3))
        x = self.relu(self.body_norm(self.body(x)))
        x = self.average(torch.relu(self.last(x)))
        sign = torch.tensor([-0.1 if k in (0, 2) else 0.1 for k in range(10)])
        return self.head(x.flatten(1)) + side[:, None] * sign


def tiny_classifier(rng_seed=1, **settings):
    """A classifier made of `TinyNet`."""
    return Classifier(TinyNet(rng_seed).eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE, **settings)


def write_factory(folder, *, name="tiny.py", rng_seed=1, labels=None, extra=""):
    """A Python file whose `build` returns a `TinyNet`; returns the spec for --model."""
    head = f"import torch\nfrom torch import nn\n\nMEAN, STD, SIZE = (0.5,) * 3, (0.25,) * 3, {SIZE}\n"
    labelled = "" if labels is None else f"LABELS = {list(labels)!r}\n"
    tail = f"\n\ndef build():\n    return TinyNet({rng_seed})\n"
    path = Path(folder) / name
    path.write_text(head + labelled + "\n\n" + inspect.getsource(TinyNet) + tail + extra)
    return f"{path}:build"


def picture(number, size=(40, 36)):
    """A smooth random picture."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def write_images(folder, count=12):
    """`count` PNG files, `img_00.png` and so on; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(folder / f"img_{number:02d}.png")
    return folder


def study_of(classifier, images, out, **options):
    """`camdrift.study.run` with the attack that fools `TinyNet`."""
    return camdrift.run(classifier, images, out=out, **{"attack": ATTACK, **options})


def python(code, *arguments, cwd, **options):
    """A finished Python process that can import camdrift."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def process(code, *arguments, cwd, **options):
    """A Python process that runs on and can import camdrift; its output is piped, unless `options` say otherwise."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment(), **{**pipes, **options}
    )


def environment():
    """Variables of a child process: this source tree, one thread, and what the shell has."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def skip_report(monkeypatch):
    """Let runs end without drawing: the page is a stub."""
    monkeypatch.setattr("camdrift.study.study.report_files", lambda *_: [("report.html", b"stub")])


def draw_only(monkeypatch, *names):
    """Let reports hold their page and these figures: drawing them all is most of a run."""
    from camdrift.report import campaign, study

    figures_of, campaign_figures = study.figures_of, campaign.campaign_figures
    monkeypatch.setattr(study, "figures_of", lambda *parts: [f for f in figures_of(*parts) if f.stem in names])
    monkeypatch.setattr(
        campaign, "campaign_figures", lambda *parts: {n: f for n, f in campaign_figures(*parts).items() if n in names}
    )


def stop_when(condition):
    """A progress callback that interrupts the run as Ctrl-C does, the first time that `condition` holds."""

    def on_progress(progress):
        if condition(progress):
            raise KeyboardInterrupt

    return on_progress


def listing(folder):
    """Every file below a folder with its time of change and its bytes."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(Path(folder).rglob("*"))
    }


def naive_similarity(one, other):
    """Eq. 5 as the paper writes it: both maps at the size of the input, in float64; NaN where one is all zero."""
    one, other = (
        F.interpolate(m[None].double(), size=(SIZE, SIZE), mode="bilinear", align_corners=False).flatten().numpy()
        for m in (one, other)
    )
    if not one.any() or not other.any():
        return np.nan
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def assert_same(one, other, *, without=()):
    """The same tables, value for value."""
    for name in TABLES:
        assert_frame_equal(
            getattr(one, name).drop(without, strict=False),
            getattr(other, name).drop(without, strict=False),
            check_exact=True,
        )


def assert_close(one, other):
    """The same rows and classes; floats that differ by rounding at most. Ranks may swap where gains are that close."""
    for name in ("seeds", "variants", "similarity", "floor", "coverage"):
        assert_frame_equal(getattr(one, name), getattr(other, name), rel_tol=1e-3, abs_tol=1e-5)
    assert_frame_equal(one.focus, other.focus, rel_tol=1e-3, abs_tol=1e-3)
    names = ["target", "strength", "layer", "n", "n_undefined", "threshold", "gain"]
    assert_frame_equal(one.layers.select(names), other.layers.select(names), rel_tol=1e-2, abs_tol=1e-5)
