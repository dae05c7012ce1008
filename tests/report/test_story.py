"""One story: title, opening state, first chart and strip of a page never disagree, whatever was measured."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camdrift.figures.scope import scope_of
from camdrift.report import findings
from camdrift.report.data import study_data
from camdrift.report.story import assurance, strength_words, study_headline
from camdrift.report.threat import attack_title
from camdrift.statistics.headline import Certainty
from camdrift.statistics.ranks import LEAST_IMAGES, ranked
from camdrift.study.study import open_study
from camdrift.tables.further import FLIPS
from camdrift.tables.study import LAYERS, SEEDS, TABLES, VARIANTS
from camdrift.tables.words import ADVERSARIAL, ANALYSED, CENSORED_ABOVE, NO_ADVERSARIAL, NOISE
from support.comparisons import write_study
from support.pages import plain
from support.study_tables import random_study

STRENGTHS = (0.5, 1.0, 2.0)
LADDER_END = 16.0
LABELS = ("conv1", "deep.0.conv", "deep.1.conv", "head")


@st.composite
def studies(draw):
    """Tables of a made study: censored, tied, few images, nothing flipped, everything undefined, one image."""
    analysed = draw(st.sampled_from([0, 1, 2, 5, 6, 7, 14]))
    resistant = draw(st.sampled_from([0, 1, 3]))
    flipped = draw(st.tuples(*(st.integers(0, analysed) for _ in STRENGTHS)))
    ids = [f"i{i}" for i in range(analysed + resistant)]
    seeds = [{"seed_id": name, "status": ANALYSED if i < analysed else NO_ADVERSARIAL, "clean_class": 0}
             | {"adversarial_class": 1, "survives_uint8": True, "perturbation_linf": 0.01, "clean_probability": 0.9,
                "adversarial_probability": 0.8}
             for i, name in enumerate(ids)]  # fmt: skip
    variants = [
        {"seed_id": name, "condition": condition, "strength": s, "draw": 0, "predicted_class": 1, "probability": 0.5}
        | {"is_flipped": condition == ADVERSARIAL and i < k, "realised_l2": s}
        for i, name in enumerate(ids[:analysed])
        for condition in (ADVERSARIAL, NOISE)
        for s, k in zip(STRENGTHS, flipped, strict=True)
    ]
    rows = [draw(layers(analysed, s, i)) for s in STRENGTHS for i in range(len(LABELS))] if analysed else []
    tables = {name: table.frame() for name, table in TABLES.items()}
    tables |= {"seeds": SEEDS.frame(seeds), "variants": VARIANTS.frame(variants), "layers": ranked(LAYERS.frame(rows))}
    return tables


@st.composite
def layers(draw, analysed, strength, index):
    """A row of table `layers`; gains are few different numbers, so that they tie, and bounds at the ladder's end."""
    n = draw(st.integers(0, analysed))
    gain = draw(st.sampled_from([None, 0.4, 3.0, 9.0, LADDER_END / strength])) if n else None
    is_bound = gain == LADDER_END / strength
    low = None if gain is None else draw(st.sampled_from([gain / 4, gain / 2, gain]))
    ends = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) if n > 1 else (None, None)
    return {
        "target": "seed", "strength": strength, "layer": f"net.{LABELS[index]}", "layer_label": LABELS[index],
        "layer_index": index, "n": n, "n_pairs": n, "n_undefined": analysed - n, "gain": gain, "gain_low": low,
        "gain_high": gain, "gain_censored": CENSORED_ABOVE if is_bound else None,
        "gain_low_censored": CENSORED_ABOVE if is_bound and low == gain else None,
        "adversarial_mean": 1 - 0.01 * index if n else None, "rank_low": ends[0] and min(ends),
        "rank_high": ends[1] and max(ends),
    }  # fmt: skip


RECORD = {"arguments": {"effective": {"attack": "pgd(eps=0.03)", "strengths": list(STRENGTHS), "targets": ["seed"]}}}


