"""A chunk waits for the device a fixed number of times a batch, whatever images, layers and strengths it has."""

import pytest
import torch
from torch import nn

import camdrift
from camdrift.images.selection import select_images
from camdrift.pipeline.chunk import noisy_seeds
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.focus import FocusCollector
from camdrift.pipeline.gallery import HeatmapCollector
from camdrift.pipeline.maps import explain_all
from camdrift.pipeline.plan import study_plan
from camdrift.pipeline.seeds import in_hand
from camdrift.pipeline.settings import Settings
from support.reads import Reads
from support.studies import SIZE, write_images

ATTACK = "pgd(eps=0.5, steps=3, abs_stepsize=0.3)"


def classifier(layers):
    """So many convolutions behind each other, of two sizes; every class is as likely for a grey picture."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(layers - 1):
        parts += [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
    with torch.no_grad():
        net[-1].bias.sub_(net(torch.zeros(1, 3, SIZE, SIZE))[0])
    return camdrift.wrap(net.eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 6)


def reads(photos, monkeypatch, *, images, layers, strengths, batch_size=256):
    """How often the stages that hold a network wait in a chunk of these, and how many batches of variants there are."""
    settings = Settings(attack=ATTACK, strengths=strengths, noise_ladder=(4.0,), batch_size=batch_size)
    files = select_images(photos).files[:images]
    plan = study_plan(classifier(layers), files, settings, Clock())
    seeds = in_hand(noisy_seeds(plan, files, lambda *_: None, lambda _: None))
    assert len(seeds) >= 2
    receivers = {
        "focus": FocusCollector(plan, seeds),
        "gallery": HeatmapCollector(len(seeds), layers=plan.layers, settings=settings),
    }
    with monkeypatch.context() as patch, Reads(patch) as counted:
        explain_all(plan, seeds, receivers, lambda _: None)
        receivers["focus"].table()
    variants = len(seeds) * (2 * len(strengths) + 1)
    return counted.total, -(-variants // batch_size)


def test_a_batch_waits_as_often_whatever_is_in_it(photos, monkeypatch):
    few, _ = reads(photos, monkeypatch, images=3, layers=2, strengths=(1.0,))
    many, _ = reads(photos, monkeypatch, images=6, layers=7, strengths=(0.5, 1.0, 2.0))
    assert many == few
    more, batches = reads(photos, monkeypatch, images=6, layers=2, strengths=(0.5, 1.0, 2.0), batch_size=7)
    # The clean images and those of the ceiling have batches, too.
    assert more - few <= 4 * batches
