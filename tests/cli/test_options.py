"""The table of options: one row for what a command takes, one field for what it fills."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from camdrift.cli.app import main
from camdrift.cli.models import Models
from camdrift.cli.options import OPTIONS, Ending, Options
from camdrift.cli.studies import _end
from camdrift.engine.engine import Engine
from camdrift.errors import UserError
from camdrift.fuzzing.settings import FuzzSettings
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch

RUN = [row for row in OPTIONS if "run" in row.commands]


def words(command):
    """What typer reads where a person gives no option."""
    return Options({row: row.parameter(command).default for row in OPTIONS if command in row.commands})


def test_every_field_is_filled_by_one_option_of_run():
    """An option that Python takes is one that the command takes; a spec is a model's business."""
    for record, others in ((Settings, {"surrogate"}), (Models, {"others"}), (Engine, set())):
        targets = [row.target for row in RUN if row.record is record]
        assert sorted(targets) == sorted({field.name for field in fields(record)} - others)
    assert {row.target for row in RUN if row.record is Launch} == {"out", "name", "resume", "overwrite"}


def test_every_field_of_a_campaign_is_filled_by_one_option_of_fuzz():
    rows = [row for row in OPTIONS if "fuzz" in row.commands]
    targets = {row.target for row in rows if row.record in (FuzzSettings, Settings)}
    assert targets == {field.name for field in fields(FuzzSettings)}
    assert {"others", "profile", "study"} <= {row.target for row in rows}
    assert words("fuzz").record(FuzzSettings) == FuzzSettings()


@pytest.mark.parametrize("command", ["run", "explain", "reproduce", "layers"])
def test_without_options_a_command_does_what_python_does(command):
    attack = {"attack": "dlfuzz:paper"} if command == "reproduce" else {}
    assert words(command).record(Settings) == Settings(**attack)
    assert words(command).record(Models) == Models(**({"device": "cpu"} if command == "layers" else {}))
    assert words(command).record(Launch, command="x") == Launch(command="x")
    assert words(command).record(Engine) == Engine()


def test_words_become_values():
    given = {"strengths": "2, 1,", "explain": "gradcam,captum:X(a=1, b=2)", "gallery": "all", "chunk-size": "all"}
    given |= {"perturb": ["a:b(c=1, d=2)", "e:f, g:h", "e:f"]}
    rows = {row: given[row.flag] for row in RUN if row.flag in given}
    settings = Options(rows).record(Settings, batch_size=7)
    assert (settings.strengths, settings.gallery, settings.chunk_size) == ((1.0, 2.0), None, 0)
    assert (settings.explanations, settings.batch_size) == (("gradcam", "captum:X(a=1, b=2)"), 7)
    assert settings.perturb == ("a:b(c=1, d=2)", "e:f", "g:h")


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["camdrift", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err


def test_defaults_come_from_variables_and_a_settings_file(monkeypatch, capsys, tmp_path):
    file = tmp_path / "my settings.toml"
    monkeypatch.setenv("CAMDRIFT_SETTINGS", str(file))
    file.write_text('model = "of the file"\nnoise-ladder = [8, 0]\n')
    assert "got: of the file\n" in command(monkeypatch, capsys, "layers")[1]
    assert "`noise_ladder` must be positive and finite, got: 0.0" in command(monkeypatch, capsys, "run")[1]
    monkeypatch.setenv("CAMDRIFT_MODEL", "of the variable")
    assert "got: of the variable\n" in command(monkeypatch, capsys, "layers")[1]
    assert "got: of the line\n" in command(monkeypatch, capsys, "layers", "--model", "of the line")[1]
    file.write_text('modle = "x"\n')
    code, err = command(monkeypatch, capsys, "layers")
    assert (code, "got: modle\nhint: did you mean `model`? options: " in err) == (2, True)
    file.write_text('out = "x"\n')
    assert "must have keys that are options, got: out\n" in command(monkeypatch, capsys, "layers")[1]
    file.write_text("model =")
    assert "must be TOML" in command(monkeypatch, capsys, "layers")[1]
    file.unlink()
    assert "cannot be read: No such file" in command(monkeypatch, capsys, "layers")[1]


def test_a_settings_file_that_is_wrong_stops_those_that_need_it(monkeypatch, capsys, tmp_path):
    """It may be a link, as dotfiles are."""
    file = tmp_path / "settings.toml"
    (tmp_path / "link.toml").symlink_to(file)
    monkeypatch.setenv("CAMDRIFT_SETTINGS", str(tmp_path / "link.toml"))
    file.write_text('model = "of the link"\n')
    assert "got: of the link\n" in command(monkeypatch, capsys, "layers")[1]
    for text, rule in (
        ("rng-seed = true", "`rng-seed` of the settings file {} must be a text, a number or a list of them, got: True"),
        ("strengths = [[1, 2]]", "`strengths` of the settings file {} must be a text, a number or a list"),
        ("[model]\na = 1", "`model` of the settings file {} must be a text, a number or a list"),
        ('denoised = "maybe"', "`denoised` of the settings file {} must be true or false, got: maybe\nhint: such as "),
    ):
        file.write_text(text)
        code, err = command(monkeypatch, capsys, "run")
        assert (code, rule.format(tmp_path / "link.toml") in err) == (2, True), err
        assert command(monkeypatch, capsys, "--help")[0] == 0
        assert command(monkeypatch, capsys, "list", str(tmp_path))[0] == 0


def test_a_value_that_cannot_be_read_is_named_with_its_source(monkeypatch, capsys, tmp_path):
    code, err = command(monkeypatch, capsys, "run", "--limit", "x")
    assert (code, ", got: x\nhint: `camdrift run --help`" in err) == (2, True)
    monkeypatch.setenv("CAMDRIFT_DENOISED", "maybe")
    assert ", got: maybe\nhint: CAMDRIFT_DENOISED sets it; " in command(monkeypatch, capsys, "run")[1]
    monkeypatch.delenv("CAMDRIFT_DENOISED")
    monkeypatch.setenv("CAMDRIFT_SETTINGS", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").write_text("rng-seed = 1.5\n")
    assert ", got: 1.5\nhint: the settings file sets it; " in command(monkeypatch, capsys, "run")[1]


def test_a_study_ends_in_words_or_in_json_and_is_opened_where_that_is_wanted(capsys):
    pages = []
    study = SimpleNamespace(
        place=Path("r"), summary=lambda: "one.\ntwo.", headline=lambda: "one", explore=lambda: pages.append("r")
    )
    for wishes in ((), ("open",), ("json", "open")):
        _end(study, Options({row: row.flag in wishes for row in RUN if row.record is Ending}), ["r/report.html"])
        out = capsys.readouterr().out
        if "json" in wishes:
            sentences = {"headline": "one", "sentences": ["one.", "two."]}
            assert json.loads(out) == {"run": "r", **sentences, "pages": ["r/report.html"]}
        else:
            assert out == "one.\ntwo.\nr/report.html\n"
    assert pages == ["r", "r"]


def test_a_report_at_a_url_is_not_opened(capsys):
    study = SimpleNamespace(place="memory://run", summary=lambda: "found", explore=pytest.fail)
    rows = {row: row.flag == "open" for row in RUN if row.record is Ending}
    _end(study, Options(rows), ["memory://run/report.html"])
    assert capsys.readouterr().out == "found\nmemory://run/report.html\n"


def test_words_that_are_no_numbers():
    (row,) = (row for row in RUN if row.flag == "noise-ladder")
    with pytest.raises(UserError, match=r"^`noise-ladder` must be numbers separated by commas, got: 8;16$"):
        Options({row: "8;16"}).record(Settings)
