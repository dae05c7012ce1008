"""Whole studies of a tiny classifier: every number in the tables is recomputed from the model and the images."""

import hashlib
import importlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from PIL import Image
from polars.testing import assert_frame_equal

import camdrift
from camdrift.attacks import make_attack
from camdrift.coverage import observe
from camdrift.errors import StoreError, UserError
from camdrift.images import ImageFile, read_image
from camdrift.noise import matched_noise
from camdrift.records import TABLES
from camdrift.tensors import perturbed
from studies import (
    ATTACK,
    SIZE,
    environment,
    listing,
    skip_report,
    stop_when,
    study_of,
    tiny_classifier,
    write_factory,
    write_images,
)

STRENGTHS, LADDER, DRAWS, CHUNK = (0.5, 1.0, 2.0), (8.0,), 2, 5
TARGETS = ("own", "seed")
NOISE_STRENGTHS = (*STRENGTHS, *LADDER)

# What a user of the tables relies on; `records` may add columns, and says what each means.
CONTRACT = {
    "seeds": "seed_id path sha256 label clean_class clean_probability status reason adversarial_class "
    "adversarial_probability iterations perturbation_mean perturbation_std perturbation_l2 perturbation_linf "
    "relative_l2 noise_mean noise_std survives_uint8",
    "variants": "seed_id condition strength draw predicted_class probability is_flipped realised_l2 realised_linf "
    "clipped_fraction",
    "similarity": "seed_id condition strength draw target layer layer_label layer_index similarity undefined_reason",
    "floor": "seed_id other_seed_id target layer similarity",
    "layers": "target strength layer compromised_fraction compromised_low compromised_high auc auc_low auc_high "
    "threshold floor gain gain_low gain_high gain_censored rank rank_low rank_high",
    "counts": "target strength n_compromised n_seeds",
    "coverage": "step seed_id condition strength covered total",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def study(classifier, photos, tmp_path_factory):
    """Twelve images in three chunks, with everything drawn and written."""
    out = tmp_path_factory.mktemp("runs") / "first"
    options = {"strengths": STRENGTHS, "noise_ladder": LADDER, "noise_draws": DRAWS, "chunk_size": CHUNK}
    return study_of(classifier, photos, out, targets=TARGETS, **options)


@pytest.fixture(scope="module")
def pixels(photos):
    """The seed images by name, read without camdrift's pipeline."""
    paths = sorted(photos.iterdir())
    return {p.name: read_image(ImageFile(p.name, p, None), size=SIZE, resize=SIZE).pixels for p in paths}


@pytest.fixture(scope="module")
def perturbations(classifier, pixels):
    """Base perturbation of every seed, from the attack alone, chunk by chunk."""
    found = {}
    names = list(pixels)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        images = torch.stack([pixels[name] for name in chunk])
        options = {"seed_ids": chunk, "rng_seed": 0, "batch_size": 2, "advance": lambda done, found: None}
        attacked = make_attack(ATTACK)(classifier, images, *observe(classifier, images), **options)
        found |= {name: result.base_perturbation for name, result in zip(chunk, attacked, strict=True)}
    return {name: delta for name, delta in found.items() if delta is not None}


def variant(row, pixels, perturbations):
    """The image of one row of `variants` or `similarity`, once more."""
    delta = perturbations[row["seed_id"]]
    if row["condition"] == "noise":
        delta = matched_noise(delta, rng_seed=0, seed_id=row["seed_id"], draw=row["draw"])
    return perturbed(pixels[row["seed_id"]], delta, row["strength"])


class TestFiles:
    def test_the_run_directory_holds_what_is_documented_and_nothing_else(self, study):
        figures = {path.name for path in (study.path / "figures").iterdir()}
        stems = {name.rpartition(".")[0] for name in figures}
        assert {path.name for path in study.path.iterdir()} == {
            "run.json", "report.html", "gallery.npz", "figures", *(f"{name}.parquet" for name in TABLES)
        }  # fmt: skip
        assert figures == {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf")}
        numbers = {re.match(r"figure_(\d+[ab]?)_", stem)[1] for stem in stems}
        assert numbers == {"2a", "2b", "3", "4a", "4b", "5a", "5b", "6", "7", "8"}

    def test_figures_open(self, study):
        for path in (study.path / "figures").iterdir():
            if path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
                    assert min(image.size) > 200
            else:
                assert path.read_bytes().startswith(b"%PDF")

    @pytest.mark.parametrize("name", list(CONTRACT))
    def test_tables_have_the_documented_columns(self, study, name):
        table = pl.read_parquet(study.path / f"{name}.parquet")
        assert table.schema == TABLES[name].schema
        assert [c for c in table.columns if c in CONTRACT[name].split()] == CONTRACT[name].split()
        assert_frame_equal(getattr(study, name), table)
        for column in table.select(pl.col(pl.Float64)).columns:
            assert not table[column].is_nan().any(), column

    def test_the_record_says_how_the_study_was_made(self, study, classifier, photos):
        record = json.loads((study.path / "run.json").read_text())
        assert record == study.record
        assert set(record) == {
            "schema_version", "camdrift", "status", "command", "started", "finished", "arguments", "model",
            "layers", "images", "versions", "machine", "device", "timings",
        }  # fmt: skip
        assert record["status"] == "done"
        assert record["started"] <= record["finished"]
        passed, effective = record["arguments"]["passed"], record["arguments"]["effective"]
        assert passed["attack"] == ATTACK
        assert passed["layers"] == []
        assert passed["batch_size"] == 0
        assert effective["attack"] == make_attack(ATTACK).spec
        assert effective["layers"] == list(classifier.layers)
        assert effective["batch_size"] > 0
        assert (effective["device"], effective["precision"]) == ("cpu", "fp32")
        assert effective["strengths"] == list(STRENGTHS)
        assert record["model"]["weights_sha256"] == tiny_classifier().weights_checksum()
        assert record["model"]["weights_sha256"] != tiny_classifier(rng_seed=2).weights_checksum()
        assert {"torch", "numpy", "polars", "python"} <= record["versions"].keys()
        checksums = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in photos.iterdir())
        assert record["images"]["sha256"] == hashlib.sha256("\n".join(checksums).encode()).hexdigest()
        assert record["images"]["n"] == 12
        stages = {k: v for k, v in record["timings"].items() if k != "total"}
        assert {"attack", "explain", "compare", "write"} <= stages.keys()
        assert 0 < sum(stages.values()) <= record["timings"]["total"] + 0.01

    def test_the_report_tells_the_study(self, study, classifier):
        page = (study.path / "report.html").read_text()
        analysed = study.seeds.filter(pl.col("status") == "analysed").height
        assert f"12 images: {analysed} analysed; {12 - analysed} kept the model's prediction" in page.replace(
            "&#39;", "'"
        )
        assert all(layer in page for layer in classifier.layers)
        assert "<script" not in page
        assert not re.search(r"""(src|href)=["']?(https?:|//|/)""", page)


class TestRows:
    def test_row_counts_are_the_arithmetic_of_the_study(self, study, classifier):
        seeds, layers = study.seeds.filter(pl.col("status") == "analysed").height, len(classifier.layers)
        assert 6 <= seeds < 12
        variants = seeds * (len(STRENGTHS) + len(NOISE_STRENGTHS) * DRAWS)
        assert study.seeds.height == 12
        assert study.variants.height == variants
        assert study.similarity.height == variants * len(TARGETS) * layers
        assert study.layers.height == len(TARGETS) * len(STRENGTHS) * layers
        assert study.counts.height == len(TARGETS) * len(STRENGTHS) * (layers + 1)
        assert study.coverage.height == 12 * (1 + 2 * len(STRENGTHS))
        # Every analysed seed is held against one other of its chunk.
        assert study.floor.height == seeds * len(TARGETS) * layers
        for table, key in (
            (study.variants, ["seed_id", "condition", "strength", "draw"]),
            (study.similarity, ["seed_id", "condition", "strength", "draw", "target", "layer"]),
        ):
            assert table.select(key).is_duplicated().sum() == 0

    def test_rows_come_in_a_fixed_order(self, study):
        assert study.seeds["seed_id"].is_sorted()
        for table in (study.variants, study.similarity):
            keys = [k for k in ("seed_id", "condition", "strength", "draw", "target", "layer_index") if k in table]
            assert_frame_equal(table, table.sort(keys, maintain_order=True))

    def test_clean_classes_and_checksums(self, study, classifier, pixels, photos):
        probabilities, classes = classifier(torch.stack(list(pixels.values()))).softmax(1).max(1)
        assert study.seeds["seed_id"].to_list() == list(pixels)
        assert study.seeds["clean_class"].to_list() == classes.tolist()
        assert study.seeds["clean_probability"].to_numpy() == pytest.approx(probabilities.detach().numpy(), rel=1e-5)
        for row in study.seeds.iter_rows(named=True):
            path = photos / row["seed_id"]
            assert row["path"] == path.as_posix()
            assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert row["label"] is None

    def test_who_has_an_adversarial_example(self, study, perturbations):
        for row in study.seeds.iter_rows(named=True):
            if row["seed_id"] in perturbations:
                assert (row["status"], row["reason"]) == ("analysed", None)
            else:
                reason = f"no adversarial example in {row['iterations']} iterations"
                assert (row["status"], row["reason"]) == ("no_adversarial", reason)
                assert row["perturbation_l2"] is None
                assert row["survives_uint8"] is None

    def test_adversarial_examples_are_flipped_at_strength_one(self, study):
        at_one = study.variants.filter(condition="adversarial", strength=1.0)
        assert at_one["is_flipped"].all()
        analysed = study.seeds.filter(status="analysed")
        assert at_one["predicted_class"].to_list() == analysed["adversarial_class"].to_list()
        assert at_one["probability"].to_numpy() == pytest.approx(
            analysed["adversarial_probability"].to_numpy(), rel=1e-4
        )
        assert not study.variants.filter(condition="noise", strength=0.5)["is_flipped"].all()

    def test_perturbation_and_noise_columns(self, study, pixels, perturbations):
        for row in study.seeds.filter(status="analysed").iter_rows(named=True):
            delta = perturbations[row["seed_id"]].double().numpy()
            noise = matched_noise(perturbations[row["seed_id"]], rng_seed=0, seed_id=row["seed_id"])
            seed = pixels[row["seed_id"]].double().numpy()
            expected = {
                "perturbation_mean": delta.mean(),
                "perturbation_std": delta.std(),
                "perturbation_l2": np.sqrt((delta**2).sum()),
                "perturbation_linf": np.abs(delta).max(),
                "relative_l2": np.sqrt((delta**2).sum() / (seed**2).sum()),
                "noise_mean": noise.double().numpy().mean(),
                "noise_std": noise.double().numpy().std(),
            }
            assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-4, abs=1e-7)
            # The promise of Eq. 2: both moments within a few standard errors of those of the perturbation.
            assert row["noise_std"] == pytest.approx(delta.std(), rel=5 / np.sqrt(2 * delta.size))
            assert abs(row["noise_mean"] - delta.mean()) < 5 * delta.std() / np.sqrt(delta.size)

    def test_survival_of_rounding(self, study, classifier, pixels, perturbations):
        for row in study.seeds.filter(status="analysed").iter_rows(named=True):
            image = perturbed(pixels[row["seed_id"]], perturbations[row["seed_id"]])
            stored = torch.from_numpy((image.numpy() * 255).round().astype(np.uint8)).float() / 255
            assert row["survives_uint8"] == (int(classifier(stored[None]).argmax()) != row["clean_class"])

    def test_variants_columns(self, study, classifier, pixels, perturbations):
        """Each variant anew from its seed, one image at a time."""
        clean = dict(study.seeds.select("seed_id", "clean_class").iter_rows())
        for row in study.variants.iter_rows(named=True):
            image, seed = variant(row, pixels, perturbations), pixels[row["seed_id"]]
            probability, found = classifier(image[None]).softmax(1).max(1)
            change = (image.double() - seed.double()).numpy()
            assert row["predicted_class"] == int(found)
            assert row["is_flipped"] == (int(found) != clean[row["seed_id"]])
            assert row["probability"] == pytest.approx(float(probability), rel=1e-4)
            assert row["realised_l2"] == pytest.approx(np.sqrt((change**2).sum()), rel=1e-4)
            assert row["realised_linf"] == pytest.approx(np.abs(change).max(), rel=1e-4)
            clipped = ((image == 0) | (image == 1)) & (seed > 0) & (seed < 1)
            assert row["clipped_fraction"] >= float(clipped.double().mean()) - 1e-9

    def test_similarities_are_those_of_maps_computed_one_by_one(self, study, classifier, pixels, perturbations):
        """`attribute` on single images, full-size interpolation, cosine in float64: nothing shared but the maps."""
        analysed = study.seeds.filter(status="analysed")
        chosen = analysed["seed_id"].to_list()[::3]
        clean_class = dict(analysed.select("seed_id", "clean_class").iter_rows())
        rows = study.similarity.filter(pl.col("seed_id").is_in(chosen))
        undefined = 0
        for key, part in rows.group_by("seed_id", "condition", "strength", "draw", "target"):
            row = dict(zip(("seed_id", "condition", "strength", "draw"), key, strict=False))
            explained = "own" if key[4] == "own" else clean_class[row["seed_id"]]
            seed = camdrift.attribute(classifier, pixels[row["seed_id"]][None], clean_class[row["seed_id"]])
            moved = camdrift.attribute(classifier, variant(row, pixels, perturbations)[None], explained)
            for layer, value, reason in part.select("layer", "similarity", "undefined_reason").iter_rows():
                expected = naive_similarity(seed[layer], moved[layer])
                if np.isnan(expected):
                    undefined += 1
                    side = "seed" if not seed[layer].any() else "variant"
                    assert (value, reason) == (None, f"zero_map_{side}")
                else:
                    assert reason is None
                    assert value == pytest.approx(expected, abs=2e-4)
        assert undefined > 0

    def test_the_floor_is_the_similarity_of_unrelated_seeds(self, study, classifier, pixels):
        classes = dict(study.seeds.select("seed_id", "clean_class").iter_rows())
        analysed = study.seeds.filter(status="analysed")["seed_id"].to_list()
        names = list(pixels)
        for row in study.floor.iter_rows(named=True):
            one, other = row["seed_id"], row["other_seed_id"]
            assert one != other
            assert {one, other} <= set(analysed)
            assert names.index(one) // CHUNK == names.index(other) // CHUNK
            maps = [camdrift.attribute(classifier, pixels[n][None], classes[n])[row["layer"]] for n in (one, other)]
            expected = naive_similarity(*maps)
            assert row["similarity"] == (None if np.isnan(expected) else pytest.approx(expected, abs=1e-4))


