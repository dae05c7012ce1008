"""Purifiers by hand and against SciPy, and what a purifier may not do."""

import io

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.ndimage import gaussian_filter, median_filter

from camdrift.defences.base import BPDA, EXACT, Defence, check_defence
from camdrift.defences.bits import squeezed_to_bits
from camdrift.defences.making import Workshop, make_defence
from camdrift.defences.median import median_of_windows
from camdrift.defences.puvae import nearest_reconstruction
from camdrift.defences.registry import DEFENCES
from camdrift.defences.total_variation import smoothed
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from support.studies import TinyNet, picture, tiny_classifier, write_images

GEOMETRY = tiny_classifier().geometry
WORKSHOP = Workshop(geometry=GEOMETRY)
PLAIN = [name for name in DEFENCES if name not in ("dae", "puvae", "defense-gan", "diffusion")]


# A pipeline of a model that has seen one grey alone, (2 * 0.7 - 1), and a scheduler without chance.
GREY = """
from types import SimpleNamespace
import torch
from torch import nn

ALPHAS = torch.linspace(0.999, 0.9, 100).cumprod(0)
GREY = 0.4


class Unet(nn.Module):
    config = SimpleNamespace(sample_size=SIDE)

    def forward(self, x, step):
        assert x.shape[2:] == (SIDE, SIDE)
        a = ALPHAS[step]
        return SimpleNamespace(sample=(x - a.sqrt() * GREY) / (1 - a).sqrt())


class Scheduler:
    config = SimpleNamespace(num_train_timesteps=100)

    def set_timesteps(self, steps):
        self.gap = 100 // steps
        self.timesteps = torch.arange(0, 100, self.gap).flip(0)

    def add_noise(self, x, noise, steps):
        a = ALPHAS[steps].view(-1, 1, 1, 1)
        return a.sqrt() * x + (1 - a).sqrt() * noise

    def step(self, e, step, x, generator):
        a, before = ALPHAS[step], step - self.gap
        b = ALPHAS[before] if before >= 0 else torch.tensor(1.0)
        start = (x - (1 - a).sqrt() * e) / a.sqrt()
        return SimpleNamespace(prev_sample=b.sqrt() * start + (1 - b).sqrt() * e)


def build():
    return SimpleNamespace(unet=Unet(), scheduler=Scheduler())
"""


def images(count=3, size=12, rng_seed=0):
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(rng_seed))


def purified(spec, batch, keys=None):
    return make_defence(spec, WORKSHOP).purify(batch, keys or [str(i) for i in range(len(batch))], rng_seed=0)


def test_bits_by_hand():
    """0.4 of 7 levels is 2.8, so 3/7; 0.5 of one level is a tie, which goes to the even 0 (D4)."""
    assert squeezed_to_bits(torch.tensor([0.4], dtype=torch.float64), 3).item() == pytest.approx(3 / 7, abs=1e-12)
    assert squeezed_to_bits(torch.tensor([0.5]), 1).item() == 0


@pytest.mark.parametrize("window", [2, 3, 4, 5])
def test_median_is_scipys(window):
    batch = images()
    expected = median_filter(batch.numpy(), size=(1, 1, window, window), mode="reflect")
    assert np.array_equal(purified(f"median({window})", batch).numpy(), expected)
    with_gradient = median_of_windows(batch.clone().requires_grad_(), window)
    assert np.array_equal(with_gradient.detach().numpy(), expected)


def test_blur_is_scipys():
    batch = images().double()
    expected = gaussian_filter(batch.numpy(), sigma=(0, 0, 1.3, 1.3), mode="nearest", truncate=4.0)
    # SciPy rounds the radius, ours is its ceiling.
    assert np.abs(purified("blur(1.3)", batch).numpy() - expected).max() < 2e-4


