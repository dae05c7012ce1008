"""Standard normal numbers by a counter: published words, quantiles by other libraries, the same bits in any way."""

from math import fsum, sqrt

import mpmath
import numpy as np
import pytest
import torch
from scipy import special, stats

from camdrift import normal
from camdrift.normal import normal_quantile, philox, row_moments, standard_normal

# Both kinds of arrays: what a processor computes with, and what a card does.
KINDS = {"numpy": np.asarray, "torch": torch.as_tensor}
LARGE = 2**20


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def large():
    return standard_normal([1, 2, 2**63 - 1], LARGE).numpy()


@pytest.fixture
def as_on_a_card(monkeypatch):
    """Tensors are computed with as they are."""
    monkeypatch.setattr(normal, "_array", lambda tensor: tensor)


class TestWords:
    # Known answers of Random123 1.14, tests/kat_vectors: counter, key, words.
    @pytest.mark.parametrize(
        ("counter", "key", "words"),
        [
            ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
            ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
            ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
        ],
    )
    def test_are_those_of_random123(self, counter, key, words, kind):
        parts = [[kind(np.array([int(word, 16)])) for word in text.split()] for text in (counter, key)]
        assert [word.item() for word in philox(*map(tuple, parts))] == [int(word, 16) for word in words.split()]

    def test_become_the_first_numbers_of_a_stream(self):
        """Stream 0: the words of counter 0 and key 0; of each pair, as 64 bits with a sign, the upper 52."""
        first, second = standard_normal([0], 2)[0].tolist()
        assert first == pytest.approx(special.ndtri(0.5 + 0x6627E8D5E169C58D / 2**64), rel=1e-11)
        assert second == pytest.approx(special.ndtri(0xBC57AC4C9B00DBD8 / 2**64 - 0.5), rel=1e-11)

    def test_of_a_stream_use_all_of_its_bits(self):
        draws = standard_normal([5, 5 + 2**32, 5 + 2**62, 6], 4).tolist()
        assert len({tuple(draw) for draw in draws}) == 4


class TestQuantile:
    # Multiples of 2^-53 below one half, as a draw has them: from the least on, and about both splits.
    ODD = np.unique(
        np.concatenate(
            [
                2 * np.geomspace(0.5, 2**51, 20_001).astype(np.int64) + 1,
                2 * (np.linspace(0.0749, 0.0751, 2001) * 2**52).astype(np.int64) + 1,
                2 * (np.exp(-25) * np.linspace(0.99, 1.01, 2001) * 2**52).astype(np.int64) + 1,
                2 * np.arange(500) + 1,
            ]
        )
    )
    TAIL = ODD[ODD < 2**52] / 2**53

    def test_is_that_of_scipy(self, kind):
        found = np.asarray(normal_quantile(kind(self.TAIL - 0.5)))
        np.testing.assert_allclose(found, special.ndtri(self.TAIL), rtol=4e-15)

    @pytest.mark.parametrize("p", [2.0**-53, 1e-13, 1.3e-11, 1.4e-11, 1e-6, 0.01, 0.0749, 0.0751, 0.2, 0.4999])
    def test_is_that_of_thirty_digits(self, p):
        centred = p - 0.5
        with mpmath.workdps(40):
            exact = float(mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(centred)))
        assert normal_quantile(np.array([centred])).item() == pytest.approx(exact, rel=1.5e-15)

    def test_is_odd(self, kind):
        centred = kind(self.TAIL - 0.5)
        assert (normal_quantile(-centred) == -normal_quantile(centred)).all()
        assert normal_quantile(kind(np.array([0.0, 2.0**-53])))[0] == 0

    def test_leaves_its_argument_alone(self, kind):
        centred = kind(self.TAIL - 0.5)
        normal_quantile(centred)
        assert np.array_equal(np.asarray(centred), self.TAIL - 0.5)


