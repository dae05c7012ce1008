"""Exported programs: the same logits, layers and maps as the modules that they were exported from."""

import logging

import pytest
import torch
import torchvision
from torch.export import Dim

from camdrift.errors import ModelError
from camdrift.explanations.attribution import attribute
from camdrift.models.loading import load_model, wrap
from support.architectures import ARCHITECTURES
from support.nets import Branched, Functional, Plain, Twice, calibrated, drawn

MODULES = {
    "plain": lambda: (calibrated(Plain(), size=16), 16),
    "in place": lambda: (calibrated(Branched(), size=16), 16),
    "functions": lambda: (Functional().eval(), 16),
    "called twice": lambda: (calibrated(Twice(), size=16), 16),
    "resnet": lambda: (calibrated(torchvision.models.resnet18(num_classes=5), size=64), 64),
    "vit": lambda: (ARCHITECTURES["vit, torchvision"](), 64),
    "swin": lambda: (ARCHITECTURES["swin, torchvision, channels last"](), 64),
}


def exported(module, size, *, batch=2, dynamic=True):
    shapes = ({0: Dim.DYNAMIC},) if dynamic else None
    return torch.export.export(module, (torch.rand(batch, 3, size, size),), dynamic_shapes=shapes)


class TestPrograms:
    @pytest.mark.parametrize(
        "name", [n if n not in ("swin",) else pytest.param(n, marks=pytest.mark.slow) for n in MODULES]
    )
    def test_layers_and_maps_are_the_modules(self, name):
        module, size = MODULES[name]()
        eager, program = wrap(module, size=size), wrap(exported(module, size))
        assert program.size == size
        images = torch.rand((3, 3, size, size), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(program(images), eager(images), rtol=1e-4, atol=1e-4)
        assert program.family == eager.family
        expected, found = attribute(eager, images, 1), attribute(program, images, 1)
        assert len(found) == len(expected)
        if name not in ("called twice", "functions"):
            assert list(found) == list(expected)
        for one, other in zip(found.values(), expected.values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * float(other.max()))
        kinds = [[i.kind for i in c.layer_infos if i.family == "block"] for c in (program, eager)]
        assert kinds[0] == kinds[1]

    def test_one_image(self):
        module, size = MODULES["plain"]()
        program = wrap(exported(module, size))
        assert program(torch.rand(1, 3, size, size)).shape == (1, 4)

    def test_from_a_file_and_from_a_factory(self, tmp_path):
        module, size = MODULES["plain"]()
        torch.export.save(exported(module, size), tmp_path / "net.pt2")
        classifier = load_model(f"{tmp_path}/net.pt2", device="cpu")
        assert (classifier.size, classifier.weights) == (16, "exported program net.pt2")
        assert not classifier.was_training
        images = torch.rand(2, 3, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(classifier(images), module(images))
        (tmp_path / "net.py").write_text(
            f"import torch\n\nMEAN = (0.5, 0.5, 0.5)\n\n\ndef build():\n"
            f"    return torch.export.load({str(tmp_path / 'net.pt2')!r})\n"
        )
        classifier = load_model(f"{tmp_path}/net.py:build", device="cpu")
        assert (classifier.mean, classifier.size) == ((0.5, 0.5, 0.5), 16)
        assert classifier.configuration == "MEAN of net.py"


class TestRefusals:
    def test_a_fixed_number_of_images(self):
        module, size = MODULES["plain"]()
        with pytest.raises(ModelError) as caught:
            wrap(exported(module, size, batch=1, dynamic=False))
        assert caught.value.message == "`model` must take any number of images, got: a program for 1"
        assert "Dim.DYNAMIC" in caught.value.hint

    @pytest.mark.parametrize("rng_seed", [61, 83, 105])
    def test_training_mode(self, rng_seed):
        """Of these weights the first of camdrift's own images has nearly the same logits alone as in a batch."""
        with pytest.raises(ModelError) as caught:
            wrap(exported(drawn(Branched, rng_seed).train(), 16))
        assert (
            caught.value.message == "`model` must judge every image by itself, got: other logits alone than in a batch"
        )
        assert "model.eval()" in caught.value.hint

    def test_several_inputs(self):
        class Two(Plain):
            def forward(self, x, y):
                return super().forward(x + y)

        x = torch.rand(2, 3, 16, 16)
        program = torch.export.export(Two().eval(), (x, x), dynamic_shapes=({0: Dim.AUTO}, {0: Dim.AUTO}))
        with pytest.raises(ModelError, match="got: a program with 2 inputs"):
            wrap(program)

    def test_another_file(self, tmp_path, caplog):
        with pytest.raises(ModelError, match=r"must be a file, got: .*none.pt2 .no such file."):
            load_model(f"{tmp_path}/none.pt2", device="cpu")
        (tmp_path / "net.pt2").write_bytes(b"hello, this is no program")
        with pytest.raises(ModelError, match=r"must be a program of torch.export, got: net.pt2 "):
            load_model(f"{tmp_path}/net.pt2", device="cpu")
        assert not caplog.records  # torch's own traceback
        assert not logging.getLogger("torch.export").disabled

    @pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.safetensors"])
    def test_a_file_of_weights_as_model(self, name, tmp_path):
        torch.save(Plain(), tmp_path / name)
        with pytest.raises(ModelError) as caught:
            load_model(f"{tmp_path}/{name}", device="cpu")
        assert caught.value.message.startswith(f"`model` must name a network, got: {name}, a file of weights")
        assert f"--weights {name}" in caught.value.hint

    def test_weights_beside_a_program(self, tmp_path):
        with pytest.raises(ModelError, match="`weights` must be left out with an exported program"):
            load_model("net.pt2", weights=tmp_path / "w.pt", device="cpu")
