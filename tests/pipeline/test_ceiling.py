"""The numerical ceiling: maps of rounding have no gain, all others keep theirs."""

import polars as pl
import pytest
import torch
from torch import nn

import camdrift
from camdrift.pipeline.ceiling import _places, darkened
from camdrift.pipeline.plan import Design, Plan
from camdrift.pipeline.settings import Settings
from camdrift.statistics.layers import layer_statistics
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.further import CEILING
from camdrift.tables.study import FLOOR, LAYERS, SIMILARITY
from camdrift.tables.words import ADVERSARIAL, NOISE, ROUNDING, ZERO_MAP_SEED
from support.studies import skip_report, write_images
from support.study_tables import cells, plain_norms

GAIN = ("gain", "gain_low", "gain_high", "rank", "rank_low", "rank_high")


def block(inputs, outputs, kernel):
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Instance norm behind a 1x1 convolution: the weights of the layer before cancel, and only rounding is left."""
    torch.manual_seed(1)
    top = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    net = nn.Sequential(block(3, 16, 3), nn.MaxPool2d(2), block(16, 16, 1), *top).eval()
    folder = tmp_path_factory.mktemp("ceiling")
    write_images(folder / "images", 6)
    settings = {"attack": "pgd(eps=96/255, steps=10)", "strengths": (0.25, 1.0), "noise_ladder": (2.0,), "gallery": 0}
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return camdrift.run(camdrift.wrap(net, size=32), folder / "images", out=folder / "run", **settings)


def test_maps_of_rounding_are_not_ranked(study):
    first, last = (study.layers.filter(layer=name) for name in ("0.0", "2.0"))
    assert set(first["gain_undefined_reason"]) == {ROUNDING}
    assert all(first[name].null_count() == first.height for name in GAIN)
    assert last["gain_undefined_reason"].null_count() == last.height
    assert set(last.filter(pl.col("gain").is_not_null())["rank"]) == {1}
    assert set(study.ceiling.filter(layer="0.0")["undefined_reason"]) == {ROUNDING}


def test_the_summary_names_the_layers_without_a_gain(study):
    assert "no gain where rounding alone moves maps as far: 0.0" in study.summary()


def test_a_ceiling_lies_close_to_one_and_has_its_seeds(study):
    last = study.layers.filter(layer="2.0")
    assert set(last["n_ceiling"]) == {1}
    assert (1 - last["ceiling"]).max() < 1e-6


def test_an_empty_map_is_no_map_of_rounding(tmp_path):
    """Every class is spoken against, so that nothing is left of the map above 0."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    for layer, weight, bias in ((net[0], [[1.0] * 3], [0.0]), (net[4], [[-1.0], [-3.0]], [0.0, 1.0])):
        layer.weight.data.copy_(torch.tensor(weight).view_as(layer.weight))
        layer.bias.data.copy_(torch.tensor(bias))
    write_images(tmp_path / "images", 1)
    (tmp_path / "black.py").write_text("def black(model, images, classes):\n    return 0 * images\n")
    study = camdrift.run(
        camdrift.wrap(net.eval(), size=32),
        tmp_path / "images",
        out=tmp_path / "run",
        attack=f"{tmp_path}/black.py:black",
        strengths=1.0,
        noise_ladder=2.0,
        targets="seed",
        gallery=0,
    )
    assert study.ceiling["undefined_reason"].to_list() == [ZERO_MAP_SEED]


def statistics(ceilings):
    """Noise of one layer deviates by 0.2, 0.4; the attack by 0.3 at strength 1."""
    n = 6  # fewer have no rank
    rows = [*cells(ADVERSARIAL, 1.0, [0.7] * n), *cells(NOISE, 1.0, [0.8] * n), *cells(NOISE, 2.0, [0.6] * n)]
    similarity = SIMILARITY.frame(rows)
    keys = similarity.filter(condition=ADVERSARIAL).select("seed_id", "target", "explanation", "metric", "layer")
    keys = keys.head(len(ceilings))
    ceiling = CEILING.frame(keys.with_columns(similarity=pl.Series(ceilings, dtype=pl.Float64)).to_dict())
    table = layer_statistics(similarity, plain_norms(n), FLOOR.frame(), ceiling, rng_seed=0, n_bootstrap=20)
    return table.row(0, named=True)


def test_a_ceiling_has_mean_least_and_number_by_hand():
    row = statistics([0.9, 0.99, 0.999])
    assert (row["ceiling"], row["ceiling_least"], row["n_ceiling"]) == (pytest.approx(0.963), 0.9, 3)


@pytest.mark.parametrize(("ceiling", "has_gain"), [(0.81, True), (0.79, False), (0.69, False)])
def test_a_layer_moved_no_further_than_rounding_has_no_gain(ceiling, has_gain):
    row = statistics([ceiling] * 3)
    assert row["gain_undefined_reason"] == (None if has_gain else ROUNDING)
    assert [row[name] is not None for name in GAIN] == [has_gain] * len(GAIN)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_darkened_picture_differs_by_one_unit(precision):
    bits = {"fp32": 23, "tf32": 10, "bf16": 7}[precision]
    assert darkened(torch.ones(1), precision).item() == 1 - 2.0**-bits


@pytest.mark.parametrize(
    ("n_seeds", "chunk", "count"), [(3, 0, 1), (20, 0, 5), (32, 0, 8), (32, 1, 4), (32, 2, 3), (32, 99, 1)]
)
def test_a_ceiling_costs_two_percent_of_the_maps(n_seeds, chunk, count):
    """A seed has its clean image, five under attack and eight under noise."""
    settings = Settings(strengths=range(1, 6), noise_ladder=(8, 16, 32))
    plan = Plan(Design(settings, (), {}, batch_size=1, chunks=100, chunk=chunk), *(None,) * 5)
    places = _places(plan, n_seeds)
    assert len(set(places)) == count
    assert set(places) <= set(range(n_seeds))


def test_runs_without_a_ceiling_are_read_with_nulls(study, tmp_path):
    """Of before: no table `ceiling`, and `layers` without its columns."""
    before = study.layers.drop(LAYERS.additions)
    before.write_parquet(tmp_path / "layers.parquet")
    directory = RunDirectory(tmp_path)
    for table in (directory.read_table("layers"), directory.scan_table("layers").collect()):
        assert table.schema == LAYERS.schema
        assert table.select(before.columns).equals(before)
        assert all(table[name].null_count() == table.height for name in LAYERS.additions)
