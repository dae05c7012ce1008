"""Watching a network: what a trace says of it, what a pass captures, and that nothing stays behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from camdrift.layers import hooks
from camdrift.layers.operations import LINEAR
from camdrift.layers.state import undisturbed
from camdrift.layers.tracing import trace
from support.nets import Branched, Fickle, Functional, OneReLU, Plain, Squeezed, Twice, conv, fixed, snapshot


def traced(module, size=16):
    module = fixed(module)
    return trace(module, lambda: module(torch.rand(1, 3, size, size))).calls


def summary(calls):
    return [(call.module, call.operation) for call in calls]


def by_name(calls, name):
    """The first call of `module operation`."""
    return next(call for call in calls if f"{call.module} {call.operation}" == name)


def readers(calls, call):
    return [(calls[i].module, calls[i].operation) for i in call.readers]


class TestTrace:
    def test_operations_in_execution_order(self):
        assert summary(traced(Plain())) == [
            ("features.0", "conv2d"),
            ("features.1", "relu"),
            ("features.2", "max_pool2d"),
            ("features.3", "conv2d"),
            ("features.4", "relu"),
            ("head", "linear"),
        ]

    def test_functions_count_like_modules(self):
        operations = [name for _, name in summary(traced(Functional()))]
        assert operations == ["conv2d", "relu_", "max_pool2d", "conv2d", "relu", "avg_pool2d", "linear"]

    def test_one_module_called_three_times_is_three_calls(self):
        calls = traced(OneReLU())
        assert [call.index for call in calls if call.module == "relu"] == [1, 3, 5]
        assert [call.module for call in calls if call.operation == "conv2d"] == ["first", "second", "third"]

    def test_readers_are_known_and_other_operations(self):
        calls = traced(Branched())
        stem = by_name(calls, "relu relu")
        assert readers(calls, stem) == [("left", "conv2d"), ("right", "conv2d")]
        assert len(stem.other_readers) == 1  # the addition
        assert readers(calls, by_name(calls, "left conv2d")) == []
        assert by_name(calls, "left conv2d").other_readers == ["cat"]
        assert readers(calls, by_name(calls, "last conv2d")) == [("act", "silu")]

    def test_overwritten_in_place(self):
        calls = traced(Branched())
        overwritten = {(call.module, call.operation) for call in calls if call.is_overwritten}
        # `norm` by the in-place ReLU; `right_norm` by += and, once more, by the in-place ReLU behind it
        assert overwritten == {("norm", "batch_norm"), ("right_norm", "batch_norm")}

    def test_shapes(self):
        pool = by_name(traced(Plain()), "features.2 max_pool2d")
        assert (pool.source_shape, pool.shape) == ((1, 5, 16, 16), (1, 5, 8, 8))

    def test_only_the_returned_call_is_output(self):
        assert [call.module for call in traced(Plain()) if call.is_output] == ["head"]

    def test_dropout_in_evaluation_mode_is_handed_through(self):
        with_dropout = nn.Sequential(conv(3, 5), nn.Dropout(), nn.ReLU(), nn.Dropout2d(), conv(5, 2))
        calls = traced(with_dropout)
        assert summary(calls) == [("0", "conv2d"), ("2", "relu"), ("4", "conv2d")]
        assert readers(calls, calls[0]) == [("2", "relu")]
        assert readers(calls, calls[1]) == [("4", "conv2d")]
        assert all(not call.other_readers for call in calls)

    def test_writing_into_an_output_reads_and_overwrites_it(self):
        class Masked(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = conv(3, 2)

            def forward(self, x):
                x = self.conv(x)
                x[:, 0] = 0
                return x.clamp(min=0).mean((2, 3))

        call, clamp = traced(Masked())
        assert call.is_overwritten
        assert call.other_readers == ["__setitem__"]
        assert not clamp.is_overwritten

    def test_looking_at_a_shape_is_no_reading(self):
        class Sized(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = conv(3, 2)

            def forward(self, x):
                x = self.conv(x)
                assert x.shape[0] == x.size(0)
                assert x.dim() == 4
                return F.relu(x)

        assert traced(Sized())[0].other_readers == []

    def test_gate_is_read_by_a_product(self):
        calls = traced(Squeezed())
        assert by_name(calls, " sigmoid").other_readers == ["mul"]
        assert by_name(calls, "features.4 relu").other_readers == ["mul"]

    def test_leaves_nothing_behind(self):
        module = fixed(Fickle())
        before = snapshot(module)
        trace(module, lambda: module(torch.rand(1, 3, 16, 16)))
        assert snapshot(module) == before
        module.fails = True
        with pytest.raises(RuntimeError, match="broke midway"):
            trace(module, lambda: module(torch.rand(1, 3, 16, 16)))
        assert snapshot(module) == before
        assert torch._C._len_torch_function_stack() == 0

    def test_a_pass_after_a_failed_one_is_named_rightly(self):
        module = fixed(Fickle())

        def fails_then_runs():
            module.fails = True
            with pytest.raises(RuntimeError, match="broke midway"):
                module(torch.rand(1, 3, 16, 16))
            module.fails = False
            return module(torch.rand(1, 3, 16, 16))

        calls = trace(module, fails_then_runs).calls
        assert [call.module for call in calls if call.family == LINEAR] == ["head"]
        assert summary(calls)[1][0] == "features.0"


class TestUndisturbed:
    def make(self):
        module = fixed(Branched())
        module.train()
        module.norm.eval()
        module.stem.weight.requires_grad_(False)
        module.left.weight.grad = torch.ones_like(module.left.weight)
        return module

    def test_evaluation_and_frozen_inside_as_before_after(self):
        module = self.make()
        before = snapshot(module)
        with undisturbed(module):
            assert not any(part.training for part in module.modules())
            assert not any(parameter.requires_grad for parameter in module.parameters())
        assert snapshot(module) == before

    def test_a_tensor_that_is_a_mere_attribute_is_written_to_as_a_copy(self):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.count = torch.zeros(1)

            def forward(self, x):
                return x + self.count.add_(1)

        module = Counting()
        count = module.count
        with undisturbed(module):
            assert module(torch.zeros(1)) == 1
        assert module.count is count
        assert count == 0

    def test_restored_after_an_error(self):
        module = self.make()
        before = snapshot(module)
        with pytest.raises(KeyError), undisturbed(module):
            raise KeyError
        assert snapshot(module) == before

    def test_restored_when_entering_fails_halfway(self):
        class Stubborn(nn.Parameter):
            def requires_grad_(self, flag=True):
                if not flag:
                    raise RuntimeError("stays trainable")
                return super().requires_grad_(flag)

        module = self.make()
        module.head.bias = Stubborn(torch.zeros(4))
        before = snapshot(module)
        with pytest.raises(RuntimeError, match="stays trainable"), undisturbed(module):
            pass
        assert snapshot(module) == before


def capture_of(module, x, names, receivers=None):
    """The calls of a module, and a pass that captures the outputs of some."""
    calls = trace(module, lambda: module(x)).calls
    taps = {name: by_name(calls, name).tap for name in names}
    with undisturbed(module), torch.enable_grad(), hooks.capturing(taps, receivers) as capture:
        logits = module(x)
    return capture, logits


class TestCapturing:
    def test_keeps_the_activation_before_it_is_overwritten(self):
        module, x = fixed(Branched()), torch.rand(2, 3, 8, 8)
        names = ["right_norm batch_norm", "norm batch_norm", "stem conv2d"]
        capture, logits = capture_of(module, x, names)
        with torch.no_grad():
            stem = module.stem(x)
            norm = module.norm(stem)
            right = module.right_norm(module.right(norm.relu()))
            expected = module(x)
        for name, value in zip(names, (right, norm, stem), strict=True):
            assert torch.equal(capture.activations[name], value)
        assert torch.equal(logits, expected)

    def test_gradient_of_every_activation(self):
        """Against autograd on the same net written without anything in place."""
        module, x = fixed(Branched()).double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
        names = ["stem conv2d", "right_norm batch_norm", "last conv2d", "act silu"]
        capture, logits = capture_of(module, x, names)
        found = hooks.reduce_gradients(logits[:, 1].sum(), capture, lambda _, gradient: gradient.clone())
        stem = module.stem(x)
        after = module.norm(stem).relu()
        right = module.right_norm(module.right(after))
        last = module.last(torch.cat([module.left(after), (right + after).relu()], 1))
        act = F.silu(last)
        score = module.head(act.mean((2, 3)))[:, 1].sum()
        expected = torch.autograd.grad(score, [stem, right, last, act])
        for name, gradient in zip(names, expected, strict=True):
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)

    def test_two_names_for_one_place(self):
        module, x = fixed(Plain()), torch.rand(1, 3, 8, 8)
        tap = trace(module, lambda: module(x)).calls[1].tap
        with undisturbed(module), hooks.capturing({"a": tap, "b": tap}) as capture:
            logits = module(x)
        found = hooks.reduce_gradients(logits.sum(), capture, lambda a, g: (a * g).sum())
        assert found["a"] == found["b"] != 0

    def test_receivers_see_the_output_and_need_no_gradient(self):
        module, x = fixed(Branched()), torch.rand(2, 3, 8, 8)
        tap = by_name(trace(module, lambda: module(x)).calls, "right_norm batch_norm").tap
        seen = []
        with torch.no_grad(), hooks.capturing({}, {tap: [lambda t: seen.append(t.clone())] * 2}) as capture:
            module(x)
            right = module.right_norm(module.right(module.norm(module.stem(x)).relu()))
        assert len(seen) == 2
        assert torch.equal(seen[0], right)
        assert capture.activations == {}

    def test_another_path_than_in_the_trace_is_an_error(self):
        module, x = fixed(Fickle()), torch.rand(1, 3, 8, 8)
        tap = trace(module, lambda: module(x)).calls[1].tap
        module.detours = True
        message = "another path than in its trace: call 1 was `relu`, got: `leaky_relu`"
        with pytest.raises(RuntimeError, match=message), torch.enable_grad(), hooks.capturing({"a": tap}):
            module(x)
        assert torch._C._len_torch_function_stack() == 0

    def test_nothing_stays_after_a_receiver_raises(self):
        module, x = fixed(Twice()), torch.rand(1, 3, 8, 8)
        before = snapshot(module)
        tap = trace(module, lambda: module(x)).calls[1].tap

        def refuse(_):
            raise ValueError("no room")

        with pytest.raises(ValueError, match="no room"), hooks.capturing({}, {tap: [refuse]}):
            module(x)
        assert torch._C._len_torch_function_stack() == 0
        assert snapshot(module) == before


class TestReduceGradients:
    NAMES = ("features.1 relu", "features.4 relu")

    def test_twice_on_one_graph(self):
        module, x = fixed(Plain()).double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
        capture, logits = capture_of(module, x, self.NAMES)
        first = hooks.reduce_gradients(logits[:, 0].sum(), capture, lambda _, g: g.sum(), retain_graph=True)
        second = hooks.reduce_gradients(logits[:, 1].sum(), capture, lambda _, g: g.sum())
        # d mean(A)_k / d A = 1/16 at 16 places, for two images: 2 * sum_k head[class, k]
        weight = module.head.weight.detach()
        assert float(first[self.NAMES[1]]) == pytest.approx(2 * float(weight[0].sum()), rel=1e-9)
        assert float(second[self.NAMES[1]]) == pytest.approx(2 * float(weight[1].sum()), rel=1e-9)

    def test_no_tensor_hook_stays_even_after_an_error(self):
        module, x = fixed(Plain()), torch.rand(1, 3, 8, 8)
        capture, logits = capture_of(module, x, self.NAMES)
        calls = []

        def count(_, gradient):
            calls.append(gradient.shape)
            raise ZeroDivisionError("count")

        with pytest.raises(ZeroDivisionError, match="count"):
            hooks.reduce_gradients(logits.sum(), capture, count, retain_graph=True)
        assert len(calls) == 1
        hooks.reduce_gradients(logits.sum(), capture, lambda a, _: a)
        assert len(calls) == 1
        assert not any(activation._backward_hooks for activation in capture.activations.values())

    def test_leaves_gradients_of_parameters_and_images_alone(self):
        module, x = fixed(Plain()), torch.rand(1, 3, 8, 8)
        before = snapshot(module)
        capture, logits = capture_of(module, x, self.NAMES)
        hooks.reduce_gradients(logits.sum(), capture, lambda a, _: a)
        assert snapshot(module) == before
        assert [root.grad for root in capture.roots] == [None]

    def test_a_score_without_gradient_reaches_nothing(self):
        module, x = fixed(Plain()), torch.rand(1, 3, 8, 8)
        capture, _ = capture_of(module, x, self.NAMES)
        assert hooks.reduce_gradients(torch.tensor(1.0), capture, lambda a, _: a) == {}
