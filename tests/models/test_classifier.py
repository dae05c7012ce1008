"""The classifier: what it refuses, how it normalises, which layers it names, and what identifies its weights."""

import copy
import inspect
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.modeling_outputs import ImageClassifierOutput

from camdrift.errors import ModelError, UserError
from camdrift.models.arithmetic import determinism
from camdrift.models.classifier import Classifier
from camdrift.models.input_settings import input_settings
from support.nets import (
    Branched,
    OneReLU,
    Plain,
    SideShow,
    Squeezed,
    Wrapping,
    calibrated,
    conv,
    drawn,
    fixed,
    snapshot,
    vgg,
)


def test_a_backward_pass_that_fails_is_told_in_one_line():
    class Written(Plain):
        def forward(self, x):
            logits = super().forward(x).exp()
            logits.add_(1)
            return logits

    with pytest.raises(
        ModelError, match=r"^`model` must have a backward pass, got: RuntimeError: one of the"
    ) as caught:
        _ = Classifier(Written().eval(), size=16).layers
    assert "\n" not in caught.value.message
    assert "x = x + 1" in caught.value.hint


class Named(NamedTuple):
    features: torch.Tensor
    logits: torch.Tensor


class Auxiliary(NamedTuple):
    main: torch.Tensor
    auxiliary: torch.Tensor


@dataclass
class Holding:
    logits: torch.Tensor


@contextmanager
def refused(message, hint=None, error=ModelError):
    """The block fails with exactly this message, and a hint that contains `hint`."""
    with pytest.raises(error) as caught:
        yield
    assert caught.value.message == message
    if hint is not None:
        assert hint in caught.value.hint


def wrapping(change, **options):
    return Classifier(Wrapping(change), size=16, **options)


