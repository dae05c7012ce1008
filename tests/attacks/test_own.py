"""Attacks of camdrift's own: whole batches, and image by image what foolbox finds from the same start."""

import pytest
import torch
from torch import nn

from camdrift.attacks.library import REMARK
from camdrift.attacks.making import make_attack
from camdrift.attacks.trial import is_independent
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.tensors import Attacked
from support.attacks import perturbations, results_of
from support.reads import Reads
from support.studies import SIZE, tiny_classifier

# Own attacks, and those of libraries with the same settings.
PAIRS = {
    "fgsm": "foolbox:LinfFastGradientAttack(eps=8/255)",
    "fgsm(random_start=True)": "foolbox:LinfFastGradientAttack(eps=8/255, random_start=True)",
    "pgd(steps=3)": "foolbox:LinfPGD(eps=8/255, steps=3)",
    "pgd(epsilon=0.02, abs_stepsize=0.004, steps=3)": "foolbox:LinfPGD(epsilon=0.02, abs_stepsize=0.004, steps=3)",
    "pgd(steps=3, target_class='second')": "foolbox:LinfPGD(eps=8/255, steps=3, target_class='second')",
    "mifgsm(steps=4)": "foolbox:LinfMomentumIterativeFastGradientMethod(eps=8/255, steps=4)",
    "mifgsm(momentum=0.5, steps=2, random_start=True, target_class=7)": (
        "foolbox:LinfMomentumIterativeFastGradientMethod("
        "eps=8/255, momentum=0.5, steps=2, random_start=True, target_class=7)"
    ),
    "apgd(steps=8)": "torchattacks:APGD(eps=8/255, steps=8)",
    "apgd(eps=3/255, steps=30, rho=0.5)": "torchattacks:APGD(eps=3/255, steps=30, rho=0.5)",
    # Rises too seldom, and the largest loss stays what it was.
    "apgd(eps=40/255, steps=40, rho=0.2)": "torchattacks:APGD(eps=40/255, steps=40, rho=0.2)",
    "deepfool": "foolbox:L2DeepFoolAttack",
    "deepfool(candidates=None, steps=3)": "foolbox:L2DeepFoolAttack(candidates=None, steps=3)",
    "deepfool(loss='crossentropy', candidates=3, overshoot=0.1, steps=2)": (
        "foolbox:L2DeepFoolAttack(loss='crossentropy', candidates=3, overshoot=0.1, steps=2)"
    ),
}
NUMBERS = [f"{number}.png" for number in range(3)]


@pytest.fixture(scope="module")
def model():
    return tiny_classifier()


@pytest.fixture(scope="module")
def pixels():
    pictures = torch.rand((len(NUMBERS), 3, SIZE, SIZE), generator=torch.Generator().manual_seed(3))
    return dict(zip(NUMBERS, pictures, strict=True))


def together(attack, model, pixels, batch_size):
    return torch.stack([*perturbations(attack, model, pixels, batch_size=batch_size).values()])


@pytest.mark.parametrize("spec", PAIRS)
def test_alone_it_is_the_librarys_bit_by_bit_and_in_a_batch_up_to_rounding(spec, model, pixels):
    expected = together(PAIRS[spec], model, pixels, 1)
    assert torch.equal(together(spec, model, pixels, 1), expected)
    assert expected.any()
    # Rounding moves single signs, and DeepFool's lengths.
    difference = together(spec, model, pixels, 2) - expected
    assert float(difference.norm()) <= 1e-3 * float(expected.norm())


class Fickle(nn.Module):
    """Fails where a picture is black."""

    def __init__(self):
        super().__init__()
        self.network = tiny_classifier().module

    def forward(self, x):
        if torch.is_grad_enabled() and (x.flatten(1).amax(1) == -2).any():
            raise ValueError("too dark")
        return self.network(x)


def test_the_image_that_fails_fails_alone(model, pixels):
    fickle = Classifier(Fickle().eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)
    dark = {**pixels, "2.png": torch.zeros(3, SIZE, SIZE)}
    results = results_of("pgd(steps=2, random_start=False)", fickle, dark, batch_size=5)
    reasons = {name: result.reason for name, result in results.items() if result.is_failure}
    assert reasons == {"2.png": "the attack failed: ValueError: too dark"}
    assert sum(result.base_perturbation is not None for result in results.values()) == 2


def test_an_image_without_gradient_is_blind_alone(pixels):
    class Veiled(nn.Module):
        def forward(self, x):
            # The first channel tells whether the picture is seen at all.
            is_seen = (x[:, :1] > 0.5).float().amax((2, 3), keepdim=True)
            return (x * is_seen).flatten(2).mean(2) @ torch.eye(3)

    veiled = Classifier(Veiled(), size=SIZE)
    results = results_of("deepfool", veiled, {**pixels, "1.png": 0.4 * pixels["1.png"]}, batch_size=5)
    assert [name for name, result in results.items() if result.is_failure] == ["1.png"]
    assert results["1.png"].reason.startswith("the attack had no gradient")


