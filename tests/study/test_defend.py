"""`camdrift defend` on a finished run of a tiny network: the stages, restoration, resumption, the page, bad input."""

import re
import shutil
from dataclasses import replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import camdrift
from camdrift.defences.base import Defence
from camdrift.errors import UserError
from camdrift.pipeline.smoothing import Smoothing
from camdrift.report.page.rendering import render
from camdrift.statistics.smoothing import certificate
from camdrift.storage.defence_files import ASIDE
from camdrift.study import defence_parts
from support.studies import skip_report, study_of, tiny_classifier, write_images

OPTIONS = {"strengths": (0.5, 1.0), "noise_ladder": (4.0,), "chunk_size": 4, "layers": ["stem", "body", "last"]}
ATTACK = "pgd(eps=4/255, steps=5)"
TABLES = ("defences", "restoration", "defended_images", "purified_maps", "sanity", "certified", "detectors")


@pytest.fixture(scope="module")
def net():
    return tiny_classifier()


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    """Eight images, and a finished run of them."""
    folder = tmp_path_factory.mktemp("defend")
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        study_of(net, write_images(folder / "eight", 8), folder / "run", attack=ATTACK, **OPTIONS)
    return folder


@pytest.fixture
def run(folder, tmp_path):
    return shutil.copytree(folder / "run", tmp_path / "run")


@pytest.fixture(scope="module")
def defending(folder, net, tmp_path_factory):
    """The result for four purifiers and two detectors, in a copy of the run."""
    copy = shutil.copytree(folder / "run", tmp_path_factory.mktemp("all") / "run")
    oracle = write_oracle(copy.parent, folder / "eight", net)
    specs = ["identity", "bits(depth=2)", "resize-pad(least=0.8)", oracle]
    return camdrift.defend(copy, specs, detectors=["softmax", "squeeze"], draws=3, model=net, trust=True)


def write_oracle(folder, images, net):
    """A purifier that returns the clean image that lies nearest; returns its spec."""
    from camdrift.images.pixels import read_image
    from camdrift.images.selection import select_images

    pixels = torch.stack([read_image(f, **net.geometry).pixels for f in select_images(images).files])
    torch.save(pixels, folder / "clean.pt")
    (folder / "oracle.py").write_text(
        f"import torch\nCLEAN = torch.load({str(folder / 'clean.pt')!r})\n\n\ndef purify(images):\n"
        "    distances = ((images[:, None] - CLEAN[None]) ** 2).flatten(2).sum(2)\n"
        "    return CLEAN[distances.argmin(1)]\n"
    )
    return f"{folder}/oracle.py:purify"


def stable(run, name):
    """A table without its times."""
    table = pl.read_parquet(run / f"{name}.parquet")
    return table.drop("seconds", strict=False)


def section_of(study):
    """The section on defences of a study's page."""
    with study._open_pictures() as gallery:
        page = render(study._tables, study.record, gallery)
    return page[page.index('id="defences"') : page.index("What was checked")]