def naive_similarity(one, other):
    one, other = (
        F.interpolate(m[None].double(), size=(SIZE, SIZE), mode="bilinear", align_corners=False).flatten().numpy()
        for m in (one, other)
    )
    if not one.any() or not other.any():
        return np.nan
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


class TestCoverage:
    def test_it_grows_and_counts_all_neurons(self, study, classifier):
        total = sum(group.neurons for group in classifier.neuron_groups)
        assert set(study.coverage["total"]) == {total}
        for _, part in study.coverage.group_by("condition", "strength"):
            steps = part.sort("step")
            assert steps["step"].to_list() == list(range(1, 13))
            assert steps["seed_id"].to_list() == study.seeds["seed_id"].to_list()
            assert (steps["covered"].diff().drop_nulls() >= 0).all()
            assert steps["covered"][-1] <= total

    def test_every_step_is_the_union_of_the_images_so_far(self, study, classifier, pixels, perturbations):
        union = {}
        for step, name in enumerate(pixels, start=1):
            clean = camdrift.neuron_coverage(classifier, pixels[name][None])[0]
            for condition, strength in [("clean", 0.0)] + [(c, s) for c in ("adversarial", "noise") for s in STRENGTHS]:
                seen = clean
                if condition != "clean" and name in perturbations:
                    row = {"seed_id": name, "condition": condition, "strength": strength, "draw": 0}
                    image = variant(row, pixels, perturbations)
                    seen = clean | camdrift.neuron_coverage(classifier, image[None])[0]
                union[condition, strength] = union.get((condition, strength), torch.zeros_like(seen)) | seen
                found = study.coverage.filter(step=step, condition=condition, strength=strength)
                assert found["covered"].to_list() == [int(union[condition, strength].sum())]


