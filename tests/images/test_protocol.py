"""Data sets of the protocol of maite: taken as they are, refused in words, studied like files of the same pixels."""

import io
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

from camdrift.errors import ImageError, UserError
from camdrift.images.protocol import ObjectImages, is_protocol_data_set
from camdrift.images.selection import select_images


class Data:
    """A data set as those who keep the protocol write it."""

    def __init__(self, images, labels, classes=3, **metadata):
        self.images, self.labels, self.classes = images, labels, classes
        self.metadata = {"id": "made", **metadata}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], np.eye(self.classes, dtype=np.float32)[self.labels[i]], {"id": f"img{i}"}


class Fieldwise(Data):
    """One that gives targets without making images."""

    def __getitem__(self, i):
        raise RuntimeError("no image is made")

    def get_target(self, i):
        return torch.eye(3)[self.labels[i]]

    def get_metadata(self, i):
        return {"id": i}


def pixels(kind=np.uint8):
    values = np.random.default_rng(0).integers(0, 256, (3, 9, 12), np.uint8)
    return values if kind == np.uint8 else values.astype(kind) / 255


def decoded(data):
    return np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [pixels(), pixels(np.float32), torch.tensor(pixels()), torch.tensor(pixels(np.float64)), pixels().astype(np.int64)],
)
def test_pixels_are_those_of_the_array(image):
    (file,) = ObjectImages(Data([image], [1])).files()
    np.testing.assert_array_equal(decoded(file.read()), pixels())
    assert (file.seed_id, file.label, file.place.counts(3), file.place.counts(4)) == ("img0", 1, True, False)


def test_grey_is_grey_and_floats_are_rounded():
    half = np.full((1, 9, 9), 0.5, np.float32)
    (file,) = ObjectImages(Data([half], [0])).files()
    assert np.unique(decoded(file.read())).tolist() == [128]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (pixels().astype(np.float32), "values of type float32 from 0 to 255: return bytes from 0 to 255, or floats in"),
        (pixels().astype(np.int16) - 1, "values of type int16 from -1"),
        (pixels().transpose(1, 2, 0), r"an image of shape \(9, 12, 3\), where \(3, height, width\) is needed"),
        (np.full((3, 9, 9), np.nan), "values of type float64 from nan"),
    ],
)
def test_an_image_of_another_kind_is_unreadable(image, reason):
    (file,) = ObjectImages(Data([image], [0])).files()
    with pytest.raises(ImageError, match=reason):
        file.read()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data([], []), "no images in the data set made: its length is 0"),
        (
            type("Ints", (Data,), {"__getitem__": lambda self, i: (pixels(), 1, {"id": i})})([0], [0]),
            r"got: \(\) \(0\)",
        ),
        (type("Same", (Data,), {"__getitem__": lambda self, i: (0, [0, 1], {"id": 7})})([0, 0], [0]), "got: one twice"),
        (Fieldwise([0], [5]), "failed on image 0: IndexError: index 5 is out of bounds"),
    ],
)
def test_what_does_not_keep_the_protocol_is_told(data, message):
    with pytest.raises(UserError, match=message):
        ObjectImages(data).files()


def test_a_data_set_that_gives_fields_makes_no_image_to_be_listed():
    data = Fieldwise([pixels()] * 3, [2, 0, 1], index2label={0: "ant", 1: "bee", 2: "cat"})
    files = select_images(data).files
    assert [(file.seed_id, file.label, file.folder) for file in files] == [
        ("0", 2, "cat"),
        ("1", 0, "ant"),
        ("2", 1, "bee"),
    ]
    with pytest.raises(ImageError, match="the data set failed: RuntimeError: no image is made"):
        files[0].read()
    assert len(select_images(data, limit=2).files) == 2
    assert pickle.loads(pickle.dumps(ObjectImages(Data([1], [0])))).name == "made"


def test_other_sources_are_no_data_sets():
    for other in (
        "photos/",
        ["a.png"],
        {"id": 1},
        np.zeros(3),
        torch.zeros(2),
        None,
        type("X", (), {"metadata": {}})(),
    ):
        assert not is_protocol_data_set(other)


def test_the_examples_of_maite_itself():
    dummies = pytest.importorskip("maite._internals.dummy_protocols.image_classification")
    files = select_images(dummies.Dataset()).files
    assert [(file.seed_id, file.label) for file in files] == [("0", 0), ("1", 0)]
    assert decoded(files[0].read()).shape == (3, 4, 4)
    with pytest.raises(ImageError, match=r"an image of shape \(4, 4\)"):
        select_images(dummies.BadDataset()).files[0].read()
    assert not is_protocol_data_set(dummies.DataLoader())
    assert not is_protocol_data_set(dummies.Model())
