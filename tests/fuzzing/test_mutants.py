"""Operators: values worked by hand, batches, and images made again from their chains."""

import numpy as np
import pytest
import torch

from camdrift.errors import UserError
from camdrift.fuzzing.affine import moved
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.names import FRAMEWORK_WORDS, IMAGE_OPERATORS, OPERATOR_WORDS
from camdrift.fuzzing.operators import OPERATORS, check_operators, matrix_of, mutate, replay

SIDE = 8


@pytest.fixture(scope="module")
def images():
    return torch.rand((len(OPERATORS), 3, SIDE, SIDE), generator=torch.Generator().manual_seed(3))


def mutations():
    rng = np.random.default_rng(5)
    return [Mutation(name, operator.draw(rng), 40 + n) for n, (name, operator) in enumerate(OPERATORS.items())]


def test_every_operator_has_a_sentence():
    assert list(OPERATORS) == list(OPERATOR_WORDS)
    assert "white" not in IMAGE_OPERATORS
    assert len(IMAGE_OPERATORS) == len(OPERATORS) - 1
    assert len(FRAMEWORK_WORDS) == 9


def test_a_mutant_depends_on_nothing_beside_it(images):
    large = torch.nn.functional.interpolate(images, 64)
    together = mutate(large, mutations())
    for row, mutation in enumerate(mutations()):
        alone = mutate(large[row : row + 1], [mutation])
        assert torch.equal(alone[0], together[row]), mutation.operator
        assert (together[row] != large[row]).any(), mutation.operator
    assert together.min() >= 0
    assert together.max() <= 1


def test_pictures_move_by_whole_pixels_exactly(images):
    shifted = mutate(images[:1], [Mutation("translate", {"right": 2 / SIDE, "down": -1 / SIDE})])[0]
    expected = torch.zeros(3, SIDE, SIDE)
    expected[:, : SIDE - 1, 2:] = images[0, :, 1:, : SIDE - 2]
    torch.testing.assert_close(shifted, expected, rtol=0, atol=1e-5)
    turned = mutate(images[:1], [Mutation("rotate", {"degrees": 90.0})])[0]
    torch.testing.assert_close(turned, images[0].rot90(1, (1, 2)), rtol=0, atol=1e-5)


def test_shear_shifts_a_row_by_its_height_over_the_centre():
    picture = torch.zeros(1, 3, SIDE, SIDE)
    picture[..., 0, 4] = 1  # the top row lies 3.5 pixels over the centre: at -7/8 of half a side
    sheared = mutate(picture, [Mutation("shear", {"slope": 4 / 7})])[0]
    # x moves by slope * y: 4/7 * (-7/8) of half a side, which is two pixels
    assert sheared[0, 0].argmax() == 2
    assert sheared[0, 0, 2] == pytest.approx(1, abs=1e-5)


def test_scale_keeps_the_centre_and_darkens_the_border():
    picture = torch.ones(1, 3, 9, 9)
    small = mutate(picture, [Mutation("scale", {"factor": 1 / 3})])[0, 0]
    assert small[4, 4] == 1
    assert small[0].sum() == 0
    assert small.sum() == pytest.approx(9, abs=1e-4)


def test_amounts_are_in_pixel_units(images):
    bright = mutate(images[:1], [Mutation("brightness", {"shift": 0.25})])
    assert torch.equal(bright, (images[:1] + 0.25).clamp(0, 1))
    dull = mutate(images[:1], [Mutation("contrast", {"factor": 0.5})])
    assert torch.equal(dull, images[:1] * 0.5)
    large = torch.full((1, 3, 64, 64), 0.5)
    noise = mutate(large, [Mutation("noise", {"sigma": 0.05}, 1)]) - large
    assert noise.std().item() == pytest.approx(0.05, rel=0.05)
    spots = mutate(large, [Mutation("pixels", {"share": 0.01}, 1)])
    assert (spots != large).sum().item() == round(0.01 * large.numel())


def test_blur_is_a_gaussian_of_the_side():
    picture = torch.zeros(1, 3, 65, 65)
    picture[..., 32, 32] = 1
    blurred = mutate(picture, [Mutation("blur", {"sigma": 2 / 65})])[0, 1]
    offsets = torch.arange(65.0) - 32
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    variance = float((blurred.sum(0) * offsets**2).sum())
    assert variance == pytest.approx(4, rel=0.03)  # cut off at three standard deviations


def test_a_chain_makes_the_image_again(images):
    chain = mutations()[2:6]
    step = images[0]
    for mutation in chain:
        step = mutate(step[None], [mutation])[0]
    assert torch.equal(replay(images[0], chain), step)


def test_a_seed_moves_as_its_picture_does(images):
    rotate = Mutation("rotate", {"degrees": 7.0})
    alike = moved(images[:1], [matrix_of(rotate)])
    assert torch.equal(alike.clamp(0, 1), mutate(images[:1], [rotate]))
    assert matrix_of(Mutation("noise", {"sigma": 0.1}, 1)) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [(["roate"], "did you mean `rotate`"), ([], "got: none"), (["blur", "blur"], "each operator once")],
)
def test_wrong_operators_are_refused(names, message):
    with pytest.raises(UserError) as refusal:
        check_operators(names)
    assert message in f"{refusal.value.message} {refusal.value.hint}"
