"""Every attack of adv-lib: it works and keeps its bound, or it is refused in words."""

import builtins
import sys
from functools import cache
from importlib.util import find_spec
from inspect import isfunction

import pytest
import torch
from torch import nn
from torchvision.transforms.functional import to_tensor

from camdrift.attacks.base import ORDERS, Threat
from camdrift.attacks.from_advlib import _visdom
from camdrift.attacks.making import make_attack
from camdrift.attacks.names import load_library
from camdrift.attacks.registry import LIBRARIES
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from support.attacks import results_of, traces
from support.studies import SIZE, picture, tiny_classifier

if find_spec("adv_lib") is None:
    pytest.skip(f"needs adv-lib: {LIBRARIES['advlib'].command}", allow_module_level=True)

# The settings of each attack, few steps.
WORKING = {
    "alma": "num_steps=30",
    "apgd": "eps=8/255, norm='linf', n_iter=5",
    "apgd_targeted": "eps=1, norm='l2', n_iter=5, num_targets=2",
    "carlini_wagner_l2": "max_iterations=20, binary_search_steps=3",
    "carlini_wagner_linf": "max_iterations=20",
    "ddn": "steps=5",
    "df": "",
    "fab": "norm='l2', n_iter=5",
    "fga": "",
    "fmn": "norm='l2', steps=20",
    "pdgd": "num_steps=30",
    "pdpgd": "norm='l2', num_steps=30",
    "perc_al": "max_iterations=20",
    "pgd_linf": "eps=8/255, steps=5",
    "sdf": "",
    "sigma_zero": "num_steps=30",
    "str_attack": "max_iterations=10, binary_search_steps=2, retrain=False",
    "tr": "",
    "vfga": "",
}
# It looks for few, large changes, and takes minutes.
FOOLS_LATER = ("str_attack",)
UNTARGETED = ("df", "sdf", "fab", "sigma_zero", "tr", "apgd_targeted")


@cache
def model():
    return tiny_classifier()


@cache
def pixels():
    return {f"{number}.png": to_tensor(picture(number, (SIZE, SIZE))) for number in range(2)}


def predictions(results):
    images = torch.stack([pixels()[name] + result.base_perturbation for name, result in results.items()])
    with torch.no_grad():
        return model()(images).argmax(1).tolist()


def spec_of(name, *further):
    settings = ", ".join(text for text in (WORKING[name], *further) if text)
    return f"advlib:{name}({settings})" if settings else f"advlib:{name}"


def checked(spec, classifier):
    """The attack, after the look at the model that comes before each study."""
    attack = make_attack(spec)
    attack.check(classifier)
    return attack


def refusal(spec, classifier=None):
    with pytest.raises(UserError) as caught:
        checked(spec, classifier or model())
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_every_attack_has_its_case():
    with _visdom():
        functions = [name for name, value in vars(load_library("adv_lib.attacks")).items() if isfunction(value)]
    assert sorted(functions) == sorted(WORKING)


@pytest.mark.parametrize("name", WORKING)
def test_it_fools_the_model_and_leaves_it_as_it_was(name):
    before = traces(model().module)
    attack = checked(spec_of(name), model())
    results = results_of(attack, model(), pixels())
    assert traces(model().module) == before
    assert {result.reason for result in results.values()} == {""}
    with torch.no_grad():
        clean = model()(torch.stack(list(pixels().values()))).argmax(1).tolist()
    fooled = [one != other for one, other in zip(clean, predictions(results), strict=True)]
    assert all(fooled) or name in FOOLS_LATER
    expected = {
        "apgd": Threat("linf", 8 / 255),
        "apgd_targeted": Threat("l2", 1.0),
        "pgd_linf": Threat("linf", 8 / 255),
    }.get(name)
    assert attack.threat == expected
    for result in results.values():
        if expected is not None:
            assert expected.contains(result.base_perturbation)
            assert not Threat(expected.norm, expected.epsilon / 4).contains(result.base_perturbation)
    (again,) = results_of(attack, model(), {"1.png": pixels()["1.png"]}).values()
    assert torch.equal(again.base_perturbation, results["1.png"].base_perturbation)


@pytest.mark.parametrize("name", [name for name in WORKING if name not in (*UNTARGETED, *FOOLS_LATER)])
def test_it_reaches_a_target(name):
    with torch.no_grad():
        second = model()(torch.stack(list(pixels().values()))).topk(2).indices[:, 1].tolist()
    results = results_of(spec_of(name, "target_class='second'"), model(), pixels())
    assert predictions(results) == second


@pytest.mark.parametrize("name", UNTARGETED)
def test_it_takes_no_target(name):
    """adv-lib would warn and return the image."""
    error = refusal(spec_of(name, "target_class='second'"))
    assert error.message == f"`attack` {name} must come without `target_class`, got: second"


