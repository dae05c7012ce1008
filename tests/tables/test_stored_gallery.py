"""Photos of a gallery: pictures by Eqs. 1 and 3, and the heatmap that was asked for."""

import numpy as np
import pytest

from camdrift.errors import UserError
from camdrift.tables.gallery import Photos

STRENGTHS, TARGETS = (0.5, 2.0), ("own", "seed")


@pytest.fixture
def photos():
    """Two photos of one grey pixel; the value of each heatmap says which it is."""
    arrays = {"seed_ids": np.array(["a", "b"]), "strengths": np.array(STRENGTHS), "targets": np.array(TARGETS)}
    for place in range(2):
        arrays |= {
            f"{place}/clean": np.full((1, 1, 3), 51, np.uint8),  # 0.2
            f"{place}/perturbation": np.array([[[127, -127, 0]]], np.int8),
            f"{place}/noise": np.array([[[0, 127, 127]]], np.int8),
            f"{place}/peaks": np.array([0.1, 0.6]),
        }
        for layer in range(2):
            slots = np.arange(5) + 10 * np.arange(2)[:, None] + 100 * layer + 20 * place
            arrays[f"{place}/map/{layer}"] = slots[:, :, None, None].astype(np.uint8)
    return Photos(arrays, ["one", "two"])


def test_pictures_are_the_photo_with_its_change_clipped(photos):
    photo = photos["b"]
    assert photo.picture().tolist() == [[[51, 51, 51]]]
    # 0.2 + 2 * 0.1, 0.2 - 2 * 0.1, 0.2
    assert photo.picture("adversarial", strength=2).tolist() == [[[102, 0, 51]]]
    # Clipped: 0.2 + 2 * 0.6 is 1.
    assert photo.picture("noise", strength=2).tolist() == [[[51, 255, 255]]]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("one",), 30),  # photo b, the target seed, the clean image
        (("one", "clean", 7.0, "own"), 20),
        (("one", "adversarial", 2.0), 32),
        (("two", "noise", 0.5), 133),
        (("two", "noise", 2.0, "own"), 124),
    ],
)
def test_heatmaps_are_those_of_layer_condition_strength_and_target(photos, arguments, value):
    assert photos["b"].heatmap(*arguments).tolist() == [[value]]


def test_photos_are_a_mapping_by_name(photos):
    assert (list(photos), len(photos), "a" in photos, "c" in photos) == (["a", "b"], 2, True, False)
    assert repr(photos) == "Photos(a, b)"
    assert repr(photos["a"]) == "Photo(a: 2 layers, strengths 0.5, 2)"
    with pytest.raises(KeyError, match="the gallery holds no c; it holds a, b"):
        photos["c"]
    assert list(Photos({}, [])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tow",), r"`layer` must be one of one, two, got: tow \(hint: did you mean `two`\?\)"),
        (("one", "attacked"), "`condition` must be one of clean, adversarial, noise, got: attacked"),
        (("one", "noise", 1.0), r"`strength` must be one of 0\.5, 2, got: 1\.0"),
        (("one", "noise", 2.0, "label"), "`target` must be one of own, seed, got: label"),
    ],
)
def test_what_is_not_there_is_one_line(photos, arguments, message):
    with pytest.raises(UserError, match=message):
        photos["a"].heatmap(*arguments)


def test_a_picture_of_another_condition_is_refused(photos):
    with pytest.raises(UserError, match="`condition` must be one of"):
        photos["a"].picture("attacked")
