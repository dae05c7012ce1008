"""Attacks of foolbox, which comes with camdrift."""

import inspect
from functools import partial
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from camdrift.attacks.base import ORDERS, Threat
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

# Of any norm.
_NEEDS_NUMBA: Final = "BrendelBethgeAttack"
# It returns its first step (3.3.4): findings/foolbox_l2fmn_takes_one_step.sh.
_TAKES_ONE_STEP: Final = "L2FMNAttack"
_EPSILON: Final = ("eps", "epsilon")
_NORMS: Final = {order: norm for norm, order in ORDERS.items()}


def recipe(name: str, settings: dict[str, Any]) -> AttackRecipe:
    """The recipe of an attack of foolbox.

    Args:
        name: A class of `foolbox.attacks`.
        settings: The arguments of its constructor. An attack that keeps a bound also takes `eps`, or `epsilon`, in
            pixel units; an attack that looks for the smallest perturbation does not.

    Raises:
        ImportError: foolbox is missing.
        UserError: There is no such attack or setting, or foolbox refuses a value.
    """
    foolbox = load_library("foolbox")
    base = foolbox.attacks.base
    classes = {n: k for n, k in vars(foolbox.attacks).items() if isinstance(k, type) and issubclass(k, base.Attack)}
    kinds = {n: k for n, k in classes.items() if not inspect.isabstract(k)}
    name = choose("foolbox", name, kinds)
    if name == _TAKES_ONE_STEP:
        raise UserError(
            f"`attack` foolbox:{name} must return the smallest perturbation that it meets, but returns its first step",
            "deepfool, foolbox:DDNAttack and advlib:fmn(norm='l2') look for the smallest L2 perturbation",
        )
    if name.endswith(_NEEDS_NUMBA):
        check_package(f"foolbox:{name}", "numba")
    kind, own = kinds[name], dict(settings)
    takes, epsilon = parameters(kind), None
    if issubclass(kind, base.FixedEpsilonAttack):
        key = next((key for key in _EPSILON if key in settings), _EPSILON[0])
        takes = {key: True, **takes}
    check_settings(f"foolbox:{name}", settings, takes)
    if issubclass(kind, base.FixedEpsilonAttack):
        epsilon = positive(key, own.pop(key))
    attack = built(f"foolbox:{name}", lambda: kind(**own), takes)
    can_target, must_target = _modes(foolbox, name, attack, epsilon)

    def make(model: PixelModel) -> Perturb:
        # Without `device` foolbox moves the model to the first GPU.
        pixel_model = foolbox.PyTorchModel(model, bounds=(0, 1), device=model.device)

        def perturb(images: Tensor, classes: Tensor, targets: Tensor | None) -> Tensor:
            return _attack(foolbox, kind(**own), pixel_model, images, (classes, targets), epsilon)

        return perturb

    threat = None if epsilon is None else Threat(_NORMS[attack.distance.p], epsilon)
    return AttackRecipe(name, make, threat=threat, can_target=can_target, must_target=must_target)


def _attack(
    foolbox: ModuleType, attack: Any, model: Any, images: Tensor, goal: tuple[Tensor, Tensor | None], epsilon: Any
) -> Tensor:
    classes, targets = goal
    if targets is None:
        criterion = foolbox.criteria.Misclassification(classes)
    else:
        criterion = foolbox.criteria.TargetedMisclassification(targets)
    with quietly():
        # foolbox's own check of the bounds is exact.
        raw, bounded_images, _ = attack(model, images.clamp(0, 1), criterion, epsilons=epsilon)
    answer: Tensor = raw if epsilon is None else bounded_images
    return answer


class _AskedError(Exception):
    """The attack has asked the model."""


class _Unanswering(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise _AskedError


def _modes(foolbox: ModuleType, name: str, attack: Any, epsilon: float | None) -> tuple[bool, bool]:
    """Can the attack look for a given class, and must it? It says so before it asks the model anything.

    Raises:
        UserError: The attack accepts neither goal; the message has its reason.
    """
    model = foolbox.PyTorchModel(_Unanswering().eval(), bounds=(0, 1), device="cpu")
    images, classes = torch.full((1, 3, 8, 8), 0.5), torch.tensor([0])
    refusals: list[Exception | None] = []
    for targets in (None, torch.tensor([1])):
        try:
            built(name, partial(_attack, foolbox, attack, model, images, (classes, targets), epsilon))
        except UserError as error:
            cause = error.__cause__
            refusals.append(None if isinstance(cause, _AskedError) else error)
    if all(refusals):
        raise refusals[0] or AssertionError
    # An attack for any criterion walks towards no class in particular.
    signature = str(inspect.signature(type(attack).run).parameters["criterion"].annotation)
    return refusals[1] is None and "Targeted" in signature, refusals[0] is not None
