"""Every attack of torchattack: it works, goes the right way and keeps its bound, or it is refused in words."""

from functools import cache

import pytest
import timm
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms.functional import to_tensor

from camdrift.attacks.base import Threat
from camdrift.attacks.containment import Containment
from camdrift.attacks.making import make_attack
from camdrift.attacks.names import load_library
from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from support.attacks import gradient_of, results_of, traces
from support.nets import drawn, fixed
from support.studies import TinyNet, picture

REGISTRY = load_library("torchattack").ATTACK_REGISTRY
LAYER = "feature_layer_cfg='body'"
TRANSFORMER = "steps=1, hook_cfg='vit_base_patch16_224'"
# The network that each attack needs, and its settings.
WORKING = {
    **dict.fromkeys(
        ("Admix", "DIFGSM", "FDA", "IFGSM", "MIFGSM", "NIFGSM", "PGD", "PGDL2", "SINIFGSM"),
        ("tiny", "steps=3"),
    ),
    **dict.fromkeys(("TIFGSM", "VMIFGSM", "VNIFGSM"), ("tiny", "steps=3")),
    **dict.fromkeys(("DR", "ILPD"), ("tiny", f"steps=3, {LAYER}")),
    **dict.fromkeys(("BFA", "DANAA", "FIA", "NAA"), ("tiny", f"steps=3, num_ens=4, {LAYER}")),
    **dict.fromkeys(("ATT", "PNAPatchOut", "TGR", "VDC"), ("transformer", TRANSFORMER)),
    "BSR": ("tiny", "steps=2"),
    "GRA": ("tiny", "steps=2, num_neighbors=4"),
    "BPA": ("residual", "steps=2"),
    "DeCoWA": ("tiny", "steps=1, num_warping=5"),
    "DeepFool": ("tiny", "steps=20"),
    "FGSM": ("tiny", ""),
    "SGM": ("residual", "steps=2, hook_cfg='resnet18'"),
    "SSA": ("large", "steps=1, num_spectrum=2"),
}
GENERATORS = ("BIA", "CDA", "GAMA", "LTP")
# What is wrong with an attack, and the one that its hint names, in working order.
REFUSED = {
    "GeoDA": ("writes 2 GB", "foolbox:BoundaryAttack(steps=5)"),
    "L2T": ("needs a GPU", "torchattack:BSR(steps=1)"),
    "MIG": ("goes the wrong way", "torchattack:MIFGSM(steps=1)"),
    "SSP": ("downloads another network", "torchattack:FDA(steps=1)"),
}
UNTARGETED = ("BIA", "CDA", "GAMA", "LTP", "DANAA", "DR", "DeepFool", "FDA", "FIA", "GRA", "ILPD", "NAA")
# They leave hooks or modules of their own, outside camdrift.
LEAVING = ("ATT", "BFA", "BPA", "DR", "FDA", "PNAPatchOut", "SGM", "TGR")
# What they distort need not be what the prediction rests on.
ASKING_FEATURES = ("DR", "FDA")


@cache
def model_of(name):
    """A small network of each construction that an attack asks for; all know ten classes."""
    nets = {
        "tiny": lambda: TinyNet().eval(),
        "residual": lambda: fixed(ResNet(BasicBlock, [2, 1, 2, 1], num_classes=10)),
        "transformer": lambda: drawn(
            lambda: timm.create_model("vit_base_patch16_224", embed_dim=24, num_heads=12, num_classes=10).eval(), 0
        ),
        "large": lambda: fixed(
            nn.Sequential(nn.Conv2d(3, 4, 7, 4), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(144, 10))
        ),
    }
    size = {"tiny": 32, "residual": 32}.get(name, 224)
    return Classifier(nets[name](), mean=(0.5,) * 3, std=(0.25,) * 3, size=size)


def pixels_for(model):
    """Two small pictures, or a large one."""
    count = 2 if model.size < 100 else 1
    return {f"{n}.png": to_tensor(picture(n, (model.size, model.size))) for n in range(count)}


def spec_of(name, *further):
    """The spec of an attack in `WORKING`, with further settings."""
    settings = [text for text in (WORKING[name][1], *further) if text]
    return f"torchattack:{name}({', '.join(settings)})" if settings else f"torchattack:{name}"


