"""Read programs of torch.export, and give them back the modules that they were exported from.

Torch reads the archive's pickles freely, evaluates its expressions as Python, and calls whatever function of torch's
modules a node names (`torch.os.system`). So the archive is searched first for anything but tensors and operators.
"""

import ast
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import torch
from torch import nn
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch.export import ExportedProgram

from camdrift.errors import ModelError, one_line
from camdrift.models.input_settings import InputSettings

_PROGRAM: Final = ".pt2"
_BATCH_HINT: Final = (
    "export it with a free number of images: torch.export.export(model.eval(), (torch.rand(2, 3, 224, 224),), "
    "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
)

_ARITHMETIC: Final = (
    "add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|lt|le|gt|ge|eq|ne|and_|or_|xor|not_|lshift|rshift|getitem|index"
)
# Of aten, `save` and `from_file` touch the disk.
_OPERATORS: Final = re.compile(
    r"torch\.ops\.(aten|prims?|higher_order|torchvision|quantized|quantized_decomposed)"
    r"\.(?!_?save\b|from_file\b)\w+(\.\w+)?"
    rf"|_operator\.({_ARITHMETIC})"
    r"|math\.(ceil|floor|trunc|sqrt)"
    r"|torch\.sym_(float|int|ite|max|min|not|sqrt|sum)"
)
# What sympy writes of sizes: Mul(Integer(4), Symbol('s77', positive=True, integer=True)), or 4*s77.
_EXPRESSION: Final = (
    ast.Expression, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_WORD: Final = re.compile(r"[A-Za-z]\w*|[+-]?[\d.]{1,20}")
_POWERS: Final = ("Pow", "PowByNatural")
_FUNCTIONS: Final = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", *_POWERS, "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality",
    "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "And", "Or", "Not", "Max", "Min",
    "Mod", "PythonMod", "ModularIndexing", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv", "FloatTrueDiv",
    "FloorToInt", "CeilToInt", "RoundToInt", "TruncToInt", "TruncToFloat", "ToFloat", "Identity", "Where",
}  # fmt: skip
# Numbers that sympy works out must stay small: at most so many powers in one expression, and no larger exponents.
_MOST_POWERS, _LARGEST = 2, 8


def from_program(spec: str, weights: str | Path | None) -> tuple[nn.Module, InputSettings]:
    """Build a network of a program of torch.export.

    Args:
        spec: FILE.pt2.
        weights: Must be None: the program holds its weights.

    Raises:
        ModelError: No such file, another kind of file, one that holds code, or a file of weights.
    """
    path = Path(spec)
    if not spec.endswith(_PROGRAM):
        raise ModelError(
            f"`model` must name a network, got: {path.name}, a file of weights (or of Python objects, which could run "
            "code when they are read)",
            f"--model net.py:build --weights {path.name} if it is a state dict; torch.export.save writes networks",
        )
    if weights is not None:
        raise ModelError(f"`weights` must be left out with an exported program, got: {weights}", "FILE.pt2 holds them")
    module, size = unflatten(read_program(path))
    return module, InputSettings(size=size or 224, weights=f"exported program {path.name}")


def read_program(path: Path) -> ExportedProgram:
    """Read the program in a .pt2 file that `torch.export.save` has written.

    Raises:
        ModelError: No such file, another kind of file, or one that holds code.
    """
    if not path.is_file():
        raise ModelError(f"`model` must be a file, got: {path} (no such file)")
    log = logging.getLogger("torch.export")
    was_disabled, log.disabled = log.disabled, True  # it prints a traceback of its own
    try:
        code = next(_code_in(path), None)
        if code is not None:
            raise ModelError(
                f"`model` must hold tensors and torch's operators alone, got: {path.name} with {code} (not loaded: it "
                "could run code)",
                "export the network again with torch.export.save, or build it in Python: --model net.py:build",
            )
        return torch.export.load(path)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"`model` must be a program of torch.export, got: {path.name} ({one_line(error)})",
            "torch.export.save(program, FILE) writes one",
        ) from error
    finally:
        log.disabled = was_disabled