@pytest.mark.parametrize(
    ("norm", "bound"), [("'linf'", 8 / 255), ("1e999", 8 / 255), ("'l2'", 0.5), ("2", 0.5), ("'l1'", 8.0), ("1.0", 8.0)]
)
def test_a_norm_is_a_number_or_a_word(norm, bound):
    word = norm.strip("'") if "l" in norm else {"1e999": "linf", "2": "l2", "1.0": "l1"}[norm]
    attack = make_attack(f"advlib:apgd(eps={bound}, norm={norm}, n_iter=5)")
    assert make_attack(attack.spec).threat == attack.threat == Threat(word, bound)
    (result,) = results_of(attack, model(), {"0.png": pixels()["0.png"]}).values()
    length = torch.linalg.vector_norm(result.base_perturbation.double(), ORDERS[word])
    assert float(length) == pytest.approx(bound, rel=0.2)


@pytest.mark.parametrize(
    ("greek", "plain"),
    [
        ("pgd_linf(ε=8/255, steps=2)", "pgd_linf(eps=8/255, steps=2)"),
        ("pgd_linf(epsilon=8/255, steps=2)", "pgd_linf(eps=8/255, steps=2)"),
        ("fmn(norm=2, α_init=0.5, γ_final=0.01)", "fmn(norm=2, alpha_init=0.5, gamma_final=0.01)"),  # noqa: RUF001
        ("sigma_zero(num_steps=5, η_0=0.5, τ_0=0.2)", "sigma_zero(num_steps=5, eta_0=0.5, tau_0=0.2)"),
    ],
)
def test_greek_letters_may_be_written_out(greek, plain):
    attack = make_attack(f"advlib:{greek}")
    assert make_attack(attack.spec).spec == attack.spec
    one, other = (results_of(f"advlib:{spec}", model(), pixels())["0.png"] for spec in (greek, plain))
    assert torch.equal(one.base_perturbation, other.base_perturbation)


class Linear(nn.Module):
    """A linear network of so many classes."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3 * 64, classes)

    def forward(self, x):
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("PGD", "must name an attack of adv-lib, got: PGD", "pgd_linf"),
        ("pgd_linf", "must be given eps, got: advlib:pgd_linf without", "eps, steps, random_init"),
        ("apgd(eps=1)", "must be given norm, got: advlib:apgd without", "settings: eps, norm, n_iter"),
        ("apgd(eps=1, norm='max')", "setting `norm` must be one of linf, l2, l1, got: max", ""),
        ("apgd(eps=1, norm='l0')", "setting `norm` must be one of linf, l2, l1, got: l0", ""),
        ("tr(p=1)", "setting `p` must be one of linf, l2, got: 1", ""),
        ("fmn(norm=3)", "setting `norm` must be one of linf, l2, l1, l0, got: 3", ""),
        ("pgd_linf(eps=0)", "setting `eps` must be a positive number, got: 0", ""),
        ("pgd_linf(eps=1, ε=1)", "must be given each setting once, got: eps, ε", ""),
        ("ddn(targeted=True)", "has no such setting, got: targeted", "steps, gamma, init_norm, levels"),
        ("ddn(callback=1)", "has no such setting, got: callback", ""),
        ("carlini_wagner_l2(max_iterations=9)", "setting `max_iterations` must be at least 10, got: 9", ""),
        ("alma(distance='lpips')", "must be another one, got: lpips, which downloads a network", "l2, l1, ssim"),
    ],
)
def test_mistakes_are_said_before_the_study(spec, message, hint):
    error = refusal(f"advlib:{spec}")
    assert message in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("spec", "classes", "cure"),
    [
        ("apgd(eps=0.1, norm=2)", 2, "apgd(eps=0.1, norm=2, loss_function='ce', n_iter=2)"),
        ("apgd_targeted(eps=0.1, norm=2)", 3, "apgd_targeted(eps=0.1, norm=2, loss_function='ce', n_iter=2)"),
        ("pgd_linf(eps=0.1, loss_function='dlr')", 2, "pgd_linf(eps=0.1, loss_function='ce')"),
        ("alma", 2, "ddn(steps=5)"),
    ],
)
def test_too_few_classes_for_a_loss_are_said_before_the_study(spec, classes, cure):
    name = spec.partition("(")[0]
    classifier = Classifier(Linear(classes).eval(), size=8)
    error = refusal(f"advlib:{spec}", classifier)
    least = 4 if name == "apgd_targeted" else 3
    assert error.message == f"`attack` advlib:{name} must attack a model of {least} classes, got: {classes}"
    assert ("loss_function='ce'" if "ce" in cure else "advlib:ddn") in error.hint
    (result,) = results_of(checked(f"advlib:{cure}", classifier), classifier, {"a": torch.rand(3, 8, 8)}).values()
    assert result.reason == ""


def test_visdom_is_not_needed(monkeypatch):
    """adv-lib imports it for curves in a browser; whoever asks for it afterwards must not get a stand-in."""
    if find_spec("visdom") is not None:
        pytest.skip("visdom is installed")
    for name in [name for name in sys.modules if name.partition(".")[0] == "adv_lib"]:
        monkeypatch.delitem(sys.modules, name)
    assert make_attack("advlib:ddn").spec == "advlib:ddn"
    assert "visdom" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        builtins.__import__("visdom")