def losses(model, pixels, results, classes):
    """Mean cross-entropy of the classes, before and after."""
    images = torch.stack(list(pixels.values()))
    changed = images + torch.stack([result.base_perturbation for result in results.values()])
    with torch.no_grad():
        return [float(nn.functional.cross_entropy(model(batch), classes)) for batch in (images, changed)]


def classes_of(model, pixels, rank):
    with torch.no_grad():
        return model(torch.stack(list(pixels.values()))).topk(2).indices[:, rank]


def checked(spec, model):
    """The attack, after the look at the model that comes before each study."""
    attack = make_attack(spec)
    attack.check(model)
    return attack


def refusal(spec, model=None):
    with pytest.raises(UserError) as caught:
        checked(spec, model)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_every_attack_has_its_case():
    assert sorted(REGISTRY) == sorted([*WORKING, *GENERATORS, *REFUSED, "MuMoDIG"])


@pytest.mark.parametrize("name", WORKING)
def test_it_works(name):
    """Right direction, its bound reached and kept, the same answer again, and the network as it was."""
    model = model_of(WORKING[name][0])
    pixels = pixels_for(model)
    before, images = traces(model.module), torch.stack(list(pixels.values()))
    gradient = gradient_of(model, images)
    epsilon = {"DeepFool": None, "PGDL2": "eps=1"}.get(name, "eps=6/255")
    attack = checked(spec_of(name, epsilon), model)
    results = results_of(attack, model, pixels)
    assert traces(model.module) == before
    assert torch.equal(gradient_of(model, images), gradient)
    clean, adversarial = losses(model, pixels, results, classes_of(model, pixels, 0))
    assert adversarial > clean or name in ASKING_FEATURES
    expected = {"DeepFool": None, "PGDL2": Threat("l2", 1.0)}.get(name, Threat("linf", 6 / 255))
    assert attack.threat == expected
    for result in results.values():
        assert result.reason == ""
        if expected is not None:
            assert expected.contains(result.base_perturbation)
            assert not Threat(expected.norm, 0.3 * expected.epsilon).contains(result.base_perturbation)
    if len(pixels) > 1:
        (again,) = results_of(attack, model, {"0.png": pixels["0.png"]}).values()
        assert torch.equal(again.base_perturbation, results["0.png"].base_perturbation)


@pytest.mark.parametrize("name", [name for name in WORKING if name not in UNTARGETED])
def test_it_walks_towards_a_target(name):
    model = model_of(WORKING[name][0])
    pixels = pixels_for(model)
    results = results_of(spec_of(name, "target_class='second'"), model, pixels)
    clean, adversarial = losses(model, pixels, results, classes_of(model, pixels, 1))
    assert adversarial < clean


@pytest.mark.parametrize("name", [name for name in UNTARGETED if name in WORKING])
def test_it_takes_no_target(name):
    error = refusal(spec_of(name, "target_class='second'"))
    assert error.message == f"`attack` {name} must come without `target_class`, got: second"


@pytest.mark.parametrize("name", LEAVING)
def test_alone_it_leaves_traces(name):
    """Containment has something to undo."""
    model = model_of(WORKING[name][0])
    before = traces(model.module)
    settings = {"hook_cfg": "resnet18" if name == "SGM" else "vit_base_patch16_224", "feature_layer_cfg": "body"}
    takes = REGISTRY[name].__init__.__annotations__
    with Containment(model).around(0):
        lent = traces(model.module)
        REGISTRY[name](model.module, device=model.device, **{k: v for k, v in settings.items() if k in takes})
        assert traces(model.module) != lent
    assert traces(model.module) == before


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_needs_its_weights(name, tmp_path):
    error = refusal(f"torchattack:{name}")
    assert error.message == f"`attack` must be given checkpoint_path, got: torchattack:{name} without"
    assert "untrained" in error.hint
    generator = REGISTRY[name](device=torch.device("cpu"), weights=None).generator
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in generator.parameters():
            nn.init.normal_(parameter, std=0.05)
    torch.save(generator.state_dict(), tmp_path / "weights.pt")
    model = model_of("tiny")
    pixels = pixels_for(model)
    attack = checked(f"torchattack:{name}(checkpoint_path='{tmp_path}/weights.pt', eps=4/255)", model)
    image = pixels["0.png"]
    (result,) = results_of(attack, model, {"0.png": image}).values()
    with torch.no_grad():
        expected = (generator(image[None])[0] - image).clamp(-4 / 255, 4 / 255)
    assert torch.allclose(image + result.base_perturbation, (image + expected).clamp(0, 1), atol=1e-6)
    error = refusal(f"torchattack:{name}(checkpoint_path='{tmp_path}/none.pt')", model)
    assert "FileNotFoundError" in error.message


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_another_one_helps(name):
    fault, cure = REFUSED[name]
    error = refusal(f"torchattack:{name}")
    assert error.message.startswith(f"`attack` must name another attack, got: torchattack:{name}, which {fault}")
    assert cure.partition("(")[0] in error.hint
    model = model_of("tiny")
    (result,) = results_of(cure, model, {"0.png": pixels_for(model)["0.png"]}).values()
    assert result.reason == ""


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("camdrift.attacks.names.find_spec", lambda name: None)
    error = refusal("torchattack:MuMoDIG")
    assert error.message == "`attack` torchattack:MuMoDIG needs kornia, which is not installed"
    assert error.hint == "python -m pip install kornia installs it"


