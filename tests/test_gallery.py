"""Pictures kept for the report: which seeds, in which order, under which keys."""

import numpy as np
import pytest
import torch

from camdrift.gallery import Gallery, merge_galleries
from camdrift.records import ADVERSARIAL, NOISE
from camdrift.variants import Variant

LAYERS = ("one", "two")


def maps(*peaks):
    """Maps of as many images: constant, but for one pixel of a tenth."""
    values = torch.tensor(peaks)[:, None, None] * torch.ones(len(peaks), 2, 2)
    values[:, 0, 0] /= 10
    return {"one": values, "two": 0 * values}


def pixels(*values):
    return torch.tensor(values)[:, None, None, None] * torch.ones(len(values), 3, 4, 4)


@pytest.fixture
def gallery():
    """Two seeds, the second without its noisy image so far."""
    gallery = Gallery((0.5, 2.0, 1.0))
    for position, name in enumerate(("a", "b")):
        gallery.add_clean(position, name, pixels(0.0, 0.2)[position], maps(3.0, 5e-9), LAYERS)
    for position in range(2):
        variant = Variant(position, ADVERSARIAL, 1.0)
        gallery.add_variant(variant, position, pixels(0.4, 0.6), maps(2.0, 0.0), LAYERS)
    gallery.add_variant(Variant(0, NOISE, 1.0), 0, pixels(1.0), maps(1.0), LAYERS)
    return gallery


def test_pictures_are_bytes_and_heatmaps_fill_their_own_range(gallery):
    gallery.add_variant(Variant(1, NOISE, 1.0), 0, pixels(0.8), maps(1.0), LAYERS)
    arrays = gallery.arrays({"a", "b"})
    assert arrays["seed_ids"].tolist() == ["a", "b"]
    assert arrays["0/image"].shape == (3, 4, 4, 3)
    assert [arrays[f"{i}/image"][slot, 0, 0, 0] for i in range(2) for slot in range(3)] == [0, 102, 255, 51, 153, 204]
    assert arrays["0/map/0"][0].tolist() == [[26, 255], [255, 255]]
    assert arrays["1/map/0"][0].tolist() == [[26, 255], [255, 255]]
    # An all-zero map stays black.
    assert not arrays["1/map/0"][1].any()
    assert not arrays["0/map/1"].any()
    assert {array.dtype for key, array in arrays.items() if key != "seed_ids"} == {np.dtype(np.uint8)}


def test_seeds_without_all_three_pictures_or_out_of_favour_are_left_out(gallery):
    assert gallery.arrays({"a", "b"})["seed_ids"].tolist() == ["a"]
    gallery.add_variant(Variant(1, NOISE, 1.0), 0, pixels(0.8), maps(1.0), LAYERS)
    kept = gallery.arrays({"b"})
    assert kept["seed_ids"].tolist() == ["b"]
    assert kept["0/image"][2, 0, 0, 0] == 204
    assert gallery.arrays(())["seed_ids"].tolist() == []


@pytest.mark.parametrize("other", [Variant(1, NOISE, 0.5), Variant(1, NOISE, 1.0, draw=1), Variant(2, NOISE, 1.0)])
def test_other_strengths_draws_and_seeds_are_not_pictures(gallery, other):
    gallery.add_variant(other, 0, pixels(0.8), maps(1.0), LAYERS)
    assert gallery.arrays({"a", "b"})["seed_ids"].tolist() == ["a"]


def test_the_strength_nearest_to_one_is_shown():
    assert Gallery((0.25, 4.0)).strength == 0.25
    assert Gallery((0.5, 1.0, 2.0)).strength == 1.0


def test_galleries_of_chunks_are_joined_and_numbered_anew():
    def part(*names):
        images = {f"{i}/image": np.full(1, ord(name)) for i, name in enumerate(names)}
        heatmaps = {f"{i}/map/12": np.full(1, ord(name) + 100) for i, name in enumerate(names)}
        return {"seed_ids": np.array(names, dtype=np.str_), **images, **heatmaps}

    merged = merge_galleries([part("a", "b"), part(), part("c", "d"), part("e")])
    assert merged["seed_ids"].tolist() == ["a", "b", "c"]
    assert [chr(merged[f"{i}/image"][0]) for i in range(3)] == ["a", "b", "c"]
    assert [chr(merged[f"{i}/map/12"][0] - 100) for i in range(3)] == ["a", "b", "c"]
    assert len(merged) == 7
    assert merge_galleries([])["seed_ids"].tolist() == []