class TestPreflight:
    @pytest.mark.parametrize(
        ("change", "shape"),
        [
            (lambda y: y[:, :, None, None], "(2, 4, 1, 1)"),
            (lambda y: y.sum(1), "(2,)"),
            (lambda y: y.flatten()[None], "(1, 8)"),
            (lambda y: y[:, :1], "(2, 1)"),
            (lambda y: y.mean(), "()"),
        ],
    )
    def test_output_is_not_batch_by_classes(self, change, shape, monkeypatch):
        monkeypatch.setattr(Classifier, "__call__", inspect.unwrap(Classifier.__call__))  # no shape checker
        message = f"`model` must return logits of shape (batch, classes), got: {shape} for 2 images"
        cure = "torch.cat([-z, z], 1) / 2" if shape in ("(2,)", "(2, 1)") else "whose forward returns the logits"
        with refused(message, cure):
            wrapping(change)

    def test_the_cure_of_one_logit(self):
        """The sigmoid of one logit is the softmax of the two columns that the message asks for."""
        z = torch.tensor([[-3.0], [0.5]], dtype=torch.float64)
        torch.testing.assert_close((torch.cat([-z, z], 1) / 2).softmax(1)[:, 1:], z.sigmoid())

    @pytest.mark.parametrize(
        ("change", "got"),
        [
            (lambda y: (y[0], y[:, :, None]), "tuple of (4,), (2, 4, 1)"),
            (lambda y: {"scores": y.long()}, "dict of (2, 4)"),
            (lambda _: None, "NoneType"),
            (lambda _: [3, "four"], "list"),
        ],
    )
    def test_output_without_logits(self, change, got):
        rule = "logits of shape (batch, classes), alone, first of several or called `logits`"
        with refused(f"`model` must return {rule}, got: {got}", "wrap it in a module whose forward returns the logits"):
            wrapping(change)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_not_finite(self, value):
        with refused("`model` must return finite logits, got: NaN or infinity", "weights"):
            wrapping(lambda y: y * value)

    def test_dropout_that_is_always_on(self):
        message = "`model` must return the same logits for the same images, got: two different answers"
        with torch.random.fork_rng(), refused(message, "dropout that is always on"):
            torch.manual_seed(0)
            wrapping(lambda y: F.dropout(y + 1, 0.5, training=True))

    OF_THE_BATCH = "`model` must judge every image by itself, got: other logits alone than in a batch"

    def test_statistics_of_the_batch(self):
        with refused(self.OF_THE_BATCH, "model.eval()"):
            wrapping(lambda y: y - y.mean(0))

    def test_statistics_of_the_batch_in_norms_whatever_the_weights(self):
        """As in a program that was exported in training mode. Logits of new weights hardly differ between images."""
        for rng_seed in range(100):
            module = drawn(Branched, rng_seed).eval()
            for norm in (module.norm, module.right_norm):
                norm.running_mean = norm.running_var = None  # it takes the batch's own in evaluation mode, too
            with refused(self.OF_THE_BATCH):
                Classifier(module, size=16)

    def test_noise_that_depends_on_the_place_in_the_batch(self):
        """The first image gets the same noise alone as in a batch."""

        def noise(y):
            return y + 0.1 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))

        with refused(self.OF_THE_BATCH):
            wrapping(noise)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_new_weights_are_no_reason_to_refuse(self, precision):
        for rng_seed in range(20):
            module = drawn(Branched, rng_seed).eval()
            assert Classifier(module, size=16, precision=precision).classes == 4

    def test_probabilities(self):
        message = "`model` must return logits, got: probabilities (every row sums to 1)"
        with refused(message, "leave out its last softmax"):
            wrapping(lambda y: y.softmax(1))

    @pytest.mark.parametrize(
        ("last", "what"),
        [
            (torch.sigmoid, "probabilities (its last step is a sigmoid)"),
            (lambda y: torch.sigmoid(y)[:, :, None].clone().view(-1, 4), "probabilities (its last step is a sigmoid)"),
            (F.hardsigmoid, "probabilities (its last step is a hard sigmoid)"),
            (F.logsigmoid, "log-probabilities (its last step is a logsigmoid)"),
        ],
    )
    def test_probabilities_of_several_labels(self, last, what):
        with refused(f"`model` must return logits, got: {what}", "leave that step out"):
            wrapping(last)
        assert wrapping(lambda y: y * last(y)).classes == 4  # a gate is no last step

    def test_log_probabilities_and_positive_logits_will_do(self):
        assert wrapping(lambda y: y.log_softmax(1)).classes == 4
        assert wrapping(F.relu).classes == 4
        assert wrapping(lambda y: y - y.mean(1, keepdim=True) + 0.25).classes == 4  # sums to 1, but not all positive

    def test_labels_that_do_not_match(self):
        with refused("`labels` must name every class, got: 3 names for 4 classes"):
            wrapping(lambda y: y, labels=("cat", "dog", "fox"))

    @pytest.mark.parametrize("std", [(0.2, 0.0, 0.2), (0.2, 0.2, -1.0)])
    def test_std_that_is_not_positive(self, std):
        with refused(f"`std` must be positive, got: {std}"):
            wrapping(lambda y: y, std=std)

    def test_mean_in_bytes(self):
        mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
        message = f"`mean` and `std` must be in pixel units [0, 1], got: {mean} and {std}"
        with refused(message, "divide them by 255"):
            wrapping(lambda y: y, mean=mean, std=std)

    def test_mean_that_is_no_three_numbers(self):
        with refused("`mean` must have three values, got: 2"):
            wrapping(lambda y: y, mean=(0.5, 0.5))
        with refused("`std` must be three numbers, got: 0.5"):
            input_settings(std="0.5")

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (RuntimeError("mat1 and mat2\ncannot be multiplied"), "RuntimeError: mat1 and mat2"),
            (AssertionError("Input height (16) doesn't match model (224)."), "AssertionError: Input height (16)"),
            (KeyError("mask"), "KeyError: 'mask'"),
            (ZeroDivisionError(), "ZeroDivisionError"),
        ],
    )
    def test_forward_that_raises(self, error, line):
        def fails(_):
            raise error

        with pytest.raises(ModelError) as caught:
            wrapping(fails)
        assert caught.value.message.startswith(f"`model` failed on two images of 16 px: {line}")
        assert "sets the input size" in caught.value.hint

    def test_another_input_than_three_planes(self):
        grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with pytest.raises(ModelError, match=r"failed on two images of 16 px: RuntimeError: Given groups=1"):
            Classifier(grey, size=16)

    @pytest.mark.parametrize("size", [0, -3, 16.5, "16", (16, 32), (16, 16, 16), None, True, float("nan")])
    def test_size(self, size):
        with refused(f"`size` must be a whole number from 1 up, got: {size}"):
            input_settings(size=size)

    def test_precision(self, monkeypatch):
        """As in use: types are enforced under pytest alone."""
        monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
        message = "`precision` must be one of fp32, tf32, bf16, got: fp16"
        with refused(message, error=UserError):
            Classifier(Plain(), size=16, precision="fp16")

    def test_module_is_left_as_it_was_by_success_and_refusal(self):
        module = Wrapping(lambda y: y).train()
        before = snapshot(module)
        Classifier(module, size=16)
        module.change = lambda y: y.softmax(1)
        with pytest.raises(ModelError):
            Classifier(module, size=16)
        assert snapshot(module) == before

    def test_the_callers_random_state_is_untouched(self):
        module = fixed(Plain())
        before = torch.get_rng_state()
        assert Classifier(module, size=16).layers
        assert torch.equal(torch.get_rng_state(), before)


