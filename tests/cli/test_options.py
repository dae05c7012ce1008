"""The table of options: one row for what a command takes, one field for what it fills."""

from dataclasses import fields

import pytest

from camdrift.cli.models import Models
from camdrift.cli.options import OPTIONS, Options
from camdrift.engine.engine import Engine
from camdrift.errors import UserError
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch

RUN = [row for row in OPTIONS if "run" in row.commands]


def words(command):
    """What typer reads where a person gives no option."""
    return Options({row: row.parameter(command).default for row in OPTIONS if command in row.commands})


def test_every_field_is_filled_by_one_option_of_run():
    """An option that Python takes is one that the command takes; a spec is a model's business."""
    for record, others in ((Settings, {"surrogate"}), (Models, set()), (Engine, set())):
        targets = [row.target for row in RUN if row.record is record]
        assert sorted(targets) == sorted({field.name for field in fields(record)} - others)
    assert {row.target for row in RUN if row.record is Launch} == {"out", "name", "resume", "overwrite"}


@pytest.mark.parametrize("command", ["run", "explain", "reproduce", "layers"])
def test_without_options_a_command_does_what_python_does(command):
    attack = {"attack": "dlfuzz:paper"} if command == "reproduce" else {}
    assert words(command).record(Settings) == Settings(**attack)
    assert words(command).record(Models) == Models(**({"device": "cpu"} if command == "layers" else {}))
    assert words(command).record(Launch, command="x") == Launch(command="x")
    assert words(command).record(Engine) == Engine()


def test_words_become_values():
    given = {"strengths": "2, 1,", "explain": "gradcam,captum:X(a=1, b=2)", "gallery": "all", "chunk-size": "all"}
    rows = {row: given[row.flag] for row in RUN if row.flag in given}
    settings = Options(rows).record(Settings, batch_size=7)
    assert (settings.strengths, settings.gallery, settings.chunk_size) == ((1.0, 2.0), None, 0)
    assert (settings.explanations, settings.batch_size) == (("gradcam", "captum:X(a=1, b=2)"), 7)


def test_words_that_are_no_numbers():
    (row,) = (row for row in RUN if row.flag == "noise-ladder")
    with pytest.raises(UserError, match=r"^`noise-ladder` must be numbers separated by commas, got: 8;16$"):
        Options({row: "8;16"}).record(Settings)
