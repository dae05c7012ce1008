"""The paper's own network: Keras's weights in torch, its preprocessing, its published numbers if at hand."""

import os
import sys
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from camdrift.coverage.neurons import observe
from camdrift.errors import ModelError, UserError
from camdrift.images.pixels import read_image
from camdrift.models.classifier import Classifier
from camdrift.models.keras_vgg16 import MEAN, STD, fill_vgg, read_keras_layers
from camdrift.models.loading import load_model

WEIGHTS = os.environ.get("CAMDRIFT_KERAS_VGG16", "")
# The twenty seeds in the order of the published series: what Keras's VGG-16 says of each, and its logit.
SEEDS = {
    "055": ("hartebeest", 21.392), "100": ("car wheel", 15.194), "227": ("rule", 13.281),
    "329": ("Bedlington terrier", 16.819), "380": ("candle", 10.636), "505": ("oxcart", 19.218),
    "517": ("robin", 26.055), "1091": ("dock", 10.089), "1117": ("go-kart", 23.481), "1173": ("guenon", 19.617),
    "1248": ("safety pin", 16.569), "1296": ("water snake", 16.377), "1442": ("mousetrap", 17.769),
    "1582": ("African chameleon", 20.993), "1810": ("prairie chicken", 33.190), "1890": ("tree frog", 24.015),
    "1896": ("bobsled", 27.484), "1905": ("miniature schnauzer", 11.993), "1909": ("beach wagon", 10.078),
    "1990": ("coyote", 14.709),
}  # fmt: skip
# Published coverage after all twenty seeds, by strength: neurons, and the share as printed.
COVERED = {6603: 0.4435, 6661: 0.4474, 6792: 0.4562, 6826: 0.4585, 6828: 0.4586, 6582: 0.4421, 6690: 0.4494}


def small_vgg(side=3, classes=6):
    """VGG's shape in small: two convolutions and pools, two linear layers, for images of 4 x `side` px."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(5 * side**2, 7), nn.ReLU(), nn.Linear(7, classes),
    )  # fmt: skip


def kernels(side=3, classes=6):
    """Weights of `small_vgg` in Keras's order and shapes, layer by layer."""
    rng = np.random.default_rng(0)
    convolutions = {"block1_conv1": (3, 3, 3, 4), "block2_conv1": (3, 3, 4, 5)}
    shapes = convolutions | {"fc1": (5 * side**2, 7), "predictions": (7, classes)}
    return {
        n: (rng.normal(size=s).astype(np.float32) * 0.2, rng.normal(size=s[-1]).astype(np.float32))
        for n, s in shapes.items()
    }


def write_h5(path, layers, *, layout="old"):
    """A Keras .h5 file: `old` names, `new` nested names, a `whole` model, or as `keras 3` saves it."""
    with h5py.File(path, "w") as file:
        if layout == "keras 3":
            for kind, places in (("conv2d", (0, 1)), ("dense", (2, 3))):
                for number, place in enumerate(places):
                    for key, values in enumerate(list(layers.values())[place]):
                        file[f"layers/{kind}{f'_{number}' * bool(number)}/vars/{key}"] = values
            file.create_group("layers/flatten/vars")
            return path
        root = file.create_group("model_weights") if layout == "whole" else file
        names = ["input_1", *layers, "flatten"]
        root.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = root.create_group(name)
            weights = []
            for part, values in zip(
                ("W", "b") if layout == "old" else ("kernel", "bias"), layers.get(name, ()), strict=False
            ):
                weight = f"{name}_{part}_1:0" if layout == "old" else f"{name}/{part}:0"
                group[weight] = values
                weights.append(weight.encode())
            group.attrs["weight_names"] = weights
    return path


