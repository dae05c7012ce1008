"""Is coverage meaningful in a campaign? All questions on a tiny network, numbers worked out anew, bad input."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

import camdrift
from camdrift.errors import StoreError, UserError
from camdrift.fuzzing.diverse import DiversePGD, uniform_divergence
from camdrift.models.loading import load_model
from camdrift.study.meaning_answers import MeaningDraws
from camdrift.tables.meaning import MEANING, QUESTION_WORDS, WITHIN
from support.campaigns import pixels_of
from support.studies import tiny_classifier, write_factory, write_images

pytestmark = pytest.mark.usefixtures("no_figures")

DRAWS = MeaningDraws(draws=1, steps=1, repeats=1, suites=60, permutations=39, replicates=10)
CRITERIA = ["nc(threshold=0.25)", "kmnc(k=1000)", "nbc", "snac", "tknc(k=1)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("meaning")


@pytest.fixture(scope="module")
def spec(folder):
    return write_factory(folder)


@pytest.fixture(scope="module")
def classifier(spec):
    return load_model(spec)


@pytest.fixture(scope="module")
def campaign(classifier, folder, no_figures):
    images = write_images(folder / "images", 6)
    options = {"frameworks": ("deephunter", "keep-random"), "trials": 2, "budget": "40-passes"}
    options["mutators"] = ("rotate", "noise")
    return camdrift.fuzz(classifier, images, profile=images, out=folder / "run", progress=False, **options)


@pytest.fixture(scope="module")
def judge(folder):
    return write_factory(folder, name="other.py", rng_seed=2)


@pytest.fixture(scope="module")
def meaning(campaign, classifier, judge):
    return camdrift.coverage_meaning(campaign, classifier, judge=load_model(judge), draws=DRAWS)


def rows_of(meaning, question, **values):
    return meaning.meaning.filter(question=question, **values).to_dicts()


def test_every_question_has_answers(meaning, campaign):
    table = meaning.meaning
    assert table.schema == MEANING.schema
    assert table["question"].unique(maintain_order=True).to_list() == list(QUESTION_WORDS)
    assert (table["estimate"].is_null() == table["undefined_reason"].is_not_null()).all()
    first = rows_of(meaning, "failures", setting=WITHIN, measure="spearman, failure rate")
    assert [row["criterion"] for row in first] == CRITERIA
    assert all(-1 <= row["low"] <= row["high"] <= 1 and row["p_value"] <= row["p_holm"] for row in first)
    assert meaning.summary().splitlines() == [row["verdict"] for row in first]
    for row in first:
        interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
        assert f"within strata {row['estimate']:.2f} {interval}: on this study, " in row["verdict"]
    guidance = {row["setting"]: row for row in rows_of(meaning, "guidance")}
    assert guidance["deephunter against keep-random"]["n"] == 2
    assert guidance["deephunter against gini"]["undefined_reason"] == "the control gini is missing"
    (gaussian,) = rows_of(meaning, "naturalness", setting="noise x16", measure="frechet")
    assert gaussian["undefined_reason"] == "6 images for 10 features: a covariance needs more"
    similar = {
        s: rows_of(meaning, "naturalness", setting=s, measure="ssim")[0]["estimate"] for s in ("clean", "noise x16")
    }
    assert similar["clean"] == 1 > similar["noise x16"]
    assert campaign.meaning.equals(table)


def test_the_page_and_the_folder_hold_it(meaning, campaign):
    page = (campaign.path / "report.html").read_text()
    assert "Is coverage meaningful here?" in page
    assert all(words in page for words in QUESTION_WORDS.values())
    assert page.count('class="range correlation"') == len(CRITERIA)
    opened = camdrift.open_campaign(campaign.path)
    opened.report()
    assert (campaign.path / "report.html").read_text() == page
    assert pl.read_parquet(campaign.path / "meaning.parquet").equals(meaning.meaning)


def test_gains_are_those_of_coverage_measured_twice(meaning, classifier):
    images = torch.as_tensor(np.stack(pixels_of(classifier, 6)))

    def covered(part):
        return camdrift.measure_coverage(classifier, part, criteria=["nc"]).criteria["covered"][0]

    others = [covered(torch.cat([images[:place], images[place + 1 :]])) for place in range(6)]
    (row,) = rows_of(meaning, "reward", criterion=CRITERIA[0], setting="clean")
    assert row["estimate"] == pytest.approx(covered(images) - np.mean(others))


def test_a_campaign_without_an_answer_says_so(campaign, classifier, tmp_path):
    other = write_images(tmp_path / "images", 4)
    options = {"budget": "10-passes", "frameworks": "random", "mutators": "noise", "progress": False}
    run = camdrift.fuzz(classifier, other, out=tmp_path / "run", **options)
    with pytest.raises(StoreError, match=r"no meaning\.parquet"):
        _ = run.meaning
    small = replace(DRAWS, suites=20, permutations=9, replicates=0)
    table = camdrift.coverage_meaning(run, classifier, draws=small).meaning
    assert table["criterion"].drop_nulls().unique().sort().to_list() == [CRITERIA[0], CRITERIA[4]]
    kid = table.filter(question="naturalness", measure="kid")
    assert set(kid["undefined_reason"]) == {"no judge: --judge SPEC names another model"}
    assert table.filter(question="failures")["low"].is_null().all()


def test_activations_are_spread_or_gathered(classifier):
    """F12."""
    outputs = torch.tensor([[3.0, 1.0, 2.0, 2.0], [3.0, 1.0, -1.0, 0.0]])
    assert uniform_divergence(outputs).tolist() == pytest.approx([0.0719205, 22.0585], rel=1e-4)
    images = torch.as_tensor(np.stack(pixels_of(classifier)))
    classes = classifier(images).argmax(1)

    def unevenness(weight):
        attack = DiversePGD(4 / 255, 5, weight)
        answers = attack(classifier, images, classes, range(4), batch_size=4)
        assert (answers - images).abs().max() <= 4 / 255 + 1e-6
        from camdrift.coverage.neurons import observe

        outputs = observe(classifier, answers)[1].outputs
        return np.mean([float(uniform_divergence(rows).mean()) for name, rows in outputs.items() if name != "softmax"])

    assert unevenness(100.0) < unevenness(0.0) < unevenness(-100.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criteria": "nlc"}, "`criteria` must be sets, so that suites have unions, got: nlc"),
        ({"criteria": []}, "`criteria` must name one or more, got: none"),
        ({"criteria": "dsc"}, "`profile` must hold features of head"),
        ({"judge": "same"}, "`judge` must be another model than the one that is fuzzed"),
        ({"classifier": tiny_classifier(3)}, "`classifier` must be the campaign's, got: "),
        ({"classifier": "two"}, "`models` must be the campaign's 0, got: 1"),
        ({"images": "fewer"}, "`images` must be the campaign's seeds, got: others (their number)"),
    ],
)
def test_what_does_not_fit_is_one_line(options, message, campaign, classifier, folder):
    values = dict(options)
    if values.get("judge") == "same":
        values["judge"] = load_model(f"{folder}/tiny.py:build")
    if values.get("classifier") == "two":
        values["classifier"] = [classifier, tiny_classifier(2)]
    if values.get("images") == "fewer":
        values["images"] = [folder / "images" / f"img_{number:02d}.png" for number in range(5)]
    with pytest.raises(UserError) as refusal:
        camdrift.coverage_meaning(campaign, values.pop("classifier", classifier), draws=DRAWS, **values)
    assert message in refusal.value.message


def test_the_command(camdrift_command, campaign, meaning, judge, monkeypatch):
    monkeypatch.setattr("camdrift.study.meaning.MeaningDraws", lambda: DRAWS)
    code, out, _ = camdrift_command("coverage", campaign.path, "--meaning", "--judge", judge, "--json")
    assert code == 0
    result = json.loads(out)
    # the same again, value for value
    assert result["meaning"] == meaning.meaning.to_dicts()
    assert result["pages"] == [str(campaign.path / "report.html")]
    monkeypatch.setattr("camdrift.study.meaning.coverage_meaning", lambda *_, **__: meaning)
    code, out, _ = camdrift_command("coverage", campaign.path, "--meaning")
    assert code == 0
    lines = out.splitlines()
    assert [line for line in lines if line in QUESTION_WORDS.values()] == list(QUESTION_WORDS.values())
    assert lines[1].startswith("  NC(threshold=0.25): within strata ")
    assert lines[-1] == str(campaign.path / "report.html")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["--meaning"], "`meaning` must come with a run of camdrift fuzz, got: none", "name its folder"),
        (["RUN", "--meaning", "--out", "x"], "`meaning` must come without `out`, got: x", "the answers are written"),
        (["IMAGES", "--meaning"], "no finished campaign in ", "name a folder that `camdrift fuzz` wrote"),
    ],
)
def test_mistakes_of_the_command(arguments, error, hint, camdrift_command, campaign, folder):
    words = {"RUN": campaign.path, "IMAGES": folder / "images"}
    code, out, err = camdrift_command("coverage", *(words.get(word, word) for word in arguments))
    assert (code, out) == (2, "")
    assert f"error: {error}" in err
    assert f"hint: {hint}" in err