class TestOutputs:
    def found(self, change):
        images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))
        return wrapping(change)(images), wrapping(lambda y: y)(images), wrapping(change)

    @pytest.mark.parametrize(
        "change",
        [
            lambda y: (y, y + 1),
            lambda y: [y],
            lambda y: (y[:, :, None], y.long(), y[:, 0], y),
            lambda y: {"features": y + 1, "logits": y},
            lambda y: {"scores": y, "loss": y.mean()},
            lambda y: Named(y + 1, y),
            lambda y: Auxiliary(y, y + 1),
            lambda y: Holding(y),
            lambda y: ImageClassifierOutput(logits=y, hidden_states=(y + 1,)),
        ],
        ids=[
            "tuple",
            "list",
            "first that fits",
            "dict",
            "no name",
            "named tuple",
            "named first",
            "object",
            "transformers",
        ],
    )
    def test_logits_are_found(self, change):
        found, expected, classifier = self.found(change)
        assert torch.equal(found, expected)
        assert classifier.layers == ("inner.features.0", "inner.features.3")
        # The logits' own layer counts as softmax, whatever else is returned.
        assert [group.kind for group in classifier.neuron_groups] == ["convolution", "pool", "convolution", "softmax"]


class Several(nn.Module):
    """A network of several outputs: an embedding of 3 numbers, 5 logits of it, and an early exit."""

    def __init__(self, answer):
        super().__init__()
        self.a, self.b, self.exit, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3), nn.Linear(4, 5), nn.Linear(3, 5)
        self.answer = answer

    def forward(self, images):
        a = self.a(images).relu()
        embedding = self.b(a).relu().mean((2, 3))
        return self.answer(self.exit(a.mean((2, 3))), embedding, self.head(embedding))


class TestSeveralOutputs:
    @pytest.mark.parametrize(
        ("answer", "key"),
        [
            (lambda _exit, embedding, logits: (embedding, logits), 1),
            (lambda _exit, embedding, logits: (logits, embedding), 0),
            (lambda exit_, _, logits: [exit_, logits], 1),
            (lambda exit_, _, logits: [logits, exit_], 0),
            (lambda _exit, _, logits: (logits.softmax(1), logits), 1),
            (lambda exit_, _, logits: {"aux": exit_, "class_logits": logits[:, :4]}, "class_logits"),
            (lambda _exit, embedding, logits: {"features": embedding.detach(), "out": logits}, "out"),
        ],
        ids=["embedding", "embedding last", "exits", "exits last", "probabilities", "name", "name of features"],
    )
    def test_the_logits_are_chosen_and_told(self, answer, key):
        classifier = Classifier(fixed(Several(answer)), size=16)
        assert classifier.output == key
        assert classifier.layers == ("a", "b")
        assert classifier.remarks[0].startswith(f"output {key} (batch, {classifier.classes}) of 2 is studied, not ")

    def test_another_one_is_studied_by_name_or_number(self):
        heads = lambda exit_, _, logits: {"colour": exit_[:, :3], "make": logits}  # noqa: E731
        module = fixed(Several(heads))
        assert [Classifier(module, size=16, output=key).classes for key in ("make", 1, "colour", None)] == [5, 5, 3, 3]
        assert Classifier(module, size=16, labels=tuple("abcde")).output == "make"
        with refused("`output` must be one of the model's, got: shape, where there is colour (2, 3), make (2, 5)"):
            Classifier(module, size=16, output="shape")