def keras_forward(image, layers):
    """What Keras computes, in float64, for one RGB image (h, w, 3) in [0, 1]: BGR, mean, same padding, h x w x c."""
    x = image[..., ::-1] * 255.0 - np.array([103.939, 116.779, 123.68])
    for kernel, bias in list(layers.values())[:2]:
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        h, w = x.shape[:2]
        x = bias + sum(
            padded[i : i + h, j : j + w] @ kernel[i, j].astype(np.float64) for i in range(3) for j in range(3)
        )
        x = np.maximum(x, 0).reshape(h // 2, 2, w // 2, 2, -1).max((1, 3))
    (first, bias), (last, end) = list(layers.values())[2:]
    return np.maximum(x.reshape(-1) @ first + bias, 0) @ last + end


class TestConversion:
    @pytest.mark.parametrize("layout", ["old", "new", "whole", "keras 3"])
    def test_computes_what_keras_computes(self, tmp_path, layout):
        layers = kernels()
        module = small_vgg()
        fill_vgg(module, read_keras_layers(write_h5(tmp_path / "w.h5", layers, layout=layout)))
        classifier = Classifier(module, mean=MEAN, std=STD, size=12)
        image = np.random.default_rng(1).random((12, 12, 3))
        found = classifier(torch.tensor(image).permute(2, 0, 1)[None].float())[0]
        assert found.tolist() == pytest.approx(keras_forward(image, layers).tolist(), rel=1e-4, abs=1e-2)

    def test_keeps_the_files_order_not_the_alphabets(self, tmp_path):
        """HDF5 lists groups by the alphabet; only `layer_names` tells the order of the network."""
        layers = dict(reversed(kernels().items()))
        found = read_keras_layers(write_h5(tmp_path / "w.h5", layers))
        assert [layer.name for layer in found] == ["predictions", "fc1", "block2_conv1", "block1_conv1"]

    def test_keras_3_counts_layers(self, tmp_path):
        """conv2d_10 comes behind conv2d_9, and a .keras file is a zip of the same weights."""
        with h5py.File(tmp_path / "model.weights.h5", "w") as file:
            for number in range(12):
                name = f"conv2d_{number}" if number else "conv2d"
                file[f"layers/{name}/vars/0"] = np.full((1, 1, 1, 1), number)
                file[f"layers/{name}/vars/1"] = np.zeros(1)
        with ZipFile(tmp_path / "w.keras", "w") as archive:
            archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
        for name in ("model.weights.h5", "w.keras"):
            assert [int(layer.kernel.item()) for layer in read_keras_layers(tmp_path / name)] == list(range(12))

    def test_a_keras_file_that_unpacks_to_more_than_is_read_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr("camdrift.models.keras_vgg16._LARGEST", 10)
        with ZipFile(tmp_path / "w.keras", "w") as archive:
            archive.writestr("model.weights.h5", b"x" * 11)
        with pytest.raises(ModelError, match=r"got: w\.keras \(model\.weights\.h5 has"):
            read_keras_layers(tmp_path / "w.keras")

    def test_input_worked_by_hand(self, tmp_path):
        """Keras's channels are blue, green, red: 255 x colour minus 103.939, 116.779, 123.68."""
        layers = {
            "block1_conv1": (np.eye(3, dtype=np.float32)[None, None], np.zeros(3, np.float32)),
            "predictions": (np.eye(3, dtype=np.float32), np.zeros(3, np.float32)),
        }
        module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(3, 3))
        fill_vgg(module, read_keras_layers(write_h5(tmp_path / "w.h5", layers)))
        red_green_blue = torch.tensor([1.0, 0.6, 0.2]).view(1, 3, 1, 1)
        found = Classifier(module, mean=MEAN, std=STD, size=1)(red_green_blue)[0]
        assert found.tolist() == pytest.approx([51 - 103.939, 153 - 116.779, 255 - 123.68], abs=1e-3)