class TestStages:
    """Clean, static, noise and adaptive."""

    def test_the_identity_is_the_network_without_a_defence(self, defending):
        images = defending.images.filter(pl.col("stage") != "adaptive").drop("seconds", "defence")
        bare, same = (
            images.filter(defending.images.filter(pl.col("stage") != "adaptive")["defence"] == name)
            for name in ("none", "identity")
        )
        assert_frame_equal(bare, same)

    def test_adaptive_is_never_above_static(self, defending):
        rows = defending.defences
        for name in rows.filter(stage="adaptive")["defence"]:
            adaptive = rows.filter(defence=name, stage="adaptive")["correct"][0]
            assert adaptive <= rows.filter(defence=name, stage="static", strength=1.0)["correct"][0]
            assert adaptive <= rows.filter(defence=name, stage="clean")["correct"][0]

    def test_the_attack_fools_the_network_without_a_defence(self, defending):
        row = defending.defences.filter(defence="none", stage="static", strength=1.0).row(0, named=True)
        assert row["correct"] < row["n"] == 8
        assert (row["eps"], row["norm"], row["steps"]) == (4 / 255, "linf", 5)

    def test_the_oracle_keeps_everything_and_brings_every_layer_home(self, defending):
        (oracle,) = {name for name in defending.defences["defence"] if "oracle" in name}
        kept = defending.defences.filter(pl.col("defence") == oracle, pl.col("stage") != "adaptive")
        assert (kept["share"] == 1).all()
        rows = defending.restoration.filter(pl.col("defence") == oracle, pl.col("returned").is_null())
        defined = rows.filter(pl.col("restoration").is_not_null())
        assert defined.height >= 2
        assert defined.select("restoration", "low", "high", "ceiling").unique().rows() == [(1.0, 1.0, 1.0, 1.0)]
        assert defending.depth(oracle) == rows["layer_label"][0]

    def test_the_identity_restores_nothing(self, defending):
        rows = defending.restoration.filter(pl.col("defence") == "identity", pl.col("restoration").is_not_null())
        assert rows["restoration"].unique().to_list() == [0.0]
        assert rows["restoration_noise"].drop_nulls().unique().to_list() == [0.0]

    def test_the_leverage_left_is_all_behind_the_identity_and_none_behind_the_oracle(self, defending):
        rows = defending.restoration.filter(pl.col("returned").is_null())
        same = rows.filter(defence="identity")
        assert same["residual_gain"].to_list() == same["gain"].to_list()
        home = rows.filter(pl.col("defence").str.contains("oracle"))
        assert home["residual_gain_censored"].to_list() == ["below"] * 3
        layers = camdrift.open(defending.place).layers.filter(target="seed", strength=defending.strength)
        assert same["gain"].to_list() == pytest.approx(layers["gain"].to_list(), rel=1e-4)

    def test_random_ones_say_how_often_they_are_drawn(self, defending):
        eot = dict(defending.defences.select("defence", "eot").unique().iter_rows())
        assert eot["resize-pad(least=0.8)"] == 3
        assert eot["identity"] is None

    def test_seconds_are_those_of_the_purifier(self, defending):
        seconds = dict(defending.defences.filter(stage="clean").select("defence", "seconds").iter_rows())
        assert seconds["none"] == 0 < min(seconds["bits(depth=2)"], seconds["resize-pad(least=0.8)"])
        assert [row[-1] == "" for row in defending.cells()[1]] == [True] + 4 * [False]

    def test_detectors_are_judged_on_the_same_images(self, defending):
        heads, rows = defending.detector_cells()
        assert [row[0] for row in rows] == ["softmax", "squeeze"]
        assert heads[1:] == ("attack from clean", "attack from noise", "noise from clean", "undetected")
        assert all(re.fullmatch(r"\d+ % \[\d+, \d+\]", row[-1]) for row in rows)
        row = defending.detectors.filter(pl.col("undetected").is_not_null()).row(0, named=True)
        assert (row["detector"], row["stage"], row["eps"]) == ("softmax", "adaptive", 4 / 255)


def test_every_image_is_purified_once_and_passes_once(run, net, monkeypatch):
    """Eight seeds, clean, at two strengths and with noise, with a defence and without: no pass is for maps alone."""
    purified, passes, whole, check = [], [], defence_parts.defend_chunk, Defence._checked

    def counted(*arguments, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Defence, "_checked", lambda d, images, call: purified.extend(images) or check(d, images, call)
            )
            patch.setattr(type(net), "__call__", lambda c, images: passes.extend(images) or c._forward(images).float())
            return whole(*arguments, **options)

    monkeypatch.setattr(defence_parts, "defend_chunk", counted)
    result = camdrift.defend(run, ["bits(depth=2)"], adaptive=(), model=net)
    assert (len(purified), len(passes)) == (8 * 4, 2 * 8 * 4)
    assert result.restoration.height >= 3


def test_it_goes_on_where_it_was_stopped(run, net, monkeypatch):
    """Stopped at every part in turn: equal tables, and no part is computed twice."""
    reference = shutil.copytree(run, run.parent / "reference")
    specs, parts = ["median(window=3)", "bits(depth=2)"], []
    camdrift.defend(reference, specs, model=net)
    write = defence_parts.DefenceFiles.write_chunk

    def stop(self, index, tables, arrays):
        write(self, index, tables, arrays)
        parts.append(index)
        raise KeyboardInterrupt

    monkeypatch.setattr(defence_parts.DefenceFiles, "write_chunk", stop)
    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            camdrift.defend(run, specs, model=net)
    monkeypatch.undo()
    assert parts == [0, 1, 2, 3, 4, 5]
    camdrift.defend(run, specs, model=net)
    for name in TABLES:
        assert_frame_equal(stable(run, name), stable(reference, name))
    assert not (run / ASIDE).exists()
    assert camdrift.verify(run, net, sample=0).problems == ()


