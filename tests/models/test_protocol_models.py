"""Classifiers of the protocol of maite: the network inside is studied, after a check that both answer alike."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

import camdrift
from camdrift.errors import ModelError
from camdrift.images.pixels import read_image
from support.studies import SIZE, SMALL, TinyNet, picture, skip_report, write_images

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Model:
    """A classifier as those who keep the protocol write it."""

    def __init__(self, *, is_byte=False, shift=0.0, is_logits=False):
        self.metadata = {"id": "made", "index2label": {i: f"kind {i}" for i in range(10)}}
        self.net, self.is_byte, self.shift, self.is_logits = TinyNet().eval(), is_byte, shift, is_logits

    def __call__(self, batch):
        images = torch.stack([torch.as_tensor(np.asarray(image), dtype=torch.float32) for image in batch])
        images = images / 255 if self.is_byte else images
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        with torch.no_grad():
            logits = self.net((images - mean - self.shift) / std)
        return list((logits if self.is_logits else logits.softmax(1)).numpy())


def holding(**parts):
    """A classifier without more than these parts."""
    model = object.__new__(Model)
    vars(model).update(parts, metadata={"id": "made"})
    return model


class Data:
    def __init__(self, count):
        self.metadata = {"id": "pictures"}
        self.images = [np.array(picture(number)).transpose(2, 0, 1) for number in range(count)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], np.eye(10)[i % 10], {"id": f"{i:02d}.png"}


@pytest.mark.parametrize("model", [Model(), Model(is_byte=True), Model(is_logits=True)])
def test_the_network_inside_is_taken(model):
    classifier = camdrift.wrap(model, mean=MEAN, std=STD, size=SIZE)
    assert classifier.module is model.net
    assert (classifier.spec, classifier.labels[3]) == ("made", "kind 3")
    assert camdrift.wrap(model, mean=MEAN, std=STD, size=SIZE, labels=[*"abcdefghij"]).labels[0] == "a"


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (Model(), {}, "must answer as its network does on pixels in"),
        (Model(shift=0.02), {"mean": MEAN, "std": STD}, "must answer as its network does on pixels in"),
        (holding(), {}, "as an attribute, got: none"),
        (holding(a=nn.Flatten(), b=nn.Flatten()), {}, "must hold one torch network as an attribute, got: a, b"),
        (holding(net=TinyNet().eval()), {}, "made failed on two images: AttributeError"),
    ],
)
def test_one_that_answers_otherwise_is_refused(model, settings, message):
    with pytest.raises(ModelError, match=message):
        camdrift.wrap(model, size=SIZE, **settings)


def test_a_factory_may_return_one(tmp_path):
    parts = (f"MEAN, STD, SIZE = {MEAN}, {STD}, {SIZE}", *map(inspect.getsource, (TinyNet, Model)))
    head = "import numpy as np\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn"
    file = tmp_path / "made.py"
    file.write_text(
        "\n\n\n".join((head, *parts, "def build():\n    return Model()\n\n\ndef other():\n    return Model(shift=1)\n"))
    )
    classifier, own = camdrift.load_model(f"{file}:build"), camdrift.wrap(Model(), mean=MEAN, std=STD, size=SIZE)
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(classifier(images), own(images), atol=1e-5)
    assert classifier.labels == own.labels
    assert classifier.spec == f"{file}:build"
    with pytest.raises(ModelError, match=r"must answer as its network does .* MEAN, STD, SIZE beside a factory"):
        camdrift.load_model(f"{file}:other")


def test_a_study_of_both_is_that_of_the_same_pictures_in_a_folder(tmp_path, monkeypatch):
    skip_report(monkeypatch)
    folder = write_images(tmp_path / "images", 4)
    data, options = Data(4), {**SMALL, "attack": "fgsm(eps=24/255)", "progress": False}
    classifier = camdrift.wrap(Model(), mean=MEAN, std=STD, size=SIZE)
    study = camdrift.run(classifier, data, out=tmp_path / "one", **options)
    assert study.record["images"]["source"] == "data set pictures (4 images)"
    assert study.seeds["seed_id"].to_list() == ["00.png", "01.png", "02.png", "03.png"]
    assert study.seeds["label"].to_list() == [0, 1, 2, 3]
    other = camdrift.run(classifier, folder, out=tmp_path / "two", **options)
    columns = ["clean_class", "clean_probability", "adversarial_class", "perturbation_l2"]
    assert study.seeds.select(columns).equals(other.seeds.select(columns))
    assert read_image(next(folder.iterdir()), size=SIZE, resize=SIZE).pixels.shape == (3, SIZE, SIZE)
    assert camdrift.verify(study.path, classifier, data, sample=1).problems == ()


def test_the_protocols_of_maite_itself_take_these_objects():
    protocols = pytest.importorskip("maite.protocols.image_classification")
    dummies = pytest.importorskip("maite._internals.dummy_protocols.image_classification")
    assert isinstance(Model(), protocols.Model)
    assert isinstance(Data(1), protocols.Dataset)
    with pytest.raises(ModelError, match="dummy-ic-model must hold one torch network as an attribute, got: none"):
        camdrift.wrap(dummies.Model(), size=SIZE)
    from maite.tasks import predict

    batches, _ = predict(model=Model(is_byte=True), dataset=Data(3), batch_size=3)
    classifier = camdrift.wrap(Model(is_byte=True), mean=MEAN, std=STD, size=SIZE)
    images = torch.stack([torch.tensor(image) for image in Data(3).images]) / 255
    ours = classifier(images)
    torch.testing.assert_close(torch.tensor(np.stack(batches[0])), ours.softmax(1).detach(), rtol=1e-4, atol=1e-5)