def unflatten(program: ExportedProgram) -> tuple[nn.Module, int | None]:
    """Return a module with the parts that the program was exported from, and the side of its images if that is fixed.

    Raises:
        ModelError: The program takes more than images, or one number of images alone, or learns as it runs.
    """
    signature = program.graph_signature
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in signature.user_inputs]
    shape = [*inputs[0].meta["val"].shape] if len(inputs) == 1 and "val" in inputs[0].meta else []
    if len(shape) != 4:
        raise ModelError(
            f"`model` must take (batch, 3, height, width), got: a program with {len(signature.user_inputs)} inputs"
        )
    if isinstance(shape[0], int):
        raise ModelError(f"`model` must take any number of images, got: a program for {shape[0]}", _BATCH_HINT)
    if signature.buffers_to_mutate:
        raise ModelError(
            "`model` must not learn as it runs, got: a program that was exported in training mode",
            "model.eval() before torch.export.export(...)",
        )
    module = torch.export.unflatten(program)
    for part in module.modules():
        part.training = False  # `eval()` is not there; what the program does is fixed anyway
    return module, shape[2] if isinstance(shape[2], int) else None


def _code_in(path: Path) -> Iterator[str]:
    """Yield in words what in an exported program could run code when it is loaded or used."""
    from torch.export.pt2_archive._package import PT2ArchiveReader

    if _is_of_old_torch(path):
        yield "the pickles of torch before 2.8"
    with path.open("rb") as file:
        reader = PT2ArchiveReader(file)
        names = reader.get_file_names()
        for name in names:
            if "aotinductor" in name or name.endswith((".so", ".dll", ".dylib", ".pyd")):
                yield "compiled code"
            elif name.endswith(".pt") and not _is_plain(reader.read_bytes(name)):
                yield f"Python objects in {name}"
            elif name.startswith("models/") or name.endswith(".json"):
                yield from _code_in_json(json.loads(reader.read_bytes(name)))


def _is_of_old_torch(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return "version" in archive.namelist()
    except BadZipFile:
        return False


def _is_plain(data: bytes) -> bool:
    """Does a file of torch.save hold tensors in plain containers alone?"""
    try:
        if data:
            with warnings.catch_warnings(action="ignore"):  # of the version of pickle
                torch.load(io.BytesIO(data), weights_only=True)
    except Exception:
        return False
    return True


def _code_in_json(value: Any) -> Iterator[str]:
    """Yield the same of a description: of the program, of its weights, of its constants."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if not isinstance(value, dict):
            continue
        waiting += value.values()
        target, expression = value.get("target"), value.get("expr_str")
        if value.get("use_pickle") or str(value.get("path_name", "")).startswith(("custom_obj", "opaque_obj")):
            yield "Python objects among its tensors"
        # A node has a target and inputs; the target of a parameter is its name.
        if "inputs" in value and isinstance(target, str) and not _is_operator(target):
            yield f"a call of {target[:80]}"
        if isinstance(expression, str) and not _is_arithmetic(expression):
            yield f"the expression {expression[:80]}"


def _is_operator(target: str) -> bool:
    """Does a node call one of torch's operators, or plain arithmetic?"""
    if not _OPERATORS.fullmatch(target):
        return False
    if not target.startswith("torch.ops."):
        return True
    import torchvision  # noqa: F401, which has operators of its own

    operator: Any = torch
    for name in target.split(".")[1:]:
        operator = getattr(operator, name, None)
    return isinstance(operator, OpOverload | OpOverloadPacket | HigherOrderOperator)


def _is_arithmetic(text: str) -> bool:
    """Does an expression hold nothing but symbols, numbers and sympy's functions of them, and few powers?"""
    try:
        nodes = [*ast.walk(ast.parse(text, mode="eval"))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    exponents = [node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    exponents += [call.args[-1] for call in calls if _called(call) in _POWERS and call.args]
    return (
        all(isinstance(node, _EXPRESSION) for node in nodes)
        and all(_called(call) in _FUNCTIONS for call in calls)
        and all(_WORD.fullmatch(str(value)) is not None for value in values)
        and len(exponents) <= _MOST_POWERS
        and all(_is_small(exponent) for exponent in exponents)
    )


def _called(call: ast.Call) -> str | None:
    return call.func.id if isinstance(call.func, ast.Name) else None


def _is_small(exponent: ast.expr) -> bool:
    """Is an exponent a small number, like 2, -1 or Integer(2)?"""
    if isinstance(exponent, ast.Call):
        return _called(exponent) == "Integer" and len(exponent.args) == 1 and _is_small(exponent.args[0])
    if isinstance(exponent, ast.UnaryOp):
        return _is_small(exponent.operand)
    return isinstance(exponent, ast.Constant) and type(exponent.value) is int and abs(exponent.value) <= _LARGEST