class TestStatistics:
    def test_thresholds_and_compromised_layers_follow_from_the_similarities(self, study):
        """Python's own median and counting, from the stored similarities."""
        hits = {}
        for row in study.layers.iter_rows(named=True):
            at = {k: row[k] for k in ("target", "strength", "layer")}
            cell = study.similarity.filter(**at)
            noise = cell.filter(condition="noise")["similarity"].drop_nulls().to_list()
            adversarial = cell.filter(condition="adversarial").select("seed_id", "similarity")
            assert row["threshold"] == pytest.approx(float(np.median(noise)), abs=1e-12)
            below = [name for name, value in adversarial.drop_nulls().iter_rows() if value < row["threshold"]]
            assert row["n"] == len(adversarial.drop_nulls())
            assert row["n"] + row["n_undefined"] == len(adversarial)
            assert row["compromised_fraction"] == pytest.approx(len(below) / row["n"])
            for name in adversarial["seed_id"]:
                hits.setdefault((row["target"], row["strength"], name), []).append(name in below)
        for row in study.counts.iter_rows(named=True):
            mine = [sum(v) for (t, s, _), v in hits.items() if (t, s) == (row["target"], row["strength"])]
            assert row["n_seeds"] == mine.count(row["n_compromised"])

    def test_the_floor_of_a_layer_is_the_mean_over_pairs(self, study):
        means = study.floor.group_by("target", "layer").agg(pl.col("similarity").mean().alias("mean"))
        joined = study.layers.join(means, on=["target", "layer"])
        assert joined["floor"].to_numpy() == pytest.approx(joined["mean"].to_numpy())

    def test_the_attack_moves_maps_further_than_noise_of_its_size(self, study):
        strongest = study.layers.filter(target="own", strength=1.0)
        assert (strongest["adversarial_mean"] < strongest["noise_mean"]).all()
        assert (study.layers.filter(strength=1.0)["gain"].drop_nulls() > 1).all()

    def test_fresh_noise_is_compromised_half_the_time(self, classifier, tmp_path, monkeypatch):
        """The null of the method: a second draw lies below the first draws' median for about half of the seeds."""
        skip_report(monkeypatch)
        photos = write_images(tmp_path / "photos", 48)
        options = {"strengths": (1.0,), "noise_ladder": (), "noise_draws": 2, "chunk_size": 48, "batch_size": 32}
        attack = "dlfuzz(scores='logit', step=2/255)"
        found = study_of(classifier, photos, tmp_path / "run", attack=attack, **options)
        noise = found.similarity.filter(condition="noise")
        first, second = (noise.filter(draw=draw).rename({"similarity": f"draw{draw}"}) for draw in (0, 1))
        both = first.join(second, on=["seed_id", "target", "layer"]).drop_nulls(["draw0", "draw1"])
        assert (both["draw0"] != both["draw1"]).mean() > 0.99
        for _, part in both.group_by("target", "layer"):
            below = int((part["draw1"] < part["draw0"].median()).sum())
            assert part.height > 30
            # Eight cells share one error of 1e-3.
            assert scipy.stats.binomtest(below, part.height).pvalue > 1e-3 / 8