def test_certificates_count_votes_of_noise(run, net):
    """Hardly any noise leaves every prediction; noise that drowns the image leaves no majority of the clean class."""
    lines = []
    smoothing = Smoothing((1e-6, 2.0), draws=60)
    result = camdrift.defend(run, smoothing=smoothing, model=net, on_progress=lambda p: lines.extend(p.warnings))
    faint, loud = (result.certified.filter(sigma=sigma) for sigma in smoothing.sigmas)
    assert faint.height == loud.height == 8
    assert (faint["clean_votes"] == 60).all()
    assert (faint["predicted_class"] == faint["clean_class"]).all()
    assert faint["radius"].unique().to_list() == [pytest.approx(certificate(60, 60, 1e-6, 0.001).radius)]
    assert loud["clean_votes"].mean() < 45
    assert "noise of standard deviation 1e-06 leaves" in lines[0]
    assert result.certificates()[0].startswith("Smoothed by noise of 1e-06, of 8 images")
    assert "8 within 0" in result.certificates()[0]
    with pytest.raises(UserError, match="must lie above 0"):
        Smoothing((0.0,))


def test_steps_that_cannot_reach_the_bound_are_told_by_run_and_defend(run, net):
    """Five steps of a thirtieth of the bound each."""
    line = "pgd cannot reach its bound: 5 steps go 0.17 of the way; rel_stepsize=0.5 takes it there"
    assert line in camdrift.open(run).record["preflight"]["warnings"]
    lines = list[str]()
    camdrift.defend(run, "identity", model=net, on_progress=lambda p: lines.extend(p.warnings))
    assert lines[0] == line
    lines.clear()
    camdrift.defend(run, "identity", adaptive=(), model=net, on_progress=lambda p: lines.extend(p.warnings))
    assert line not in lines


def test_progress_goes_on_while_detectors_score(run, net):
    """Eight images count behind defences, and as often before detectors; chunks have four."""
    seen = []
    camdrift.defend(run, "identity", detectors=["softmax"], adaptive=(), model=net, on_progress=seen.append)
    counts = [each.seeds_done for each in seen if not each.warnings]
    assert counts == sorted(counts)
    assert any(4 < count < 8 for count in counts)
    assert (counts[-1], seen[-1].seeds_total) == (16, 16)


