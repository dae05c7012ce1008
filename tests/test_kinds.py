"""Where good guesses are wrong: one right value for each kind of fault that real models, files and stops have shown.

Each kind stands in words. Most are a small network whose maps fit on a page, and a twist that must change none of them.
"""

import os
import shutil
import sys
import threading
from pathlib import Path
from zipfile import ZIP_DEFLATED

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal
from torch import nn
from torch.ao import quantization
from torch.func import functional_call, stack_module_state
from torch.utils.checkpoint import checkpoint

import camdrift
from camdrift.attacks.gradients import ZERO
from camdrift.attacks.registry import advice
from camdrift.errors import StoreError, UserError
from camdrift.images.pixels import read_image
from camdrift.images.selection import select_images
from camdrift.models.weights import load_weights
from camdrift.storage.archives import open_arrays, write_arrays
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.words import ROUNDING
from support.nets import drawn
from support.studies import SMALL, TinyNet, assert_same, listing, study_of, tiny_classifier, write_factory

pytestmark = pytest.mark.usefixtures("no_report")

SIZE = 8
IMAGES = torch.rand((3, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(5))
PIXELS = (IMAGES * 255).to(torch.uint8)


def weights_of(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) + 0.4


class Hand(nn.Module):
    """Two convolutions of 1x1, the mean and a head: `by_hand` is its Grad-CAM."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 5, 1, bias=False)
        self.head = nn.Linear(5, 3, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(weights_of(*parameter.shape))

    def forward(self, x):
        return self.above(self.below(x))

    def below(self, x):
        return self.first(x).relu()

    def above(self, x):
        return self.head(self.second(x).relu().mean((2, 3)))


def by_hand(images):
    """Grad-CAM of `Hand` for class 0, in float64: A1 = ReLU(W1 x), A2 = ReLU(W2 A1), logit = w . mean(A2).

    The gradient of the logit is w / n at each of n values of A2, and W2^T (w / n where W2 A1 > 0) at A1.
    """
    w1, w2, w = weights_of(4, 3, 1, 1)[:, :, 0, 0], weights_of(5, 4, 1, 1)[:, :, 0, 0], weights_of(3, 5)[0]
    w1, w2, w, x = w1.double(), w2.double(), w.double(), images.double().flatten(2)
    first = (w1 @ x).clamp(min=0)
    second = (w2 @ first).clamp(min=0)
    above = (w / x.shape[2])[None, :, None].expand_as(second)
    below = w2.T @ (above * (second > 0))
    pairs = ((below, first), (above, second))
    maps = ((gradient.mean(2, keepdim=True) * a).sum(1).clamp(min=0) for gradient, a in pairs)
    return [flat.unflatten(1, images.shape[2:]) for flat in maps]


def assert_by_hand(module, images=IMAGES, count=2):
    """The module's maps of its last `count` layers are those of `Hand`."""
    maps = list(camdrift.attribute(camdrift.wrap(module, size=SIZE), images, 0).values())
    assert len(maps) == count
    for one, expected in zip(maps, by_hand(IMAGES[: len(images)])[-count:], strict=True):
        assert expected.max() > 0.01
        torch.testing.assert_close(one.double(), expected, rtol=1e-4, atol=1e-6)


class Recomputed(Hand):
    """Training mode: dropout would run in the backward pass, and batch norm would count the batch again."""

    def __init__(self, reentrant):
        super().__init__()
        self.reentrant, self.drop, self.norm = reentrant, nn.Dropout(0.5), nn.BatchNorm2d(4, eps=0)
        self.train()

    def below(self, x):
        return checkpoint(lambda x: self.drop(self.norm(self.first(x)).relu()), x, use_reentrant=self.reentrant)


class Frozen(Hand):
    def __init__(self, without):
        super().__init__()
        self.without = without

    def below(self, x):
        with self.without():
            return self.first(x).relu()


class Unlisted(Hand):
    """A convolution in a list, and a factor, that `parameters()` does not name."""

    def __init__(self):
        super().__init__()
        self.parts, self.factor = [self.first], torch.ones(1, requires_grad=True)
        del self.first

    def below(self, x):
        return self.parts[0](x * self.factor).relu()


class Looking(Hand):
    """Keeps what it sees, and learns in evaluation mode, too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def below(self, x):
        x = self.first(x)
        self.mean.mul_(0.9).add_(x.detach().mean((0, 2, 3)))
        self.last = x.abs().mean()
        return x.relu()


class Written(Hand):
    """The activation by hand."""

    def below(self, x):
        return torch.maximum(self.first(x), torch.zeros(()))


class Transposed(Hand):
    """A transposed convolution of 1x1 is one with its weights turned over."""

    def __init__(self):
        super().__init__()
        self.second = nn.ConvTranspose2d(4, 5, 1, bias=False)
        self.second.weight = nn.Parameter(weights_of(5, 4, 1, 1).transpose(0, 1).clone())


class Hooked(Hand):
    """Somebody's hook fails in the backward pass."""

    def __init__(self):
        super().__init__()
        for part in self.children():
            part.register_full_backward_hook(lambda *_: 1 / 0)


class Embedding(Hand):
    def forward(self, x):
        embedding = self.second(self.below(x)).relu().mean((2, 3))
        return embedding, self.head(embedding)


TWISTS = {
    "recomputation in the backward pass": lambda: Recomputed(reentrant=False),
    "recomputation without a graph": lambda: Recomputed(reentrant=True),
    "a part without gradients": lambda: Frozen(torch.no_grad),
    "a part in inference mode": lambda: Frozen(torch.inference_mode),
    "learnable tensors that no list names": Unlisted,
    "looking at an activation, state that a pass changes": Looking,
    "an activation by hand": Written,
    "a convolution of another operator": Transposed,
    "hooks of others in the backward pass": Hooked,
    "several outputs, the logits last": Embedding,
    "numbers of another type": lambda: Hand().double(),
    "another order of memory": lambda: Hand().to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("kind", TWISTS)
def test_a_twist_changes_no_map_and_nothing_of_the_module(kind):
    module = TWISTS[kind]()
    state, mode = {name: tensor.clone() for name, tensor in module.state_dict().items()}, module.training
    assert_by_hand(module)
    assert module.training == mode
    assert not hasattr(module, "last")
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_surroundings_of_the_caller():
    module = Hand()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert_by_hand(module)


@pytest.mark.parametrize("images", [PIXELS, PIXELS.numpy(), PIXELS.double() / 255, PIXELS.float().numpy() / 255])
def test_pixels_of_the_types_that_neighbours_take(images):
    maps = camdrift.attribute(camdrift.wrap(Hand(), size=(SIZE, SIZE)), images, 0)
    for one, expected in zip(maps.values(), by_hand(PIXELS / 255), strict=True):
        torch.testing.assert_close(one.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "cure"),
    [(IMAGES * 255, "divide them by 255"), (IMAGES.movedim(1, 3), "permute"), (IMAGES[0], "a batch of one")],
)
def test_pixels_of_another_range_or_order(images, cure):
    with pytest.raises(UserError, match=cure):
        camdrift.attribute(camdrift.wrap(Hand(), size=SIZE), images, 0)


class Noisy(Hand):
    """Image 1 gets the same noise alone as in a batch, all others do not."""

    def below(self, x):
        return super().below(x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))