class TestReproducibility:
    """Results depend on images, model, options and the chunk: on nothing else."""

    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    def again(self, classifier, source, out, **changed):
        options = {"strengths": STRENGTHS, "noise_ladder": LADDER, "noise_draws": DRAWS, "chunk_size": CHUNK}
        return study_of(classifier, source, out, targets=TARGETS, **{**options, **changed})

    @pytest.mark.parametrize("batch_size", [1, 3, 8])
    def test_batch_size_changes_rounding_only(self, study, classifier, photos, tmp_path, batch_size):
        assert_close(self.again(classifier, photos, tmp_path / "run", batch_size=batch_size), study)

    def test_the_same_run_gives_the_same_tables(self, study, classifier, photos, tmp_path):
        assert_same(self.again(classifier, photos, tmp_path / "run"), study)

    def test_another_rng_seed_draws_other_noise(self, study, classifier, photos, tmp_path):
        other = self.again(classifier, photos, tmp_path / "run", rng_seed=1)
        clean = ["seed_id", "sha256", "clean_class", "clean_probability"]
        assert_frame_equal(other.seeds.select(clean), study.seeds.select(clean))
        both = other.seeds.join(study.seeds, on="seed_id").drop_nulls(["noise_mean", "noise_mean_right"])
        assert both.height > 5
        assert (both["noise_mean"] != both["noise_mean_right"]).all()
        key = ["seed_id", "condition", "strength", "draw", "target", "layer"]
        rows = other.similarity.join(study.similarity, on=key).filter(condition="noise").drop_nulls()
        assert (rows["similarity"] != rows["similarity_right"]).mean() > 0.9

    def test_the_order_of_files_does_not_matter(self, study, classifier, photos, tmp_path):
        """Copies made backwards, and paths given one by one, backwards."""
        copies = tmp_path / "copies"
        copies.mkdir()
        for path in sorted(photos.iterdir(), reverse=True):
            shutil.copyfile(path, copies / path.name)
        for number, source in enumerate((copies, sorted(photos.iterdir(), reverse=True))):
            assert_same(self.again(classifier, source, tmp_path / f"run{number}"), study, without=["path"])

    def test_limit_spreads_over_the_list(self, classifier, photos, tmp_path):
        found = self.again(classifier, photos, tmp_path / "run", limit=4)
        assert found.seeds["seed_id"].to_list() == [f"img_{i:02d}.png" for i in (0, 3, 6, 9)]

    def test_layers_can_be_chosen(self, study, classifier, photos, tmp_path):
        found = self.again(classifier, photos, tmp_path / "run", layers="*st*")
        assert found.layers["layer"].unique().sort().to_list() == ["last", "stem"]
        key = ["seed_id", "condition", "strength", "draw", "target", "layer"]
        both = found.similarity.join(study.similarity, on=key)
        assert both.height == found.similarity.height
        assert_series_close(both["similarity"], both["similarity_right"])

    def test_the_models_own_state_is_left_as_it_was(self, photos, tmp_path):
        model = tiny_classifier()
        model.module.train()
        before = {name: value.clone() for name, value in model.module.state_dict().items()}
        self.again(model, photos, tmp_path / "run", limit=3)
        assert model.module.training
        assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in model.module.parameters())