class TestUnwrapping:
    def test_data_parallel(self):
        module = fixed(Plain())
        classifier = Classifier(nn.DataParallel(module), size=16)
        assert classifier.module is module
        assert classifier.remarks == ("unwrapped DataParallel",)
        assert classifier.layers == ("features.0", "features.3")

    def test_compiled(self):
        class Compiled(nn.Module):
            def __init__(self, module):
                super().__init__()
                self._orig_mod = module

        module = fixed(Plain())
        classifier = Classifier(Compiled(nn.DataParallel(Compiled(module))), size=16)
        assert classifier.module is module
        assert classifier.remarks == ("unwrapped torch.compile", "unwrapped DataParallel", "unwrapped torch.compile")

    def test_torchscript(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.trace(fixed(Plain()), torch.rand(1, 3, 16, 16))
        with refused("`model` must be an eager module, got: TorchScript", "load the module it was made from"):
            Classifier(scripted, size=16)


class TestCall:
    def test_normalises(self):
        module = fixed(Plain())
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        image = torch.rand(3, 3, 16, 16)
        planes = [(image[:, c] - mean[c]) / std[c] for c in range(3)]
        found = Classifier(module, mean=mean, std=std, size=16)(image)
        torch.testing.assert_close(found, module(torch.stack(planes, 1)), rtol=1e-5, atol=1e-6)

    def test_nothing_is_normalised_unless_told(self):
        module, image = fixed(Plain()), torch.rand(2, 3, 16, 16)
        assert torch.equal(Classifier(module, size=16)(image), module(image))

    def test_runs_in_evaluation_mode_and_with_gradients_of_the_image(self):
        module = calibrated(Branched(), size=16).train()
        image = torch.rand(2, 3, 16, 16, requires_grad=True)
        found = Classifier(module, size=16)(image)
        (gradient,) = torch.autograd.grad(found.sum(), image)
        assert gradient.any()
        assert torch.equal(found, module.eval()(image))

    def test_bf16_is_computed_in_bf16_and_returned_in_fp32(self, images):
        module = fixed(Plain())
        exact, rough = Classifier(module, size=16), Classifier(module, size=16, precision="bf16")
        assert rough(images).dtype == torch.float32
        assert torch.equal(rough(images), rough(images).bfloat16().float())
        torch.testing.assert_close(rough(images), exact(images), rtol=0.05, atol=0.05)
        assert not torch.equal(rough(images), exact(images))

    def test_a_mode_around_it_sees_what_the_network_calls_and_no_more(self):
        """Buffers are copied and flags read before each pass: shown to a mode, that takes longer than doing it."""

        class Names(TorchFunctionMode):
            def __init__(self):
                super().__init__()
                self.seen = []

            def __torch_function__(self, func, types, args=(), kwargs=None):
                self.seen.append(func.__name__)
                return func(*args, **(kwargs or {}))

        blocks = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(5)]
        classifier = Classifier(nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=8)
        images = torch.rand(1, 3, 8, 8)
        with torch.no_grad(), classifier.undisturbed(), Names() as names:
            classifier(images)
        assert not {"clone", "detach", "requires_grad_", "is_leaf"} & set(names.seen)
        assert names.seen.count("conv2d") == 5


class TestLayers:
    def test_execution_order(self):
        assert Classifier(fixed(OneReLU()), size=16).layers == ("first", "second", "third")

    def test_order_does_not_depend_on_what_is_asked_first(self):
        one, other = (Classifier(fixed(SideShow()), size=16) for _ in range(2))
        infos, layers = one.layer_infos, one.layers
        assert other.layers == layers
        assert other.layer_infos == infos

    def test_layers_that_do_not_reach_the_logits_are_noted(self):
        classifier = Classifier(fixed(SideShow()), size=16)
        assert classifier.layers == ("features.0", "features.3")
        notes = {info.name: info.note for info in classifier.layer_infos if info.note}
        assert notes == dict.fromkeys(("unused", "cut", "late"), "no gradient of the logits reaches it")

    def test_gates_are_noted(self):
        classifier = Classifier(fixed(Squeezed()), size=16)
        assert classifier.layers == ("features.0", "features.3")
        notes = {info.name: info.note for info in classifier.layer_infos if info.note}
        assert notes == dict.fromkeys(("reduce", "expand"), "1x1 output: a map of one value cannot move")

    def test_repr(self, plain):
        assert repr(plain) == "Classifier(Plain, 4 classes, 16 px, 2 layers)"

    def test_class_names(self):
        assert wrapping(lambda y: y, labels=("cat", "dog", "fox", "owl")).class_name(2) == "fox"
        assert wrapping(lambda y: y).class_name(2) == "class 2"


