"""What callers give by name: one place says which names there are, their defaults, and what is wrong with others."""

import inspect
import re

import pytest

import camdrift
from camdrift.comparison.compare import MeasureKeywords
from camdrift.engine.engine import Engine
from camdrift.errors import UserError
from camdrift.pipeline.settings import Settings, SettingsKeywords
from camdrift.study.launch import Launch, StudyKeywords, fresh_folder, launch_from, settings_from

LAUNCH = {
    "out",
    "name",
    "resume",
    "overwrite",
    "progress",
    "on_progress",
    "on_start",
    "command",
    "engine",
    "address",
    "workers",
}
OPTIONS = set(Settings.names()) - {"surrogate"}


def parameters(function):
    return inspect.signature(function).parameters


class TestNames:
    def test_every_field_of_the_settings_is_explained_once(self):
        attributes = inspect.getdoc(Settings).partition("Attributes:")[2].partition("Raises:")[0]
        assert re.findall(r"^    (\w+):", attributes, re.MULTILINE) == list(Settings.names())

    def test_every_option_is_a_keyword_and_every_keyword_an_option(self):
        assert set(SettingsKeywords.__annotations__) == OPTIONS
        assert set(StudyKeywords.__annotations__) == OPTIONS | LAUNCH

    @pytest.mark.parametrize("name", ["run", "reproduce"])
    def test_help_and_completion_see_every_keyword_with_its_default(self, name):
        shown = parameters(getattr(camdrift, name))
        own = {"classifier", "images", "settings"} | ({"surrogate"} if name == "run" else set())
        assert set(shown) == own | OPTIONS | LAUNCH
        for option in OPTIONS:
            assert shown[option].default == getattr(Settings(), option)
        assert (shown["resume"].default, shown["out"].default, shown["workers"].default) == (False, None, None)

    @pytest.mark.parametrize("name", ["run", "reproduce", "sweep", "verify", "compare"])
    def test_what_the_signature_shows_is_explained(self, name):
        """By name, or as a field of `Settings`, or as in `run`."""
        entries = re.findall(r"^    ([*\w, ]+):", inspect.getdoc(getattr(camdrift, name)), re.MULTILINE)
        elsewhere = {"run": OPTIONS, "reproduce": OPTIONS | LAUNCH}.get(name, set())
        assert set(parameters(getattr(camdrift, name))) - elsewhere <= set(re.findall(r"\w+", " ".join(entries)))

    def test_comparisons_and_checks_show_theirs(self):
        assert set(MeasureKeywords.__annotations__) <= set(parameters(camdrift.compare))
        assert {"weights", "device"} <= set(parameters(camdrift.verify))
        assert {"on_cell", "out", "engine", "workers"} <= set(parameters(camdrift.sweep))


def refused(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return caught.value


class TestMistakes:
    """The same words wherever an option is given."""

    @pytest.mark.parametrize("function", [camdrift.run, camdrift.reproduce])
    def test_settings_come_alone(self, function):
        error = refused(function, None, settings=Settings(), limit=3)
        assert error.message == "`settings` must come alone, got also: limit"

    @pytest.mark.parametrize("function", [camdrift.run, camdrift.reproduce])
    @pytest.mark.parametrize("options", [{"bogus": 1}, {"bogus": 1, "limit": 3}])
    def test_an_option_that_does_not_exist(self, function, options):
        error = refused(function, None, **options)
        assert error.message == "no such option: bogus"
        assert error.hint == f"options: {', '.join(Settings.names())}"

    def test_options_of_other_functions(self):
        for function in (camdrift.verify, camdrift.compare, camdrift.sweep):
            assert refused(function, "nothing", limit=3).message == "no such option: limit"
        assert refused(camdrift.sweep, "nothing", resume=True).message == "no such option: resume"

    def test_an_engine_comes_whole_or_in_parts(self):
        assert launch_from({"engine": Engine()}) == launch_from({}) == (Launch(), {})
        with pytest.raises(UserError, match="`engine` must come alone where it is an Engine"):
            launch_from({"engine": Engine(), "workers": 2})


def test_what_belongs_to_no_launch_is_left():
    launch, options = launch_from({"out": "x", "limit": 3, "resume": True})
    assert (launch, options) == (Launch("x", resume=True), {"limit": 3})
    assert settings_from(None, options, {"attack": "pgd"}) == Settings(attack="pgd", limit=3)
    assert settings_from(None, {"attack": "fgsm"}, {"attack": "pgd"}) == Settings(attack="fgsm")


def test_a_folder_of_its_own_for_every_run_of_one_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        folder = fresh_folder("vgg16-pgd", "2025-11-28T00:26:05+00:00")
        folder.mkdir(parents=True)
        names.append(folder.as_posix())
    assert names == [f"runs/vgg16-pgd-2025-11-28-002605{number}" for number in ("", "-1", "-2")]