class TestLabels:
    def test_folders_that_are_classes_give_the_true_class(self, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        names = [f"class {number}" for number in range(10)]
        model = tiny_classifier(labels=names)
        for number, path in enumerate(sorted(photos.iterdir())):
            folder = tmp_path / "sorted" / f"class_{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.name)
        options = {"targets": ("label", "own"), "strengths": (1.0,), "noise_ladder": ()}
        found = study_of(model, tmp_path / "sorted", tmp_path / "run", **options)
        labels = dict(found.seeds.select("seed_id", "label").iter_rows())
        assert labels == {name: int(name[6]) for name in labels}
        name = found.seeds.filter(status="analysed")["seed_id"][0]
        path = tmp_path / "sorted" / name
        image = read_image(ImageFile(name, path, None), size=SIZE, resize=SIZE).pixels
        delta = perturbation_of(model, image, found, name)
        maps = [camdrift.attribute(model, x[None], labels[name]) for x in (image, perturbed(image, delta))]
        rows = found.similarity.filter(seed_id=name, condition="adversarial", target="label")
        assert rows.height == len(model.layers)
        for layer, value in rows.select("layer", "similarity").drop_nulls().iter_rows():
            assert value == pytest.approx(naive_similarity(maps[0][layer], maps[1][layer]), abs=2e-4)

    def test_label_needs_labels(self, classifier, photos, tmp_path):
        with pytest.raises(UserError, match="`target` label must have images whose class is known"):
            study_of(classifier, photos, tmp_path / "run", targets=("label",))
        assert not (tmp_path / "run").exists()


def perturbation_of(model, image, found, name):
    """The perturbation of one seed of a study in one chunk."""
    names = found.seeds["seed_id"].to_list()
    paths = found.seeds["path"].to_list()
    files = [ImageFile(n, importlib.import_module("pathlib").Path(p), None) for n, p in zip(names, paths, strict=True)]
    images = torch.stack([read_image(file, size=SIZE, resize=SIZE).pixels for file in files])
    options = {"seed_ids": names, "rng_seed": 0, "batch_size": 4, "advance": lambda done, found: None}
    attacked = make_attack(ATTACK)(model, images, *observe(model, images), **options)
    return attacked[names.index(name)].base_perturbation


SMALL = {"strengths": (1.0,), "noise_ladder": (4.0,), "chunk_size": 3}


class TestResume:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    @pytest.fixture(scope="class")
    def eight(self, tmp_path_factory):
        return write_images(tmp_path_factory.mktemp("eight"), 8)

    @pytest.fixture(scope="class")
    def whole(self, classifier, eight, tmp_path_factory):
        """The study that nobody interrupted."""
        with pytest.MonkeyPatch.context() as patch:
            skip_report(patch)
            return study_of(classifier, eight, tmp_path_factory.mktemp("whole") / "run", **SMALL)

    @pytest.fixture
    def broken(self, classifier, eight, tmp_path):
        """A run directory with one of three chunks."""
        return self.interrupt(classifier, eight, tmp_path / "run", lambda p: p.seeds_done >= 3)

    def interrupt(self, classifier, images, out, condition):
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, images, out, **SMALL, on_progress=stop_when(condition))
        return out

    @pytest.mark.parametrize(
        "condition",
        [
            lambda p: True,
            lambda p: p.stage == "explain",
            lambda p: (p.stage, p.seeds_done) == ("write", 3),
            lambda p: p.stage == "attack" and p.seeds_done >= 3,
            lambda p: (p.stage, p.seeds_done) == ("write", 6),
            lambda p: (p.stage, p.seeds_done) == ("write", 8),
            lambda p: p.stage == "statistics",
            lambda p: p.stage == "report",
        ],
        ids=["at once", "chunk 1", "after 1", "chunk 2", "after 2", "after 3", "statistics", "report"],
    )
    def test_interrupted_anywhere_it_ends_the_same(self, classifier, eight, whole, tmp_path, condition):
        out = self.interrupt(classifier, eight, tmp_path / "run", condition)
        with pytest.raises(StoreError, match="is not complete"):
            camdrift.open(out)
        resumed = study_of(classifier, eight, out, **SMALL, resume=True)
        assert_same(resumed, whole)
        assert {p.name for p in out.iterdir()} == {p.name for p in whole.path.iterdir()}
        assert (out / "gallery.npz").exists()
        assert_same_gallery(out, whole.path)

    def test_interrupted_again_and_again(self, classifier, eight, whole, tmp_path):
        out = self.interrupt(classifier, eight, tmp_path / "run", lambda p: p.seeds_done >= 3)
        with pytest.raises(KeyboardInterrupt):
            study_of(classifier, eight, out, **SMALL, resume=True, on_progress=stop_when(lambda p: p.seeds_done >= 6))
        assert_same(study_of(classifier, eight, out, **SMALL, resume=True), whole)

    def test_stored_chunks_are_not_computed_again(self, classifier, eight, broken):
        seen = []
        study_of(classifier, eight, broken, **SMALL, resume=True, on_progress=seen.append)
        assert min(p.seeds_done for p in seen if p.stage == "attack") >= 3
        assert max(p.seeds_done for p in seen) == 8
        assert {p.seeds_total for p in seen} == {8}

    def test_a_half_written_chunk_is_replaced(self, classifier, eight, whole, broken):
        part = broken / "chunks" / "00001.part"
        part.mkdir()
        (part / "seeds.parquet").write_bytes(b"PAR1 half")
        (part / "left over").write_text("")
        assert_same(study_of(classifier, eight, broken, **SMALL, resume=True), whole)
        assert not (broken / "chunks").exists()

    def test_killed_while_tidying_up_the_study_is_done(self, classifier, eight, whole, tmp_path, monkeypatch):
        """Half of the chunks are gone when the process dies: the tables already hold everything."""

        def die(directory):
            shutil.rmtree(directory.path / "chunks" / "00000")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("camdrift.store.RunDirectory.drop_chunks", die)
            study_of(classifier, eight, tmp_path / "run", **SMALL)
        assert_same(study_of(classifier, eight, tmp_path / "run", **SMALL, resume=True), whole)
        assert not (tmp_path / "run" / "chunks").exists()

    def test_batch_size_may_change(self, classifier, eight, whole, broken):
        assert_close(study_of(classifier, eight, broken, **SMALL, resume=True, batch_size=2), whole)

    def test_a_finished_run_is_returned_untouched(self, classifier, eight, whole):
        before = listing(whole.path)
        again = study_of(
            classifier, eight, whole.path, **SMALL, resume=True, on_start=pytest.fail, on_progress=pytest.fail
        )
        assert_same(again, whole)
        assert listing(whole.path) == before

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"strengths": (1.0, 2.0)}, r"strengths was \[1\.0\], now \[1\.0, 2\.0\]"),
            ({"noise_ladder": ()}, r"noise_ladder was \[4\.0\], now \[\]"),
            ({"targets": ("own",)}, r"targets was \['own', 'seed'\], now \['own'\]"),
            ({"rng_seed": 3}, "rng_seed was 0, now 3"),
            ({"noise_draws": 2}, "noise_draws was 1, now 2"),
            ({"chunk_size": 4}, "chunk_size was 3, now 4"),
            ({"attack": "dlfuzz"}, "attack was .*logit.*, now dlfuzz"),
            ({"layers": ("stem",)}, r"layers was \[\], now \['stem'\]"),
            ({"limit": 5}, "limit was None, now 5"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_other_options_are_refused(self, classifier, eight, broken, changed, named):
        before = listing(broken)
        with pytest.raises(StoreError, match=named) as caught:
            study_of(classifier, eight, broken, **{**SMALL, **changed}, resume=True)
        assert "arguments of the first command" in caught.value.hint
        assert listing(broken) == before

    @pytest.mark.parametrize(
        ("model", "named"),
        [
            (lambda: tiny_classifier(rng_seed=5), "weights was those of checksum [0-9a-f]{12}, now"),
            (lambda: tiny_classifier(spec="another"), "model was TinyNet, now another"),
            (lambda: tiny_classifier(precision="bf16"), "precision was fp32, now bf16"),
            (lambda: tiny_classifier(resize=40), "input was .*resize 32.* now .*resize 40"),
        ],
        ids=["weights", "spec", "precision", "input"],
    )
    def test_another_model_is_refused(self, eight, broken, model, named):
        with pytest.raises(StoreError, match=named):
            study_of(model(), eight, broken, **SMALL, resume=True)

    def test_other_images_are_refused(self, classifier, eight, broken, tmp_path):
        more = shutil.copytree(eight, tmp_path / "more")
        shutil.copyfile(eight / "img_00.png", more / "new.png")
        with pytest.raises(StoreError, match="list of images was 8 of checksum .*, now 9 of checksum"):
            study_of(classifier, more, broken, **SMALL, resume=True)

    def test_images_that_have_changed_are_refused(self, classifier, eight, broken, tmp_path):
        same = shutil.copytree(eight, tmp_path / "same")
        shutil.copyfile(eight / "img_05.png", same / "img_01.png")
        with pytest.raises(StoreError, match=r"same images, got: 1 changed \(first: img_01\.png\)"):
            study_of(classifier, same, broken, **SMALL, resume=True)

    def test_there_must_be_a_run_to_resume(self, classifier, eight, tmp_path):
        with pytest.raises(StoreError, match=r"no run in .*nothing \(run.json is missing\)"):
            study_of(classifier, eight, tmp_path / "nothing", **SMALL, resume=True)
        assert not (tmp_path / "nothing").exists()

    def test_contradictions(self, classifier, eight, broken):
        with pytest.raises(UserError, match="got: --resume and --overwrite"):
            study_of(classifier, eight, broken, **SMALL, resume=True, overwrite=True)
        with pytest.raises(UserError, match="got: --resume without --out"):
            study_of(classifier, eight, None, **SMALL, resume=True)

    def test_killed_it_ends_the_same(self, eight, tmp_path):
        """SIGKILL, which no process can see coming, while the second chunk is being computed."""
        spec = write_factory(tmp_path)
        code = (
            "import sys, time, camdrift\n"
            "def slow(progress):\n"
            "    print(progress.seeds_done, flush=True)\n"
            "    time.sleep(0.02)\n"
            f"camdrift.run(camdrift.load_model({spec!r}), {str(eight)!r}, out='killed', on_progress=slow, "
            f"attack={ATTACK!r}, **{SMALL!r})\n"
        )
        options = {"cwd": tmp_path, "env": environment(), "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", code], **options) as process:
            for line in process.stdout:
                if int(line) >= 4:
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
        out = tmp_path / "killed"
        assert json.loads((out / "run.json").read_text())["status"] == "running"
        assert (out / "chunks" / "00000").is_dir()
        model = camdrift.load_model(spec)
        resumed = study_of(model, eight, out, **SMALL, resume=True)
        assert_same(resumed, study_of(model, eight, tmp_path / "whole", **SMALL))


