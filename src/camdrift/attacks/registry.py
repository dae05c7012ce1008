"""Names of attacks, and the libraries that bring them; nothing here imports a library, or torch.

A library is one row of `LIBRARIES` and one file, which is imported when one of its attacks is made. `--attack`'s help,
the messages and the versions in `run.json` are made from the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from camdrift.specs import Spec, parse_spec, write_literal


@dataclass(frozen=True)
class Library:
    """One library of attacks.

    Attributes:
        name: The word before the colon in a spec.
        module: The file in this folder that makes its attacks.
        package: The library as pip calls it.
        extra: The extra of camdrift that installs it; empty for one that comes with camdrift, or by a command.
        help: What NAME may be, as docs/attacks.md says it.
        command: The command that installs it, if no extra does.
    """

    name: str
    module: str
    package: str
    extra: str
    help: str
    command: str = ""


_ROWS: Final = (
    Library("foolbox", "from_foolbox", "foolbox", "", "a class of `foolbox.attacks`; bounded attacks take `eps`"),
    Library("torchattacks", "from_torchattacks", "torchattacks", "attacks", "a class of torchattacks"),
    Library(
        "torchattack",
        "from_torchattack",
        "torchattack",
        "attacks",
        "a class of torchattack, which is another library than torchattacks",
    ),
    Library(
        "advlib",
        "from_advlib",
        "adv-lib",
        "",
        "a function of `adv_lib.attacks`",
        command="python -m pip install --no-deps adv-lib",
    ),
    Library("art", "from_art", "adversarial-robustness-toolbox", "attacks", "a class of `art.attacks.evasion`"),
    Library("captum", "from_captum", "captum", "captum", "FGSM or PGD of captum"),
)
LIBRARIES: Final = {library.name: library for library in _ROWS}
# camdrift's own attacks, which take many images at once.
OWN: Final = Library("", "from_camdrift", "camdrift", "", "")

# DLFuzz, and the settings that its name stands for.
PRESETS: Final[dict[str, dict[str, Any]]] = {"dlfuzz": {}, "dlfuzz:paper": {"strategy": "1", "iterations": 1}}

# Advice where an attack fools fewer than half of the images, by the name that its spec begins with.
# Counts: docs/benchmarks.md and docs/paper.md.
_LOGITS: Final = (
    "dlfuzz(scores='logit') climbs logits, whose gradient does not vanish where the model is sure: on a VGG-16 it "
    "fooled 19 of 24 photographs, by probabilities 25 of 200"
)
ADVICE: Final = dict.fromkeys(PRESETS, _LOGITS)
# Settings that bound a perturbation, as libraries call them; and that allow more steps.
BOUNDS: Final = ("eps", "epsilon", "max_epsilon", "radius")
# Length of a step as a share of the bound, where a spec leaves it out: it does not depend on the number of steps.
_STEPS_OF_BOUND: Final = {"pgd": 0.01 / 0.3, "mifgsm": 0.2, "foolbox:LinfPGD": 0.01 / 0.3, "foolbox:L2PGD": 0.025}
_WHOLE: Final = 0.999
# How far all steps together should go, in bounds (Madry 2018).
_FAR: Final = 2.5
_STEPS: Final = ("steps", "max_iter", "step_num", "iterations", "max_iterations", "num_steps")

# Library (none for one of camdrift's own), attack, and the settings that the short name stands for.
SHORT_NAMES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "fgsm": ("", "fgsm", {"eps": 8 / 255}),
    "pgd": ("", "pgd", {"eps": 8 / 255, "steps": 40}),
    "mifgsm": ("", "mifgsm", {"eps": 8 / 255}),
    "apgd": ("", "apgd", {"eps": 8 / 255}),
    "deepfool": ("", "deepfool", {}),
    "cw": ("foolbox", "L2CarliniWagnerAttack", {}),
    "autoattack": ("torchattacks", "AutoAttack", {"norm": "Linf", "eps": 8 / 255}),
}

# Names of attacks that need no library's, for completion.
AttackName = Literal["dlfuzz", "dlfuzz:paper", "fgsm", "pgd", "mifgsm", "apgd", "deepfool", "cw", "autoattack"]

# What a spec may begin with: a name of its own, or a library and one of its attacks.
NAMES: Final = (*PRESETS, *SHORT_NAMES)
FORMS: Final = tuple(f"{name}:NAME" for name in LIBRARIES)


def advice(spec: str) -> str:
    """Which setting of an attack would fool more images, as far as that is known; empty if it is not.

    Example:
        >>> advice("mifgsm(eps=1/255, steps=5)")
        'a larger `eps` (now 1/255) or more `steps` (now 5) may fool more'
        >>> advice("pgd(steps=10)")
        'more `steps` (now 10) or a larger `rel_stepsize` (10 steps reach 0.33 of the bound) may fool more'
    """
    attack = parse_spec(spec)
    settings = attack.settings
    if attack.name in ADVICE and settings.get("scores") != "logit":
        return ADVICE[attack.name]
    if attack.name in ADVICE:
        return f"more `iterations` (now {settings.get('iterations', 3)}) or a larger `step` may fool more"
    wishes = [f"a larger `{name}` (now {write_literal(settings[name])})" for name in BOUNDS if name in settings]
    wishes += [f"more `{name}` (now {settings[name]})" for name in _STEPS if name in settings]
    reach = _reach(attack)
    if 0 < reach < _WHOLE and "abs_stepsize" not in settings:
        wishes.append(f"a larger `rel_stepsize` ({settings['steps']} steps reach {reach:.2f} of the bound)")
    return f"{' or '.join(wishes)} may fool more" if wishes else ""


def reach_warning(spec: str) -> str:
    """A line with its cure where all steps of an attack together are shorter than its bound; empty where not.

    Left at their defaults attacks reach their bounds; with fewer steps, or shorter ones, a network looks more robust
    than it is. The cure is the rule of Madry 2018: all steps together go 2.5 times as far as the bound.

    Args:
        spec: The attack, complete.

    Example:
        >>> reach_warning("pgd(eps=8/255, steps=40)")
        ''
        >>> reach_warning("pgd(eps=8/255, steps=10)")
        'pgd cannot reach its bound: 10 steps go 0.33 of the way; rel_stepsize=0.25 takes it there'
        >>> reach_warning("mifgsm(eps=8/255, steps=4, abs_stepsize=1/255)")
        'mifgsm cannot reach its bound: 4 steps go 0.5 of the way; abs_stepsize=5/255 takes it there'
    """
    attack = parse_spec(spec)
    reach, settings = _reach(attack), attack.settings
    if not 0 < reach < _WHOLE:
        return ""
    steps = settings["steps"]
    share = min(1.0, round(_FAR / steps, 3))
    is_absolute = settings.get("abs_stepsize") is not None
    cure = f"abs_stepsize={write_literal(share * _bound(settings))}" if is_absolute else f"rel_stepsize={share:g}"
    words = f"{steps} step{'' if steps == 1 else 's'} go {reach:.2g} of the way"
    return f"{attack.name} cannot reach its bound: {words}; {cure} takes it there"


def _reach(attack: Spec) -> float:
    """How far all steps of an attack go as a share of its bound; 0 where that is not known."""
    settings = attack.settings
    share, bound = settings.get("rel_stepsize", _STEPS_OF_BOUND.get(attack.name, 0)), _bound(settings)
    if bound and settings.get("abs_stepsize") is not None:
        share = settings["abs_stepsize"] / bound
    return float(settings.get("steps", 0) * share) if attack.name in _STEPS_OF_BOUND else 0.0


def _bound(settings: Mapping[str, Any]) -> float:
    return float(next((settings[name] for name in BOUNDS if name in settings), 0.0))


def is_function(spec: str) -> bool:
    """Does a spec name a Python function of somebody's, which making the attack would import?"""
    return function_place(spec) is not None


def function_place(spec: str) -> str | None:
    """Return the file or module of the function that a spec names; None for an attack of a library."""
    name = parse_spec(spec).name
    library, colon, _ = name.partition(":")
    return name.rpartition(":")[0] if colon and name not in PRESETS and library not in LIBRARIES else None
