"""Attacks of other libraries: what they find is checked, what they leave behind is undone, whatever the library."""

import random
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import to_tensor

from camdrift.attacks.base import OWN_DRAWS, PER_IMAGE, Attack, SeedBatch, Threat
from camdrift.attacks.library import LibraryAttack
from camdrift.attacks.making import make_attack
from camdrift.attacks.registry import LIBRARIES, SHORT_NAMES
from camdrift.attacks.seeding import seeded
from camdrift.attacks.targets import targets_of
from camdrift.coverage.neurons import NeuronRecord
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.tensors import perturbed
from support.attacks import traces
from support.studies import SIZE, TinyNet, picture, tiny_classifier

DOCS = (Path(__file__).parents[2] / "docs/attacks.md").read_text(encoding="utf-8")

# Spec, and how many of the three images it must fool at least.
MATRIX = {
    "fgsm": 2,
    "pgd(steps=10)": 3,
    "mifgsm": 3,
    "deepfool": 3,
    "cw(steps=20, binary_search_steps=3)": 2,
    "foolbox:L2ProjectedGradientDescent(eps=2, steps=10)": 2,
    "foolbox:L1PGD(eps=60, steps=10)": 1,
    "foolbox:LinearSearchBlendedUniformNoise(steps=20)": 1,
    # What it returns unclipped breaks its bound.
    "foolbox:LinfAdditiveUniformNoise(eps=8/255)": 0,
    "torchattacks:PGD(eps=6/255, steps=5)": 3,
    "torchattacks:PGDL2(eps=2, steps=5)": 2,
    "torchattacks:DeepFool(steps=20)": 2,
    "torchattacks:Square(n_queries=60)": 1,
    "autoattack": 3,
    "art:FastGradientMethod(eps=8/255)": 2,
    "art:ProjectedGradientDescent(eps=8/255, eps_step=2/255, max_iter=5, num_random_init=1)": 3,
    "art:DeepFool(max_iter=50, epsilon=0.02, nb_grads=3)": 2,
    "captum:FGSM(epsilon=8/255)": 2,
    "captum:PGD(radius=8/255, step_size=2/255, step_num=5, random_start=True)": 3,
}
TARGETED = {
    "pgd(eps=16/255, steps=20, target_class='second')": 3,
    "torchattacks:PGD(eps=16/255, target_class='second')": 3,
    "art:ProjectedGradientDescent(eps=16/255, eps_step=2/255, max_iter=15, target_class='second')": 3,
    "captum:PGD(radius=16/255, step_size=2/255, step_num=15, target_class='second')": 3,
}


@pytest.fixture
def types_as_in_use(monkeypatch):
    """Types are enforced under pytest alone; who gives a wrong one meets the messages tested here."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@cache
def classifier():
    return tiny_classifier()


@cache
def images():
    """Three smooth images that the tiny classifier is fooled on."""
    return torch.stack([to_tensor(picture(number, (SIZE, SIZE))) for number in range(3)])


NAMES = ("a.png", "b.png", "c.png")


def attack(spec, model, seeds, names, **options):
    """What an attack, or the spec of one, finds."""
    chosen = make_attack(spec) if isinstance(spec, str) else spec
    with torch.no_grad():
        clean = model(seeds)
    neurons = NeuronRecord({}, torch.empty((len(seeds), 0)))
    batch = SeedBatch(seeds, clean, neurons, names, options.pop("rng_seed", 0))
    return chosen(model, batch, **{"batch_size": 4, "advance": lambda done, found: None, **options})


def states():
    """Torch's and NumPy's random state; Python's is drawn from by beartype, which checks types under pytest."""
    return repr((torch.get_rng_state().tolist(), np.random.get_state()))  # noqa: NPY002


def test_random_state_is_lent():
    def draw():
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    before = random.getstate(), states()
    drawn = []
    for seed in (3, 3, 2**62):
        with seeded(seed, torch.device("cpu")):
            drawn.append(draw())
    assert (random.getstate(), states()) == before
    assert drawn[0] == drawn[1]
    assert not {*drawn[0]} & {*drawn[2]}


