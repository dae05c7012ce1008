"""Perturbers of nrtk, the Natural Robustness Toolkit. They take and give bytes, (height, width, 3).

Floats and channels first they do not refuse, and get wrong: https://github.com/Kitware/nrtk, measured with 1.1.0.
"""

import inspect
import warnings
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from camdrift.errors import FOREIGN, UserError, install_hint, one_line
from camdrift.perturbations.base import Perturbation, Picture
from camdrift.perturbations.registry import MOVERS, NRTK, PERTURBERS, Perturber
from camdrift.specs import nearest, write_spec

_SUFFIX: Final = "Perturber"
_FOLDER: Final = "nrtk.impls.perturb_image"
_SEED: Final = "seed"
# A random perturber answers the second call otherwise than the first, unless it is static.
_KEPT: Final = ("is_static",)
_SEEDS: Final = 2**32


def perturbation(name: str, settings: dict[str, Any]) -> Perturbation:
    """A perturber of nrtk as a natural change.

    The picture is rounded to 8 bits, and the difference is that of two pictures of 8 bits: rounding alone is no change.
    Each picture gets a perturber of its own. A random one is seeded by the picture's name, unless `seed` is set.

    Args:
        name: A row of `registry.PERTURBERS`; `Perturber` at its end and capitals do not matter.
        settings: Its arguments.

    Raises:
        UserError: An unknown name or setting, a perturber that moves the picture, a value that it refuses.
        ImportError: nrtk is not installed.
    """
    full = _full_name(name)
    row = PERTURBERS[full]
    spec, kind = write_spec(f"{NRTK}:{full}", settings), _kind(full, row)
    parameters = {n: p for n, p in inspect.signature(kind).parameters.items() if n not in _KEPT}
    if unknown := [word for word in settings if word not in parameters]:
        raise UserError(
            f"`perturb` {full} has no such setting, got: {unknown[0]}", f"settings: {', '.join(parameters)}"
        )
    # An int where a float belongs overflows in HazePerturber.
    exact = {
        word: float(value) if type(value) is int and str(parameters[word].annotation).strip("'") == "float" else value
        for word, value in settings.items()
    }
    is_seeded = _SEED in parameters and settings.get(_SEED) is None

    def make(seed: int) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(**exact | ({_SEED: seed} if is_seeded else {}))

    try:
        make(0)
    except FOREIGN as error:
        raise UserError(f"`perturb` {spec} is refused by nrtk: {one_line(error)}", f"like {row.example}") from error

    def difference(picture: Picture, rng: Generator) -> Picture:
        before = np.rint(255 * picture).astype(np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer, _boxes = make(int(rng.integers(_SEEDS)))(image=before.copy())
        after = _checked(spec, before, np.asarray(answer))
        change: Picture = (after.astype(np.float32) - before.astype(np.float32)) / np.float32(255)
        return change

    return Perturbation(spec, difference, row.example)


def _full_name(name: str) -> str:
    """The name of a perturber as nrtk writes it."""
    spellings = {n.removesuffix(_SUFFIX).lower(): n for n in (*PERTURBERS, *MOVERS)}
    full = spellings.get(name.lower().removesuffix(_SUFFIX.lower()), name)
    if full in MOVERS:
        raise UserError(
            f"`perturb` must leave the picture where it is, got: {NRTK}:{full}",
            "maps move with the picture, so that nothing can be read from how far; `camdrift fuzz` moves pictures",
        )
    if full not in PERTURBERS:
        raise UserError(
            f"`perturb` must name a perturber of nrtk that camdrift takes, got: {name or 'nothing'}",
            f"{nearest(name.lower().removesuffix(_SUFFIX.lower()), spellings)}they are {', '.join(PERTURBERS)}",
        )
    return full


def _kind(name: str, row: Perturber) -> Any:
    """The class of a perturber."""
    import_module(NRTK)
    try:
        return getattr(import_module(f"{_FOLDER}.{row.module}"), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"`perturb` {NRTK}:{name} needs more of nrtk than is installed: {one_line(error)}",
            f'pip install "nrtk[{row.extra}]" installs it' if row.extra else install_hint(NRTK),
        ) from error


def _checked(spec: str, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What a perturber made of a picture, if it is a picture of the same size.

    Raises:
        UserError: It is none.
    """
    if after.dtype != np.uint8 or after.shape != before.shape:
        raise UserError(f"`perturb` {spec} must return bytes of shape {before.shape}, got: {after.dtype} {after.shape}")
    if before.any() and not after.any():
        raise UserError(f"`perturb` {spec} must leave something of the picture, got: all black")
    return after
