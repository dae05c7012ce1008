"""Programs of torch.export: read them, and give them back the modules that they were exported from."""

import logging
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from camdrift.errors import ModelError, one_line

_BATCH_HINT = (
    "export it with a free number of images: torch.export.export(model.eval(), (torch.rand(2, 3, 224, 224),), "
    "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
)


def read_program(path: Path) -> ExportedProgram:
    """The program in a .pt2 file that `torch.export.save` has written.

    Raises:
        ModelError: No such file, or another kind of file.
    """
    if not path.is_file():
        raise ModelError(f"`model` must be a file, got: {path} (no such file)")
    log = logging.getLogger("torch.export")
    was_disabled, log.disabled = log.disabled, True  # it prints a traceback of its own
    try:
        return torch.export.load(path)
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