class TestSelectLayers:
    @pytest.fixture
    def classifier(self):
        return Classifier(vgg([4, "M", 4, 4, "M", 4, "M"]), size=16)

    @pytest.mark.parametrize(
        ("globs", "labels"),
        [
            (None, ["block1_conv1", "block2_conv1", "block2_conv2", "block3_conv1"]),
            ([], ["block1_conv1", "block2_conv1", "block2_conv2", "block3_conv1"]),
            (["block2_*"], ["block2_conv1", "block2_conv2"]),
            (["features.0", "block?_conv2"], ["block1_conv1", "block2_conv2"]),
            (["block3_conv1", "features.0"], ["block1_conv1", "block3_conv1"]),
            (["*", "features.0"], ["block1_conv1", "block2_conv1", "block2_conv2", "block3_conv1"]),
        ],
    )
    def test_globs_over_names_and_labels_in_execution_order(self, globs, labels, classifier):
        label_of = {info.name: info.label for info in classifier.layer_infos}
        assert [label_of[name] for name in classifier.select_layers(globs)] == labels

    @pytest.mark.parametrize("glob", ["block4_*", "Features.0", "features.1"])
    def test_a_glob_without_match(self, glob, classifier):
        message = f"`layers` must match layers with a map, got: {glob} (no such layer)"
        with refused(message, "`camdrift layers --model SPEC` lists the layers", error=UserError):
            classifier.select_layers(["features.0", glob])

    def test_a_layer_without_a_map(self):
        classifier = Classifier(fixed(Squeezed()), size=16)
        reason = "reduce: 1x1 output: a map of one value cannot move"
        with refused(f"`layers` must match layers with a map, got: red* ({reason})", error=UserError):
            classifier.select_layers(["red*"])
        assert classifier.select_layers(["*"]) == ("features.0", "features.3")

    def test_a_model_without_layers(self):
        linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
        with refused("`model` has no convolution and no block with a map, got: Sequential"):
            Classifier(linear, size=16).select_layers()

    def test_taps_of_an_unknown_layer(self, classifier):
        with refused("`layers` must name layers of the model, got: block1_conv1", error=UserError):
            classifier.taps(["block1_conv1"])


class TestWeightsChecksum:
    def test_is_a_sha256_of_the_weights_alone(self):
        module = calibrated(Branched(), size=16)
        checksum = Classifier(module, size=16).weights_checksum()
        assert re.fullmatch("[0-9a-f]{64}", checksum)
        copied = copy.deepcopy(module).train().requires_grad_(False)
        assert Classifier(nn.DataParallel(copied), size=16, std=(0.5, 0.5, 0.5)).weights_checksum() == checksum
        if torch.cuda.is_available():
            assert Classifier(copied.cuda(), size=16).weights_checksum() == checksum

    def test_changes_with_every_weight_and_statistic(self):
        module = calibrated(Branched(), size=16)
        seen = {Classifier(module, size=16).weights_checksum()}
        for name, tensor in module.state_dict().items():
            tensor.view(-1)[-1] += 1
            seen.add(Classifier(module, size=16).weights_checksum())
            tensor.view(-1)[-1] -= 1
            assert name in module.state_dict()
        assert len(seen) == 1 + len(module.state_dict())

    def test_changes_with_names_shapes_and_types(self):
        def checksum(first, second, dtype=torch.float32):
            module = Wrapping(lambda y: y)
            module.register_buffer(first, torch.zeros(2, 3, dtype=dtype))
            module.register_buffer(second, torch.zeros(3, 2, dtype=dtype))
            return Classifier(module, size=16).weights_checksum()

        assert len({checksum("a", "b"), checksum("b", "a"), checksum("a", "c"), checksum("a", "b", torch.int32)}) == 4

    def test_does_not_depend_on_the_order_of_registration(self):
        class Head(nn.Module):
            def __init__(self, order):
                super().__init__()
                for name in order:
                    setattr(self, name, fixed(conv(3, 4)))

            def forward(self, x):
                return self.b(x).mean((2, 3)) + self.a(x).mean((2, 3))

        one, other = (Classifier(Head(order), size=16).weights_checksum() for order in ("ab", "ba"))
        assert one == other


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_numerics_set_what_the_precision_says_and_put_it_back(precision, expected):
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    classifier = Classifier(fixed(Plain()), size=16, precision=precision)
    with classifier.numerics():
        assert [backend.fp32_precision for backend in backends] == [expected, expected]
    assert [backend.fp32_precision for backend in backends] == before


@pytest.mark.parametrize(("device", "expected"), [("cpu", (False, True)), ("cuda", (True, False))])
def test_a_card_adds_in_one_order(device, expected, monkeypatch):
    """Kernels of cuDNN that keep the order of their sums; the caller's choice comes back."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False)
    monkeypatch.setattr(cudnn, "benchmark", True)
    classifier = Classifier(fixed(Plain()), size=16)
    classifier.device = torch.device(device)
    with classifier.numerics():
        assert (cudnn.deterministic, cudnn.benchmark) == expected
    assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    assert [determinism(torch.device(name)) for name in ("cpu", "cuda:1", "mps")] == ["all", "cudnn", "unknown"]


def test_bfloat16_counts_the_logits_once():
    kinds = [group.kind for group in Classifier(fixed(Plain()), size=16, precision="bf16").neuron_groups]
    assert kinds == [group.kind for group in Classifier(fixed(Plain()), size=16).neuron_groups]
