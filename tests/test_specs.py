"""Attack specs: what they mean, what is refused and how, and that `spec` can be parsed again."""

import re
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from camdrift.attacks.base import Attack
from camdrift.attacks.dlfuzz import DLFuzz
from camdrift.attacks.making import make_attack
from camdrift.errors import UserError
from camdrift.specs import Spec, parse_spec, write_spec


@pytest.fixture(autouse=True)
def types_as_in_use(monkeypatch):
    """Types are enforced under pytest alone; who gives a wrong one meets the messages tested here."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


PUBLISHED = {
    "strategy": "2",
    "neurons": 10,
    "threshold": 0.25,
    "iterations": 3,
    "step": 0.5 / 255,
    "predict_weight": 0.5,
    "neuron_weight": 0.5,
    "competitors": 4,
    "scores": "probability",
    "keep_gain": 0.01,
    "keep_ratio": 0.02,
    "walkers": 0,
}


def values(attack):
    return {name: getattr(attack, name) for name in DLFuzz.settings()}


class TestMeaning:
    @pytest.mark.parametrize(
        ("spec", "changed"),
        [
            ("dlfuzz", {}),
            ("dlfuzz()", {}),
            (" dlfuzz ( ) ", {}),
            ("dlfuzz:paper", {"strategy": "1", "iterations": 1}),
            ("dlfuzz:paper(iterations=3)", {"strategy": "1", "iterations": 3}),
            ("dlfuzz:paper(strategy='2')", {"strategy": "2", "iterations": 1}),
            (
                "dlfuzz(strategy='02', iterations=5, step=1/255)",
                {"strategy": "02", "iterations": 5, "step": 1 / 255},
            ),
            ("dlfuzz(strategy=2)", {"strategy": "2"}),
            ("dlfuzz(strategy=None)", {"strategy": "none"}),
            ('dlfuzz(strategy="NONE",scores="logit",)', {"strategy": "none", "scores": "logit"}),
            ("dlfuzz(step=8/255/2)", {"step": 4 / 255}),
            ("dlfuzz(step=2, walkers=1, keep_gain=0)", {"step": 2, "walkers": 1, "keep_gain": 0}),
            ("dlfuzz(threshold=1e-1, competitors=999)", {"threshold": 0.1, "competitors": 999}),
        ],
    )
    def test_settings(self, spec, changed):
        attack = make_attack(spec)
        assert isinstance(attack, Attack)
        assert values(attack) == {**PUBLISHED, **changed}

    def test_parsed(self):
        parsed = parse_spec("any:name(a=-1.5, b='x(y)', c=1/4, d=None, e=(1, 2))")
        assert parsed == Spec("any:name", {"a": -1.5, "b": "x(y)", "c": 0.25, "d": None, "e": (1, 2)})

    @pytest.mark.parametrize(
        ("spec", "name", "settings"),
        [
            ("a b/my (1).py:f", "a b/my (1).py:f", {}),
            ("a (1)/my.py:f(x=(1, 2))", "a (1)/my.py:f", {"x": (1, 2)}),
            ("/a.py:f()", "/a.py:f", {}),
        ],
    )
    def test_brackets_in_a_path_are_ordinary(self, spec, name, settings):
        assert parse_spec(spec) == Spec(name, settings)

    def test_a_path_with_broken_settings(self):
        assert "each key once, got: a.py:f(1)" in refused(parse_spec, "a.py:f(1)").message

    @given(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
        | st.integers(1, 254).map(lambda level: level / 255)
    )  # fmt: skip
    @examples(max_examples=200, deadline=None)
    def test_what_is_written_is_read(self, value):
        assert parse_spec(write_spec("any", {"a": value, "b": 8 / 255})) == Spec("any", {"a": value, "b": 8 / 255})
        assert write_spec("any", {"b": 8 / 255, "c": 0.2}) == "any(b=8/255, c=0.2)"


class TestSpecCanBeParsedAgain:
    @pytest.mark.parametrize(
        ("spec", "canonical"),
        [
            ("dlfuzz()", "dlfuzz"),
            ("dlfuzz(iterations=3)", "dlfuzz"),
            ("dlfuzz(walkers=1, strategy='02')", "dlfuzz(strategy='02', walkers=1)"),
            ("dlfuzz:paper", "dlfuzz:paper(strategy='1', iterations=1)"),
            ("dlfuzz:paper(iterations=3)", "dlfuzz:paper(strategy='1', iterations=3)"),
        ],
    )
    def test_says_everything_that_is_not_the_default(self, spec, canonical):
        assert make_attack(spec).spec == canonical

    @given(
        preset=st.sampled_from(["dlfuzz", "dlfuzz:paper"]),
        strategy=st.sampled_from(["none", "2", "1", "0", "3", "02", "3120"]),
        neurons=st.sampled_from([10, 4, 77]),
        threshold=st.sampled_from([0.25]) | st.floats(0, 1),
        iterations=st.sampled_from([1, 3, 9]),
        step=st.sampled_from([0.5 / 255]) | st.floats(0, 1e300),
        keep_ratio=st.sampled_from([0.02, 0, 1]),
        scores=st.sampled_from(["probability", "logit"]),
    )
    @examples(max_examples=60, deadline=None)
    def test_same_attack(self, **settings):
        attack = DLFuzz(**settings)
        assert make_attack(attack.spec) == attack
        assert values(make_attack(attack.spec)) == values(attack)


def refused(make, *args, **kwargs):
    """The error a person sees; it must be one line."""
    with pytest.raises(UserError) as caught:
        make(*args, **kwargs)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


class TestRefused:
    @pytest.mark.parametrize(
        "spec",
        [
            "dlfuzz(",
            "dlfuzz(iterations=5",
            "dlfuzz(5)",
            "dlfuzz(iterations)",
            "dlfuzz(iterations=)",
            "dlfuzz(iterations=5)(step=1)",
            "dlfuzz(iterations=5) or f()",
            "dlfuzz(iterations=5, iterations=6)",
            "dlfuzz(strategy=02)",
            "dlfuzz(step=1/0)",
            "dlfuzz(step=1/'2')",
            "dlfuzz(step=2*3)",
            "dlfuzz(step=inf)",
            "dlfuzz(step={[]: 1})",
            "dlfuzz(step=1" + "0" * 400 + "/1)",
            "dlfuzz(step=" + "-" * 20_000 + "1)",
            "dlfuzz(step=" + "1/" * 5_000 + "1)",
            "dlfuzz(**{'step': 1})",
            "dlfuzz(*[1])",
            "dlfuzz(strategy=f'{1}')",
        ],
    )
    def test_malformed(self, spec):
        error = refused(make_attack, spec)
        assert error.message == f"`attack` must be NAME or NAME(key=value, ...), each key once, got: {spec}"
        assert error.hint == "for example dlfuzz(iterations=5, step=0.5/255)"

    @pytest.mark.parametrize(
        "value",
        [
            "__import__('os').getcwd()",
            "__import__('pathlib').Path('made').touch()",
            "(lambda: open('made', 'w'))()",
            "[open('made', 'w') for _ in '1'][0]",
            "1/__import__('pathlib').Path('made').touch()",
            "DLFuzz.step",
        ],
    )
    def test_nothing_is_evaluated(self, value, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert refused(make_attack, f"dlfuzz(step={value})").message.endswith(f"got: dlfuzz(step={value})")
        assert list(Path().iterdir()) == []

    @pytest.mark.parametrize("spec", ["", "PGD", "dlfuzz)", "dlfuzz:fast(step=1)", "DLFuzz", "nowhere:fgsm"])
    def test_unknown_attack(self, spec):
        name = spec.partition("(")[0]
        names = "dlfuzz, dlfuzz:paper, fgsm, pgd, mifgsm, apgd, deepfool, cw, autoattack"
        message = f"`attack` must be one of {names}, or name one of a library, got: {name}"
        assert refused(make_attack, spec).message == message.strip()

    def test_a_slip_of_the_pen_is_asked_after(self):
        assert refused(make_attack, "pdg(eps=1/255)").hint.startswith("did you mean `pgd`? foolbox:NAME")
        assert refused(make_attack, "nonsense").hint.startswith("foolbox:NAME")

    @pytest.mark.parametrize("name", ["epsilon", "preset", "spec", "__class__"])
    def test_unknown_setting(self, name):
        error = refused(make_attack, f"dlfuzz(step=1, {name}='dlfuzz')")
        assert error.message == f"`attack` has no such setting, got: {name}"
        assert error.hint == "settings: " + ", ".join(PUBLISHED)

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("strategy", "'4'", "be none or different digits 0 to 3"),
            ("strategy", "'22'", "be none or different digits 0 to 3"),
            ("strategy", "''", "be none or different digits 0 to 3"),
            ("strategy", "'none0'", "be none or different digits 0 to 3"),
            ("strategy", "-1", "be none or different digits 0 to 3"),
            ("neurons", "0", "be an integer of at least 1"),
            ("neurons", "'10'", "be an integer of at least 1"),
            ("iterations", "0", "be an integer of at least 1"),
            ("iterations", "2.5", "be an integer of at least 1"),
            ("iterations", "True", "be an integer of at least 1"),
            ("competitors", "0", "be an integer of at least 1"),
            ("walkers", "-1", "be an integer of at least 0"),
            ("threshold", "25", "be a number from 0 to 1"),
            ("threshold", "-0.1", "be a number from 0 to 1"),
            ("step", "-1/255", "be a number of at least 0"),
            ("step", "1e999", "be a number of at least 0"),
            ("step", "1e999/1e999", "be a number of at least 0"),
            ("step", "True", "be a number of at least 0"),
            ("step", "1j", "be a number of at least 0"),
            ("step", "None", "be a number of at least 0"),
            ("predict_weight", "'0.5'", "be a number of at least 0"),
            ("neuron_weight", "-1", "be a number of at least 0"),
            ("keep_gain", "-0.01", "be a number of at least 0"),
            ("keep_ratio", "[]", "be a number of at least 0"),
            ("scores", "'softmax'", "be probability or logit"),
        ],
    )
    def test_value_out_of_range(self, name, value, rule):
        error = refused(make_attack, f"dlfuzz({name}={value})")
        start, got = error.message.split("got:")
        assert start == f"`attack` setting `{name}` must {rule}, "
        shown = eval(value, {})
        assert got.strip() == str(shown)

    def test_every_strategy_needs_a_neuron(self):
        error = refused(make_attack, "dlfuzz(strategy='012', neurons=2)")
        assert error.message == "`attack` setting `neurons` must be an integer of at least 3, got: 2"

    def test_preset_in_python(self):
        assert re.search("preset.*dlfuzz, dlfuzz:paper, got: fast", refused(DLFuzz, preset="fast").message)