class TestWhere:
    @pytest.fixture(autouse=True)
    def _no_report(self, monkeypatch):
        skip_report(monkeypatch)

    def test_the_images_and_the_working_directory_are_left_alone(self, classifier, photos, tmp_path, monkeypatch):
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        before = listing(photos)
        study_of(classifier, photos, tmp_path / "elsewhere" / "deep" / "run", limit=3)
        assert listing(photos) == before
        assert list(here.iterdir()) == []
        assert {p.name for p in tmp_path.iterdir()} == {"here", "elsewhere"}

    def test_by_default_every_run_gets_its_own_folder_under_runs(self, classifier, photos, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        options = {"attack": ATTACK, "limit": 2, "strengths": (1.0,), "noise_ladder": ()}
        paths = [camdrift.run(classifier, photos, **options).path for _ in range(2)]
        assert paths[0] != paths[1]
        assert [path.parent.as_posix() for path in paths] == ["runs", "runs"]
        assert all(path.name.startswith("TinyNet-dlfuzz-") for path in paths)

    @pytest.mark.parametrize("name", ["plain", "a [1], b%20*?", "<b>", "ünïcode 象"])
    def test_any_name_will_do_for_a_run(self, classifier, photos, tmp_path, name):
        out = tmp_path / name
        study_of(classifier, photos, out, limit=3, **SMALL)
        assert camdrift.open(out).seeds.height == 3

    def test_the_function_stays_reachable_when_its_module_is_imported(self):
        module = importlib.import_module("camdrift.run")
        assert camdrift.run is module.run
        done = subprocess.run(
            [sys.executable, "-c", "import camdrift.run, camdrift; assert camdrift.run.__module__ == 'camdrift.run'"],
            env=environment(),
            check=False,
        )
        assert done.returncode == 0

    def test_too_little_memory_is_said_in_words(self, classifier, photos, tmp_path, monkeypatch):
        def fail(*_):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        monkeypatch.setattr(importlib.import_module("camdrift.run"), "study_chunk", fail)
        with pytest.raises(UserError, match="`batch_size` 7 needs more memory than cpu has") as caught:
            study_of(classifier, photos, tmp_path / "run", batch_size=7)
        assert "smaller --batch-size" in caught.value.hint

    def test_a_study_describes_itself(self, classifier, photos, tmp_path):
        found = study_of(classifier, photos, tmp_path / "run", limit=3, **SMALL)
        assert re.search(r"Study\(TinyNet, dlfuzz\(.*\): \d of 3 seed images analysed, \d layers; .*run\)", repr(found))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"strength": 1}, "no such option: strength"),
            ({"strengths": ()}, "`strengths` must name at least one strength, got: none"),
            ({"strengths": (1.0, -2)}, "`strengths` must be positive and finite, got: -2"),
            ({"strengths": (float("nan"),)}, "`strengths` must be positive and finite, got: nan"),
            ({"noise_ladder": (float("inf"),)}, "`noise_ladder` must be positive and finite, got: inf"),
            (
                {"targets": ("own", "mine")},
                "`target` must be one or more of own, seed, label, each once, got: own, mine",
            ),
            ({"targets": "mine"}, "got: mine"),
            ({"targets": ()}, "got: none"),
            ({"limit": 0}, "`limit` must be an integer of at least 1, got: 0"),
            ({"batch_size": -1}, "`batch_size` must be an integer of at least 0, got: -1"),
            ({"chunk_size": 2.5}, "`chunk_size` must be an integer of at least 0, got: 2.5"),
            ({"noise_draws": True}, "`noise_draws` must be an integer of at least 1, got: True"),
            ({"rng_seed": -1}, "`rng_seed` must be an integer of at least 0, got: -1"),
            ({"attack": "fgsm"}, "`attack` must be one of dlfuzz, dlfuzz:paper, got: fgsm"),
            ({"layers": "features.*"}, r"`layers` must match layers with a map, got: features.\* \(no such layer\)"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_bad_options_are_named_with_their_value(self, classifier, photos, tmp_path, options, message):
        with pytest.raises(UserError, match=message):
            camdrift.run(classifier, photos, out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_a_bare_module_is_no_classifier(self, classifier, photos, tmp_path):
        with pytest.raises(UserError, match="must be a camdrift classifier, got: TinyNet") as caught:
            camdrift.run(classifier.module, photos, out=tmp_path / "run")
        assert "camdrift.wrap" in caught.value.hint


def assert_same(one, other, *, without=()):
    """The same tables, value for value."""
    for name in TABLES:
        assert_frame_equal(
            getattr(one, name).drop(without, strict=False),
            getattr(other, name).drop(without, strict=False),
            check_exact=True,
        )


def assert_close(one, other):
    """The same rows and classes; floats that differ by rounding at most. Ranks may swap where gains are that close."""
    for name in ("seeds", "variants", "similarity", "floor", "coverage"):
        assert_frame_equal(getattr(one, name), getattr(other, name), rel_tol=1e-3, abs_tol=1e-5)
    names = ["target", "strength", "layer", "n", "n_undefined", "threshold", "gain"]
    assert_frame_equal(one.layers.select(names), other.layers.select(names), rel_tol=1e-2, abs_tol=1e-5)


def assert_series_close(one, other):
    assert one.is_null().to_list() == other.is_null().to_list()
    assert one.drop_nulls().to_numpy() == pytest.approx(other.drop_nulls().to_numpy(), abs=1e-5)


def assert_same_gallery(one, other):
    with np.load(one / "gallery.npz") as mine, np.load(other / "gallery.npz") as theirs:
        assert mine.files == theirs.files
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine.files)