def quantised():
    net = quantization.QuantWrapper(Hand().eval())
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.prepare(net, inplace=True)
    net(IMAGES)
    return quantization.convert(net)


class Together(Hand):
    """An ensemble through `torch.vmap`."""

    def __init__(self):
        super().__init__()
        self.inner = Hand()
        self.state = {name: value.detach() for name, value in stack_module_state([Hand(), Hand()])[0].items()}

    def forward(self, x):
        return torch.vmap(lambda state, x: functional_call(self.inner, state, (x,)), (0, None))(self.state, x).mean(0)


REFUSALS = {
    "probabilities that do not sum to one": (lambda: nn.Sequential(Hand(), nn.Sigmoid()), "its last step is a sigmoid"),
    "one image of a batch": (Noisy, "must judge every image by itself"),
    "numbers without gradients": (quantised, "quantised"),
    "values that are not there": (lambda: Hand().to("meta"), "on the meta device"),
    "transforms of torch.func": (Together, "such as vmap, where no gradient can begin: call it in a loop"),
}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", REFUSALS)
def test_what_cannot_be_right_is_refused_in_words(kind):
    make, words = REFUSALS[kind]
    with pytest.raises(UserError, match=words):
        camdrift.attribute(camdrift.wrap(make().eval(), size=SIZE), IMAGES, 0)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_one_image_behind_instance_norm(order):
    """Its gradient is what finite differences in float64 say."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 3), nn.Flatten(2), Spread()).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(weights_of(*parameter.shape))
    classifier = camdrift.wrap(module.to(memory_format=order), size=SIZE)
    image = IMAGES[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(image)[0, 0], image)
    module, step = module.double(), 1e-5
    for place in ((0, 0, 0, 0), (0, 1, 3, 4), (0, 2, 7, 2)):
        moved = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64)
        moved[place] = step
        with torch.no_grad():
            both = torch.cat([module(IMAGES[:1] + sign * moved) for sign in (1, -1)])
        expected = (both[0, 0] - both[1, 0]) / (2 * step)
        torch.testing.assert_close(gradient[place].double(), expected, rtol=1e-3, atol=1e-5)


def test_a_map_that_is_nothing_but_rounding(eight, tmp_path):
    """The gradient behind a convolution of 1x1 and instance norm has mean 0: that layer has no map and no gain."""
    net = drawn(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 1), nn.InstanceNorm2d(8, affine=True), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), 1).eval()  # fmt: skip
    settings = {**SMALL, "attack": "pgd(eps=96/255, steps=10)", "gallery": 0}
    layers = camdrift.run(camdrift.wrap(net, size=32), eight, out=tmp_path / "run", **settings).layers
    assert set(layers.filter(layer="0")["gain_undefined_reason"]) == {ROUNDING}


class Spread(nn.Module):
    """Logits that differ from place to place: behind instance norm a mean would have no gradient."""

    def forward(self, x):
        return (x.relu() * torch.linspace(0, 1, x.shape[2], dtype=x.dtype)).sum(2)


def test_names_of_a_mapping_are_in_the_order_of_its_classes():
    assert camdrift.wrap(Hand(), size=SIZE, labels={2: "fox", 0: "cat", 1: "dog"}).labels == ("cat", "dog", "fox")
    with pytest.raises(UserError, match=r"`labels` must be texts, got: 0 \(int\) for class 0"):
        camdrift.wrap(Hand(), size=SIZE, labels=range(3))


def test_names_of_weights_with_a_prefix(tmp_path):
    state = {f"model.{name}": tensor for name, tensor in Hand().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    module = Hand()
    with torch.no_grad():
        module.head.weight.zero_()
    assert "without the prefix model." in load_weights(module, tmp_path / "a.ckpt")[0]
    assert_by_hand(module)


def test_pictures_that_the_model_sees_otherwise(tmp_path):
    """Three stripes in a picture of 24 x 8: its middle is one of them, squeezed it holds all three."""
    stripes = np.zeros((8, 24, 3), np.uint8)
    stripes[:, 8:16] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert read_image(tmp_path / "stripes.png", size=8, resize=8).pixels.mean() == 1
    assert read_image(tmp_path / "stripes.png", size=8, resize=0).pixels.mean().item() == pytest.approx(1 / 3, abs=0.01)


def test_weak_attacks_get_the_setting_that_fools_more():
    assert "dlfuzz(scores='logit')" in advice("dlfuzz")


def test_two_readers_of_one_file(tmp_path):
    """A thread that is interrupted at every turn gets what was written."""
    arrays = {str(k): np.full((3, 8, 8), k, np.uint8) for k in range(24)}
    with (tmp_path / "gallery.npz").open("wb") as file:
        write_arrays(file, arrays.items(), ZIP_DEFLATED)
    start, wrong, interval = threading.Barrier(2), [], sys.getswitchinterval()

    def read(stored):
        start.wait()
        wrong.extend(name for name in stored if not np.array_equal(stored[name], arrays[name]))

    sys.setswitchinterval(1e-6)
    try:
        with open_arrays(tmp_path / "gallery.npz") as stored:
            threads = [threading.Thread(target=read, args=(stored,)) for _ in range(2)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def test_a_file_that_unpacks_to_more_than_it_should(tmp_path):
    with (tmp_path / "gallery.npz").open("wb") as file:
        write_arrays(file, [("a", np.zeros(300, np.uint8))], ZIP_DEFLATED)
    with open_arrays(tmp_path / "gallery.npz", most=300) as stored, pytest.raises(StoreError, match="more than 300"):
        _ = stored["a"]  # its header is 128 bytes


def test_pictures_that_are_passed_over_are_counted(tmp_path):
    for name in ("a.jpg", "b.HEIC", "c.heic"):
        (tmp_path / name).touch()
    assert "2 files are left out" in select_images(tmp_path).remarks[0]


class Rounded(TinyNet):
    """Its gradient at the pixels is exactly 0."""

    def forward(self, x):
        return super().forward((x * 255).round() / 255)


class TestStudies:
    """Whole studies of eight images in three chunks."""

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, classifier, eight, tmp_path_factory, no_report):
        return study_of(classifier, eight, tmp_path_factory.mktemp("whole") / "run", **SMALL)

    @pytest.fixture
    def run(self, whole, tmp_path):
        shutil.copytree(whole.path, tmp_path / "run")
        return tmp_path / "run"

    def options(self, folder, eight, attack):
        ladder = ("--strengths", "1", "--noise-ladder", "4", "--chunk-size", "3", "--gallery", "0")
        return ["run", eight, "--model", write_factory(folder), "--attack", attack, *ladder, "--out", folder / "run"]

    def written(self, folder, deed, name="mine.py"):
        head = "def attack(model, images, classes, key=''):"
        (folder / name).write_text(f"{head}\n    {deed}\n    return images * 0.5\n")
        return f"{folder / name}:attack"

    def test_an_attack_without_a_gradient_is_blind(self, eight, tmp_path):
        classifier = camdrift.wrap(Rounded().eval(), size=32)
        study = study_of(classifier, eight, tmp_path / "run", **SMALL, attack="fgsm")
        assert set(study.seeds["reason"]) == {ZERO}

    def test_an_attack_that_changes_the_network(self, whole, eight, tmp_path):
        """The same study as without the change, and a word about it."""
        plain = self.written(tmp_path, "pass")
        deed = self.written(tmp_path, "model.network.stem.weight.data.mul_(2)", "deed.py")
        study = study_of(tiny_classifier(), eight, tmp_path / "a", **SMALL, attack=plain)
        other = study_of(tiny_classifier(), eight, tmp_path / "b", **SMALL, attack=deed)
        assert_frame_equal(study.similarity, other.similarity)
        assert "weights and buffers: 1" in " ".join(other.record["preflight"]["warnings"])

    def test_a_study_goes_on_with_its_own_code_alone(self, eight, tmp_path, camdrift_command, monkeypatch):
        options = self.options(tmp_path, eight, self.written(tmp_path, "pass"))
        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "write_chunk", interrupted)
            assert camdrift_command(*options)[0] == 130
        self.written(tmp_path, "images = images + 0.1")
        code, _, err = camdrift_command(*options, "--resume")
        assert (code, "the code of the attack was another: mine.py changed" in err) == (2, True)

    def test_a_chunk_that_is_lost_is_done_again(self, classifier, eight, whole, tmp_path):
        lost = []

        def lose(progress):
            if progress.stage == "write" and progress.seeds_done == 8 and not lost:
                lost.append(shutil.rmtree(tmp_path / "run" / "chunks" / "00000"))

        assert_same(study_of(classifier, eight, tmp_path / "run", **SMALL, on_progress=lose), whole)
        assert len(lost) == 1

    def test_images_that_go_away_are_not_done(self, classifier, eight, whole, tmp_path, monkeypatch):
        photos, write = shutil.copytree(eight, tmp_path / "photos"), RunDirectory.write_chunk

        def move(directory, index, *content):
            write(directory, index, *content)
            if index == 0:
                photos.rename(tmp_path / "away")

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "write_chunk", move)
            with pytest.raises(StoreError, match="of 8 that could not be read in mid-run"):
                study_of(classifier, photos, tmp_path / "run", **SMALL)
        (tmp_path / "away").rename(photos)
        study = study_of(classifier, photos, tmp_path / "run", **SMALL, resume=True)
        assert_frame_equal(study.similarity, whole.similarity)

    def test_a_comparison_that_is_stopped_leaves_the_old_one(self, run, whole, tmp_path, monkeypatch):
        camdrift.compare(run, whole.path, out=tmp_path / "c", n_bootstrap=2)
        before = listing(tmp_path / "c")
        monkeypatch.setattr("camdrift.comparison.directory.record_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            camdrift.compare(run, whole.path, out=tmp_path / "c", n_bootstrap=2, overwrite=True)
        assert listing(tmp_path / "c") == before

    def test_a_network_that_ends_the_program(self, eight, tmp_path, camdrift_command):
        options = self.options(tmp_path, eight, self.written(tmp_path, "raise SystemExit(0)"))
        code, _, err = camdrift_command(*options)
        assert (code, "tried to end the program" in err, "--resume --out" in err) == (2, True, True)

    def test_secrets(self, eight, tmp_path, camdrift_command):
        attack = self.written(tmp_path, "assert key == 'S3CRET'")
        assert camdrift_command(*self.options(tmp_path, eight, f"{attack}(key='S3CRET')"))[0] == 0
        assert "S3CRET" not in (tmp_path / "run" / "run.json").read_text()

    def test_links(self, run, tmp_path):
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "figure_1.png").write_text("precious")
        shutil.rmtree(run / "figures", ignore_errors=True)
        (run / "figures").symlink_to(precious)
        before = listing(precious)
        with pytest.raises(StoreError, match="figures is a link"):
            camdrift.open(run).report()
        assert listing(precious) == before

    def test_tables_that_do_not_fit_each_other(self, run):
        table = pl.read_parquet(run / "floor.parquet")
        table.vstack(table).write_parquet(run / "floor.parquet")
        with pytest.raises(StoreError, match=r"floor\.parquet"):
            _ = camdrift.open(run).floor

    def test_what_a_killed_command_left_goes(self, run):
        for name in (".report.html.0123456789abcdef.part", "figures/.figure_gain.png.0123456789abcdef.part"):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_text("half")
        camdrift.open(run).report()
        assert list(run.rglob("*.part")) == []

    def test_a_report_outlasts_a_power_cut(self, run, monkeypatch):
        flushed = []
        monkeypatch.setattr(os, "fsync", lambda file: flushed.append(str(Path(f"/proc/self/fd/{file}").readlink())))
        camdrift.open(run).report()
        assert any("report.html" in path for path in flushed)
        assert str(run) in flushed


def interrupted(*_):
    raise KeyboardInterrupt
