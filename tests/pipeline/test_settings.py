"""Options of a study: what is refused and in which words, and what a resumed run may change."""

import json
from dataclasses import replace

import jaxtyping
import pytest

from camdrift.errors import UserError
from camdrift.pipeline.settings import Settings


@pytest.fixture(autouse=True)
def types_as_in_use(monkeypatch):
    """Types are enforced under pytest alone; who gives a wrong one meets the messages tested here."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def refused(**options):
    with pytest.raises(UserError) as caught:
        Settings(**options)
    return caught.value.message


@pytest.mark.parametrize("name", ["strengths", "noise_ladder"])
@pytest.mark.parametrize(
    ("values", "got"),
    [
        ((-1.0,), "-1.0"),
        ((0.5, 0.0), "0.0"),
        ((float("nan"),), "nan"),
        ((1.0, float("inf")), "inf"),
        ((True,), "True"),
        (("0.5",), "0.5"),
        ((None,), "None"),
    ],
)
def test_strengths_are_positive_numbers(name, values, got):
    assert refused(**{name: values}) == f"`{name}` must be positive and finite, got: {got}"


def test_at_least_one_strength():
    assert refused(strengths=()) == "`strengths` must name at least one strength, got: none"
    assert Settings(noise_ladder=()).noise_ladder == ()


@pytest.mark.parametrize(
    ("targets", "got"),
    [((), "none"), (("own", "other"), "own, other"), (("seed", "seed"), "seed, seed")],
)
def test_targets(targets, got):
    expected = f"`target` must be one or more of own, seed, label, each once, got: {got}"
    assert refused(targets=targets) == expected


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("rng_seed", -1, 0),
        ("rng_seed", None, 0),
        ("noise_draws", 0, 1),
        ("chunk_size", -1, 0),
        ("batch_size", -5, 0),
        ("batch_size", 2.0, 0),
        ("gallery", -1, 0),
        ("gallery", "all", 0),
        ("gallery", True, 0),
        ("limit", 0, 1),
        ("limit", "10", 1),
        ("noise_draws", True, 1),
    ],
)
def test_integers(name, value, least):
    assert refused(**{name: value}) == f"`{name}` must be an integer of at least {least}, got: {value}"


@pytest.mark.parametrize(
    "value", [0, -1, True, 2.5, "5", "0-per-class", "five-per-class", "5-per-classes", "", "5 per class"]
)
def test_a_sample_is_a_number_of_every_class(value):
    assert refused(sample=value) == f"`sample` must be N-per-class with N of at least 1, got: {value}".strip()


def test_a_sample_is_written_down_in_words():
    assert Settings(sample=5) == Settings(sample="5-per-class") == Settings(sample="05-per-class")
    assert Settings(sample=5).as_record()["sample"] == "5-per-class"
    assert (Settings(sample="12-per-class").per_class, Settings().per_class) == (12, None)


def test_a_run_from_before_there_were_samples_is_resumed():
    record = {name: value for name, value in Settings().as_record().items() if name not in ("sample", "denoised")}
    assert Settings().differences(record) == []
    assert Settings(sample=5).differences(record) == ["sample was None, now 5-per-class"]


def test_a_sample_comes_without_a_limit():
    assert refused(sample=5, limit=7) == "`sample` must come without `limit`, got: 5-per-class and 7"


def test_smallest_values_are_allowed():
    settings = Settings(rng_seed=0, noise_draws=1, gallery=0, chunk_size=0, batch_size=0, limit=1)
    assert (settings.noise_draws, settings.gallery, settings.limit) == (1, 0, 1)


def test_defaults_are_the_documented_ones():
    settings = Settings()
    assert settings.strengths == (0.25, 0.5, 1.0, 2.0, 4.0)
    assert settings.noise_ladder == (8.0, 16.0, 32.0)
    assert settings.targets == ("own", "seed")
    assert (settings.attack, settings.chunk_size, settings.noise_draws, settings.limit) == ("dlfuzz", 32, 1, None)
    assert settings.gallery == 24


def test_strengths_are_sorted_and_each_counts_once():
    settings = Settings(strengths=(2.0, 0.5, 2.0), noise_ladder=(8.0, 2.0, 1.0))
    assert settings.strengths == (0.5, 2.0)
    assert settings.noise_strengths == (0.5, 1.0, 2.0, 8.0)


def test_order_of_targets_is_kept():
    assert Settings(targets=("seed", "own")).targets == ("seed", "own")


def test_record_survives_json_and_makes_the_same_settings():
    settings = Settings(
        attack="dlfuzz(step=1/255)", strengths=(1.0,), layers=("a*", "b"), limit=7, rng_seed=3, noise_draws=2
    )
    record = json.loads(json.dumps(settings.as_record()))
    assert record["strengths"] == [1.0]
    assert record["layers"] == ["a*", "b"]
    assert settings.differences(record) == []
    assert Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}) == settings


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attack": "dlfuzz:paper"}, "attack was dlfuzz, now dlfuzz:paper"),
        ({"strengths": (1.0,)}, "strengths was [0.25, 0.5, 1.0, 2.0, 4.0], now [1.0]"),
        ({"targets": ("seed", "own")}, "targets was ['own', 'seed'], now ['seed', 'own']"),
        ({"layers": ("a",)}, "layers was [], now ['a']"),
        ({"limit": 5}, "limit was None, now 5"),
        ({"sample": 5}, "sample was None, now 5-per-class"),
        ({"rng_seed": 1}, "rng_seed was 0, now 1"),
        ({"noise_draws": 2}, "noise_draws was 1, now 2"),
        ({"noise_ladder": ()}, "noise_ladder was [8.0, 16.0, 32.0], now []"),
        ({"gallery": 0}, "gallery was 24, now 0"),
        ({"gallery": None}, "gallery was 24, now None"),
        ({"chunk_size": 0}, "chunk_size was 32, now 0"),
    ],
)
def test_differences_name_old_and_new(changed, message):
    record = Settings().as_record()
    assert replace(Settings(), **changed).differences(record) == [message]


def test_a_spec_may_be_spelled_otherwise_on_resume():
    settings = Settings(
        attack="pgd(eps=8/255, steps=3)", perturb=["a.py:f(x=1, y='b')"], explanations=["captum:A(n=1)"]
    )
    record = settings.as_record()
    record |= {"attack": f"pgd( eps={8 / 255!r},steps=3 )", "perturb": ["a.py:f(x=1,y='b')"]}
    assert settings.differences(record) == []
    for other in ("pgd(eps=8/255, steps=4)", "pgd(eps=8/255)", "pgd(eps=8/255, steps=3.0)", "pgd(eps=", "fgsm"):
        (text,) = settings.differences({**record, "attack": other})
        assert text == f"attack was {other}, now pgd(eps=8/255, steps=3)"
    (text,) = settings.differences({**record, "perturb": []})
    assert text.startswith("perturb was []")


def test_batch_size_may_change_on_resume():
    assert Settings(batch_size=7).differences(Settings().as_record()) == []


def test_differences_lists_every_one():
    found = Settings(rng_seed=1, limit=2).differences(Settings().as_record())
    assert found == ["limit was None, now 2", "rng_seed was 0, now 1"]


def test_option_that_the_record_does_not_know():
    record = Settings().as_record()
    del record["noise_draws"]
    assert Settings().differences(record) == ["noise_draws was None, now 1"]


def test_one_value_may_stand_alone():
    settings = Settings(strengths=1, noise_ladder=8.0, targets="seed", layers="features.*")
    assert (settings.strengths, settings.noise_ladder) == ((1.0,), (8.0,))
    assert (settings.targets, settings.layers) == (("seed",), ("features.*",))
