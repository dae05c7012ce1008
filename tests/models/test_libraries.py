"""Networks of timm and transformers: what their configuration says becomes what the classifier does."""

import json
import sys

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from timm.models._registry import _model_pretrained_cfgs
from transformers.image_transforms import rescale

from camdrift.errors import ModelError
from camdrift.images.pixels import read_image
from camdrift.models.class_names import imagenet_labels
from camdrift.models.input_settings import NO_CONFIGURATION
from camdrift.models.libraries import _preparation, processor_settings, timm_settings
from camdrift.models.loading import load_model
from camdrift.pipeline.preparation import _Picture

SMALL = {
    "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip
VIT = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2], "image_processor_type": "ViTImageProcessor", "resample": 3,
    "rescale_factor": 1 / 255, "size": {"height": 32, "width": 32},
}  # fmt: skip


def saved(folder, *, labels=("cat", "dog", "fox"), processor=VIT):
    """A folder as save_pretrained leaves it, and the network in it."""
    names = {"id2label": dict(enumerate(labels)), "label2id": {}} if labels else {"num_labels": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, **names)).eval()
    net.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return net


class TestTransformers:
    def test_a_folder(self, tmp_path, capsys):
        net = saved(tmp_path)
        capsys.readouterr()
        classifier = load_model(f"hf/{tmp_path}", device="cpu")
        assert classifier.mean == pytest.approx((0.5, 0.4, 0.3))
        assert classifier.std == pytest.approx((0.5, 0.25, 0.2))
        assert (classifier.size, classifier.resize, classifier.interpolation) == (32, 0, "bicubic")
        assert classifier.labels == ("cat", "dog", "fox")
        assert classifier.weights == f"transformers {tmp_path}"
        assert classifier.configuration == f"image processor of {tmp_path}"
        assert "squeezed to 32x32 (bicubic), mean 0.5, 0.4, 0.3, std 0.5, 0.25, 0.2" in classifier.settings.describe()
        images = torch.rand(2, 3, 32, 32)
        mean, std = (torch.tensor(VIT[f"image_{key}"]).view(1, 3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            torch.testing.assert_close(classifier(images), net((images - mean) / std).logits, rtol=1e-4, atol=1e-5)
        assert classifier.layers == ("vit.layers.0",)
        assert capsys.readouterr().err == ""

    def test_own_weights(self, tmp_path):
        net = saved(tmp_path / "net")
        state = {name: tensor + 1 for name, tensor in net.state_dict().items()}
        save_file(state, tmp_path / "w.safetensors")
        classifier = load_model(f"hf/{tmp_path}/net", weights=tmp_path / "w.safetensors", device="cpu")
        assert all(torch.equal(tensor, state[name]) for name, tensor in classifier.module.state_dict().items())

    def test_without_names_and_processor(self, tmp_path):
        saved(tmp_path, labels=None, processor=None)
        classifier = load_model(f"hf/{tmp_path}", device="cpu")
        assert (classifier.labels, classifier.size, classifier.configuration) == (None, 32, NO_CONFIGURATION)

    def test_imagenets_long_names_are_its_short_ones(self, tmp_path):
        labels = [f"{name}, something else" for name in imagenet_labels()]
        saved(tmp_path, labels=labels)
        assert load_model(f"hf/{tmp_path}", device="cpu").labels == imagenet_labels()

    def test_half_precision_weights(self, tmp_path):
        saved(tmp_path).half().save_pretrained(tmp_path)
        classifier = load_model(f"hf/{tmp_path}", device="cpu")
        assert {tensor.dtype for tensor in classifier.module.parameters()} == {torch.float32}

    def test_channels_in_reverse(self, tmp_path):
        net = saved(tmp_path, processor={**VIT, "do_flip_channel_order": True})
        classifier = load_model(f"hf/{tmp_path}", device="cpu")
        images = torch.rand(2, 3, 32, 32)
        mean, std = (torch.tensor(VIT[f"image_{key}"]).view(1, 3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            expected = net((images.flip(1) - mean) / std).logits
            torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=1e-5)
        assert classifier.layers == ("network.vit.layers.0",)

    def test_a_network_that_was_never_trained_to_classify(self, tmp_path):
        with torch.random.fork_rng():
            transformers.ViTModel(transformers.ViTConfig(**SMALL), add_pooling_layer=False).save_pretrained(tmp_path)
        with pytest.raises(ModelError, match=r"must come with all its weights, got: .* without 2 .first: classifier"):
            load_model(f"hf/{tmp_path}", device="cpu")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(ModelError) as caught:
            load_model(f"hf/{tmp_path}/nothing", device="cpu")
        assert caught.value.message.startswith(f"`model` hf/{tmp_path}/nothing could not be had: OSError: ")
        assert "needs no network" in caught.value.hint

    def test_transformers_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ModelError) as caught:
            load_model("hf/some/net", device="cpu")
        assert caught.value.message == "`model` hf/some/net needs transformers, which is not installed"
        assert caught.value.hint == 'pip install "camdrift[hf]" installs it'


PERCEIVER = "PerceiverImageProcessor"  # crops before it resizes: 1.6 levels
# Processors of MODEL_FOR_IMAGE_CLASSIFICATION whose output is a square picture by default.
PROCESSORS = [
    f"{name}ImageProcessor"
    for name in (
        *("Beit", "Bit", "CLIP", "ConvNext", "DeiT", "EfficientNet", "Gemma3", "Levit", "MobileNetV1", "MobileNetV2"),
        *("MobileViT", "PPLCNet", "Perceiver", "PoolFormer", "Pvt", "Segformer", "Siglip", "ViT"),
    )
]


def levels(settings, prepare):
    """Mean difference, in levels of 255, of an oblong picture as the settings prepare it and as its library does."""
    picture = _Picture()
    geometry = {name: settings.get(name, "torchvision") for name in ("size", "resize", "interpolation", "rounding")}
    mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
    own = (read_image(picture, **geometry).pixels - mean) / std
    return float(((own - prepare(picture.picture)).abs() * std * 255).mean())


def timm_geometries():
    """Yield the configurations of timm that cut pictures to size in different ways, without the largest ones."""
    for default in _model_pretrained_cfgs.values():
        config = timm.data.resolve_data_config({}, pretrained_cfg=default.to_dict())
        side, is_square = config["input_size"][1], len(set(config["input_size"][1:])) == 1
        part, mode = config["crop_pct"], config["crop_mode"]
        if is_square and side <= 256 and mode != "border":
            yield (mode, part, config["interpolation"]), config


class TestProcessorSettings:
    @pytest.mark.parametrize(
        ("processor", "size", "resize"),
        [
            ({"size": {"height": 224, "width": 224}}, 224, 0),
            ({"size": 384}, 384, 0),
            ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224}}, 224, 256),
            ({"size": 256, "do_center_crop": True, "crop_size": 224}, 224, 256),
            ({"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224}, 224, (256, 256)),
            (
                {"size": 256, "do_center_crop": True, "image_processor_type": "DeiTImageProcessor", "crop_size": 224},
                224,
                (256, 256),
            ),
            ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 256}, 256, 224),  # with borders
            ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 256),  # ConvNeXt
            ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, 0),
            ({"size": {"shortest_edge": 300}}, 300, 300),
            ({"size": 224, "do_center_crop": True, "crop_pct": 0.9, "crop_size": 224}, 224, 248),  # PoolFormer
            (
                {
                    "size": 224,
                    "do_center_crop": True,
                    "crop_size": 256,
                    "image_processor_type": "PerceiverImageProcessor",
                },
                224,
                256,
            ),
        ],
    )
    def test_size(self, processor, size, resize):
        found = processor_settings(processor)
        assert (found["size"], found["resize"]) == (size, resize)

    @pytest.mark.parametrize("kind", PROCESSORS)
    def test_input_is_that_of_transformers(self, kind):
        """What is said of a processor's defaults gives the network what the processor itself would."""
        processor = getattr(transformers, kind)()
        settings = processor_settings({"do_normalize": False, **processor.to_dict()})
        assert levels(settings, _preparation(processor, settings.pop("bgr", False))) < (
            0.05 if kind != PERCEIVER else 2
        )

    def test_no_square(self):
        with pytest.raises(ModelError, match="must take square images, got: 224 x 192"):
            processor_settings({"size": {"height": 224, "width": 192}})

    @pytest.mark.parametrize(
        "processor",
        [
            {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]},
            {"do_normalize": False},
            {"rescale_factor": 1 / 127.5, "do_normalize": False},
            {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 50.0, 55.0]},
            {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        ],
    )
    def test_normalisation_is_the_processors(self, processor):
        """Against transformers' own steps, on bytes."""
        pixels = torch.randint(0, 256, (3, 4, 4), generator=torch.Generator().manual_seed(0))
        expected = pixels.double()
        if processor.get("do_rescale", True):
            expected = torch.tensor(rescale(expected.numpy(), processor.get("rescale_factor", 1 / 255)))
        if processor.get("rescale_offset"):
            expected -= 1
        if "image_mean" in processor:
            mean, std = (torch.tensor(processor[f"image_{key}"]).view(3, 1, 1) for key in ("mean", "std"))
            expected = (expected - mean) / std
        settings = processor_settings(processor)
        mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
        torch.testing.assert_close((pixels / 255 - mean) / std, expected.float(), rtol=1e-4, atol=1e-4)


