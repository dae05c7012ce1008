"""An attack that cannot do what it is asked for says so: blind, unsuited, out of bounds, or leaving things behind."""

import sys

import pytest
import torch
from torch import nn

from camdrift.attacks.gradients import CUT, ZERO
from camdrift.attacks.library import REMARK, AttackRecipe, LibraryAttack
from camdrift.attacks.making import make_attack
from camdrift.attacks.registry import advice, reach_warning
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from support.attacks import results_of

PIXELS = {name: torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(7)) for name in "ab"}


def attacked(attack, net):
    """The results of an attack on two images."""
    return list(results_of(attack, Classifier(net.eval(), size=16), PIXELS).values())


def seeing():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


class Blind(nn.Module):
    """Ten classes; pixels reach the logits without a gradient, or with one that is exactly 0."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.body, self.head = way, nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x):
        if self.way == "no_grad":
            with torch.no_grad():
                x = self.body(x)
        elif self.way == "numpy":
            x = self.body(torch.from_numpy(x.detach().cpu().numpy().round(1)))
        else:
            x = self.body((x * 255).round() / 255)
        return self.head(x.relu().mean((2, 3)))


@pytest.mark.parametrize("spec", ["dlfuzz", "pgd(steps=2)"])
@pytest.mark.parametrize(("way", "reason"), [("no_grad", CUT), ("numpy", CUT), ("rounding", ZERO)])
def test_an_attack_without_gradient_is_blind_not_beaten(spec, way, reason):
    results = attacked(spec, Blind(way))
    assert {(result.reason, result.is_failure) for result in results} == {(reason, True)}


@pytest.mark.parametrize("spec", ["dlfuzz", "fgsm"])
def test_an_attack_with_a_gradient_is_not_called_blind(spec):
    assert {result.reason for result in attacked(spec, seeing())} <= {""}


def test_an_attack_on_predictions_alone_is_not_called_blind():
    recipe = AttackRecipe("still", lambda model: lambda images, *_: (model(images), images)[1])
    assert {r.reason for r in attacked(LibraryAttack("still", recipe), Blind("no_grad"))} == {""}


@pytest.mark.parametrize("way", ["vectorize", "is_grads_batched"])
def test_gradients_taken_all_at_once_are_no_reason_to_call_an_attack_blind(way):
    """Inside such a transform no value can be read."""

    def perturb(model, images):
        inputs = images.clone().requires_grad_()
        if way == "vectorize":
            return images + torch.autograd.functional.jacobian(model, inputs, vectorize=True).sum((0, 1)).sign() * 0.01
        logits = model(inputs)
        rows = torch.eye(10)[:, None]
        (gradients,) = torch.autograd.grad(logits, inputs, rows, is_grads_batched=True)
        return images + gradients.sum(0).sign() * 0.01

    recipe = AttackRecipe(way, lambda model: lambda images, *_: perturb(model, images))
    results = attacked(LibraryAttack(way, recipe), seeing())
    assert {result.reason for result in results} == {""}
    assert all(result.base_perturbation.any() for result in results)


@pytest.mark.parametrize(
    ("way", "reason"), [("rounding", f"{ZERO}; the attack failed: ValueError: flat"), ("numpy", CUT)]
)
def test_an_error_is_told_beside_a_gradient_of_zero_not_beside_one_that_there_is_none(way, reason):
    def perturb(model, images):
        inputs = images.clone().requires_grad_()
        torch.autograd.grad(model(inputs).sum(), inputs)
        raise ValueError("flat")

    recipe = AttackRecipe("flat", lambda model: lambda images, *_: perturb(model, images))
    assert {result.reason for result in attacked(LibraryAttack("flat", recipe), Blind(way))} == {reason}


DEEDS = {
    "weights and buffers: 1": lambda model: model.network.body.weight.data.mul_(2),
    "hooks: 1": lambda model: model.network.body.register_forward_hook(lambda *_: None),
    "sub-modules: 1": lambda model: setattr(model.network, "body", nn.Conv2d(3, 8, 3)),
}


@pytest.mark.parametrize("trace", DEEDS)
def test_what_an_attack_leaves_on_the_network_is_told(trace):
    recipe = AttackRecipe("deed", lambda model: lambda images, *_: (DEEDS[trace](model), images)[1])
    results = attacked(LibraryAttack("deed", recipe), Blind("rounding"))
    assert {result.remark for result in results} == {f"{REMARK} ({trace}): deed; it is put back after every image"}


def test_nothing_is_told_of_an_attack_that_leaves_nothing():
    assert {r.remark for r in attacked("fgsm", Blind("rounding"))} == {""}


@pytest.mark.parametrize("spec", ["pgd(eps={})", "torchattacks:PGD(eps={})", "art:FastGradientMethod(eps={})"])
@pytest.mark.parametrize(("eps", "words"), [(8, "8/255 is 8 of 255 levels"), (0, "must be a positive number, got: 0")])
def test_a_bound_that_no_pixel_can_keep_is_refused(spec, eps, words):
    with pytest.raises(UserError, match=words):
        make_attack(spec.format(eps))


def test_a_large_l2_bound_is_none_of_a_pixel():
    assert make_attack("torchattacks:PGDL2(eps=8)").threat.epsilon == 8


@pytest.mark.parametrize(
    ("spec", "package", "words"),
    [
        ("foolbox:L2BrendelBethgeAttack", "numba", "needs numba"),
        ("art:ThresholdAttack", "cma", "needs cma"),
        ("art:PixelAttack(es=0)", "cma", "needs cma"),
        ("art:AdversarialPatchPyTorch", "", "returns a patch and its mask"),
        ("art:GeoDA", "", "NumPy 2"),
        ("art:CompositeAdversarialAttackPyTorch", "kornia", "needs kornia"),
        ("art:CarliniL0Method", "", "changes nearly all"),
        ("foolbox:L2FMN", "", "returns its first step"),
        ("torchattacks:FAB(target_class='second')", "", "cannot look for a given class"),
    ],
)
def test_an_attack_that_cannot_run_is_refused_before_the_run(spec, package, words, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=words):
        make_attack(spec)


@pytest.mark.parametrize("spec", ["art:SimBA(max_iter=3)", "art:VirtualAdversarialMethod(max_iter=1)"])
def test_attacks_that_want_probabilities_get_them(spec):
    assert all(r.base_perturbation is not None for r in attacked(spec, seeing()))


def test_advice_names_the_setting_that_fools_more():
    assert "dlfuzz(scores='logit')" in advice("dlfuzz")
    assert "fooled 19 of 24 photographs, by probabilities 25 of 200" in advice("dlfuzz:paper")
    assert "dlfuzz(scores" not in advice("dlfuzz(scores='logit')")
    assert advice("fgsm(eps=8/255)") == "a larger `eps` (now 8/255) may fool more"
    assert advice("art:GeoDA") == ""


def test_steps_that_cannot_reach_the_bound_are_told():
    """Steps times step size against the bound, by hand; attacks left at their defaults reach it."""
    words = "cannot reach its bound: "
    assert reach_warning("pgd(eps=8/255, steps=10, rel_stepsize=0.05)") == (
        f"pgd {words}10 steps go 0.5 of the way; rel_stepsize=0.25 takes it there"
    )
    assert reach_warning("mifgsm(eps=4/255, abs_stepsize=1/255, steps=3)") == (
        f"mifgsm {words}3 steps go 0.75 of the way; abs_stepsize={0.833 * 4 / 255} takes it there"
    )
    assert reach_warning("foolbox:L2PGD(eps=1, steps=1)").startswith(f"foolbox:L2PGD {words}1 step go")
    for spec in ("pgd(eps=8/255, steps=10, rel_stepsize=0.1)", "pgd(eps=4/255, steps=4, abs_stepsize=1/255)"):
        assert reach_warning(spec) == ""
    for name in ("fgsm", "pgd", "mifgsm", "apgd", "deepfool", "dlfuzz"):
        assert reach_warning(make_attack(name).spec) == ""