class TestSpec:
    @pytest.fixture
    def loaded(self, tmp_path, monkeypatch):
        """`keras-vgg16@FILE` with a small network in place of the 138 million parameters."""
        monkeypatch.setattr(torchvision.models, "vgg16", lambda **_: small_vgg(side=56, classes=1000))
        return load_model(f"keras-vgg16@{write_h5(tmp_path / 'w.h5', kernels(side=56, classes=1000))}")

    def test_from_file_to_logits_as_keras(self, loaded, tmp_path):
        """A picture of another shape, so that the way it is read counts too."""
        values = np.random.default_rng(3).integers(0, 256, (448, 672, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "a.png")
        read = read_image(
            tmp_path / "a.png", size=loaded.size, resize=loaded.resize, interpolation=loaded.interpolation
        )
        wanted = keras_forward(values[1::2, 1::3] / 255.0, kernels(side=56, classes=1000))
        assert loaded(read.pixels[None])[0].tolist() == pytest.approx(wanted.tolist(), rel=1e-4, abs=0.02)

    def test_is_read_and_named_as_published(self, loaded):
        assert (loaded.size, loaded.resize, loaded.interpolation) == (224, 0, "nearest")
        assert loaded.mean == pytest.approx([123.68 / 255, 116.779 / 255, 103.939 / 255])
        assert loaded.std == pytest.approx([1 / 255] * 3)
        assert (loaded.weights, loaded.labels[1]) == ("Keras w.h5", "goldfish")

    def test_other_weights_are_refused(self):
        with pytest.raises(ModelError, match=r"`weights` must be left out .*, got: net\.pt") as caught:
            load_model("keras-vgg16@w.h5", weights="net.pt")
        assert "--model torchvision/vgg16 --weights FILE" in caught.value.hint


class TestErrors:
    def test_no_file(self):
        with pytest.raises(ModelError, match=r"must name a file, got: nowhere\.h5"):
            load_model("keras-vgg16@nowhere.h5")

    def test_no_keras_file(self, tmp_path):
        (tmp_path / "text.h5").write_text("hello")
        with pytest.raises(ModelError, match=r"must name Keras weights, got: text\.h5 \("):
            load_model(f"keras-vgg16@{tmp_path / 'text.h5'}")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["x"] = [1.0]
        with pytest.raises(ModelError, match=r"must name Keras weights, got: other\.h5 \(.*layer_names"):
            read_keras_layers(tmp_path / "other.h5")

    def test_torch_weights_do_not_belong_behind_its_preprocessing(self, tmp_path):
        with pytest.raises(ModelError, match=r"`weights` must be left out with `keras-vgg16@FILE`, got: b\.pth"):
            load_model("keras-vgg16@a.h5", weights="b.pth")

    def test_mirrored_kernels_are_refused(self, tmp_path):
        with h5py.File(write_h5(tmp_path / "w.h5", kernels()), "a") as file:
            file.attrs["backend"] = b"theano"
        with pytest.raises(ModelError, match="saved under Theano"):
            read_keras_layers(tmp_path / "w.h5")

    def test_another_network(self, tmp_path):
        layers = kernels()
        del layers["fc1"]
        with pytest.raises(ModelError, match="must have 4 layers with weights, got: 3"):
            fill_vgg(small_vgg(), read_keras_layers(write_h5(tmp_path / "w.h5", layers)))
        layers = kernels() | {"predictions": (np.zeros((7, 5), np.float32), np.zeros(5, np.float32))}
        with pytest.raises(ModelError, match=r"must have predictions of shape \(6, 7\), got: \(5, 7\)"):
            fill_vgg(small_vgg(), read_keras_layers(write_h5(tmp_path / "w.h5", layers)))

    def test_a_bias_of_another_shape(self, tmp_path):
        layers = kernels()
        layers["predictions"] = (layers["predictions"][0], np.zeros(5, np.float32))
        with pytest.raises(ModelError, match=r"must have the bias of predictions of shape \(6,\), got: \(5,\)"):
            fill_vgg(small_vgg(), read_keras_layers(write_h5(tmp_path / "w.h5", layers)))

    def test_oblong_maps(self, tmp_path):
        """4 maps of 2 x 3: their order in 24 inputs cannot be known, so it is not guessed."""
        layers = {"block1_conv1": kernels()["block1_conv1"], "fc1": (np.zeros((24, 6), np.float32), np.zeros(6))}
        module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(24, 6))
        with pytest.raises(ModelError, match="must have fc1 on 4 square maps, got: 24 inputs"):
            fill_vgg(module, read_keras_layers(write_h5(tmp_path / "w.h5", layers)))

    @pytest.mark.parametrize("missing", ["block2_conv1", "fc1/fc1_b_1:0"], ids=["layer", "tensor"])
    def test_parts_missing(self, tmp_path, missing):
        with h5py.File(write_h5(tmp_path / "w.h5", kernels()), "a") as file:
            del file[missing]
        with pytest.raises(
            ModelError, match=rf"must name Keras weights, got: w\.h5 \(.*{missing.split('/')[-1]}"
        ) as caught:
            read_keras_layers(tmp_path / "w.h5")
        assert "\n" not in caught.value.message

    def test_without_h5py(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ModelError, match=r"`model` keras-vgg16@w\.h5 needs h5py, which is not installed") as caught:
            load_model("keras-vgg16@w.h5")
        assert caught.value.hint == 'pip install "camdrift[keras]" installs it'