def predictions(model, seeds):
    with torch.no_grad():
        return model(seeds).argmax(1)


@cache
def found(spec):
    """What `spec` finds for the three images, and what it left changed."""
    module = TinyNet().train()
    module.norm.eval()  # a frozen batch norm, which torchattacks would send to training
    module.stem.weight.requires_grad_(False)
    module.head.weight.grad = torch.full_like(module.head.weight, 7.0)
    model = Classifier(module, mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)
    seeds, before = images().clone(), states()
    module_before = traces(module)
    results = attack(spec, model, seeds, NAMES)
    changed = []
    if states() != before:
        changed.append("random state")
    module_after = traces(module)
    changed += [
        name for name in module_before.keys() | module_after if module_before.get(name) != module_after.get(name)
    ]
    if not torch.equal(seeds, images()):
        changed.append("the caller's images")
    return results, changed


class TestEveryAttack:
    @pytest.mark.parametrize("spec", [*MATRIX, *TARGETED])
    def test_leaves_everything_as_it_was(self, spec):
        assert found(spec)[1] == []

    @pytest.mark.parametrize("spec", MATRIX)
    def test_finds_images_in_bounds_that_fool_the_model(self, spec):
        fooled = 0
        for seed, result in zip(images(), found(spec)[0], strict=True):
            assert result.reason == ""
            image = seed + result.base_perturbation
            assert image.min() >= -1e-6
            assert image.max() <= 1 + 1e-6
            both = predictions(classifier(), torch.stack([seed, perturbed(seed, result.base_perturbation)]))
            fooled += bool(both[0] != both[1])
        assert fooled >= MATRIX[spec]

    @pytest.mark.parametrize("spec", MATRIX)
    def test_keeps_its_bound_in_pixel_units(self, spec):
        threat = make_attack(spec).threat
        for seed, result in zip(images(), found(spec)[0], strict=True):
            moved = perturbed(seed, result.base_perturbation) - seed
            assert threat is None or threat.contains(moved)
            if threat is not None and threat.norm == "linf" and moved.any():
                # Normalised units would be four times as large.
                assert float(moved.abs().max()) == pytest.approx(threat.epsilon, rel=0.2)

    @pytest.mark.parametrize("spec", MATRIX)
    def test_knows_neither_batch_size_nor_order(self, spec):
        together = dict(zip(NAMES, found(spec)[0], strict=True))
        apart = attack(spec, classifier(), images()[[2, 0]], [NAMES[2], NAMES[0]], batch_size=1)
        for name, result in zip((NAMES[2], NAMES[0]), apart, strict=True):
            # Own attacks go in batches, in which a network rounds otherwise.
            rounding = 1e-6 if make_attack(spec).recipe.is_own else 0
            difference = result.base_perturbation - together[name].base_perturbation
            assert float(difference.abs().max()) <= rounding

    @pytest.mark.parametrize("spec", [*MATRIX, *TARGETED, "dlfuzz", *SHORT_NAMES])
    def test_spec_is_complete(self, spec):
        made = make_attack(spec)
        assert isinstance(made, Attack)
        assert make_attack(made.spec).spec == made.spec
        assert made.seeding == PER_IMAGE

    @pytest.mark.parametrize("spec", TARGETED)
    def test_reaches_its_target(self, spec):
        with torch.no_grad():
            second = classifier()(images()).topk(2).indices[:, 1]
        results = found(spec)[0]
        assert [result.target_class for result in results] == second.tolist()
        reached = predictions(classifier(), images() + torch.stack([r.base_perturbation for r in results]))
        assert int((reached == second).sum()) >= TARGETED[spec]

    @pytest.mark.parametrize("spec", ["pgd(steps=5)", "torchattacks:PGD(steps=5)"])
    def test_random_starts_come_from_study_and_name(self, spec):
        first = found(spec)[0][0].base_perturbation
        for changed in ({"rng_seed": 1}, {"names": ["other.png"]}):
            options = {"names": NAMES[:1], **changed}
            (other,) = attack(spec, classifier(), images()[:1], **options)
            assert not torch.equal(other.base_perturbation, first)

    @pytest.mark.parametrize(
        "spec",
        [
            "pgd(steps=5)",
            "torchattacks:PGD(steps=5)",
            "art:ProjectedGradientDescent(eps=8/255, eps_step=2/255, max_iter=5)",
            "captum:PGD(radius=8/255, step_size=2/255, step_num=5)",
        ],
    )
    def test_normalisation_inside_the_module_or_outside(self, spec):
        """A strange normalisation of camdrift's, and the same one as the module's first layer."""
        mean, std = (0.9, 0.1, 0.4), (0.05, 3.0, 0.7)

        class Folded(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = TinyNet().eval()

            def forward(self, x):
                columns = [torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std)]
                return self.net((x - columns[0]) / columns[1])

        outside = Classifier(TinyNet().eval(), mean=mean, std=std, size=SIZE)
        results = [attack(spec, model, images()[:1], ["a"])[0] for model in (outside, Classifier(Folded(), size=SIZE))]
        assert torch.equal(results[0].base_perturbation, results[1].base_perturbation)
        assert float(results[0].base_perturbation.abs().max()) == pytest.approx(8 / 255, rel=1e-4)


