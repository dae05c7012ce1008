"""Matched noise: the moments it promises, the stream it comes from; and how variants are made of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from camdrift.pipeline import noise
from camdrift.pipeline.noise import channel_noise, matched_draws, matched_noise, spectrum_noise
from camdrift.tensors import perturbed


def perturbation(size=64, mean=0.003, std=0.02, rng_seed=0):
    generator = torch.Generator().manual_seed(rng_seed)
    return mean + std * torch.randn((3, size, size), generator=generator).sign()


class TestMoments:
    def test_match_those_of_the_perturbation(self):
        delta = perturbation()
        found = matched_noise(delta, rng_seed=0, seed_id="cat.png").double().numpy()
        reference = delta.double().numpy()
        error = reference.std() / np.sqrt(found.size)
        assert abs(found.mean() - reference.mean()) < 4 * error
        assert abs(found.std() - reference.std()) < 4 * error
        assert found.std() != pytest.approx(reference.std(), rel=1e-6)  # drawn, not rescaled to fit

    def test_are_taken_over_all_entries(self):
        """A perturbation whose planes differ: its noise has one mean and one deviation, not three."""
        delta = torch.stack([torch.full((48, 48), value) for value in (-0.1, 0.0, 0.4)])
        found = matched_noise(delta, rng_seed=0, seed_id="a")
        std = float(np.std([-0.1, 0.0, 0.4]))
        assert found.mean((1, 2)).tolist() == pytest.approx([0.1] * 3, abs=5 * std / 48)
        assert found.std((1, 2)).tolist() == pytest.approx([std] * 3, rel=0.08)

    @pytest.mark.parametrize("make", [matched_noise, channel_noise])
    def test_the_deviation_is_that_of_the_entries_not_an_estimate(self, make):
        """Entries of -1 and 1 deviate by 1; as a sample six of them would by 1.10, two by 1.41."""
        delta = torch.tensor([-1.0, 1.0]).expand(3, 1, 2)
        draws = torch.stack([make(delta, rng_seed=0, seed_id=f"{i}") for i in range(500)])
        assert draws.std().item() == pytest.approx(1, abs=4 / np.sqrt(2 * draws.numel()))

    def test_is_gaussian_and_white(self):
        found = matched_noise(perturbation(), rng_seed=3, seed_id="dog.png").flatten().double().numpy()
        assert stats.kstest((found - found.mean()) / found.std(), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / np.sqrt(found.size)

    def test_a_constant_perturbation_has_noise_without_spread(self):
        assert torch.equal(
            matched_noise(torch.full((3, 4, 4), 0.25), rng_seed=0, seed_id="a"), torch.full((3, 4, 4), 0.25)
        )

    @pytest.mark.parametrize(
        ("spoil", "moments"), [(lambda draw: draw + 0.1, (0.1, 1)), (lambda draw: 1.1 * draw, (0, 1.1))]
    )
    def test_a_bad_draw_is_refused(self, spoil, moments, monkeypatch):
        drawn = noise.standard_normal
        monkeypatch.setattr(noise, "standard_normal", lambda *args, **options: spoil(drawn(*args, **options)))
        with pytest.raises(ArithmeticError, match="must have mean 0 and standard deviation 1") as refusal:
            matched_noise(perturbation(), rng_seed=0, seed_id="a")
        told = [float(number) for number in str(refusal.value).partition("got: ")[2].split(", ")]
        assert told == pytest.approx(moments, abs=4 / perturbation().numel() ** 0.5)


class TestStream:
    def test_same_key_same_noise_whatever_was_drawn_before(self):
        first = matched_noise(perturbation(), rng_seed=5, seed_id="a", draw=2)
        torch.randn(7)
        matched_noise(perturbation(), rng_seed=5, seed_id="b")
        assert torch.equal(matched_noise(perturbation(), rng_seed=5, seed_id="a", draw=2), first)

    def test_the_callers_random_state_is_untouched(self):
        before = torch.get_rng_state()
        matched_noise(perturbation(), rng_seed=5, seed_id="a")
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("make", [matched_noise, channel_noise])
    def test_a_perturbation_with_a_gradient_leaves_none_in_its_noise(self, make):
        found = make(perturbation().requires_grad_(), rng_seed=5, seed_id="a")
        assert not found.requires_grad
        assert torch.equal(found, make(perturbation(), rng_seed=5, seed_id="a"))

    @pytest.mark.parametrize("key", [(1, "a", 0), (0, "b", 0), (0, "a", 1)])
    def test_every_part_of_the_key_counts(self, key):
        rng_seed, seed_id, draw = key
        base = matched_noise(perturbation(), rng_seed=0, seed_id="a", draw=0)
        other = matched_noise(perturbation(), rng_seed=rng_seed, seed_id=seed_id, draw=draw)
        correlation = np.corrcoef(base.flatten().numpy(), other.flatten().numpy())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(base.numel())

    def test_follows_the_perturbation_affinely(self):
        """The same draw for every perturbation of a seed: only its two moments enter."""
        base = matched_noise(perturbation(), rng_seed=0, seed_id="a").double()
        other = matched_noise(2 * perturbation() + 0.5, rng_seed=0, seed_id="a").double()
        torch.testing.assert_close(other, 2 * base + 0.5, rtol=1e-5, atol=1e-6)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize("make", [matched_noise, channel_noise])
    def test_device_changes_nothing(self, make):
        found = make(perturbation().cuda(), rng_seed=0, seed_id="a")
        assert found.is_cuda
        assert torch.equal(found.cpu(), make(perturbation(), rng_seed=0, seed_id="a"))


class TestDraws:
    KEYS = (("a", 0), ("a", 1), ("b", 0), ("c", 5), ("b", 1))

    @pytest.mark.parametrize("piece", [1, 2 * 3 * 20**2, 2**15])
    def test_are_those_of_each_alone(self, piece, monkeypatch):
        """Also where memory holds one or two of them at a time."""
        monkeypatch.setattr(noise, "_PIECES", 1)
        monkeypatch.setattr(noise, "piece_on", lambda device: piece)
        deltas = [perturbation(size=20, std=0.01 * (i + 1), rng_seed=i) for i in range(len(self.KEYS))]
        alone = [
            matched_noise(delta, rng_seed=3, seed_id=name, draw=draw)
            for delta, (name, draw) in zip(deltas, self.KEYS, strict=True)
        ]
        found = matched_draws(deltas, self.KEYS, rng_seed=3)
        assert all(map(torch.equal, found, alone))
        assert len(found) == len(alone)

    def test_of_nothing_are_none(self):
        assert matched_draws([], [], rng_seed=0) == []

    @pytest.mark.parametrize("make", [matched_noise, channel_noise, spectrum_noise])
    def test_have_the_same_bits_with_two_threads(self, make):
        delta = perturbation(size=224)
        threads = torch.get_num_threads()
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            try:
                found.append(make(delta, rng_seed=0, seed_id="a"))
            finally:
                torch.set_num_threads(threads)
        assert torch.equal(*found)


class TestPerturbed:
    def test_by_hand(self):
        seed = torch.tensor([0.0, 0.5, 0.75, 1.0]).expand(3, 1, 4)
        delta = torch.tensor([-0.25, 0.25, 0.25, -0.5]).expand(3, 1, 4)
        assert perturbed(seed, delta, 2.0)[0, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
        assert perturbed(seed, delta)[0, 0].tolist() == [0.0, 0.75, 1.0, 0.5]

    def test_leaves_its_arguments_alone(self):
        seed, delta = torch.rand(3, 4, 4), torch.ones(3, 4, 4)
        kept = seed.clone(), delta.clone()
        perturbed(seed, delta, 4.0)
        assert torch.equal(seed, kept[0])
        assert torch.equal(delta, kept[1])

    @given(st.integers(0, 2**32), st.floats(-50, 50))
    @settings(max_examples=30, deadline=None)
    def test_stays_in_pixel_space_and_strength_zero_is_the_seed(self, rng_seed, strength):
        generator = torch.Generator().manual_seed(rng_seed)
        seed, delta = (torch.rand((3, 2, 5), generator=generator) for _ in range(2))
        found = perturbed(seed, delta - 0.5, strength)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert torch.equal(perturbed(seed, delta, 0.0), seed)


class TestControls:
    def test_channel_noise_has_the_moments_of_every_channel(self):
        planes = [(-0.1, 0.01), (0.0, 0.05), (0.4, 0.0)]
        delta = torch.stack(
            [m + s * torch.randn((96, 96), generator=torch.Generator().manual_seed(1)) for m, s in planes]
        )
        found = channel_noise(delta, rng_seed=0, seed_id="a")
        assert found.mean((1, 2)).tolist() == pytest.approx(delta.mean((1, 2)).tolist(), abs=4 * 0.05 / 96)
        assert found.std((1, 2)).tolist() == pytest.approx(delta.std((1, 2)).tolist(), rel=0.05, abs=1e-7)

    def test_spectrum_noise_keeps_spectrum_mean_and_norm(self):
        white = torch.randn((3, 31, 32), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        delta = (0.01 + 0.02 * torch.nn.functional.avg_pool2d(white, 5, 1, 2)).float()
        found = spectrum_noise(delta, rng_seed=0, seed_id="a")
        spectra = [np.abs(np.fft.fft2(image.double().numpy())) for image in (delta, found)]
        assert np.allclose(*spectra, atol=1e-4)
        assert found.mean((1, 2)).tolist() == pytest.approx(delta.mean((1, 2)).tolist(), abs=1e-7)
        assert torch.linalg.vector_norm(found).item() == pytest.approx(torch.linalg.vector_norm(delta).item(), rel=1e-6)

    def test_spectrum_noise_keeps_how_channels_go_together_and_moves_everything(self):
        """A grey perturbation stays grey, and the noise has nothing to do with it where it lay."""
        delta = torch.randn((1, 48, 48), generator=torch.Generator().manual_seed(3)).expand(3, -1, -1) * 0.02
        found = spectrum_noise(delta, rng_seed=0, seed_id="a")
        assert torch.allclose(found[0], found[2], atol=1e-7)
        assert abs(np.corrcoef(found.flatten(), delta.flatten())[0, 1]) < 0.1

    @pytest.mark.parametrize("make", [channel_noise, spectrum_noise])
    def test_have_streams_of_their_own(self, make):
        delta = perturbation()
        one = make(delta, rng_seed=0, seed_id="a")
        assert torch.equal(one, make(delta, rng_seed=0, seed_id="a"))
        assert not torch.equal(one, make(delta, rng_seed=1, seed_id="a"))
        assert not torch.equal(one, make(delta, rng_seed=0, seed_id="b"))
        assert not torch.equal(one, matched_noise(delta, rng_seed=0, seed_id="a"))