def test_jpeg_is_what_pillow_writes():
    batch = images(1)
    pixels = (batch[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=40)
    expected = np.asarray(PIL.Image.open(file))
    assert np.array_equal((purified("jpeg(40)", batch)[0].permute(1, 2, 0) * 255).round().numpy(), expected)


def test_a_preprocessor_of_art_gets_pixels_with_channels_first():
    """By hand: 4 bits leave sixteenths of the range; and its median is SciPy's over 3 x 3 pixels of each channel."""
    pytest.importorskip("art")
    batch = images(2)
    squeezed = purified("art:FeatureSqueezing(bit_depth=4)", batch)
    assert torch.allclose(squeezed, (batch * 15).round() / 15, atol=1e-6)
    smooth = purified("art:SpatialSmoothing(window_size=3)", batch)
    expected = median_filter(batch.numpy(), size=(1, 1, 3, 3), mode="reflect")
    assert np.allclose(smooth.numpy(), expected, atol=1e-6)


def test_total_variation_falls_and_the_mean_stays():
    """Of two pixels a and b apart by d the minimiser moves each by the weight (at most d / 2): by hand."""
    pair = torch.tensor([0.2, 0.8], dtype=torch.float64).view(1, 1, 1, 2)
    assert smoothed(pair, 0.1, 400).flatten().tolist() == pytest.approx([0.3, 0.7], abs=1e-6)
    assert smoothed(pair, 5.0, 2000).flatten().tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


def test_resizing_keeps_the_shape_and_pads_with_black():
    batch = torch.ones(1, 3, 20, 20)
    answers = torch.cat([purified("resize-pad(0.5)", batch, [str(key)]) for key in range(20)])
    shares = answers.mean((1, 2, 3))
    assert 0.2 < shares.min() < shares.max() <= 1.0001
    assert len(shares.unique()) > 5


@pytest.mark.parametrize("spec", PLAIN)
def test_every_purifier_keeps_shape_and_range_alone_and_in_a_batch(spec):
    defence = make_defence(spec, WORKSHOP)
    check_defence(defence, images(size=32), rng_seed=0)
    assert make_defence(defence.spec, WORKSHOP).spec == defence.spec
    batch = images(size=32)
    together, alone = purified(spec, batch), torch.cat([purified(spec, batch[i : i + 1], [str(i)]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert defence.gradient in (EXACT, BPDA)
    assert torch.equal(purified("identity", batch), batch)


class TestRefused:
    """One line, with the cure."""

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("jpg", "did you mean `jpeg`"),
            ("jpeg(quality=0)", "from 1 to 95, got: 0"),
            ("bits(depth=2.5)", "a whole number from 1 to 8"),
            ("median(size=3)", "no such setting, got: size"),
            ("dae", "must have `train` or `file`"),
        ],
    )
    def test_specs(self, spec, message):
        with pytest.raises(UserError, match=message):
            make_defence(spec, WORKSHOP)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (lambda batch: batch[:, :, 1:], "must keep the shape"),
            (lambda batch: batch * 3 - 1, "must return pixels in"),
            (lambda batch: batch / 0 * 0, "must return pixels in"),
            (lambda batch: (batch * 255).byte(), "must return a float tensor"),
            (lambda batch: batch.numpy(), "must return a float tensor"),
        ],
    )
    def test_answers_that_are_no_images(self, answer, message):
        with pytest.raises(UserError, match=message):
            Defence("mine", lambda batch, _: answer(batch)).purify(images(), ["a", "b", "c"], rng_seed=0)

    def test_random_without_saying_so(self):
        generator = torch.Generator().manual_seed(0)

        def noisy(batch, _):
            return (batch + 0.1 * torch.rand(batch.shape, generator=generator)).clamp(0, 1)

        with pytest.raises(UserError, match="must give the same image twice"):
            check_defence(Defence("mine", noisy), images(), rng_seed=0)

    def test_statistics_of_the_batch(self):
        with pytest.raises(UserError, match="alone as in a batch"):
            check_defence(Defence("mine", lambda batch, _: 0 * batch + batch.mean()), images(), rng_seed=0)