class Functional(nn.Module):
    """A network without a module that FDA looks for."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 10)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def with_small_pool():
    """BPA's places, but another pooling."""
    net = ResNet(BasicBlock, [2, 1, 2, 1], num_classes=10)
    net.maxpool = nn.MaxPool2d(2)
    return Classifier(net.eval(), size=32)


@pytest.mark.parametrize(
    ("spec", "network", "message", "hint"),
    [
        ("BPA", "tiny", "must attack a network that has maxpool and", "another attack"),
        ("BPA", "pool", "got: ResNet without a maxpool of size 3, stride 2 and padding 1", "another attack"),
        (
            "SGM(hook_cfg='resnet18')",
            "tiny",
            "must attack a network that has layer1.0.relu, got: TinyNet",
            "torchvision",
        ),
        ("SGM(hook_cfg='densenet121')", "residual", "has features.denseblock1, got: ResNet", "torchvision"),
        ("SGM(hook_cfg='vgg16')", "residual", "ValueError: Unsupported model hook config: vgg16", ""),
        ("SGM", "residual", "must be given hook_cfg, got: torchattack:SGM without", "'resnet18' of torchvision"),
        ("FDA", "functional", "must find layers to change, got: Functional without", "nn.ReLU"),
        ("SSA", "tiny", "must attack a model of 224 px, got: 32 px", "torchattack:MIFGSM takes any size"),
        ("ATT(hook_cfg='vit_base_patch16_224')", "tiny", "a model of 224 px, got: 32 px", "MIFGSM"),
        ("TGR(hook_cfg='resnet18')", "transformer", "Hook config specified (`resnet18`) is not supported", ""),
        ("TGR(hook_cfg='vit_base_patch16_224')", "tiny", "AttributeError: TinyNet has no part blocks", ""),
        ("DR", "tiny", "must be given feature_layer_cfg, got: torchattack:DR without", "`camdrift layers` lists"),
        ("DR(feature_layer_cfg='bodi')", "tiny", "must name a part of the model, got: bodi", "`camdrift layers` lists"),
        ("PGD(eps=0)", "tiny", "setting `eps` must be a positive number, got: 0", ""),
        ("PGD(targeted=True)", "tiny", "has no such setting, got: targeted", "settings: eps, steps, alpha"),
        ("PGGD", "tiny", "must name an attack of torchattack, got: PGGD", "nearest: PGD"),
    ],
)
def test_what_it_lacks_is_said_before_the_study(spec, network, message, hint):
    nets = {"functional": lambda: Classifier(Functional().eval(), size=32), "pool": with_small_pool}
    error = refusal(f"torchattack:{spec}", nets.get(network, lambda: model_of(network))())
    assert message in error.message
    assert hint in error.hint


def test_layers_have_the_names_of_the_studied_network():
    """torchattack gets a model with normalisation inside, which hides the network one level further down."""
    model = model_of("tiny")
    pixels = pixels_for(model)
    one, other = (
        results_of(f"torchattack:ILPD(steps=1, feature_layer_cfg='{layer}')", model, pixels)["0.png"]
        for layer in ("stem", "last")
    )
    assert not torch.equal(one.base_perturbation, other.base_perturbation)


def test_the_number_of_classes_is_the_models():
    """BFA and Admix suppose 1000."""
    for name in ("Admix", "BFA"):
        assert "num_classes" not in make_attack(spec_of(name)).spec
