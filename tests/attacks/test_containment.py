"""Whatever an attack does to the network that it is lent, the network is what it was after every image."""

import pytest
import torch
from torch import nn

from camdrift.attacks.containment import Containment
from camdrift.attacks.library import AttackRecipe, LibraryAttack
from camdrift.models.classifier import Classifier
from support.attacks import gradient_of, results_of, traces
from support.studies import SIZE, TinyNet


class Noted(TinyNet):
    """A network with a tensor that is no buffer, hooks of its own, and a gradient."""

    def __init__(self):
        super().__init__()
        self.offset = torch.full((1, 3, 1, 1), 0.1)
        self.head.register_forward_hook(lambda part, inputs, output: output * 1)
        self.head.bias.register_hook(lambda gradient: gradient)
        self.head.weight.grad = torch.full_like(self.head.weight, 7.0)
        self.stem.weight.requires_grad_(False)

    def forward(self, x):
        return super().forward(x + self.offset)


# What a function does to `net`, the network; beyond what it calls there, `nn` and `torch` are at hand.
DEEDS = {
    "a forward hook": "net.stem.register_forward_hook(lambda *_: None)",
    "a hook with keywords": "net.stem.register_forward_hook(lambda *_: None, with_kwargs=True, always_call=True)",
    "a hook before": "net.stem.register_forward_pre_hook(lambda *_: None)",
    "a backward hook": "net.body.register_full_backward_hook(lambda part, i, o: (i[0] * 2,))",
    "a backward hook of the old kind": "net.body.register_backward_hook(lambda part, i, o: None)",
    "a hook of saving": "net.register_state_dict_post_hook(lambda *_: None)",
    "a hook on every module": "nn.modules.module.register_module_forward_hook(lambda *_: None)",
    "a backward hook on every module": "nn.modules.module.register_module_full_backward_hook(lambda *_: None)",
    "a hook on a tensor": "net.last.weight.requires_grad_().register_hook(lambda gradient: 2 * gradient)",
    "a further hook on a tensor": "net.head.bias.requires_grad_().register_hook(lambda gradient: 2 * gradient)",
    "a hook removed": "net.head._forward_hooks.clear()",
    "a module replaced": "net.relu = nn.Sigmoid()",
    "a module added": "net.extra = nn.Linear(2, 2)",
    "a module removed": "del net.side",
    "a class": "net.relu.__class__ = nn.SiLU",
    "a parametrisation": "nn.utils.parametrizations.spectral_norm(net.body)",
    "a parametrisation of the old kind": "nn.utils.weight_norm(net.body)",
    "a forward of its own": "net.relu.forward = lambda x: x",
    "a setting": "net.pool.kernel_size = 3",
    "weights": "net.body.weight.data.mul_(2)",
    "weights elsewhere": "net.body.weight.data = torch.zeros(12, 8, 3, 3)",
    "another parameter": "net.body.weight = nn.Parameter(torch.zeros(12, 8, 3, 3))",
    "a buffer": "net.norm.running_mean.add_(1)",
    "a tensor that is no buffer": "net.offset.add_(1)",
    "another type": "net.half()",
    "a mode": "net.train(); net.norm.eval()",
    "a flag": "net.requires_grad_(True)",
    "gradients": "net.requires_grad_(True); net(images).sum().backward()",
}


@pytest.fixture
def model():
    return Classifier(Noted().eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)


@pytest.fixture
def attack_that(tmp_path):
    """Writes an attack of the user's own; returns its spec."""

    def write(deed, ending="return images + 0.01"):
        code = "import torch\nfrom torch import nn\n\n\ndef attack(model, images, classes):\n    net = model.network\n"
        path = tmp_path / "deed.py"
        path.write_text(f"{code}    {deed}\n    {ending}\n")
        return f"{path}:attack"

    return write


@pytest.fixture
def pixels(images):
    picture = nn.functional.interpolate(images[:1], (SIZE, SIZE))[0]
    return {"a.png": picture, "b.png": picture.flip(-1)}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:.*weight_norm.*:DeprecationWarning")
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("ending", ["return images + 0.01", "raise RuntimeError('stop')"], ids=["answer", "failure"])
def test_it_is_undone(deed, ending, model, attack_that, pixels):
    before, picture = traces(model.module), torch.stack(list(pixels.values()))
    gradient = gradient_of(model, picture)
    results = results_of(attack_that(DEEDS[deed], ending), model, pixels)
    # The second image meets the network of the first one: a deed that fails the second time was not undone.
    reasons = {result.reason for result in results.values()}
    assert reasons == ({""} if "return" in ending else {"the attack failed: RuntimeError: stop"})
    assert traces(model.module) == before
    assert torch.equal(gradient_of(model, picture), gradient)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning", "ignore:.*weight_norm.*:DeprecationWarning")
@pytest.mark.parametrize("deed", DEEDS)
def test_without_containment_it_would_stay(deed, model):
    """Each deed is one that `traces` sees."""
    before, names = traces(model.module), {"net": model.module, "nn": nn, "torch": torch}
    with Containment(model).around(0):
        lent = traces(model.module)
        exec(DEEDS[deed], {**names, "images": torch.full((1, 3, SIZE, SIZE), 0.5)})
        assert traces(model.module) != lent
    assert traces(model.module) == before


def test_what_others_hold_stays_in_place(model):
    """A hook's handle, and a list of a module's parts, still belong to the network afterwards."""
    handle = model.module.stem.register_forward_hook(lambda *_: None)
    parts = model.module._modules
    with Containment(model).around(0):
        model.module.stem.register_forward_hook(lambda *_: None)
        model.module.stem = nn.Identity()
    assert model.module._modules is parts
    handle.remove()
    assert not model.module.stem._forward_hooks


def test_weights_that_stay_are_not_written(model):
    """Writing would make whoever holds a graph through them fail."""
    versions = [parameter._version for parameter in model.module.parameters()]
    with Containment(model).around(0):
        pass
    assert [parameter._version for parameter in model.module.parameters()] == versions


def test_the_attack_of_a_library_is_built_inside(model, attack_that):
    """A library that hooks the network as its attack is made, in the check before a study."""
    before = traces(model.module)

    def make(pixel_model):
        pixel_model.network.stem.register_forward_hook(lambda *_: None)
        return lambda images, classes, targets: images

    LibraryAttack("hooker", AttackRecipe("hooker", make)).check(model)
    assert traces(model.module) == before
