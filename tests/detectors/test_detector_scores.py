"""Scores of detectors: worked by hand, and against pytorch-ood, scikit-learn and naive loops."""

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from camdrift.detectors.base import profile_scale
from camdrift.detectors.confidence import LOGIT_SCORES
from camdrift.detectors.dimensionality import lid_score, local_dimensionality
from camdrift.detectors.gaussians import mahalanobis_score, relative_score, whitened
from camdrift.detectors.mixtures import class_mixture, mixture_log_density, mixture_score
from camdrift.detectors.squeezing import squeeze_distance
from camdrift.errors import UserError
from support.detectors import classes_of_points, drawn_reference

CROSS = [(-1, 0), (1, 0), (0, -2), (0, 2)]
D2 = classes_of_points(CROSS, [(x + 4, y) for x, y in CROSS])
X = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
SPREAD = np.diag([0.5, 2.0])
NONE = torch.zeros(1, dtype=torch.int64)


def rows_of(rng_seed, images, features):
    return torch.from_numpy(np.random.default_rng(rng_seed).normal(size=(images, features)) * 3)


class TestWorkedByHand:
    def test_d2_mahalanobis(self):
        """Tied covariance diag(0.5, 2): squared distances 1/0.5 + 4/2 = 4 and 9/0.5 + 4/2 = 20; half of 4."""
        assert mahalanobis_score(D2)(X, NONE).tolist() == pytest.approx([2])

    def test_d2_relative(self):
        """All images: mean (2, 0), covariance diag(4.5, 2): 1/4.5 + 4/2 = 20/9; 4 - 20/9."""
        assert relative_score(D2)(X, NONE).tolist() == pytest.approx([16 / 9])

    def test_d2_log_density(self):
        one = mixture_log_density(X.numpy(), np.ones(1), np.zeros((1, 2)), SPREAD[None])
        assert one == pytest.approx([-math.log(2 * math.pi) - 2])
        two = mixture_log_density(
            X.numpy(), np.array([0.5, 0.5]), np.zeros((2, 2)), np.stack([np.diag([0.5, 2.0])] * 2)
        )
        assert two == pytest.approx(one)

    def test_d3_lid(self):
        """-((ln 1/4 + ln 2/4 + 0) / 3)^-1 = 1 / ln 2."""
        assert local_dimensionality(np.array([[4.0, 1.0, 2.0, 9.0]]), 3) == pytest.approx([1 / math.log(2)])

    def test_an_image_is_no_neighbour_of_itself(self):
        assert local_dimensionality(np.array([[0.0, 4.0, 1.0, 2.0]]), 3) == pytest.approx([1 / math.log(2)])
        assert np.isnan(local_dimensionality(np.array([[0.0, 4.0, 1.0], [3.0, 3.0, 3.0]]), 3)).all()

    def test_d4_squeeze(self):
        """|0.7 - 0.4| + |0.2 - 0.5| = 0.6, against 0.05 + 0.05."""
        logits = [torch.tensor([row]).log() for row in ([0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.65, 0.2, 0.15])]
        assert squeeze_distance(logits[0], logits[1:]).tolist() == pytest.approx([0.6])

    def test_confidence(self):
        logits = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log() + 3
        by_hand = {"softmax": -0.5, "margin": -math.log(2), "entropy": 1.5 * math.log(2), "energy": -3}
        by_hand["maxlogit"] = math.log(2) - 3
        assert {name: score(logits).item() for name, score in LOGIT_SCORES.items()} == pytest.approx(by_hand)
        certain = torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
        assert LOGIT_SCORES["entropy"](certain).item() == 0

    def test_constant_features_are_left_out(self):
        rows = np.concatenate([D2.rows, np.full((8, 1), 7.0)], 1)
        score = mahalanobis_score(type(D2)(rows, D2.classes))
        assert score(torch.tensor([[1.0, 2, 50]], dtype=torch.float64), NONE).tolist() == pytest.approx([2])

    def test_images_alike_have_no_score(self):
        same = classes_of_points([(1, 1)] * 5, [(2, 2)] * 5)
        assert mahalanobis_score(same)(X, NONE).isnan().all()
        assert profile_scale(mahalanobis_score, same).tolist() == pytest.approx([math.nan] * 2, nan_ok=True)