@settings(max_examples=40, deadline=None)
@given(studies())
def test_title_opening_chart_and_strip_never_disagree(tables):
    scope = scope_of(tables, RECORD)
    title = study_headline(tables, RECORD, scope)
    sentences = " ".join(findings.study_sentences(tables, RECORD, scope))
    headline = scope.headline
    assert "None" not in title + sentences
    assert not re.search(r"\bnan\b", title + sentences)
    if not scope.analysed:
        assert "on none of" in title or "No image" in title
        return
    data = study_data(tables, RECORD, scope, [])
    opening = data["opening"]
    at = tables["layers"].filter(strength=STRENGTHS[opening["strength"]])
    assert at.height == len(LABELS)
    # The strength: half of the examples fool the network there, and at no lower one; or it says that they do not.
    counts = [int(tables["variants"].filter(condition=ADVERSARIAL, strength=s)["is_flipped"].sum()) for s in STRENGTHS]
    half = [s for s, k in zip(STRENGTHS, counts, strict=True) if 2 * k >= scope.analysed]
    assert headline.strength == (half[0] if half else 1.0) == STRENGTHS[opening["strength"]]
    if scope.analysed > 1 and not half:
        assert "fewer than half" in sentences
        assert "but on only" in title
    # The layer: what the page opens with, and draws highest of those with a rank, is what the title is about.
    chart = {i: data["stats"]["rank"][0][opening["strength"]][i] for i in range(len(LABELS))}
    gains = data["stats"]["gain"][0][opening["strength"]]
    with_rank = {i: rank for i, rank in chart.items() if rank is not None}
    if with_rank:
        assert chart[opening["layer"]] == 1
        assert gains[opening["layer"]] == max(gains[i] for i in with_rank)
    else:
        assert headline.certainty in (Certainty.TOO_FEW, Certainty.NOTHING)
        assert "moved as far" not in title
    if distance := re.search(r"by noise ([\d.]+) times", title):
        top = at.filter(rank=1).row(0, named=True)
        assert top["n_pairs"] >= LEAST_IMAGES
        assert float(distance[1]) == pytest.approx(top["gain"])
        # Layers that share a bound are moved so far; which of them most is another question.
        is_open = top["rank_low"] == 1 and top["rank_high"] >= len(with_rank) > 1
        assert is_open == ("cannot be told" in title)
    # One image makes no statistics.
    if scope.analysed == 1:
        assert "Wilcoxon" not in sentences
        assert "compromise" not in sentences
        assert opening["measure"] == "deviation"


def study_of(*rows, flipped=(14, 14, 14), n=14):
    common = {"target": "seed", "n_pairs": n, "n": n, "adversarial_mean": 0.9}
    made = [common | {"layer": label, "layer_label": label, "layer_index": i, "strength": s} | row
            for s in STRENGTHS for i, (label, row) in enumerate(zip(LABELS, rows, strict=False))]  # fmt: skip
    counts = [{"condition": ADVERSARIAL, "strength": s, "draw": 0, "n": n, "flipped": k, "share": k / n, "low": 0.0}
              | {"high": 1.0} for s, k in zip(STRENGTHS, flipped, strict=True)]  # fmt: skip
    seeds = [{"seed_id": f"i{i}", "status": ANALYSED if i < n else NO_ADVERSARIAL} for i in range(n + 3)]
    tables = {name: table.frame() for name, table in TABLES.items()}
    return tables | {
        "seeds": SEEDS.frame(seeds),
        "layers": ranked(LAYERS.frame(made)),
        "flips": FLIPS.frame(counts),
    }


def told(tables):
    scope = scope_of(tables, RECORD)
    sure = assurance(tables, scope)
    return study_headline(tables, RECORD, scope), f"{sure.word}: {sure.reason}. {sure.layer}"


def gained(gain, low=1, high=1, **rest):
    return {"gain": gain, "gain_low": gain / 2, "rank_low": low, "rank_high": high} | rest


