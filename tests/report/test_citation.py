"""What a paper takes from a run: the methods paragraph, BibTeX, and the layers as a LaTeX table."""

import json
import re
import sys
from typing import get_args

import polars as pl
import pytest

from camdrift.attacks.registry import LIBRARIES, NAMES
from camdrift.cli.app import main
from camdrift.report.citation import citation
from camdrift.report.latex import latex_layers, latex_text
from camdrift.report.literature import ATTACK_SOURCES, EXPLANATION_SOURCES, LIBRARY_SOURCES, METRIC_SOURCES
from camdrift.tables.measures import EXPLANATION_ROWS, MetricName
from support.studies import SMALL, study_of, write_images


def record_of(run, **changes):
    """The record of a run whose effective arguments, or entries, are others."""
    record = json.loads(json.dumps(run.record))
    for name, value in changes.items():
        (record if name in record else record["arguments"]["effective"])[name] = value
    return record


@pytest.fixture(scope="module")
def run(classifier, tmp_path_factory, no_report):
    folder = tmp_path_factory.mktemp("run")
    images = write_images(folder / "images", 8)
    return study_of(classifier, images, folder / "run", **SMALL, similarities=("cosine", "ssim"))


def test_the_paragraph_says_what_the_record_says(run):
    cited = run.cite()
    record = run.record
    analysed = run.seeds.filter(status="analysed").height
    for words in (
        f"TinyNet (weights whose SHA-256 begins with {record['model']['weights_sha256'][:16]}) with",
        f"camdrift {record['camdrift']} (The camdrift authors)",
        "an implementation of a published method (Renkhoff et al., 2022)",
        "We took 8 images from images.",
        "DLFuzz (Guo et al., 2018) (dlfuzz(step=1/255, scores='logit')); random draws were seeded with 0",
        f"changed the prediction for {analysed} of 8 images. Images with",
        "scaled by 1; noise also by 4,",
        "Grad-CAM (Selvaraju et al., 2017) maps of",
        "is measured by cosine and SSIM (Wang et al., 2004)",
        f"PyTorch {record['versions']['torch']}",
    ):
        assert words in cited.methods
    assert str(run.path.parent) not in "".join(cited)
    keys = set(re.findall(r"\\cite\{(\w+)\}", cited.latex))
    assert keys == {"camdrift", "renkhoff2022exploring", "guo2018dlfuzz", "selvaraju2017gradcam", "wang2004image"}
    assert re.findall(r"^@\w+\{(\w+),$", cited.bibtex, re.MULTILINE) == sorted(keys, key=cited.latex.index)
    assert r"scores='logit'" in cited.latex


def test_natural_changes_are_named_with_their_settings(run):
    assert "Beside the attack" not in run.cite().methods
    specs = ["nrtk:HazePerturber(factor=0.5)", "/home/me/mine.py:warm(amount=0.01568627450980392)", "mine:pale"]
    record = record_of(run, versions={"nrtk": "1.1.0"}, perturbations={"specs": specs, "code": {}})
    cited = citation(run._tables, record)
    assert (
        "Beside the attack, the same images underwent 3 natural changes: Haze of nrtk 1.1.0 (Kitware) "
        "(nrtk:HazePerturber(factor=0.5)), a function of our own (mine.py:warm(amount=4/255)) and a function of our "
        "own (mine:pale). The difference"
    ) in cited.methods
    assert r"1.1.0 \cite{nrtk} (\texttt{nrtk" in cited.latex
    assert "@misc{nrtk,\n  author = {{Kitware, Inc.}}," in cited.bibtex
    assert "version 1.1.0" in cited.bibtex
    alone = citation(run._tables, record_of(run, perturbations={"specs": specs[1:2]}))
    assert "1 natural change: a function" in alone.methods
    assert "nrtk" not in "".join(alone)
    assert "Beside" not in citation(run._tables, {k: v for k, v in run.record.items() if k != "perturbations"}).methods


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attack": "torchattacks:Jitter(eps=8/255)"}, "Jitter of torchattacks 3.5 (Kim, 2020) (torchattacks:Jitter("),
        ({"attack": "torchattack:PGD(eps=0.01)"}, "The attack was PGD of torchattack 1.7 (torchattack:PGD("),
        ({"attack": "advlib:ddn"}, "ddn of adv-lib (advlib:ddn, settings left at their defaults)"),
        (
            {"attack": "/home/me/mine.py:step(eps=0.1)", "attack_code": {"mine.py": "ab"}},
            "The attack was a function of our own (mine.py:step(eps=0.1))",
        ),
        ({"explanations": ["captum:LayerLRP"]}, "LayerLRP of captum 0.9 (Kokhlikyan et al., 2020) maps"),
        ({"surrogate": {"spec": "torchvision/resnet18"}}, ", made on the network torchvision/resnet18; random draws"),
    ],
)
def test_attacks_and_explanations_by_others_are_named(run, changes, words):
    record = record_of(run, versions={"torchattacks": "3.5", "torchattack": "1.7", "captum": "0.9"})
    code = changes.pop("attack_code", None)
    surrogate = changes.pop("surrogate", None)
    record["arguments"]["effective"].update(changes)
    record["attack"]["code"], record["surrogate"] = code, surrogate
    assert words in citation(run._tables, record).methods


