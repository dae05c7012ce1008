"""Natural changes: functions and nrtk's perturbers as differences of pictures, and what is refused."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from camdrift.errors import UserError
from camdrift.perturbations.making import make_perturbation
from camdrift.perturbations.registry import MOVERS, PERTURBERS

FUNCTIONS = """
import numpy as np

def warm(image, amount=0.25):
    assert image.dtype == np.float32 and image.shape[2] == 3
    image[..., 0] += amount
    return image.clip(0, 1)

def grain(image, rng):
    return (image + 0.1 * rng.standard_normal(image.shape)).clip(0, 1)

def wild(image):
    return (image + 0.1 * np.random.default_rng().standard_normal(image.shape)).clip(0, 1)

def same(image): return image
def cropped(image): return image[1:]
def as_bytes(image): return (255 * image).astype(np.uint8)
def bright(image): return image + 1
def broken(image): return image * np.nan
def failing(image): raise KeyError("lamp")
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    file = tmp_path_factory.mktemp("changes") / "changes.py"
    file.write_text(FUNCTIONS)
    return file


@pytest.fixture
def image():
    levels = np.random.default_rng(3).integers(0, 256, (3, 12, 9))
    return torch.from_numpy((levels / 255).astype(np.float32))


def refusal(spec, size=16):
    with pytest.raises(UserError) as error:
        make_perturbation(spec).check(size)
    return str(error.value)


def test_a_function_gets_a_picture_and_gives_a_difference(functions, image):
    before = image.clone()
    change = make_perturbation(f"{functions}:warm(amount=0.5)").of_image(image, rng_seed=0, seed_id="a")
    assert torch.equal(image, before)  # though the function writes into what it gets
    assert change.shape == image.shape
    assert torch.allclose(change[0], (image[0] + 0.5).clamp(max=1) - image[0])
    assert not change[1:].any()


def test_random_numbers_belong_to_the_image(functions, image):
    grain = make_perturbation(f"{functions}:grain")
    one, other, again = (grain.of_image(image, rng_seed=0, seed_id=name) for name in "aba")
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, grain.of_image(image, rng_seed=1, seed_id="a"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wild", "in the same way for the same random numbers"),
        ("same", "must change the picture, got: the same picture"),
        ("cropped", "must keep the shape (height, width, channels) (16, 16, 3), got: (15, 16, 3)"),
        ("as_bytes", "must return a NumPy array of floats, got: uint8"),
        ("bright", "must return pixels from 0 to 1, got: 1."),
        ("broken", "must return finite pixels"),
        ("failing", "failed: KeyError: 'lamp'"),
        ("absent", "must name a function"),
        ("warm(shade=1)", "must take (image) and the settings given"),
    ],
)
def test_functions_that_are_refused(functions, name, message):
    assert message in refusal(f"{functions}:{name}")


def test_other_words_are_refused_with_what_was_meant():
    assert "did you mean `nrtk:brightness`?" in refusal("brightnes(factor=2)")
    assert "nrtk:NAME or path/to/file.py:function, got: lamp" in refusal("lamp")


def test_without_nrtk_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "nrtk"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nrtk", None)
    assert 'pip install "camdrift[nrtk]"' in refusal("nrtk:Haze(factor=0.5)")
    assert "did you mean `brightness`?" in refusal("nrtk:BrightnesPerturber")


@pytest.mark.parametrize("name", MOVERS)
def test_pictures_stay_where_they_are(name):
    assert f"must leave the picture where it is, got: nrtk:{name}" in refusal(f"nrtk:{name}")


def test_the_page_lists_every_perturber():
    text = (Path(__file__).parents[2] / "docs" / "perturbations.md").read_text(encoding="utf-8")
    for name, row in PERTURBERS.items():
        assert f"| `{name}` | `{row.example}` | {row.help} |" in text
    assert all(f"`{name}`" in text for name in MOVERS)


class TestNrtk:
    """With nrtk itself; skipped where it is not installed."""

    @pytest.fixture(autouse=True)
    def _nrtk(self):
        pytest.importorskip("nrtk", reason="extra nrtk is not installed")

    def test_brightness_by_hand(self, image):
        """Pillow multiplies each byte by the factor and cuts the fraction off; rounding to 8 bits is no change."""
        shifted = image + 0.3 / 255 * (image < 1)
        brightness = self.made("nrtk:brightness(factor=1.5)")
        assert brightness.spec == "nrtk:BrightnessPerturber(factor=1.5)"
        levels = (255 * image).round()
        expected = ((levels * 1.5).floor().clamp(max=255) - levels) / 255
        for pixels in (image, shifted):
            change = brightness.of_image(pixels, rng_seed=0, seed_id="a")
            assert torch.allclose(change, expected, atol=1e-7)

    @staticmethod
    def made(spec):
        """The change; the test is skipped where an extra of nrtk is missing."""
        try:
            return make_perturbation(spec)
        except UserError as error:
            if "needs more of nrtk" not in error.message:
                raise
            pytest.skip(error.message)

    @pytest.mark.parametrize("name", [n for n, row in PERTURBERS.items() if row.extra != "waterdroplet"])
    def test_the_examples_change_a_picture(self, name):
        self.made(f"nrtk:{name}({PERTURBERS[name].example})").check(24)

    def test_random_ones_are_seeded_by_the_image(self, image):
        noise = self.made("nrtk:GaussianNoise(var=0.01)")
        one, other, again = (noise.of_image(image, rng_seed=0, seed_id=name) for name in "aba")
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        fixed = make_perturbation("nrtk:GaussianNoise(var=0.01, seed=5)")
        one, other = (fixed.of_image(image, rng_seed=0, seed_id=name) for name in "ab")
        assert torch.equal(one, other)

    def test_a_whole_number_where_a_float_belongs(self, image):
        """HazePerturber overflows with the integer 1."""
        one, other = (self.made(f"nrtk:Haze(factor={f})") for f in ("1", "1.0"))
        assert torch.equal(*(each.of_image(image, rng_seed=0, seed_id="a") for each in (one, other)))

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("nrtk:Brightness", r"must change the picture, got: the same picture .*factor=1\.4"),
            ("nrtk:Brightness(fctor=2)", r"no such setting, got: fctor \(hint: settings: factor"),
            ("nrtk:GaussianBlur(ksize=4)", "is refused by nrtk: ValueError"),
            ("nrtk:GaussianNoise(is_static=True)", "no such setting, got: is_static"),
        ],
    )
    def test_settings_that_are_refused(self, spec, message):
        assert re.search(message, refusal(spec))
