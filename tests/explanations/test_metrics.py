"""Metrics of attributions: by hand, against SciPy and naive float64 versions, and what holds for all of them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.optimize import linprog

from camdrift.errors import UserError
from camdrift.explanations.metrics import cka, relative_error
from camdrift.explanations.registry import find_metric
from camdrift.explanations.similarity import compare_layers, similarity
from camdrift.tables.measures import MAP_METRICS, METRICS
from camdrift.tables.words import CONSTANT_MAP, NON_FINITE_MAP, ZERO_MAP_SEED, ZERO_MAP_VARIANT
from support.maps import random_maps

SIZE = (24, 24)
SHAPES = ((3, 6, 6), (2, 24, 24), (2, 16, 20), (2, 3, 5))
# What sees neither the scale of a map nor which of the two is the seed's.
SCALE_FREE = tuple(metric for metric in MAP_METRICS if metric != "relative-error")


def pair(shape, share=0.6):
    return random_maps(shape, rng_seed=1, share=share), random_maps(shape, rng_seed=2, share=share)


def enlarged(maps, size=SIZE):
    return F.interpolate(maps.double()[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].numpy()


def representations(rng_seed=0):
    return torch.randn((2, 5, 4, 6), generator=torch.Generator().manual_seed(rng_seed))


class TestAgainstOthers:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_pearson(self, shape):
        a, b = pair(shape)
        pairs = zip(enlarged(a), enlarged(b), strict=True)
        expected = [scipy.stats.pearsonr(u.ravel(), v.ravel())[0] for u, v in pairs]
        np.testing.assert_allclose(similarity(a, b, SIZE, metric="pearson"), expected, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_spearman(self, shape):
        a, b = pair(shape)
        expected = [scipy.stats.spearmanr(u.ravel(), v.ravel())[0] for u, v in zip(a.numpy(), b.numpy(), strict=True)]
        np.testing.assert_allclose(similarity(a, b, SIZE, metric="spearman"), expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_ssim(self, shape):
        """Wang 2004 with a Gaussian window of 11 pixels, standard deviation 1.5, mirrored at the border."""
        a, b = pair(shape)
        values = [part / part.max((1, 2), keepdims=True) for part in (a.double().numpy(), b.double().numpy())]
        u, v = (enlarged(torch.from_numpy(part)) for part in values)

        def smooth(x):
            return np.stack([gaussian_filter(plane, 1.5, radius=5, mode="mirror") for plane in x])

        mean_u, mean_v = smooth(u), smooth(v)
        var_u, var_v, both = smooth(u * u) - mean_u**2, smooth(v * v) - mean_v**2, smooth(u * v) - mean_u * mean_v
        c1, c2 = 0.01**2, 0.03**2
        top = (2 * mean_u * mean_v + c1) * (2 * both + c2)
        expected = (top / ((mean_u**2 + mean_v**2 + c1) * (var_u + var_v + c2))).mean((1, 2))
        np.testing.assert_allclose(similarity(a, b, SIZE, metric="ssim"), expected, rtol=1e-5)
        both = [torch.from_numpy(part)[:, None].float() for part in (u, v)]
        # Here, for it imports transformers, too.
        from torchmetrics.functional.image import structural_similarity_index_measure

        theirs = structural_similarity_index_measure(*both, data_range=1.0, reduction="none")
        np.testing.assert_allclose(similarity(a, b, SIZE, metric="ssim"), theirs.flatten(), rtol=1e-5)

    def test_emd_names_the_extra_that_it_needs(self, monkeypatch):
        monkeypatch.setattr("camdrift.explanations.registry.find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"`similarity` emd needs POT, .*pip install \"camdrift\[emd\]\""):
            find_metric("emd")

    @pytest.mark.parametrize("shape", SHAPES)
    def test_relative_error(self, shape):
        a, b = pair(shape)
        u, v = enlarged(a), enlarged(b)
        expected = 1 - np.linalg.norm(v - u, axis=(1, 2)) / np.linalg.norm(u, axis=(1, 2))
        np.testing.assert_allclose(similarity(a, b, SIZE, metric="relative-error"), expected, rtol=1e-9, atol=1e-9)

    def test_relative_error_of_representations(self):
        a, b = representations(0), representations(1)
        u, v = a.double().numpy().reshape(2, -1), b.double().numpy().reshape(2, -1)
        expected = 1 - np.linalg.norm(v - u, axis=1) / np.linalg.norm(u, axis=1)
        np.testing.assert_allclose(relative_error(a, b, SIZE), expected, rtol=1e-12)

    def test_emd_against_a_linear_programme(self):
        a, b = pair((1, 3, 4))
        first, second = ((part.double() / part.double().sum()).numpy().ravel() for part in (a, b))
        centres = [((i + 0.5) / 3, (j + 0.5) / 4) for i in range(3) for j in range(4)]
        cost = [math.dist(x, y) for x in centres for y in centres]
        leaves = np.kron(np.eye(12), np.ones(12))
        arrives = np.kron(np.ones(12), np.eye(12))
        found = linprog(cost, A_eq=np.vstack([leaves, arrives]), b_eq=np.concatenate([first, second]))
        assert similarity(a, b, SIZE, metric="emd").item() == pytest.approx(1 - found.fun, abs=1e-9)

    def test_cka_by_centred_kernels(self):
        """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = X X^T and L = Y Y^T, centred on both sides."""
        a, b = representations(0), representations(1)
        expected = []
        for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
            x, y = x.reshape(5, -1).T, y.reshape(5, -1).T
            centre = np.eye(24) - 1 / 24
            k, l = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre  # noqa: E741
            expected.append((k * l).sum() / math.sqrt((k * k).sum() * (l * l).sum()))
        np.testing.assert_allclose(cka(a, b, SIZE), expected, rtol=1e-10)
        wide = torch.randn((2, 30, 2, 3), generator=torch.Generator().manual_seed(3))
        other = wide + 0.1 * torch.randn(wide.shape, generator=torch.Generator().manual_seed(4))
        narrow = cka(wide, other, SIZE)
        assert ((narrow > 0.9) & (narrow < 1)).all()  # more channels than positions go the other way

    def test_cka_sees_neither_rotation_nor_scale_of_channels(self):
        a = representations(0)
        turn = torch.linalg.qr(torch.randn((5, 5), generator=torch.Generator().manual_seed(5)))[0]
        turned = 3 * torch.einsum("kc,bchw->bkhw", turn, a)
        np.testing.assert_allclose(cka(a, turned, SIZE), 1, rtol=1e-6)


class TestByHand:
    def corner(self, row, column, shape=(2, 2)):
        maps = torch.zeros((1, *shape))
        maps[0, row, column] = 2.0
        return maps

    def test_topk_iou(self):
        # the largest two of ten cells; one of them in both
        a = torch.arange(10.0).view(1, 2, 5)
        b = torch.tensor([[[0, 0, 0, 0, 9.0], [0, 0, 0, 0, 8.0]]])
        assert similarity(a, b, SIZE, metric="topk-iou").item() == pytest.approx(1 / 3)

    def test_topk_iou_of_few_positive_cells(self):
        # a fifth of 25 cells are five: of a map of two positive cells these two count, no zero does
        a, b = torch.zeros((1, 5, 5)), torch.zeros((1, 5, 5))
        a[0, 0, :2], b[0, 0, 1:3] = 1.0, 1.0
        assert similarity(a, b, SIZE, metric="topk-iou").item() == pytest.approx(1 / 3)

    @pytest.mark.parametrize(("other", "distance"), [((0, 1), 0.5), ((1, 1), math.sqrt(0.5)), ((0, 0), 0.0)])
    @pytest.mark.parametrize("metric", ["emd", "centroid"])
    def test_one_cell_moves(self, metric, other, distance):
        """Centres of neighbouring cells of a 2 x 2 map lie half a side of the image apart."""
        found = similarity(self.corner(0, 0), self.corner(*other), SIZE, metric=metric)
        assert found.item() == pytest.approx(1 - distance, abs=1e-12)

    def test_emd_sees_what_the_centroid_does_not(self):
        cross, middle = torch.tensor([[[1.0, 0, 1], [0, 0, 0], [1, 0, 1]]]), self.corner(1, 1, (3, 3))
        assert similarity(cross, middle, SIZE, metric="centroid").item() == pytest.approx(1, abs=1e-12)
        assert similarity(cross, middle, SIZE, metric="emd").item() == pytest.approx(1 - math.sqrt(2) / 3, abs=1e-12)

    def test_emd_of_large_maps_counts_on_fourteen_cells_a_side(self):
        a, b = torch.zeros((1, 56, 56)), torch.zeros((1, 56, 56))
        a[0, 0, 0], b[0, 3, 55] = 1.0, 1.0  # cells (0, 0) and (0, 13) of 14
        assert similarity(a, b, SIZE, metric="emd").item() == pytest.approx(1 - 13 / 14, abs=1e-12)

    def test_relative_error(self):
        a = torch.tensor([[[3.0, 4.0]]])
        assert similarity(a, torch.zeros_like(a), (1, 2), metric="relative-error").item() == 0.0
        assert similarity(a, 3 * a, (1, 2), metric="relative-error").item() == pytest.approx(-1)

    @pytest.mark.parametrize("shape", [(1, 2, 2), (1, 3, 2, 2)])
    @pytest.mark.parametrize("broken", [float("inf"), -float("inf"), float("nan")])
    def test_relative_error_of_what_is_not_finite(self, shape, broken):
        a, b = torch.ones(shape), torch.ones(shape)
        b.view(-1)[0] = broken
        assert relative_error(a, b, (2, 2)).isnan().item()
        assert relative_error(b, a, (2, 2)).isnan().item()


class TestAll:
    @pytest.mark.parametrize("metric", MAP_METRICS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_map_is_the_same_as_itself(self, metric, shape):
        a, _ = pair(shape)
        np.testing.assert_allclose(similarity(a, a.clone(), SIZE, metric=metric), 1, atol=1e-7)

    @pytest.mark.parametrize("metric", SCALE_FREE)
    def test_neither_scale_nor_order_matters(self, metric):
        a, b = pair((3, 6, 6))
        found = similarity(a, b, SIZE, metric=metric)
        assert ((found < 1) & (found > -1)).all()
        np.testing.assert_allclose(similarity(1e-3 * a, 50 * b, SIZE, metric=metric), found, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(similarity(b, a, SIZE, metric=metric), found, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("metric", MAP_METRICS)
    def test_a_batch_is_its_pairs(self, metric):
        a, b = pair((4, 6, 6))
        whole = similarity(a, b, SIZE, metric=metric)
        single = torch.cat([similarity(a[i : i + 1], b[i : i + 1], SIZE, metric=metric) for i in range(4)])
        np.testing.assert_allclose(whole, single, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("metric", MAP_METRICS)
    def test_undefined_is_null_with_a_reason(self, metric):
        even, zero, broken = torch.ones(1, 4, 4), torch.zeros(1, 4, 4), torch.full((1, 4, 4), math.nan)
        fine, other = pair((1, 4, 4))
        a = {"maps": torch.cat([fine, zero, fine, broken, fine, even])}
        b = {"maps": torch.cat([other, fine, zero, fine, broken, fine])}
        found = compare_layers(a, b, SIZE, metric=metric)
        expected = [None, ZERO_MAP_SEED, ZERO_MAP_VARIANT, NON_FINITE_MAP, NON_FINITE_MAP, None]
        if metric in ("pearson", "spearman"):
            expected[-1] = CONSTANT_MAP
        if metric == "relative-error":
            expected[2] = None  # nothing is left of the seed's map: an error of 1
        assert found.reasons()[0].tolist() == expected
        assert np.isnan(found.similarity)[0].tolist() == [reason is not None for reason in expected]

    def test_unknown(self, monkeypatch):
        """As in use: types are enforced under pytest alone."""
        monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
        with pytest.raises(ValueError, match="must be one of cosine, pearson"):
            similarity(*pair((1, 2, 2)), metric="cka")

    @pytest.mark.parametrize("name", METRICS)
    def test_every_row_names_the_function_of_its_metric(self, name):
        assert find_metric(name).__name__ == name.replace("-", "_")
