"""The gate: estimates and intervals against limits, bounds that cannot be told, exit codes, JSON, JUnit."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as Xml

import polars as pl
import pytest

import camdrift
from camdrift.cli.app import main
from camdrift.errors import StoreError, UserError
from camdrift.statistics.flips import flips_of_readable
from camdrift.study import gate
from camdrift.study.study import Study
from camdrift.tables.study import LAYERS, SEEDS, VARIANTS
from camdrift.tables.words import ADVERSARIAL


def study(layers=()):
    """Ten images of class 0: six are fooled, four of them at strength 0.5, too; three never; one cannot be read."""
    status = ["analysed"] * 6 + ["no_adversarial"] * 3 + ["unreadable"]
    seeds = SEEDS.frame(
        {
            "seed_id": [f"s{number}" for number in range(10)],
            "status": status,
            "label": [0] * 10,
            "clean_class": [0] * 5 + [7] + [0] * 3 + [None],
        }
    )
    rows = [
        {"seed_id": f"s{n}", "condition": c, "strength": s, "draw": 0, "predicted_class": k, "is_flipped": k != 0}
        for s in (0.5, 1.0, 2.0)
        for n in range(6)
        for c, k in ((ADVERSARIAL, 1 if s > 0.5 or n < 4 else 0), ("noise", 0))
    ]
    arguments = {"strengths": [0.5, 1.0, 2.0], "targets": ["own", "seed"], "measures": [["gradcam", "cosine"]]}
    common = {"target": "seed", "strength": 1.0, "explanation": "gradcam", "metric": "cosine", "n": 6}
    made = object.__new__(Study)
    made.__dict__.update(
        seeds=seeds,
        variants=VARIANTS.frame(rows),
        layers=LAYERS.frame([{**common, "layer": k, "layer_label": k, **row} for k, row in dict(layers).items()]),
        record={"arguments": {"effective": arguments}},
        _directory=SimpleNamespace(place="runs/made"),
    )
    return made


def state(layers=(), **limits):
    (verdict,) = camdrift.check(study(layers), **limits).verdicts
    return verdict.state


def test_flips_and_accuracy_by_hand():
    made = study()
    rows = {r["strength"]: r for r in flips_of_readable(made.variants, made.seeds).to_dicts()}
    # Six fooled and three never; Wilson's interval of 4 of 9 is [0.189, 0.733].
    assert (rows[0.5]["n"], rows[0.5]["flipped"]) == (9, 4)
    assert [rows[0.5][name] for name in ("share", "low", "high")] == pytest.approx([4 / 9, 0.1888, 0.7333], abs=1e-4)
    # Right: two of the six at strength 0.5, and the three that were never fooled.
    assert rows[0.5]["accuracy"] == 5 / 9
    assert (rows[2.0]["flipped"], rows[2.0]["accuracy"]) == (6, 3 / 9)


def test_flips_against_a_limit():
    assert state(max_flips={0.5: 0.45}) == "passed"
    assert state(max_flips={0.5: 0.44}) == "failed"
    assert state(max_flips={0.5: 0.45}, is_strict=True) == "failed"
    assert state(max_flips={0.5: 0.74}, is_strict=True) == "passed"
    # Beyond strength 1 three images were never tried: between 6 and 9 of 9 may be flipped.
    assert state(max_flips={2: 0.6}) == "failed"
    assert state(max_flips={2: 0.7}) == "cannot be told"
    assert state(max_flips={2: 1.0}) == "passed"
    # Four flips and three that were never tried: the upper end is 0.733 of 4 of 9, and 0.937 of 7 of 9.
    mild = study()
    is_flipped = pl.col("is_flipped") & pl.col("seed_id").is_in(["s0", "s1", "s2", "s3"])
    mild.__dict__["variants"] = mild.variants.with_columns(is_flipped)
    states = [camdrift.check(mild, max_flips={2: limit}, is_strict=True).state for limit in (0.73, 0.8, 0.94)]
    assert states == ["failed", "cannot be told", "passed"]


def test_an_attack_that_fools_nobody_is_no_missing_attack():
    """There are no variants then: predictions are those of the clean images, up to strength 1."""
    firm = study()
    firm.__dict__["seeds"] = firm.seeds.with_columns(status=pl.col("status").replace("analysed", "no_adversarial"))
    firm.__dict__["variants"] = firm.variants.clear()
    gate = camdrift.check(firm, max_flips={1: 0.0, 2: 0.1}, min_accuracy={1: 0.8, 0.5: 0.9})
    assert [(v.state, v.value, v.n) for v in gate.verdicts] == [
        ("passed", 0.0, 9),
        ("cannot be told", 0.0, 9),
        ("passed", 8 / 9, 9),
        ("failed", 8 / 9, 9),
    ]
    assert "; 9 were never tried beyond strength 1; 1 unreadable or failed are left out" in gate.verdicts[1].text
    firm.__dict__["seeds"] = firm.seeds.with_columns(status=pl.lit("unreadable"))
    gate = camdrift.check(firm, max_flips=1, min_accuracy=0)
    assert [v.text for v in gate.verdicts] == ["no image was attacked", "no attacked image has a known class"]


def test_accuracy_against_a_limit():
    assert state(min_accuracy={0.5: 0.55}) == "passed"
    assert state(min_accuracy={0.5: 0.56}) == "failed"
    assert state(min_accuracy={0.5: 0.55}, is_strict=True) == "failed"
    # Three of nine are right at most, and none at worst.
    assert [state(min_accuracy={2: limit}) for limit in (0.4, 0.3, 0)] == ["failed", "cannot be told", "passed"]
    unlabelled = study()
    unlabelled.__dict__["seeds"] = unlabelled.seeds.with_columns(label=pl.lit(None, pl.Int64))
    assert camdrift.check(unlabelled, min_accuracy=0.5).state == "cannot be told"


BOUND = {"gain": 32.0, "gain_censored": "above", "gain_low": 20.0, "gain_high": 32.0, "gain_high_censored": "above"}
EXACT = {"gain": 8.0, "gain_low": 6.0, "gain_high": 12.0}


@pytest.mark.parametrize(
    ("layers", "limit", "plain", "strict"),
    [
        ({"a": EXACT}, 8, "passed", "failed"),
        ({"a": EXACT}, 7.9, "failed", "failed"),
        ({"a": EXACT}, 12, "passed", "passed"),
        ({"a": EXACT, "b": BOUND}, 20, "failed", "failed"),
        ({"a": EXACT, "b": BOUND}, 32, "failed", "failed"),
        ({"a": EXACT, "b": BOUND}, 40, "cannot be told", "cannot be told"),
        ({"a": {**EXACT, "n": 5}}, 1, "cannot be told", "cannot be told"),
        ({"a": {"gain": None}}, 1, "cannot be told", "cannot be told"),
        ({"a": {"gain": float("nan")}}, 1, "cannot be told", "cannot be told"),
        ({"a": {"gain": 0.5, "gain_censored": "below", "gain_high": 1.0}}, 0.7, "passed", "failed"),
        ({"a": {"gain": 0.5, "gain_censored": "below", "gain_high": 1.0}}, 0.4, "cannot be told", "failed"),
    ],
)
def test_gain_against_a_limit(layers, limit, plain, strict):
    assert state(layers, max_gain=limit) == plain
    assert state(layers, max_gain=limit, is_strict=True) == strict


def test_the_worst_layer_is_named():
    (verdict,) = camdrift.check(study({"a": EXACT, "b": {**EXACT, "gain": 9.0}}), max_gain=20).verdicts
    assert "the gain of b is 9.0 [6.0, 12], of 6 images; at most 20 may be" in verdict.text
    (verdict,) = camdrift.check(study({"a": EXACT, "b": BOUND}), max_gain=40).verdicts
    assert "the gain of b is >\u00a032 [20, >\u00a032]" in verdict.text


def test_mistakes():
    with pytest.raises(UserError, match="`check` must have a limit, got: none"):
        camdrift.check(study())
    with pytest.raises(UserError, match=r"at a strength of the study, got: 3 \(it has 0\.5, 1, 2\)"):
        camdrift.check(study(), max_flips={3: 0.1})
    with pytest.raises(UserError, match="at a strength of the study, got: half"):
        camdrift.check(study(), max_flips={"half": 0.1})
    mistakes = (("max_flips", 1.5), ("max_gain", -1), ("max_gain", float("inf")), ("min_accuracy", float("nan")))
    for name, value in mistakes:
        with pytest.raises(UserError, match=f"`{name}` must be a number"):
            camdrift.check(study(), **{name: value})


def test_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gate, "open_study", lambda run: study({"a": EXACT, "b": BOUND}))
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["camdrift", "check", "made", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr()

    assert command("--max-flips", "0.5@0.5")[0] == 0
    assert command("--max-flips", "0.5@0.5", "--max-gain", "40")[0] == 4
    code, streams = command("--max-flips", "0.1@0.5,1@1", "--max-gain", "40", "--json", "--junit", "gate.xml")
    assert code == 3
    result = json.loads(streams.out)
    assert (result["state"], result["run"], result["strict"]) == ("failed", "runs/made", False)
    states = [(each["criterion"], each["strength"], each["limit"], each["state"]) for each in result["verdicts"]]
    assert states == [
        ("max_flips", 0.5, 0.1, "failed"),
        ("max_flips", 1.0, 1.0, "passed"),
        ("max_gain", 1.0, 40.0, "cannot be told"),
    ]
    suite = Xml.parse("gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [[child.tag for child in case] for case in suite] == [["failure"], [], ["error"]]
    code, streams = command("--max-flips", "0.1@0.5")
    assert streams.out.endswith("runs/made: failed\n")
    for words, rule in (
        ("a tenth", "LIMIT or LIMIT@STRENGTH, got: a tenth"),
        ("10%", "LIMIT or LIMIT@STRENGTH, got: 10%\nhint: such as 0.1@1; 0.1 is 10 %"),
        ("0.1@", "LIMIT or LIMIT@STRENGTH, got: 0.1@"),
        ("0.9@1,0.1", "one limit for each strength, got: 0.9@1,0.1"),
        ("10", "a number from 0 to 1, got: 10.0\nhint: 0.1 is 10 %"),
    ):
        code, streams = command("--max-flips", words)
        assert (code, rule in streams.err) == (2, True)
    assert command("--max-flips", "1", "--junit", "none/gate.xml")[0] == 2


def test_a_junit_file_can_be_read_whatever_its_names_hold(tmp_path):
    made = study({"a\x1b[1m<b>": BOUND})
    made.__dict__["_directory"] = SimpleNamespace(place="runs/\x07&<b>")
    camdrift.check(made, max_gain=20).write_junit(tmp_path / "gate.xml")
    (case,) = Xml.parse(tmp_path / "gate.xml").getroot()
    assert case.get("classname") == "runs/\\x07&<b>"
    assert "a\\x1b[1m<b>" in case[0].get("message")
    # A file is written; what else there is under a name stays what it is.
    for name, make in (("pipe", os.mkfifo), ("folder", Path.mkdir), ("link", lambda p: p.symlink_to("gate.xml"))):
        place = tmp_path / name
        make(place)
        reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        kind = place.lstat().st_mode
        with nullcontext() if name != "folder" else pytest.raises(StoreError, match="Is a directory"):
            camdrift.check(made, max_gain=21).write_junit(place)
        assert place.lstat().st_mode == kind
        assert name != "pipe" or b"at most 21 may be" in os.read(reader, 4096)
        os.close(reader)
    assert "at most 21 may be" in (tmp_path / "gate.xml").read_text(encoding="utf-8")