class TestTimm:
    def test_input_is_that_of_timm(self):
        """Over every way of cutting a picture to size among timm's pretrained configurations, without any network."""
        configs = {str(key): config for key, config in timm_geometries()}
        assert len(configs) >= 12
        for config in configs.values():
            settings = vars(timm_settings(config))
            assert levels(settings, settings["own_preparation"]) < 0.05, config

    def test_no_square(self):
        config = {"input_size": (3, 1024, 768), "crop_pct": 1.0, "crop_mode": "squash"}
        with pytest.raises(ModelError, match="must take square images, got: 1024 x 768"):
            timm_settings(config)

    def test_squashed_pictures(self, monkeypatch):
        net = timm.create_model("test_vit", num_classes=1000)
        net.pretrained_cfg.update(crop_mode="squash", crop_pct=1.0)
        monkeypatch.setattr(timm, "create_model", lambda *_, **__: net)
        classifier = load_model("timm/test_vit", device="cpu")
        assert (classifier.size, classifier.resize) == (160, 0)
        assert classifier.configuration == "timm configuration"
        assert classifier.layers == ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4")

    def test_a_network_without_a_head(self, monkeypatch):
        net = timm.create_model("test_vit", num_classes=0)
        monkeypatch.setattr(timm, "create_model", lambda *_, **__: net)
        with pytest.raises(ModelError, match="got: timm/test_vit, which timm holds without a head for classes"):
            load_model("timm/test_vit", device="cpu")
