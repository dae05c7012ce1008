"""Natural changes of a study: the attack's own numbers where they are the attack, noise's where they are noise."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from camdrift.pipeline.perturbing import change_passes
from camdrift.pipeline.plan import perturbation_code
from camdrift.pipeline.settings import Settings
from camdrift.statistics.perturbations import perturbation_layers
from camdrift.study.verify import verify
from camdrift.tables.further import CEILING
from camdrift.tables.perturbations import PERTURBATION_LAYERS, PERTURBATIONS, PERTURBED
from support.studies import SMALL, study_of, tiny_classifier, write_images

CODE = """
def attack(model, images, classes):
    return (images + 0.5).clamp(0, 1)

def paler(image):
    return (image + 0.5).clip(0, 1)

def grain(image, rng):
    return (image + 0.05 * rng.standard_normal(image.shape)).clip(0, 1)
"""
KEYS = ["seed_id", "strength", "layer"]
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def place(tmp_path_factory, no_report):
    folder = tmp_path_factory.mktemp("changes")
    photos = write_images(folder / "photos", 8)
    file = folder / "code.py"
    file.write_text(CODE)
    changes = {"attack": f"{file}:attack", "perturb": [f"{file}:paler", f"{file}:grain"]}
    options = {**SMALL, **changes, "strengths": (0.5, 1.0), "gallery": None}
    return photos, file, options, study_of(tiny_classifier(), photos, folder / "run", **options)


def test_a_change_that_is_the_attack_has_its_numbers(place):
    """Same difference to the seed, same draw of the noise: same maps, same predictions, same deviations."""
    _, file, _, study = place
    own = study.perturbed.filter(perturbation=f"{file}:paler")
    assert own.schema == PERTURBED.schema
    assert own["seed_id"].n_unique() == study.seeds.filter(status="analysed").height >= 3
    for condition, word in (("adversarial", "natural"), ("noise", "noise")):
        part = own.filter(condition=word)
        similarity = study.similarity.filter(condition=condition, target="seed")
        both = similarity.join(part, on=KEYS, how="left", suffix="_own")
        assert both["similarity_own"].to_numpy() == pytest.approx(both["similarity"].to_numpy(), abs=1e-5, nan_ok=True)
        variants = study.variants.filter(condition=condition).join(part, on=KEYS[:2], how="left", suffix="_own")
        assert (variants["predicted_class"] == variants["predicted_class_own"]).all()
        assert (variants["realised_l2"] - variants["realised_l2_own"]).abs().max() < 1e-4
    rows = study.perturbation_layers.filter(perturbation=f"{file}:paler").sort("strength", "layer_index")
    layers = study.layers.filter(target="seed").sort("strength", "layer_index")
    assert rows.schema == PERTURBATION_LAYERS.schema
    assert rows["deviation"].to_numpy() == pytest.approx(1 - layers["adversarial_median"].to_numpy(), abs=1e-5)
    assert rows["noise_deviation"].to_numpy() == pytest.approx(1 - layers["noise_median"].to_numpy(), abs=1e-5)
    flips = study.flips.filter(condition="adversarial").sort("strength")
    counts = study.perturbations.filter(perturbation=f"{file}:paler", condition="natural").sort("strength")
    assert counts["flipped"].to_list() == flips["flipped"].to_list()
    assert counts["n"].to_list() == flips["n"].to_list()
    assert study.perturbations.schema == PERTURBATIONS.schema


def test_noise_of_ones_own_moves_maps_as_noise_does(place):
    _, file, _, study = place
    rows = study.perturbation_layers.filter(perturbation=f"{file}:grain", strength=1.0)
    gains = rows["gain"].drop_nulls()
    assert rows["gain_censored"].null_count() == rows.height  # the ladder reaches below strength 0.5
    assert len(gains) >= 3
    assert gains.is_between(0.6, 1.6).all()


def test_gains_come_from_the_table(place):
    """The table of layers follows from that of images; a deviation that is made larger makes its gain larger."""
    _, file, _, study = place
    images = study.perturbed.filter(perturbation=f"{file}:grain")
    further = pl.when(pl.col("condition") == "natural").then(2 * pl.col("similarity") - 1).otherwise("similarity")
    moved = images.with_columns(similarity=further)
    one, other = (perturbation_layers(t, study.floor, CEILING.frame(), rng_seed=0) for t in (images, moved))
    assert (other["gain"] > one["gain"]).all()


def test_other_chunks_and_batches_change_nothing(place, tmp_path):
    photos, _, options, study = place
    other = study_of(tiny_classifier(), photos, tmp_path / "r", **{**options, "chunk_size": 0, "batch_size": 5})
    keys = ["perturbation", "condition", *KEYS]
    one, two = (s.perturbed.select(*keys, "similarity", "realised_l2").sort(keys) for s in (study, other))
    assert_frame_equal(one, two, abs_tol=1e-4)


def test_pictures_and_record(place):
    _, _, options, study = place
    assert study.record["perturbations"]["specs"] == options["perturb"]
    assert list(study.record["perturbations"]["code"]) == ["code.py"]
    with study.open_gallery() as gallery:
        names = gallery["seed_ids"].tolist()
        assert len(names) == study.seeds.filter(status="analysed").height
        for place_of_seed in range(len(names)):
            clean, after = (gallery[f"{place_of_seed}/{key}"] for key in ("clean", "change/0"))
            assert abs(after.astype(int) - (clean.astype(int) + 127.5).clip(0, 255)).max() <= 1
            maps, attacked = gallery[f"{place_of_seed}/change/0/map/0"], gallery[f"{place_of_seed}/map/0"]
            target = gallery["targets"].tolist().index("seed")
            assert abs(maps.astype(int) - attacked[target, 2].astype(int)).max() <= 1


def test_the_path_of_a_home_stays_out_of_tables(place, tmp_path, monkeypatch):
    """They name a change as the record does, so that the report and `verify` find it."""
    photos, file, options, _ = place
    monkeypatch.setenv("HOME", str(file.parent))
    changes = {"perturb": f"{file}:paler", "strengths": (1.0,), "limit": 3}
    study = study_of(tiny_classifier(), photos, tmp_path / "r", **{**options, **changes})
    assert study.record["perturbations"]["specs"] == ["~/code.py:paler"]
    for table in (study.perturbed, study.perturbations, study.perturbation_layers):
        assert table["perturbation"].unique().to_list() == ["~/code.py:paler"]
    found = verify(study.path, tiny_classifier(), trust=True)
    assert (found.problems, found.skipped) == ((), ())
    assert "under natural changes" in found.checked[-1]


def test_figure_and_settings(place):
    study = place[-1]
    assert len(study.plot("perturbations").axes) >= 2
    settings = Settings(perturb=["a:b", "a:b"])
    assert settings.perturb == ("a:b",)
    assert change_passes(settings) == 1 + 5 + 5 + 6
    before = {name: value for name, value in Settings().as_record().items() if name != "perturb"}
    assert Settings().differences(before) == []
    assert "perturb was [], now ['a:b']" in settings.differences(before)
    assert perturbation_code(["nrtk:Haze", "gone.py:change"]) is None
