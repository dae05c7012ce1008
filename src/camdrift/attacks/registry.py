"""Names of attacks, and the libraries that bring them; nothing here imports a library, or torch.

A library is one row of `LIBRARIES` and one file, which is imported when one of its attacks is made. `--attack`'s help,
the messages and the versions in `run.json` are made from the rows.
"""

from dataclasses import dataclass
from typing import Any, Final

from camdrift.specs import parse_spec


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
    Library(
        "torchattacks",
        "from_torchattacks",
        "torchattacks",
        "",
        "a class of torchattacks",
        # It holds requests to a version of 2021, and imports it nowhere.
        command="python -m pip install --no-deps torchattacks",
    ),
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

# DLFuzz, and the settings that its name stands for.
PRESETS: Final[dict[str, dict[str, Any]]] = {"dlfuzz": {}, "dlfuzz:paper": {"strategy": "1", "iterations": 1}}

# Library, attack, and the settings that the short name stands for.
SHORT_NAMES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "fgsm": ("foolbox", "LinfFastGradientAttack", {"eps": 8 / 255}),
    "pgd": ("foolbox", "LinfProjectedGradientDescentAttack", {"eps": 8 / 255, "steps": 40}),
    "mifgsm": ("foolbox", "LinfMomentumIterativeFastGradientMethod", {"eps": 8 / 255}),
    "deepfool": ("foolbox", "L2DeepFoolAttack", {}),
    "cw": ("foolbox", "L2CarliniWagnerAttack", {}),
    "autoattack": ("torchattacks", "AutoAttack", {"norm": "Linf", "eps": 8 / 255}),
}

# What a spec may begin with: a name of its own, or a library and one of its attacks.
NAMES: Final = (*PRESETS, *SHORT_NAMES)
FORMS: Final = tuple(f"{name}:NAME" for name in LIBRARIES)


def is_function(spec: str) -> bool:
    """Does a spec name a Python function of somebody's, which making the attack would import?"""
    return function_place(spec) is not None


def function_place(spec: str) -> str | None:
    """Return the file or module of the function that a spec names; None for an attack of a library."""
    name = parse_spec(spec).name
    library, colon, _ = name.partition(":")
    return name.rpartition(":")[0] if colon and name not in PRESETS and library not in LIBRARIES else None
