"""Attacks of torchattack (extra `attacks`), which is another library than torchattacks."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.attacks.base import Threat
from camdrift.attacks.library import AttackRecipe, Perturb, PixelModel
from camdrift.attacks.names import (
    built,
    check_package,
    check_settings,
    choose,
    load_library,
    parameters,
    positive,
    quietly,
)
from camdrift.errors import UserError

# What is wrong with an attack (seen in 1.7.2), and what to take in its place.
_REFUSED: Final = {
    "GeoDA": ("writes 2 GB into its own package", "foolbox:BoundaryAttack looks at predictions alone, too"),
    "L2T": ("needs a GPU, wherever the model lies", "torchattack:BSR and torchattack:DeCoWA transform images, too"),
    "MIG": ("goes the wrong way: it makes the predicted class likelier", "torchattack:MIFGSM makes it less likely"),
    "SSP": ("downloads another network", "torchattack:FDA and torchattack:DR distort features of the studied one"),
}
# They bound the L2 norm; all others that have an `eps` bound the largest change.
_L2: Final = frozenset({"PGDL2"})
# With a target they go the wrong way.
_UNTARGETED: Final = frozenset({"GRA"})
# camdrift sets these; default weights of a generator are none, whatever its name for them says.
_NOT_SET: Final = ("model", "normalize", "device", "targeted", "clip_min", "clip_max", "weights")
_LAYER: Final = "feature_layer_cfg"
# What an attack cannot do without, though it has a default.
_NEEDED: Final = {
    "checkpoint_path": "the file of its generator's weights; without one the generator is untrained",
    _LAYER: "the name of a layer of the model, such as `camdrift layers` lists",
    "hook_cfg": "the name of the network that the model is built like: 'resnet18' of torchvision, "
    "'vit_base_patch16_224' of timm, ...",
}
_NOT_NEEDED: Final = {"BPA": {"hook_cfg"}}
# How many classes the model has; DeepFool's setting of that name is how many it tries.
_CLASSES: Final = "num_classes"
_TRIES_CLASSES: Final = frozenset({"DeepFool"})
# They hook what they find, and without a hook they are other attacks.
_NEED_HOOKS: Final = frozenset({"FDA", "SGM"})
# Where SGM finds skip connections, by what the name of the network holds.
_SGM_PLACES: Final = {"resnet": "layer1.0.relu", "densenet": "features.denseblock1"}
# BPA puts this pooling of its own in the place of the network's: size, stride and padding.
_BPA_POOL: Final = (3, 2, 1)
# The package that an attack takes from elsewhere.
_PACKAGES: Final = {"MuMoDIG": "kornia"}
_HOOKS: Final = ("_forward_hooks", "_backward_hooks")
# They know images of this size alone.
_ONE_SIZE: Final = frozenset({"ATT", "SSA"})
_SIZE: Final = 224


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack of torchattack.

    Args:
        name: A class of `torchattack`.
        settings: The arguments of its constructor, but for those that camdrift sets. Left out, `num_classes` is the
            model's. Layers have the names that they have in the studied model.

    Raises:
        ImportError: torchattack is missing.
        UserError: There is no such attack or setting, the attack lacks one, or it is one that does harm.
    """
    kinds = load_library("torchattack").ATTACK_REGISTRY
    name = choose("torchattack", name, kinds)
    kind = kinds[name]
    if name in _REFUSED:
        fault, cure = _REFUSED[name]
        raise UserError(f"`attack` must name another attack, got: torchattack:{name}, which {fault}", cure)
    if name in _PACKAGES:
        check_package(f"torchattack:{name}", _PACKAGES[name])
    takes = parameters(kind, without=_NOT_SET)
    check_settings(f"torchattack:{name}", settings, takes)
    for key in takes.keys() & _NEEDED.keys() - settings.keys() - _NOT_NEEDED.get(name, set()):
        raise UserError(f"`attack` must be given {key}, got: torchattack:{name} without", _NEEDED[key])

    def make(model: PixelModel) -> Perturb:
        attack = _built(kind, model, settings)

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Tensor:
            if targets is not None:
                attack.targeted = True
            with _strictly():
                answer: Tensor = attack(images, classes if targets is None else targets)
            return answer

        return perturb

    can_target = "targeted" in parameters(kind) and name not in _UNTARGETED
    return AttackRecipe(name, make, threat=_threat(name, kind, settings), can_target=can_target)


