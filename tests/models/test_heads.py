"""Heads: the values of the released layer worked by hand, specs, files, and a head in the place of a last layer."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import camdrift
from camdrift.errors import ModelError
from camdrift.models.head_specs import auto_scale, parse_head, split_head
from camdrift.models.head_training import cross_validated, folds_of, train_layer
from camdrift.models.heads import UNKNOWN_BELOW, CosineLayer, last_linear, new_layer, with_head
from support.heads import write_head
from support.nets import Plain, fixed, snapshot
from support.studies import tiny_classifier

FINGERPRINTS = torch.tensor([[1.0, 0], [0, 2], [-1, -1]])


class TestZeroBias:
    def test_values_by_hand(self):
        """D1: cosines of (3, 4) with three fingerprints are 0.6, 0.8 and -7/(5 sqrt 2)."""
        x = torch.tensor([[3.0, 4.0]], requires_grad=True)
        logits = CosineLayer(FINGERPRINTS, 5.0, is_shifted=True)(x)
        assert logits.tolist()[0] == pytest.approx([8, 9, 5 - 7 / 2**0.5], abs=1e-5)
        assert logits.softmax(1).tolist()[0] == pytest.approx([0.268916, 0.730989, 0.000095], abs=1e-6)
        (gradient,) = torch.autograd.grad(logits[0, 1], x)
        assert gradient.tolist()[0] == pytest.approx([-0.48, 0.36], abs=1e-6)
        assert float((gradient * x.detach()).sum()) == pytest.approx(0, abs=1e-6)
        plain = CosineLayer(FINGERPRINTS, 5.0, is_shifted=False)(x)
        assert torch.allclose(plain, logits - 5, atol=1e-6)
        assert torch.allclose(plain.softmax(1), logits.softmax(1), atol=1e-6)

    @pytest.mark.parametrize("factor", [1e-3, 7.0, 1e6])
    def test_length_of_features_does_not_matter(self, factor):
        layer = CosineLayer(FINGERPRINTS, 5.0, is_shifted=True)
        x = torch.randn((6, 2), generator=torch.Generator().manual_seed(0))
        assert torch.allclose(layer(factor * x), layer(x), atol=1e-5)
        assert torch.isfinite(layer(torch.zeros(1, 2))).all()

    @pytest.mark.parametrize(("classes", "probability"), [(10, 0.942826), (1000, 0.129346)])
    def test_confidence_is_capped(self, classes, probability):
        """With orthogonal fingerprints p is at most e^5 / (e^5 + K - 1)."""
        layer = CosineLayer(torch.eye(classes), 5.0, is_shifted=True)
        assert layer(torch.eye(classes)[:1]).softmax(1).max().item() == pytest.approx(probability, abs=1e-6)

    @pytest.mark.parametrize(("classes", "scale", "at_five"), [(10, 6.1131, 0.966377), (1000, 11.4904, 0.129911)])
    def test_auto_scale_lets_a_simplex_reach_99_percent(self, classes, scale, at_five):
        simplex = torch.eye(classes, dtype=torch.float64) - 1 / classes
        for m, probability in ((auto_scale(classes), 0.99), (5.0, at_five)):
            logits = CosineLayer(simplex, m, is_shifted=True)(simplex[:1])
            assert logits.softmax(1).max().item() == pytest.approx(probability, abs=2e-6)
        assert auto_scale(classes) == pytest.approx(scale, abs=1e-4)

    def test_it_begins_as_released(self):
        """A layer with bias to as many values as classes, then fingerprints in one orthant: mean cosine 3/4."""
        reduce, layer = new_layer(parse_head("zero-bias"), 7, 300)
        assert (reduce.weight.shape, reduce.bias.shape, layer.weight.shape) == ((300, 7), (300,), (300, 300))
        directions = nn.functional.normalize(layer.weight.detach())
        assert float((directions @ directions.T).mean()) == pytest.approx(0.75, abs=0.01)
        assert layer.scale.item() == 5


class TestSpecs:
    def test_kinds(self):
        assert str(parse_head("zero-bias(scale=auto)")) == "zero-bias(scale=auto)"
        assert str(parse_head("cosine(scale='auto')")) == "cosine"
        assert str(parse_head("cosine(scale=20)")) == "cosine(scale=20)"
        assert parse_head("zero-bias").scale_for(1000) == 5
        assert parse_head("zero-bias(scale=auto)").scale_for(10) == pytest.approx(6.1131, abs=1e-4)
        assert parse_head("linear").scale_for(10) is None
        assert split_head("linear@a@b, (1).safetensors")[1] == "a@b, (1).safetensors"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("zerobias", "`head` must be one of linear, linear-nobias, cosine, zero-bias, got: zerobias"),
            ("linear(scale=5)", "`head` linear must have no setting, got: linear(scale=5)"),
            ("cosine(m=5)", "`head` cosine must have scale alone, got: cosine(m=5)"),
            ("cosine(scale=-1)", "`scale` of a head must be auto or positive, got: -1"),
        ],
    )
    def test_what_is_wrong(self, text, words):
        with pytest.raises(ModelError) as failure:
            parse_head(text)
        assert failure.value.message == words
        assert failure.value.hint

    def test_a_head_is_kind_and_file(self):
        with pytest.raises(ModelError, match="`head` must be KIND@FILE, got: zero-bias"):
            split_head("zero-bias")


class TestTraining:
    def test_every_kind_tells_blobs_apart(self, monkeypatch):
        """Three classes around corners, far from the origin: without a bias, and by direction alone, too."""
        monkeypatch.setattr("camdrift.models.head_training._STEPS", 200)
        generator = torch.Generator().manual_seed(1)
        classes = torch.arange(60) % 3
        features = 1000 * (torch.eye(3, 8)[classes] + 0.05 * torch.randn((60, 8), generator=generator))
        for kind in ("linear", "linear-nobias", "cosine", "zero-bias", "zero-bias(scale=auto)"):
            layer = train_layer(parse_head(kind), features, classes, 3)
            assert (layer(features).argmax(1) == classes).all(), kind
            assert layer(features).softmax(1).max(1).values.mean() > 0.8, kind
        again = train_layer(parse_head(kind), features, classes, 3)
        assert torch.equal(layer(features), again(features))

    def test_many_images_in_parts(self, monkeypatch):
        monkeypatch.setattr("camdrift.models.head_training._BATCH", 16)
        classes = torch.arange(50) % 2
        features = torch.eye(2)[classes] + 0.1
        layer = train_layer(parse_head("linear"), features, classes, 2)
        assert (layer(features).argmax(1) == classes).all()

    def test_folds_spread_every_class(self):
        classes = torch.tensor([0] * 10 + [1] * 5 + [2] * 3)
        folds = folds_of(classes)
        assert [int(((folds == fold) & (classes == 0)).sum()) for fold in range(5)] == [2] * 5
        assert [int(((folds == fold) & (classes == 1)).sum()) for fold in range(5)] == [1] * 5
        assert folds_of(torch.tensor([0, 1, 1])).max() == 2

    def test_no_image_is_judged_by_a_head_that_it_trained(self):
        features, classes = torch.arange(10.0)[:, None], torch.arange(10) % 2
        folds = folds_of(classes)

        def train(features, classes):
            """A layer that knows what it was trained on: certain of class 0 there, and of class 1 elsewhere."""
            seen = features.clone()
            return lambda x: 100 * nn.functional.one_hot((~torch.isin(x[:, 0], seen)).long(), 2).float()

        assert cross_validated(train, features, classes, folds)[:, 1].tolist() == pytest.approx([1] * 10)


@pytest.fixture(scope="module")
def classifier():
    return camdrift.wrap(fixed(Plain()), size=16)


class TestInPlace:
    def test_the_layer_alone_changes(self, classifier, tmp_path):
        layer = write_head(tmp_path / "h.safetensors", classifier, "zero-bias")
        before, images = snapshot(classifier.module), torch.rand(3, 3, 16, 16)
        other = with_head(classifier, f"zero-bias@{tmp_path / 'h.safetensors'}")
        assert snapshot(classifier.module) == before
        features, logits = last_linear(classifier).features(images)
        with torch.no_grad():
            assert torch.allclose(classifier.module.head(features), logits)
            assert torch.allclose(other(images), layer(features), atol=1e-6)
        assert other.layers == classifier.layers
        assert (other.head.kind, other.classes, classifier.head) == ("zero-bias", 4, None)
        assert other.weights_checksum() != classifier.weights_checksum()

    def test_classes_without_images_are_never_predicted(self, classifier, tmp_path):
        layer = write_head(tmp_path / "h.safetensors", classifier, "linear", classes=(1, 3))
        other, images = with_head(classifier, f"linear@{tmp_path / 'h.safetensors'}"), torch.rand(5, 3, 16, 16)
        with torch.no_grad():
            logits, own = other(images), layer(last_linear(classifier).features(images)[0])
        assert torch.allclose(logits[:, [1, 3]], own)
        least = own.amin(1, keepdim=True) - UNKNOWN_BELOW
        assert torch.allclose(logits[:, [0, 2]], least.expand(-1, 2))
        assert logits.softmax(1)[:, [0, 2]].max() < 1e-12

    def test_a_network_without_a_last_linear_layer(self):
        with pytest.raises(ModelError, match="not the output of its last one, head") as failure:
            last_linear(tiny_classifier())  # which adds to what its head returns
        assert "nn.Linear" in failure.value.hint
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with pytest.raises(ModelError, match=r"Sequential \(it has none\)"):
            last_linear(camdrift.wrap(net, size=16))

    @pytest.mark.parametrize(
        ("changes", "head", "words"),
        [
            ({}, "cosine", "must name what the file holds, got: cosine for .*, which holds linear"),
            ({"features": "9"}, "linear", "must take 6 features and tell 4 classes, got: .* for 9 and 4"),
            ({"model_sha256": "0"}, "linear", "must be of this model, got: .*, trained on other weights of net"),
            ({"listing": "[0, 1]"}, "linear", "must hold a linear, got: "),
        ],
    )
    def test_heads_that_do_not_fit(self, classifier, tmp_path, changes, head, words):
        write_head(tmp_path / "h.safetensors", classifier, "linear", **changes)
        with pytest.raises(ModelError, match=words) as failure:
            with_head(classifier, f"{head}@{tmp_path / 'h.safetensors'}")
        assert "\n" not in failure.value.message
        assert failure.value.hint

    def test_files_that_are_no_heads(self, classifier, tmp_path):
        with pytest.raises(ModelError, match="no such file"):
            with_head(classifier, f"linear@{tmp_path / 'none.safetensors'}")
        (tmp_path / "text.safetensors").write_text("no head")
        with pytest.raises(ModelError, match="`head` could not be read"):
            with_head(classifier, f"linear@{tmp_path / 'text.safetensors'}")
        save_file({"weight": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
        with pytest.raises(ModelError, match="a file that `camdrift head` wrote"):
            with_head(classifier, f"linear@{tmp_path / 'other.safetensors'}")