class TestReading:
    def test_squeezes_the_whole_picture_by_its_nearest_pixels(self, tmp_path):
        """A 16 x 32 picture on 64 x 64 pixels: every pixel becomes a block of 4 rows and 2 columns."""
        small = np.random.default_rng(2).integers(0, 256, (16, 32, 3), dtype=np.uint8)
        Image.fromarray(small).save(tmp_path / "a.png")
        found = read_image(tmp_path / "a.png", size=64, resize=0, interpolation="nearest").pixels
        blocks = small.repeat(4, axis=0).repeat(2, axis=1)
        assert np.array_equal((found * 255).round().byte().permute(1, 2, 0).numpy(), blocks)

    def test_takes_the_pixel_under_the_centre(self, tmp_path):
        """16 x 24 to 8 x 8: the centres of the new pixels lie in rows 1, 3, 5, ... and columns 1, 4, 7, ..."""
        rows, columns = np.mgrid[0:16, 0:24]
        Image.fromarray(np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8)).save(tmp_path / "a.png")
        found = (read_image(tmp_path / "a.png", size=8, resize=0, interpolation="nearest").pixels * 255).round()
        assert found[0, :, 0].tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
        assert found[1, 0].tolist() == [1, 4, 7, 10, 13, 16, 19, 22]

    def test_other_sizes_stay_refused(self, tmp_path):
        with pytest.raises(UserError, match="`size` must be at least 1 and `resize` at least 0, got: 9 and -8"):
            read_image(tmp_path / "a.png", size=9, resize=-8)


class TestCoverage:
    def test_published_shares_are_neurons_of_14888(self):
        for neurons, share in COVERED.items():
            assert round(neurons / 14_888, 4) == share
        assert (round(744 / 14_888, 3), round(1208 / 14_888, 3)) == (0.05, 0.081)  # after one and two seeds


@pytest.fixture(scope="module")
def original():
    if not WEIGHTS:
        pytest.skip("CAMDRIFT_KERAS_VGG16 names no file: Keras's vgg16_weights_tf_dim_ordering_tf_kernels.h5")
    return load_model(f"keras-vgg16@{WEIGHTS}")


def seed_files(folder):
    files = {path.stem.split("_")[-1].lstrip("0"): path for path in Path(folder).rglob("*.JPEG")}
    return [files[number.lstrip("0")] for number in SEEDS]


class TestPublished:
    def test_logits_of_the_twenty_seeds(self, original, dlfuzz_seeds):
        for path, (name, logit) in zip(seed_files(dlfuzz_seeds), SEEDS.values(), strict=True):
            pixels = read_image(path, size=224, resize=0, interpolation="nearest").pixels
            with torch.no_grad():
                found = original(pixels[None])[0]
            assert original.labels[int(found.argmax())].lower().replace("-", " ") == name.lower().replace("-", " ")
            # JPEG decoders differ by a grey level here and there.
            assert found.max().item() == pytest.approx(logit, abs=0.05), path.name

    def test_coverage_of_the_first_seeds(self, original, dlfuzz_seeds):
        covered = torch.zeros(14_888, dtype=torch.bool)
        counts = []
        for path in seed_files(dlfuzz_seeds)[:2]:
            pixels = read_image(path, size=224, resize=0, interpolation="nearest").pixels
            covered |= observe(original, pixels[None])[1].covered()[0]
            counts.append(int(covered.sum()))
        assert counts == pytest.approx([744, 1208], abs=2)