class TestFunction:
    """A function of the user's own."""

    def spec(self, tmp_path, code):
        (tmp_path / "mine.py").write_text(code)
        return f"{tmp_path}/mine.py:purify"

    def test_it_gets_its_settings(self, tmp_path):
        spec = self.spec(tmp_path, "def purify(images, factor=1.0):\n    return images * factor\n")
        defence = make_defence(f"{spec}(factor=0.5)", WORKSHOP)
        batch = images()
        assert torch.equal(defence.purify(batch, ["", "", ""], rng_seed=0), batch * 0.5)
        assert defence.gradient == BPDA
        assert "mine.py" in defence.checksum

    def test_a_random_one_draws_from_its_generator(self, tmp_path):
        code = (
            "import torch\n\ndef purify(images, generator):\n"
            "    return (images + 0.1 * torch.rand(images.shape, generator=generator)).clamp(0, 1)\n\n"
            "purify.random = True\npurify.differentiable = True\n"
        )
        defence = make_defence(self.spec(tmp_path, code), WORKSHOP)
        check_defence(defence, images(), rng_seed=0)
        assert (defence.is_random, defence.gradient) == (True, EXACT)

    def test_other_arguments_are_refused(self, tmp_path):
        with pytest.raises(UserError, match=r"must take \(images\)"):
            make_defence(self.spec(tmp_path, "def purify():\n    pass\n"), WORKSHOP)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images to learn from."""
    return write_images(tmp_path_factory.mktemp("train"), 12)


def small_classifier(size):
    """The tiny classifier for smaller images: learning takes as long as they have pixels."""
    return Classifier(TinyNet().eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=size)


def pictures(size, numbers):
    """Pictures as the classifier of this size takes them."""
    pixels = [np.array(picture(number, (size, size))) for number in numbers]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


class TestReconstructions:
    """PuVAE and Defense-GAN."""

    def test_the_nearest_by_hand(self):
        """Root mean square errors 0.288675, 0.1 and 1: the second class (D11)."""
        copies = torch.tensor([[[0.0, 1.0, 0.5], [0.1, 0.9, 0.9], [1.0, 0.0, 0.0]]], dtype=torch.float64)
        image = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
        errors = ((copies - image[:, None]) ** 2).mean(2).sqrt()[0].tolist()
        assert errors == pytest.approx([0.288675, 0.1, 1.0], abs=1e-6)
        assert nearest_reconstruction(image, copies).tolist() == [[0.1, 0.9, 0.9]]

    def test_puvae_learns_to_reconstruct(self, folder):
        net = small_classifier(16)
        spec = f"puvae(train='{folder}', steps={{}})"
        short, long = (
            make_defence(spec.format(steps), Workshop(geometry=net.geometry, classifier=net)) for steps in (1, 250)
        )
        batch = pictures(16, range(4))
        errors = [((each.purify(batch, 4 * [""], rng_seed=0) - batch) ** 2).mean().item() for each in (short, long)]
        assert errors[1] < 0.6 * errors[0]
        check_defence(long, batch, rng_seed=0)
        slope = torch.autograd.grad(long.purify(batch.requires_grad_(), 4 * [""], rng_seed=0).sum(), batch)[0]
        assert slope.abs().sum() > 0

    def test_puvae_needs_few_classes(self, folder):
        with pytest.raises(UserError, match="at most 20 classes and images of 64 px, got: no network"):
            make_defence(f"puvae(train='{folder}')", WORKSHOP)

    def test_defense_gan_finds_the_latent_of_an_image(self, tmp_path):
        """A linear generator whose nearest image is known: the projection."""
        (tmp_path / "gan.py").write_text(
            "import torch\nfrom torch import nn\n\n\nclass Plane(nn.Module):\n    latent = 2\n\n"
            "    def forward(self, z):\n        image = torch.full((len(z), 3, 4, 4), 0.5)\n"
            "        image = image + 0.1 * torch.cat([z[:, :1, None, None].expand(-1, 3, 4, 2), "
            "z[:, 1:, None, None].expand(-1, 3, 4, 2)], 3)\n        return image.clamp(0, 1)\n\n\n"
            "def build():\n    return Plane()\n"
        )
        spec = f"defense-gan(generator='{tmp_path}/gan.py:build', steps=200, restarts=4)"
        defence = make_defence(spec, WORKSHOP)
        batch = images(2, 4)
        answer = defence.purify(batch, ["a", "b"], rng_seed=0)
        halves = [batch[..., :2].mean((1, 2, 3)), batch[..., 2:].mean((1, 2, 3))]
        assert torch.allclose(answer[:, 0, 0, 0], halves[0], atol=1e-3)
        assert torch.allclose(answer[:, 2, 3, 3], halves[1], atol=1e-3)
        assert defence.checksum.startswith("gan.py ")
        with pytest.raises(UserError, match="must have a generator of yours"):
            make_defence("defense-gan", WORKSHOP)

    @pytest.mark.parametrize("side", [8, 16])
    def test_diffusion_goes_back_along_the_path_of_its_model(self, tmp_path, side):
        """A model that knows images of one grey: whatever the noise, the way back ends there, from whichever start.

        The scheduler is DDIM's by hand: x0 = (x - sqrt(1 - a) e) / sqrt(a), and x = sqrt(b) x0 + sqrt(1 - b) e for the
        a of the step and the b of the one before. On the way up x has sqrt(a) (2 image - 1), which is noted.
        """
        (tmp_path / "grey.py").write_text(GREY.replace("SIDE", str(side)))
        spec = f"diffusion(pipeline='{tmp_path}/grey.py:build', time=0.5, steps=10)"
        defence = make_defence(spec, WORKSHOP)
        assert (defence.is_random, defence.is_iterative, defence.gradient) == (True, True, "bpda")
        batch = images(2, 8)
        answer = defence.purify(batch, ["a", "b"], rng_seed=0)
        torch.testing.assert_close(answer, torch.full_like(batch, 0.7), atol=1e-5, rtol=0)
        assert torch.equal(defence.purify(batch, ["a", "b"], rng_seed=0), answer)
        assert defence.checksum.startswith("grey.py ")

    def test_diffusion_needs_a_pipeline(self, tmp_path):
        with pytest.raises(UserError, match="must have a pipeline of yours"):
            make_defence("diffusion", WORKSHOP)
        (tmp_path / "other.py").write_text("def build():\n    return 3\n")
        with pytest.raises(UserError, match="must build a pipeline with unet and scheduler, got: int"):
            make_defence(f"diffusion(pipeline='{tmp_path}/other.py:build')", WORKSHOP)


class TestAutoencoder:
    """The denoising autoencoder, trained for a moment."""

    def test_it_takes_noise_out_and_learns_once(self, folder):
        kept = {}

        class Memory:
            def find(self, key):
                return kept.get(key)

            def keep(self, key, tensors):
                kept[key] = tensors

        geometry = small_classifier(20).geometry
        workshop = Workshop(geometry=geometry, learnt=Memory())
        spec = f"dae(train='{folder}', steps=150)"
        defence = make_defence(spec, workshop)
        clean = pictures(20, (50, 51))
        noisy = (clean + 16 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
        answer = defence.purify(noisy, ["", ""], rng_seed=0)
        assert ((answer - clean) ** 2).mean() < 0.6 * ((noisy - clean) ** 2).mean()
        assert ((defence.purify(clean, ["", ""], rng_seed=0) - clean) ** 2).mean() < 2e-4
        lines = []
        again = make_defence(spec, Workshop(geometry=geometry, learnt=Memory(), show=lines.append))
        assert (lines, again.checksum) == ([], defence.checksum)

    def test_seed_images_are_refused(self, folder):
        from camdrift.images.files import file_checksum

        seeds = frozenset([file_checksum(folder / "img_03.png")])
        with pytest.raises(UserError, match=r"must not learn from seed images of the run, got: img_03"):
            make_defence(f"dae(train='{folder}')", Workshop(geometry=GEOMETRY, seeds=seeds))

    def test_too_few(self, tmp_path):
        with pytest.raises(UserError, match="must have 10 images to learn from, got: 3"):
            make_defence(f"dae(train='{write_images(tmp_path / 'few', 3)}')", WORKSHOP)
