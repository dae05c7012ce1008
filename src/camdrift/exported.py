"""Programs of torch.export: read them, and give them back the modules that they were exported from.

torch reads the archive's pickles freely, evaluates its expressions as Python, and calls whatever function of torch's
modules a node names (`torch.os.system`); here it is looked through first for anything but tensors and operators.
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
from torch.export import ExportedProgram

from camdrift.errors import ModelError, one_line

_BATCH_HINT = (
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
    r"|torch\.sym_\w+"
)
# What sympy writes of sizes: Mul(Integer(4), Symbol('s77', positive=True, integer=True)), or 4*s77.
_EXPRESSION: Final = (
    ast.Expression, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_WORD: Final = re.compile(r"[A-Za-z]\w*|[+-]?[\d.]+(e[+-]?\d+)?")


def read_program(path: Path) -> ExportedProgram:
    """The program in a .pt2 file that `torch.export.save` has written.

    Raises:
        ModelError: No such file, another kind of file, or one that holds code.
    """
    if not path.is_file():
        raise ModelError(f"`model` must be a file, got: {path} (no such file)")
    log = logging.getLogger("torch.export")
    was_disabled, log.disabled = log.disabled, True  # it prints a traceback of its own
    try:
        found = next(_code_in(path), None)
        if found is not None:
            raise ModelError(
                f"`model` must hold tensors and torch's operators alone, got: {path.name} with {found} (not loaded: it "
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


def unflattened(program: ExportedProgram) -> tuple[nn.Module, int | None]:
    """A module with the parts that the program was exported from, and the side of its images if that is fixed.

    Raises:
        ModelError: A program that takes more than images, or one number of images alone, or that learns as it runs.
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
    """What in an exported program could run code when it is loaded or used, in words."""
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
    """The same of a description: of the program, of its weights, of its constants."""
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
        if "inputs" in value and isinstance(target, str) and not _OPERATORS.fullmatch(target):
            yield f"a call of {target[:80]}"
        if isinstance(expression, str) and not _is_arithmetic(expression):
            yield f"the expression {expression[:80]}"


def _is_arithmetic(text: str) -> bool:
    """Is an expression nothing but symbols, numbers and sympy's constructors? Calls are of names with a capital."""
    try:
        nodes = [*ast.walk(ast.parse(text, mode="eval"))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)]
    return (
        all(isinstance(node, _EXPRESSION) for node in nodes)
        and all(isinstance(call, ast.Name) and call.id[:1].isupper() for call in calls)
        and all(isinstance(text, str) and _WORD.fullmatch(text) is not None for text in texts)
    )