class TestSecondOpinions:
    def test_pytorch_ood_divides_otherwise(self):
        """Its Mahalanobis is 1 / n of ours (D2: 0.25), its RMD 1 / n too (2 / 9): ranks hold."""
        library = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")
        rows, labels = (torch.from_numpy(each) for each in (D2.rows, D2.classes))
        pairs = ((library.Mahalanobis(None), mahalanobis_score), (library.RMD(None), relative_score))
        values = []
        for theirs, ours in pairs:
            theirs.fit_features(rows.float(), labels)
            values.append(theirs.predict_features(X.float()).item())
            assert ours(D2)(X, NONE).item() == pytest.approx(8 * values[-1], rel=1e-4)
        assert values == pytest.approx([0.25, 2 / 9], rel=1e-4)

    @pytest.mark.parametrize(
        ("name", "theirs"),
        [("softmax", "MaxSoftmax"), ("entropy", "Entropy"), ("energy", "EnergyBased"), ("maxlogit", "MaxLogit")],
    )
    def test_confidence_against_pytorch_ood(self, name, theirs):
        library = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")
        logits = rows_of(0, 20, 5)
        torch.testing.assert_close(LOGIT_SCORES[name](logits), getattr(library, theirs)(None).predict_logits(logits))

    def test_mahalanobis_against_loops(self):
        reference, rows = drawn_reference(0, 60, 4), rows_of(1, 12, 4)
        means = [reference.rows[reference.classes == name].mean(0) for name in range(3)]
        covariance = sum(np.outer(d, d) for d in reference.rows - np.array(means)[reference.classes]) / 60
        inverse = np.linalg.inv(covariance)
        loops = [min((row - m) @ inverse @ (row - m) for m in means) / 2 for row in rows.numpy()]
        assert mahalanobis_score(reference)(rows, NONE).numpy() == pytest.approx(loops, rel=1e-9)

    def test_few_images_shrink_the_covariance(self):
        """Ledoit and Wolf's share, as scikit-learn mixes it in; a share that is set is used."""
        from sklearn.covariance import LedoitWolf

        rows = drawn_reference(0, 12, 10, classes=1).rows
        deviations = rows - rows.mean(0)
        theirs = LedoitWolf(assume_centered=True).fit(deviations)
        ours = whitened(deviations, None)
        assert ours.shrinkage == pytest.approx(theirs.shrinkage_)
        assert 0 < ours.shrinkage < 1
        places = rows_of(1, 5, 10)
        squares = ours.squares(places, torch.zeros((1, 10), dtype=torch.float64))[:, 0]
        assert squares.numpy() == pytest.approx(theirs.mahalanobis(places.numpy()), rel=1e-8)
        assert whitened(deviations, 0.5).shrinkage == 0.5

    def test_lid_against_loops(self):
        reference, rows = drawn_reference(0, 30, 3), rows_of(1, 6, 3)
        score = lid_score(reference, k=7, reference_size=10)(rows, NONE.expand(6))
        for row, value in zip(rows.numpy(), score.tolist(), strict=True):
            nearest = sorted(math.dist(row, other) for other in reference.rows[::3])[:7]
            assert value == pytest.approx(-1 / (sum(math.log(r / nearest[-1]) for r in nearest) / 7))

    def test_mixture_is_that_of_scikit_learn(self):
        rows = np.concatenate(
            [drawn_reference(0, 90, 2, classes=1).rows, drawn_reference(1, 90, 2, classes=1).rows + 9]
        )
        mixture = class_mixture(rows)
        assert len(mixture.weights) == 2  # BIC finds both clouds
        theirs = GaussianMixture(2, random_state=0)
        theirs.weights_, theirs.means_, theirs.covariances_ = mixture.weights, mixture.centres, mixture.covariances
        theirs.precisions_cholesky_ = np.stack([np.linalg.cholesky(np.linalg.inv(c)) for c in mixture.covariances])
        places = (rows[:7] - mixture.mean) @ mixture.axes.T
        assert mixture.log_density(rows[:7]) == pytest.approx(theirs.score_samples(places), rel=1e-9)

    def test_a_mixture_needs_ten_images(self):
        rows = drawn_reference(0, 40, 40, classes=1).rows
        assert class_mixture(rows[:9]) is None
        assert class_mixture(rows[:10]).axes.shape == (3, 40)
        reference = type(D2)(rows, np.array([0] * 31 + [1] * 9))
        values = mixture_score(reference)(torch.from_numpy(rows[:2]), torch.tensor([0, 1]))
        assert values.isfinite().tolist() == [True, False]

    def test_a_scale_is_that_of_images_that_were_left_out(self):
        reference = drawn_reference(0, 50, 3)
        naive = np.full(50, np.nan)
        for part in range(5):
            is_in = np.arange(50) % 5 == part
            others = type(D2)(reference.rows[~is_in], reference.classes[~is_in])
            naive[is_in] = mahalanobis_score(others)(torch.from_numpy(reference.rows[is_in]), NONE).numpy()
        assert profile_scale(mahalanobis_score, reference).tolist() == pytest.approx([naive.mean(), naive.std()])


def test_lid_needs_more_images_than_neighbours():
    with pytest.raises(UserError, match=r"`k` of lid must be below .* got: 20 of 8 .*lid\(k=1\)"):
        lid_score(D2, k=20, reference_size=100)
