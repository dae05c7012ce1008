"""Natural changes made from specs."""

from importlib import import_module

from camdrift.errors import UserError, install_hint, one_line
from camdrift.perturbations.base import Perturbation
from camdrift.perturbations.registry import NRTK, PERTURBATION_FORMS, PERTURBERS
from camdrift.specs import nearest, parse_spec
from camdrift.user_code import is_user_code

_OPTION = "perturb"


def make_perturbation(spec: str) -> Perturbation:
    """The natural change that `spec` names.

    Args:
        spec: `nrtk:NAME`, or a function, `path/to/file.py:NAME` or `package.module:NAME`; each with settings if
            wanted: `nrtk:BrightnessPerturber(factor=1.4)`.

    Raises:
        UserError: An unknown change or setting, a value that a setting cannot have, a missing library.
    """
    request = parse_spec(spec, option=_OPTION)
    library, colon, name = request.name.partition(":")
    if library == NRTK and colon:
        module = import_module("camdrift.perturbations.from_nrtk")
        try:
            perturbation: Perturbation = module.perturbation(name, request.settings)
        except ImportError as error:
            raise UserError(f"`perturb` {spec} cannot be imported: {one_line(error)}", install_hint(NRTK)) from error
        return perturbation
    if colon and is_user_code(request.name.rpartition(":")[0]):
        module = import_module("camdrift.perturbations.from_function")
        function: Perturbation = module.perturbation(request.name, request.settings)
        return function
    names = {name.removesuffix("Perturber").lower(): name for name in PERTURBERS}
    near = nearest(request.name.removesuffix("Perturber"), names).replace("`", f"`{NRTK}:", 1)
    raise UserError(
        f"`perturb` must be {' or '.join(PERTURBATION_FORMS)}, got: {request.name}",
        f"{near}for example 'nrtk:BrightnessPerturber(factor=1.4)'",
    )


def perturbation_place(spec: str) -> str | None:
    """Return the file or module of the function that a spec names; None for a perturber of nrtk."""
    name = parse_spec(spec, option=_OPTION).name
    return None if name.startswith(f"{NRTK}:") else name.rpartition(":")[0]