def test_other_defences_begin_anew(run, net, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(defence_parts.DefenceParts, "sheet", stop)
        with pytest.raises(KeyboardInterrupt):
            camdrift.defend(run, "bits(depth=2)", model=net, adaptive=())
    result = camdrift.defend(run, "bits(depth=4)", model=net, adaptive=())
    assert set(result.defences["defence"]) == {"none", "bits(depth=4)"}


@pytest.mark.parametrize("nothing", [(), []])
def test_without_an_adaptive_attack_every_number_says_so(run, net, nothing):
    result = camdrift.defend(run, ["bits", "median"], detectors="softmax", model=net, adaptive=nothing)
    assert result.detector_cells()[1][0][-1] == "static only"
    _, rows = result.cells()
    assert [row[3] for row in rows] == ["", "static only", "static only"]
    assert "static only: no claim about robustness: bits(depth=3), median(window=3)" in result.notes()
    section = section_of(camdrift.open(run))
    assert section.count("static only") == 3
    assert "nothing is said about robustness" in section


def test_the_page_shows_photos_behind_every_defence(defending):
    study = camdrift.open(defending.place)
    section = section_of(study)
    titles = re.findall(r"<figcaption>([^<]*)<b", section)
    assert titles[:5] == ["clean", "under attack", "identity", "bits(depth=2)", "resize-pad(least=0.8)"]
    assert section.count('class="returning"') == 4
    assert section.count("which the attack moves most, is moved as by noise") == 4
    assert "Which detectors tell" in section
    assert len(study.plot("restoration").get_axes()) == 4
    assert len(study.plot("defences").get_axes()) == 1


def test_seeds_whose_prediction_is_not_their_label_are_left_out(net, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    labelled = camdrift.wrap(net.module, mean=net.mean, std=net.std, size=net.size, labels=[f"c{i}" for i in range(10)])
    for name in ("c0", "c1"):
        write_images(tmp_path / "images" / name, 3)
    study_of(labelled, tmp_path / "images", tmp_path / "run", attack=ATTACK, **OPTIONS)
    seeds = camdrift.open(tmp_path / "run").seeds
    right = seeds.filter(pl.col("clean_class") == pl.col("label")).height
    result = camdrift.defend(tmp_path / "run", "bits", model=labelled, adaptive=())
    assert result.defences["n"].unique().to_list() == [right]


class TestRefused:
    """One line, with the cure; nothing in the run directory changes."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"defences": ()}, "must name one or more"),
            ({"defences": "bits", "draws": 0}, "`draws` must be at least 1"),
            ({"defences": ["bits", "bits(depth=3)"]}, "got twice: bits"),
            ({"defences": "bits", "adaptive": "pdg"}, "did you mean `pgd`"),
            ({"defences": "resize-pad", "adaptive": "dlfuzz"}, "must not meet a random defence"),
            ({"defences": (), "detectors": ["mahalanobis"]}, "needs a profile"),
            ({"defences": "bits", "images": "/nowhere"}, "nowhere"),
            ({"defences": "bits", "model": tiny_classifier(2)}, "another study"),
        ],
    )
    def test_options(self, run, net, options, message):
        before = sorted(path.name for path in run.iterdir())
        with pytest.raises(UserError, match=message):
            camdrift.defend(run, **{"model": net, **options})
        assert sorted(path.name for path in run.iterdir()) == before


def test_the_command_prints_three_columns(folder, tmp_path, monkeypatch, capsys):
    from camdrift.cli.app import _code
    from support.studies import write_factory

    model = write_factory(tmp_path)
    skip_report(monkeypatch)
    study_of(camdrift.load_model(model), folder / "eight", tmp_path / "run", attack=ATTACK, **OPTIONS)
    monkeypatch.setattr("sys.argv", ["camdrift", "defend", str(tmp_path / "run"), "--defence", "bits(2)", "--trust"])
    assert _code() == 0
    output = capsys.readouterr()
    head, line = (next(row for row in output.out.splitlines() if row.startswith(name)) for name in ("defence", "bits"))
    assert head.split("  ")[0] == "defence"
    assert len(re.findall(r"\d+ % \[\d+, \d+\]", line)) == 3
    assert output.out.splitlines()[-1] == f"{tmp_path / 'run'}/report.html"


def test_attacks_of_two_budgets_are_told_apart(run, net):
    """The run's attack may change 4/255, the one that knows the defence half of it."""
    result = camdrift.defend(run, "bits(depth=2)", model=net, adaptive="fgsm(eps=2/255)")
    words = [line for line in result.notes() if line.startswith("another bound")]
    assert words == [
        "another bound: fgsm(eps=2/255) may change 0.00784 (linf), the run's attack 0.0157 (linf): "
        "the two columns are not of one budget"
    ]


def test_attacks_of_one_budget_need_no_word(defending):
    assert not [line for line in defending.notes() if line.startswith("another bound")]


def test_why_a_detector_has_no_auc_is_said_once_and_the_table_stays_narrow(defending):
    squeeze = pl.col("detector") == "squeeze"
    table = defending.detectors.with_columns(
        auc=pl.when(squeeze).then(None).otherwise(pl.col("auc")),
        undefined_reason=pl.when(squeeze).then(pl.lit("the profile has too few images")),
    )
    result = replace(defending, detectors=table)
    heads, rows = result.detector_cells()
    assert rows[1][:4] == ("squeeze", "none", "none", "none")
    assert max(len(cell) for row in [heads, *rows] for cell in row) <= 17
    assert [line for line in result.notes() if line.startswith("no AUC")] == [
        "no AUC of squeeze: the profile has too few images"
    ]