@pytest.mark.parametrize("spec", ["pgd(steps={})", "mifgsm(steps={})"])
def test_the_host_waits_as_often_whatever_the_steps_and_images(spec, model, pixels, monkeypatch):
    waits = set()
    for steps, count in ((1, 2), (3, 2), (1, 3)):
        attack = make_attack(spec.format(steps))
        with monkeypatch.context() as patch, Reads(patch) as reads:
            results_of(attack, model, dict([*pixels.items()][:count]), batch_size=5)
        waits.add(reads.total)
    assert len(waits) == 1
    assert waits.pop() <= 6


BATCHED = {
    "foolbox:LinfBasicIterativeAttack(eps=8/255, steps=2{})": "",
    "torchattacks:BIM(steps=2{})": "",
    "foolbox:LinfPGD(eps=8/255, steps=3{})": "of its length in a batch",
}


@pytest.mark.parametrize("spec", BATCHED)
def test_a_librarys_attack_goes_in_batches_where_these_change_nothing(spec, model, pixels):
    comma = "" if "({" in spec else ", "
    one, batched = (make_attack(spec.format(text)) for text in ("", f"{comma}batched=True"))
    assert make_attack(batched.spec).spec == batched.spec
    if reason := BATCHED[spec]:
        with pytest.raises(UserError, match=reason):
            together(batched, model, pixels, 5)
        return
    expected = together(one, model, pixels, 1)
    assert float((together(batched, model, pixels, 5) - expected).norm()) <= 1e-3 * float(expected.norm())


def test_a_batch_is_tried_with_images_that_are_really_attacked(model):
    """The first is of the target class already, so that nothing of it could be compared."""
    squares = torch.rand((8, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    pictures = nn.functional.interpolate(squares, size=(SIZE, SIZE))[[0, 4, 6]]
    assert model(pictures).argmax(1).tolist() == [8, 0, 4]
    spec = "foolbox:LinfPGD(eps=8/255, steps=3, batched=True, target_class=8)"
    with pytest.raises(UserError, match="in a batch"):
        results_of(spec, model, dict(zip("abc", pictures, strict=True)), batch_size=5)


def test_an_attack_is_tried_until_two_images_were_compared(tmp_path):
    """Images whose attack fails tell nothing."""
    calls = []

    def attack(positions):
        calls.append([*positions])
        return [
            Attacked(None, reason="dark") if position < 2 else Attacked(torch.full((3, 1, 1), float(len(positions))))
            for position in positions
        ]

    with pytest.raises(UserError, match="whose result for c changes by 100% of its length"):
        is_independent("mine", attack, [0, 1, 2, 3], "abcd")
    assert calls == [[0], [1], [1, 0], [2], [3], [3, 2]]
    assert not is_independent("mine", attack, [0, 1], "ab")
    assert not is_independent("mine", attack, [2], "abc")


def test_an_attack_whose_result_depends_on_the_place_in_the_batch_is_refused():
    def attack(positions):
        return [Attacked(torch.full((3, 1, 1), 1.0 + place)) for place in range(len(positions))]

    with pytest.raises(UserError, match="whose result for a changes by"):
        is_independent("mine", attack, [0, 1], "ab")


def test_a_function_of_ones_own_draws_image_by_image(model, pixels, tmp_path):
    body = """
def noise(model, images, classes):
    assert len(images) == len(model.streams)
    draws = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in model.streams]
    return images + 0.01 * torch.stack(draws)
"""
    (tmp_path / "mine.py").write_text(f"import torch\n{body}")
    specs = [f"{tmp_path}/mine.py:noise{settings}" for settings in ("", "(batched=True)")]
    alone, batched = (together(spec, model, pixels, 5) for spec in specs)
    assert torch.equal(alone, batched)


def test_what_a_batch_leaves_behind_is_told(model, pixels, tmp_path):
    (tmp_path / "deed.py").write_text(
        "def deed(model, images, classes):\n    model.network.stem.weight.data.mul_(2)\n    return images + 0.01\n"
    )
    results = results_of(f"{tmp_path}/deed.py:deed(batched=True)", model, pixels, batch_size=5)
    (remark,) = {result.remark for result in results.values()}
    assert remark.startswith(REMARK)
    assert remark.endswith("it is put back after every batch")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pgd(steps=0)", "`steps` must be a whole number from 1 on, got: 0"),
        ("pgd(steps=1.5)", "`steps` must be a whole number from 1 on, got: 1.5"),
        ("pgd(abs_stepsize=0)", "`abs_stepsize` must be a positive number, got: 0"),
        ("fgsm(random_start=1)", "`random_start` must be True or False, got: 1"),
        ("mifgsm(momentum='a')", "`momentum` must be a number from 0 on, got: a"),
        ("deepfool(candidates=1)", "`candidates` must be a whole number from 2 on, got: 1"),
        ("deepfool(loss='dlr')", "`loss` must be one of logits, crossentropy, got: dlr"),
        ("pgd(batched=True)", "pgd must come without `batched`, got: True"),
        ("foolbox:LinfPGD(eps=1/255, batched='yes')", "`batched` must be True or False, got: yes"),
        ("mine.py:attack", "mine.py:attack must take no argument of a name that camdrift keeps, got: batched"),
    ],
)
def test_settings_are_refused_in_words(spec, words, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def attack(model, images, classes, batched=False):\n    return images\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^`attack` ") as caught:
        make_attack(spec)
    assert words in caught.value.message