def _threat(name: str, kind: Any, settings: dict[str, Any]) -> Threat | None:
    epsilon = inspect.signature(kind).parameters.get("eps")
    if epsilon is None:
        return None
    return Threat("l2" if name in _L2 else "linf", positive("eps", settings.get("eps", epsilon.default)))


class _NamedParts(nn.Module):
    """A model that takes pixels, with the parts of its network under the names that they have there.

    torchattack looks for layers by name, and replaces some: here it finds those of the network itself. Its attacks on
    transformers also want gradients of what lies between where they ask for none of the images.
    """

    def __init__(self, model: PixelModel) -> None:
        super().__init__()
        self.training = False
        for name in ("_parameters", "_buffers", "_modules"):
            vars(self)[name] = vars(model.network)[name]
        # Past `__setattr__`, which would make it a part of the network.
        vars(self)["model"] = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise AttributeError(f"{type(vars(self)['model'].network).__name__} has no part {name}") from None

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not images.requires_grad:
            images = images.detach().requires_grad_()
        logits: Tensor = vars(self)["model"](images)
        return logits


def _built(kind: Any, model: PixelModel, settings: dict[str, Any]) -> Any:
    """The attack, built for a model.

    Raises:
        UserError: The model lacks what the attack changes in it, so that it would be another attack.
    """
    name, network = kind.attack_name, model.network
    if name in _ONE_SIZE and model.size != _SIZE:
        raise UserError(
            f"`attack` torchattack:{name} must attack a model of {_SIZE} px, got: {model.size} px",
            "torchattack:MIFGSM takes any size",
        )
    _check_parts(name, network, settings)
    own: dict[str, Any] = {"device": model.device}
    if not kind.is_category("GENERATIVE"):
        own["model"] = _NamedParts(model)
    if _CLASSES in parameters(kind) and name not in _TRIES_CLASSES:
        own[_CLASSES] = model.classes
    if kind.is_category("GRADIENT_VIT"):
        _unfuse_attention(network)
    hooks_before = _count_hooks(network)
    attack = built(f"torchattack:{name}", lambda: _strictly_built(kind, {**own, **settings}))
    if name in _NEED_HOOKS and _count_hooks(network) == hooks_before:
        raise UserError(
            f"`attack` torchattack:{name} must find layers to change, got: {type(network).__name__} without",
            "it looks for modules such as nn.ReLU; a network that calls functions in their place has none",
        )
    return attack


def _strictly_built(kind: Any, arguments: dict[str, Any]) -> Any:
    with _strictly():
        return kind(**arguments)


@contextmanager
def _strictly() -> Iterator[None]:
    """Silence torchattack's warnings inside the block, but fail where it takes the network for another."""
    with quietly():
        warnings.filterwarnings("error", "Hook config specified")
        yield


def _check_parts(name: str, network: nn.Module, settings: dict[str, Any]) -> None:
    names = {part for part, _ in network.named_modules()}
    if (layer := settings.get(_LAYER, "")) and layer not in names:
        raise UserError(f"`attack` setting `{_LAYER}` must name a part of the model, got: {layer}", _NEEDED[_LAYER])
    places: tuple[str, ...] = ()
    if name == "BPA":
        places = ("maxpool", "layer3.1.relu", "layer4.0.relu")
    elif name == "SGM":
        built_like = str(settings["hook_cfg"])
        places = tuple(place for kind, place in _SGM_PLACES.items() if kind in built_like)
    missing = [place for place in places if place not in names]
    if name == "BPA" and not missing and not _has_pool(network):
        missing = ["a maxpool of size 3, stride 2 and padding 1"]
    if missing:
        raise UserError(
            f"`attack` torchattack:{name} must attack a network that has {' and '.join(places)}, got: "
            f"{type(network).__name__} without {missing[0]}",
            "it changes networks of torchvision at these places; elsewhere it would be another attack",
        )


def _has_pool(network: nn.Module) -> bool:
    """Is the network's pooling the one that BPA puts in its place?"""
    pool = network.get_submodule("maxpool")
    return tuple(getattr(pool, name, None) for name in ("kernel_size", "stride", "padding")) == _BPA_POOL


def _unfuse_attention(network: nn.Module) -> None:
    """Let timm's attention run its `attn_drop`, where attacks on transformers hook; fused attention passes it by."""
    for part in network.modules():
        if getattr(part, "fused_attn", False):
            part.fused_attn = False  # type: ignore[assignment]


def _count_hooks(network: nn.Module) -> int:
    return sum(len(vars(part)[name]) for part in network.modules() for name in _HOOKS)