class Linear(nn.Module):
    """Two logits: 0, and the sum of w * x."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        total = (x * self.weights).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total], 1)


@pytest.mark.parametrize(
    "spec",
    [
        "fgsm(eps=4/255)",
        "torchattacks:FGSM(eps=4/255)",
        "art:FastGradientMethod(eps=4/255)",
        "captum:FGSM(epsilon=4/255)",
    ],
)
def test_fgsm_by_hand(spec):
    """The model says 1 where sum(w * x) > 0; the loss of that class falls along w, so the step is -eps * sign(w)."""
    weights = torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1).expand(3, 8, 8) / 100
    weights = torch.cat([weights[:, :4], -0.1 * weights[:, 4:]], 1)
    model = Classifier(Linear(weights), size=8)
    seed = torch.full((1, 3, 8, 8), 0.5)
    seed[0, 0, 0] = 0.01  # here the step is clipped: 0.01 - 4/255 < 0
    assert predictions(model, seed).tolist() == [1]
    expected = torch.where(weights > 0, -4 / 255, 4 / 255)
    expected[0, 0] = -0.01
    (result,) = attack(spec, model, seed, ["a"])
    assert torch.allclose(result.base_perturbation, expected, atol=1e-7)


class TestTargets:
    SPEC = "pgd(steps=1, target_class={!r})"

    def classes(self, target):
        results = attack(self.SPEC.format(target), classifier(), images(), NAMES)
        return [result.target_class for result in results]

    def test_chosen_from_the_clean_logits(self):
        with torch.no_grad():
            logits = classifier()(images())
        assert self.classes("least_likely") == logits.argmin(1).tolist()
        assert self.classes(3) == [3, 3, 3]

    def test_random_ones_are_drawn_per_image_and_never_the_clean_class(self):
        clean = predictions(classifier(), images()).tolist()
        logits = torch.nn.functional.one_hot(torch.tensor(clean[:1] * 200), 10).float()
        names = [f"{name}.png" for name in range(200)]
        seeds = SeedBatch(images()[:1].expand(200, -1, -1, -1), logits, NeuronRecord({}, torch.empty(200, 0)), names, 0)
        drawn = {*targets_of("random", seeds, clean[:1] * 200)}
        assert drawn == set(range(10)) - {clean[0]}
        assert self.classes("random") == self.classes("random")

    def test_an_image_of_the_target_class_is_not_attacked(self):
        clean = int(predictions(classifier(), images()[:1]))
        (result,) = attack(self.SPEC.format(clean), classifier(), images()[:1], ["a"])
        assert result.base_perturbation is None
        assert result.reason == "its clean prediction is the target class already"
        assert not result.is_failure


class TestThreat:
    def test_norms_by_hand(self):
        delta = torch.zeros(3, 8, 8)
        delta[0, 0, 0], delta[1, 0, 0] = 0.3, -0.4
        for norm, value in {"linf": 0.4, "l2": 0.5, "l1": 0.7, "l0": 2.0}.items():
            assert Threat(norm, value).contains(delta), norm
            assert not Threat(norm, value - 1 if norm == "l0" else 0.999 * value).contains(delta), norm

    def test_rounding_is_no_breach(self):
        seed = torch.rand((3, 64, 64), generator=torch.Generator().manual_seed(0))
        delta = torch.full_like(seed, 1 / 255)
        assert Threat("linf", 1 / 255).contains((seed + delta) - seed)
        assert not Threat("linf", 1 / 255).contains((seed + 1.001 * delta) - seed)


def refused(spec):
    with pytest.raises(UserError) as caught:
        make_attack(spec)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.usefixtures("types_as_in_use")
class TestRefused:
    @pytest.mark.parametrize(
        ("spec", "message", "hint"),
        [
            ("foolbox:hopskip", "must name an attack of foolbox, got: hopskip", "HopSkipJumpAttack"),
            ("torchattacks:PGDD", "must name an attack of torchattacks, got: PGDD", "PGD"),
            ("art:fastgrad", "must name an attack of art, got: fastgrad", "FastGradientMethod"),
            ("captum:deepfool", "must name an attack of captum, got: deepfool", "it has FGSM, PGD"),
            ("foolbox:", "must name an attack of foolbox, got: nothing", "it has"),
            ("pgd(step=3)", "has no such setting, got: step", "eps, rel_stepsize, abs_stepsize, steps, random_start"),
            ("torchattacks:PGD(epsilon=1)", "has no such setting, got: epsilon", "eps, alpha, steps, random_start"),
            ("art:DeepFool(targeted=True)", "has no such setting, got: targeted", "max_iter, epsilon"),
            ("captum:PGD(radius=1/255)", "must be given step_size, step_num, got: captum:PGD without", "radius"),
            ("deepfool(eps=1)", "has no such setting, got: eps", "steps, candidates, overshoot, loss"),
            ("foolbox:L2PGD", "must be given eps, got: foolbox:L2PGD without", "eps"),
            ("pgd(eps=-1/255)", "setting `eps` must be a positive number, got: -0.00392", ""),
            ("captum:FGSM(epsilon='8')", "setting `epsilon` must be a positive number, got: 8", ""),
            ("captum:PGD(radius=1,step_size=1,step_num=1,norm='L1')", "must be one of Linf, L2, got: L1", ""),
            (
                "autoattack(version='best')",
                "refused by its library: ValueError: Not valid version.",
                "norm, eps, version",
            ),
            ("art:FastGradientMethod(eps=-1)", "refused by its library: ValueError", "eps_step"),
            ("foolbox:DatasetAttack", "refused by its library: ValueError: DatasetAttack can only be called after", ""),
            ("fgsm(target_class=1)", "fgsm must come without `target_class`, got: 1", "pgd"),
            ("deepfool(target_class=1)", "deepfool must come without `target_class`, got: 1", "pgd"),
            ("autoattack(target_class=1)", "AutoAttack must come without `target_class`, got: 1", "pgd"),
            ("art:DeepFool(target_class=1)", "DeepFool must come without `target_class`, got: 1", "pgd"),
            ("foolbox:GenAttack(eps=0.1)", "GenAttack must be given `target_class`, got: none", "least_likely"),
            ("pgd(target_class='worst')", "setting `target_class` must be a class's index or one of second", ""),
            ("pgd(target_class=-1)", "setting `target_class` must be a class's index", ""),
            ("pgd(target_class=True)", "setting `target_class` must be a class's index", ""),
            ("no_such_module:attack", "must be one of dlfuzz, dlfuzz:paper, fgsm", "path/to/file.py:NAME"),
            ("nowhere.py:attack", "must name a Python file, got: nowhere.py (no such file)", ""),
            ("math:nothing", "must name a function, got: math:nothing (no `nothing` in math)", ""),
            ("math:cos", "math:cos must take (model, images, classes)", "docs/attacks.md"),
        ],
    )
    def test_in_words(self, spec, message, hint):
        error = refused(spec)
        assert message in error.message
        assert error.message.startswith("`attack` ")
        assert hint in error.hint

    def test_a_target_that_the_model_lacks(self):
        with pytest.raises(UserError, match="must be below the number of classes, 10, got: 10"):
            make_attack("pgd(target_class=10)").check(classifier())
        make_attack("pgd(target_class=9)").check(classifier())

    @pytest.mark.parametrize(
        ("module", "spec", "command"),
        [
            ("torchattacks", "autoattack", 'pip install "camdrift[attacks]"'),
            ("art.attacks.evasion", "art:DeepFool", 'pip install "camdrift[attacks]"'),
            ("torchattack", "torchattack:PGD", 'pip install "camdrift[attacks]"'),
            ("adv_lib.attacks", "advlib:ddn", "python -m pip install --no-deps adv-lib installs it"),
            ("captum.robust", "captum:FGSM(epsilon=1/255)", 'pip install "camdrift[captum]"'),
        ],
    )
    def test_a_library_that_is_missing(self, module, spec, command, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)
        error = refused(spec)
        assert "which cannot be imported: ModuleNotFoundError" in error.message
        assert command in error.hint


def test_names_are_found_whatever_their_capitals():
    assert make_attack("foolbox:linfpgd(epsilon=4/255)").spec == "foolbox:LinfPGD(epsilon=4/255)"
    assert make_attack("foolbox:l2deepfool").spec == "foolbox:L2DeepFoolAttack"
    assert make_attack("pgd(epsilon=4/255)").threat == Threat("linf", 4 / 255)
    assert make_attack("fgsm").spec == "fgsm(eps=8/255)"


def test_draws_that_cannot_be_seeded_are_told():
    assert make_attack("art:HopSkipJump").seeding == OWN_DRAWS


@pytest.fixture
def own(tmp_path):
    """Writes functions to a file beside a helper that they import as they run; gives the spec of one."""
    (tmp_path / "beside.py").write_text("STEP = 0.02\n")
    folder = tmp_path / "my attacks (1)"

    def write(body, settings="", arguments=""):
        folder.mkdir(exist_ok=True)
        (folder / "beside_it.py").write_text("STEP = 0.02\n")
        code = f"import torch\n\ndef made(model, images, classes{arguments}):\n    {body}\n"
        path = folder / f"attack_{len(list(folder.iterdir()))}.py"
        path.write_text(code)
        return f"{path}:made{settings}"

    return write


class TestOwnFunctions:
    def test_they_get_pixels_logits_and_settings(self, own):
        spec = own("from beside_it import STEP; return images + sign * STEP", "(sign=-1)", ", sign=1")
        (result,) = attack(spec, classifier(), torch.full((1, 3, SIZE, SIZE), 0.5), ["a"])
        assert torch.allclose(result.base_perturbation, torch.tensor(-0.02), atol=1e-7)
        assert make_attack(make_attack(spec).spec).spec == make_attack(spec).spec
        assert not list(Path(spec.rpartition(":")[0]).parent.glob("__pycache__"))

    def test_the_model_is_frozen_and_in_evaluation_mode(self, own):
        body = (
            "assert not model.training and not any(p.requires_grad for p in model.parameters()); "
            "assert torch.is_grad_enabled() and model(images).shape == (1, 10); "
            "assert int(model(images).argmax()) == classes; "
            "return images"
        )
        (result,) = attack(own(body), classifier(), images()[:1], ["a"])
        assert result.reason == ""

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (
                "return images.fill_(float('nan'))",
                "it must return finite images, got: NaN or infinity",
            ),
            ("return images / 0", "it must return finite images, got: NaN or infinity"),
            ("return images[0]", f"it must return images of shape (1, 3, {SIZE}, {SIZE}), got: (3, {SIZE}, {SIZE})"),
            ("return images.repeat(2, 1, 1, 1)", "got: (2, 3,"),
            ("return (255 * images).byte()", "it must return float images, got: torch.uint8"),
            ("return [images]", "it must return float images, got: list"),
            ("return None", "it must return float images, got: NoneType"),
            ("raise RuntimeError('first line\\nsecond line')", "RuntimeError: first line"),
        ],
    )
    def test_lies_and_failures_are_reasons(self, own, body, reason):
        (result,) = attack(own(body), classifier(), images()[:1], ["a"])
        assert result.is_failure
        assert result.base_perturbation is None
        assert result.reason.startswith("the attack failed: ")
        assert reason in result.reason
        assert "\n" not in result.reason

    def test_what_lies_outside_is_clipped(self, own):
        for body in ("return images + 5", "import numpy; return (images + 5).numpy().astype(numpy.float64)"):
            (result,) = attack(own(body), classifier(), images()[:1], ["a"])
            assert torch.allclose(images()[0] + result.base_perturbation, torch.tensor(1.0))

    def test_what_they_print_and_change_in_place_stays_inside(self, own, capsys):
        seeds = images().clone()
        attack(own("print('hello'); return images.add_(0.1)"), classifier(), seeds, NAMES)
        assert capsys.readouterr().out == ""
        assert torch.equal(seeds, images())

    def test_one_failure_leaves_the_others(self, own):
        body = "assert images.mean() < limit; return images + 0.01"
        means = images().mean((1, 2, 3))
        limit = float(means.max()) - 1e-4
        results = attack(own(body, f"(limit={limit})", ", limit"), classifier(), images(), NAMES)
        assert [result.is_failure for result in results] == (means >= limit).tolist()
        assert sum(result.is_failure for result in results) == 1

    def test_a_mistake_of_the_user_stops_the_run(self, own):
        body = "from camdrift.errors import UserError; raise UserError('no')"
        with pytest.raises(UserError, match="no"):
            attack(own(body), classifier(), images(), NAMES)


class TestTheDocumentation:
    def blocks(self):
        return {
            re.search(r"# (\w+\.py)|^(import csv)", b)[0].removeprefix("# "): b
            for b in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
        }

    def test_the_function_of_your_own(self, tmp_path):
        (tmp_path / "my_attack.py").write_text(self.blocks()["my_attack.py"])
        spec = f"{tmp_path}/my_attack.py:sign_step(eps=8/255{{}})"
        expected = attack("fgsm(eps=8/255)", classifier(), images(), NAMES)
        for one, other in zip(attack(spec.format(""), classifier(), images(), NAMES), expected, strict=True):
            assert torch.equal(one.base_perturbation, other.base_perturbation)
        (towards,) = attack(spec.format(", target_class='second'"), classifier(), images()[:1], ["a"])
        assert towards.target_class is not None

    def test_another_library(self, monkeypatch):
        class Step:
            def __init__(self, model, eps):
                self.model, self.eps = model, eps

            def away(self, images, classes):
                assert self.model(images).argmax(1).equal(classes)
                return images + self.eps

            def towards(self, images, target_classes):
                return images - self.eps

        mylib = ModuleType("mylib")
        mylib.Step = Step
        monkeypatch.setitem(sys.modules, "mylib", mylib)
        names = {}
        exec(compile(self.blocks()["from_mylib.py"], "from_mylib.py", "exec"), names)
        made = names["recipe"]("step", {"eps": 2 / 255})
        assert made.threat == Threat("linf", 2 / 255)
        grey = torch.full((1, 3, SIZE, SIZE), 0.5)
        for target, sign in ((None, 1), ("second", -1)):
            (result,) = attack(LibraryAttack("mylib:Step", made, target), classifier(), grey, ["a"])
            assert torch.allclose(result.base_perturbation, torch.tensor(sign * 2 / 255), atol=1e-7)
        with pytest.raises(UserError, match="must name an attack of mylib, got: leap"):
            names["recipe"]("leap", {})

    def test_every_short_name_is_told(self):
        assert [name for name in SHORT_NAMES if f"`{name}`" not in DOCS] == []

    def test_every_library_is_told(self):
        rows = {
            name: f"| `{name}:NAME(...)` | {row.help} | {f'`{row.command}` ' if row.command else ''}"
            f"{f'`.[{row.extra}]` ' if row.extra else ''}|"
            for name, row in LIBRARIES.items()
        }
        assert [name for name, row in rows.items() if row not in DOCS.splitlines()] == []