def test_one_image_has_no_statistics(run):
    first = run.seeds.filter(status="analysed")["seed_id"][0]
    tables = {**run._tables, "seeds": run.seeds.filter(seed_id=first)}
    assert "bootstrap" in citation(run._tables, run.record).methods
    assert "bootstrap" not in citation(tables, run.record).methods


def test_a_study_that_measured_nothing_is_told_too(run):
    seeds = run.seeds.with_columns(status=pl.lit("no_adversarial"))
    empty = {name: run._tables[name].clear() for name in ("layers", "variants", "flips", "similarity")}
    cited = citation({**run._tables, "seeds": seeds, **empty}, run.record)
    assert "changed the prediction for 0 of 8 images. From each" in cited.methods
    assert cited.table.count(r" \\") == 1


def test_every_name_of_ours_has_its_source():
    assert set(ATTACK_SOURCES) == set(NAMES)
    assert {row.source for row in EXPLANATION_ROWS.values()} == set(EXPLANATION_SOURCES)
    assert set(METRIC_SOURCES) <= {name for part in get_args(MetricName) for name in (get_args(part) or (part,))}
    assert set(LIBRARY_SOURCES) <= set(LIBRARIES)
    entries = {**ATTACK_SOURCES, **EXPLANATION_SOURCES, **METRIC_SOURCES, **LIBRARY_SOURCES}.values()
    assert len({entry.key for entry in entries}) == len(set(map(id, entries)))
    assert all(entry.words.endswith(entry.fields["year"]) for entry in entries)
    assert all(entry.words.split()[0] in entry.fields["author"] for entry in entries)


ROW = {
    "layer_label": "block_1", "gain": 32.0, "gain_censored": "above", "gain_low": 24.0, "gain_low_censored": None,
    "gain_high": 32.0, "gain_high_censored": "above", "rank": 2, "rank_low": 1, "rank_high": 3,
    "adversarial_median": 0.5, "noise_median": 0.99999, "compromised_fraction": 1.0, "compromised_low": 0.82,
    "compromised_high": 1.0, "n": 17,
}  # fmt: skip


def test_a_bound_an_interval_and_what_is_missing_by_hand():
    line = r"\texttt{block\_1} & $>$ 32 & [24, $>$ 32] & 2 [1, 3] & 0.50 & $>$ 0.99 & 100 [82, 100] & 17 \\"
    missing = dict.fromkeys(("gain", "gain_censored", "gain_low", "rank", "adversarial_median"))
    table = latex_layers([ROW, {**ROW, **missing}], "A caption")
    assert line in table
    assert r"\texttt{block\_1} & -- &  & -- & -- & " in table
    assert table.count(r"\toprule") == table.count(r"\bottomrule") == 1
    assert r"\begin{tabular}{lrlrrrrr}" in table
    long = latex_layers([ROW] * 41, "A caption")
    assert (long.count(line), long.count(r"\endhead"), r"\begin{table}" in long) == (41, 1, False)


def test_characters_of_latex_are_escaped():
    assert latex_text("a_b & 5 % of {x}~$2 #1 \\ ^") == (
        r"a\_b \& 5 \% of \{x\}\textasciitilde{}\$2 \#1 \textbackslash{} \textasciicircum{}"
    )


def test_the_command_prints_each_part(run, monkeypatch, capsys):
    def printed(*arguments):
        monkeypatch.setattr(sys, "argv", ["camdrift", "cite", str(run.path), *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert (end.value.code or 0) == (2 if len(arguments) > 1 else 0)
        return capsys.readouterr()

    cited = run.cite()
    assert printed().out == f"{cited.methods}\n\n{cited.bibtex}\n"
    assert printed("--latex").out == f"{cited.latex}\n\n{cited.table}\n"
    assert printed("--bibtex").out == f"{cited.bibtex}\n"
    assert json.loads(printed("--json").out) == cited._asdict()
    assert "one of --latex, --bibtex and --json" in printed("--latex", "--json").err
    rows = run.layers.filter(pl.col("strength") == 1, target="seed", metric="cosine")
    assert cited.table.count(r" \\") == rows.height + 1
