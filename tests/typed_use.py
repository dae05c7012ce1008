"""A file of somebody who uses camdrift, as `mypy --strict` must accept it; it is checked with the package, and not run.

An `ignore` below stands where a type checker must object: one that nothing needs is an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import numpy as np
import polars as pl
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL.Image import Image

import camdrift


def parts(module: torch.nn.Module, images: torch.Tensor) -> list[Image]:
    """Maps of a model over their photos."""
    classifier = camdrift.wrap(module, mean=(0.5,) * 3, std=0.25, size=224, labels=["cat", "dog"])
    maps = camdrift.attribute(classifier, images, explanation="hirescam", layers=classifier.layers[:2])
    assert_type(maps, dict[str, torch.Tensor])
    camdrift.attribute(classifier, images, target=[0, 1], explanation="captum:LayerGradCam")
    first = maps[classifier.layers[0]]
    assert_type(camdrift.similarity(first, first, metric="spearman"), torch.Tensor)
    camdrift.similarity(first, first, metric="spaerman")  # type: ignore[arg-type]
    return [camdrift.overlay(first[0], images[0])]


def study(photos: list[Path]) -> pl.DataFrame:
    """A study with everything that it shows."""
    classifier = camdrift.load_model("torchvision/resnet18", device="cuda:0", precision="bf16")
    camdrift.load_model(precision="fp16")  # type: ignore[arg-type]
    steps: list[float] = []
    made = camdrift.run(
        classifier,
        photos,
        attack="pgd(eps=4/255)",
        strengths=(0.5, 1),
        targets="seed",
        explanations=["gradcam", "captum:LayerGradCam"],
        similarities=["cosine", "ssim"],
        engine="ray",
        on_progress=lambda progress: steps.append(progress.share),
    )
    assert_type(made, camdrift.Study)
    camdrift.run(classifier, similarities="cosinus")  # type: ignore[arg-type]
    camdrift.run(classifier, strenghts=(1, 2))  # type: ignore[call-arg]
    camdrift.explain(classifier, photos[0], progress=False).show(height=600)
    assert_type(made.plot("gain"), Figure)
    made.plot("gian")  # type: ignore[arg-type]
    photo = made.gallery["cat.jpg"]
    assert_type(photo.picture("noise", strength=2), NDArray[np.uint8])
    camdrift.overlay(photo.heatmap("layer4.1.conv2", target="own"), photo.picture())
    assert_type(made.scan("similarity"), pl.LazyFrame)
    made.scan("similarities")  # type: ignore[arg-type]
    comparison = camdrift.compare(made, camdrift.open("runs/other"), align="depth", targets=["seed"])
    gate = camdrift.check(made, max_flips={0.5: 0.1}, max_gain=20)
    assert gate.state != "passed" or comparison.summary()
    return assert_type(made.layers, pl.DataFrame)


class Pictures:
    """A data set of the protocol of maite."""

    metadata = {"id": "pictures"}  # noqa: RUF012

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int, /) -> tuple[NDArray[np.uint8], NDArray[np.float64], dict[str, int]]:
        return np.zeros((3, 32, 32), np.uint8), np.eye(2)[0], {"id": i}


class Model:
    """A classifier of that protocol."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.metadata = network, {"id": "model"}

    def __call__(self, batch: Sequence[NDArray[np.uint8]], /) -> list[NDArray[np.float32]]:
        images = torch.stack([torch.from_numpy(image) for image in batch]) / 255
        return list(self.network(images).softmax(1).detach().numpy())


def objects(network: torch.nn.Module) -> str:
    """A study of objects, for a paper."""
    study = camdrift.run(camdrift.wrap(Model(network), size=32), Pictures())
    return assert_type(study.cite().bibtex, str)


def others(made: camdrift.Study) -> None:
    """The other functions."""
    assert_type(camdrift.verify(made.path, sample=0).problems, tuple[str, ...])
    camdrift.detect(made).detection.write_csv("auc.csv")
    camdrift.reproduce(camdrift.load_model(), limit=10).claims.head()
    for failure in camdrift.sweep("grid.toml", workers=2).failures:
        raise failure.error