@pytest.mark.parametrize(
    ("rows", "options", "title", "sure"),
    [
        (
            [gained(2.0), gained(4.0), gained(8.0), gained(3.0)],
            {},
            "PGD fools the network on 14 of 17 images, at half its strength still on 14; there the map of a middle "
            "layer is moved as far as by noise 8.0 times as strong",
            "Clear: with other images it would nearly always come first of 4 layers. deep.1.conv, layer 3 of 4, ",
        ),
        (
            [gained(2.0), gained(4.0), gained(3.0), gained(8.0, 1, 4)],
            {"flipped": (3, 14, 14)},
            "PGD fools the network on 14 of 17 images; which of its 4 layers' maps is moved most cannot be told",
            "Cannot be told: with other images any of the 4 layers could come first. head, layer 4 of 4, its ",
        ),
        (
            [gained(0.5), gained(0.4), gained(0.3), gained(0.2)],
            {"flipped": (0, 5, 6)},
            "PGD fools the network on 14 of 17 images, but on only 5 at its full strength; no layer's map is moved "
            "further than by noise of the same size",
            "Clear: ",
        ),
        (
            [gained(2.0), gained(9.0), {}, {}],
            {"n": 4, "flipped": (1, 4, 4)},
            "PGD fools the network on 4 of 7 images; too few images to say which layer's map it moves most",
            "Too few images: it takes 6 images to rank layers; shown is the layer whose map moved most in these. deep",
        ),
        (
            [{}, {}, {}, {}],
            {"flipped": (0, 7, 14)},
            "PGD fools the network on 14 of 17 images; no layer could be measured",
            "Nothing measured: every map is undefined",
        ),
    ],
)
def test_the_sentence_and_how_sure_it_is(rows, options, title, sure):
    said, surely = told(study_of(*rows, **options))
    assert plain(said) == title
    assert surely.startswith(sure)


def test_layers_beyond_the_ladder_are_told_as_such():
    beyond = {"gain_censored": CENSORED_ABOVE, "gain_low_censored": CENSORED_ABOVE}
    said, _ = told(
        study_of(gained(2.0), gained(3.0), gained(16.0, **beyond), gained(16.0, **beyond), flipped=(0, 9, 9))
    )
    assert said.endswith(
        "the maps of a middle layer and 1 other layer are moved further than by noise 16 times as strong, the "
        "strongest tried"
    )


@pytest.mark.parametrize(
    ("spec", "name"),
    [("dlfuzz", "DLFuzz"), ("dlfuzz:paper", "DLFuzz"), ("pgd(eps=8/255)", "PGD"), ("torchattacks:Jitter", "Jitter"),
     ("art:HopSkipJump(max_iter=3)", "HopSkipJump"), ("deepfool", "DeepFool")],
)  # fmt: skip
def test_attacks_have_the_names_of_their_field(spec, name):
    assert attack_title({"arguments": {"effective": {"attack": spec}}}) == name


def test_strengths_are_told_in_words():
    assert strength_words(0.3) == "0.3 times its strength"
    assert pl.Series([strength_words(s) for s in (0.25, 1.0)]).to_list() == [
        "a quarter of its strength",
        "its full strength",
    ]


def test_a_run_of_before_is_read_with_flips_and_the_ranks_of_today(tmp_path):
    similarity, variants = random_study(8, 3)
    flipped = (pl.col("condition") == ADVERSARIAL) & (pl.col("strength") == 1)
    variants = variants.with_columns(is_flipped=flipped, predicted_class=pl.lit(0, pl.Int64))
    folder = write_study(tmp_path / "old", similarity, variants)
    layers = pl.read_parquet(folder / "layers.parquet")
    layers.with_columns(rank=pl.lit(7, pl.Int64)).write_parquet(folder / "layers.parquet")
    study = open_study(folder)
    assert study.layers["rank"].to_list() == layers["rank"].to_list()
    fooled = study.flips.filter(condition=ADVERSARIAL).sort("strength")
    assert fooled.select("strength", "n", "flipped").rows() == [(0.5, 8, 0), (1.0, 8, 8)]
    assert "DLFuzz fools the network on 8 of 8 images; " in study.summary()