class TestDraw:
    STREAMS = (7, 2**63 - 1, 0, 12345678901234567)

    @pytest.mark.parametrize("entries", [1, 2, 3, 100, 101])
    @pytest.mark.parametrize("piece", [1, 2, 7, 100, 250])
    def test_has_the_same_bits_in_pieces_of_any_length(self, entries, piece):
        whole = standard_normal(self.STREAMS, 101)[:, :entries]
        assert torch.equal(standard_normal(self.STREAMS, entries, piece=piece), whole)

    def test_has_the_same_bits_alone_and_in_a_batch(self):
        batch = standard_normal(self.STREAMS, 5000)
        for row, stream in zip(batch, self.STREAMS, strict=True):
            assert torch.equal(standard_normal([stream], 5000)[0], row)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_has_the_same_bits_as_on_a_card(self, threads, as_on_a_card, large):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found = standard_normal([1, 2, 2**63 - 1], 2**17)
        finally:
            torch.set_num_threads(before)
        assert np.array_equal(found.numpy(), large[:, : 2**17])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_has_the_same_bits_on_a_card(self, large):
        found = standard_normal([1, 2, 2**63 - 1], LARGE, device="cuda")
        assert found.is_cuda
        assert np.array_equal(found.cpu().numpy(), large)

    def test_of_no_stream_or_no_entries_is_empty(self):
        assert standard_normal([], 5).shape == (0, 5)
        assert standard_normal([1, 2], 0).shape == (2, 0)

    def test_is_standard_normal(self, large):
        for draw in large:
            assert stats.kstest(draw, "norm").pvalue > 1e-3
            # Moments 1 to 4 are 0, 1, 0, 3, and their variances 1, 2, 15, 96, over the number of entries.
            for power, (moment, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], 1):
                assert (draw**power).mean() == pytest.approx(moment, abs=4 * sqrt(variance / LARGE))

    def test_has_independent_entries_and_streams(self, large):
        first, second, third = large
        pairs = [(first, second), (first, third), (second, third)]
        pairs += [(first[:-lag], first[lag:]) for lag in (1, 2, 3, 224, 50176)]
        # Of even and odd entries, which come of one counter, also the sizes.
        pairs += [(abs(first[::2]), abs(first[1::2])), (abs(first), abs(second))]
        for a, b in pairs:
            assert abs(np.corrcoef(a, b)[0, 1]) < 4 / sqrt(len(a))

    def test_reaches_the_far_tail_as_often_as_it_should(self, large):
        for limit in (3.0, 4.0):
            expected = large.size * 2 * stats.norm.sf(limit)
            assert (abs(large) > limit).sum() == pytest.approx(expected, abs=4 * sqrt(expected))


class TestMoments:
    ROWS = torch.rand((3, 1001), generator=torch.Generator().manual_seed(1)) - 0.2

    def test_are_those_of_exact_sums(self):
        for row, mean, std in zip(self.ROWS.double().tolist(), *row_moments(self.ROWS), strict=True):
            exact = fsum(row) / 1001
            assert mean.item() == pytest.approx(exact, rel=1e-14)
            assert std.item() == pytest.approx(sqrt(fsum((x - exact) ** 2 for x in row) / 1001), rel=1e-14)

    def test_have_the_same_bits_alone_and_as_on_a_card(self, request):
        mean, std = row_moments(self.ROWS)
        assert torch.equal(row_moments(self.ROWS[1:2])[0], mean[1:2])
        request.getfixturevalue("as_on_a_card")
        assert torch.equal(row_moments(self.ROWS)[0], mean)
        # A root on a card is rounded rightly; torch's on a processor may be one step off.
        torch.testing.assert_close(row_moments(self.ROWS)[1], std, rtol=3e-16, atol=0)

    def test_of_one_entry(self):
        mean, std = row_moments(torch.tensor([[0.25]]))
        assert (mean.item(), std.item()) == (0.25, 0)
