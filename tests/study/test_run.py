"""Whole studies of a tiny classifier: every number in the tables is recomputed from the model and the images."""

import hashlib
import json
import re

import numpy as np
import polars as pl
import pytest
import scipy.stats
import torch
from PIL import Image
from polars.testing import assert_frame_equal

import camdrift
from camdrift.attacks.making import make_attack
from camdrift.images.pixels import read_image
from camdrift.pipeline.noise import matched_noise
from camdrift.tables.study import TABLES
from camdrift.tensors import perturbed
from support import attacks
from support.studies import (
    ATTACK,
    SIZE,
    draw_only,
    naive_similarity,
    skip_report,
    study_of,
    tiny_classifier,
    write_images,
)

STRENGTHS, LADDER, DRAWS, CHUNK = (0.5, 1.0, 16.0), (8.0,), 2, 5
TARGETS = ("own", "seed")
NOISE_STRENGTHS = (*STRENGTHS, *LADDER)

# What a user of the tables relies on; `records` may add columns, and says what each means.
CONTRACT = {
    "seeds": "seed_id path sha256 label clean_class clean_probability status reason adversarial_class "
    "adversarial_probability iterations perturbation_mean perturbation_std perturbation_l2 perturbation_linf "
    "relative_l2 noise_mean noise_std survives_uint8 target_class within_threat",
    "variants": "seed_id condition strength draw predicted_class probability is_flipped realised_l2 realised_linf "
    "clipped_fraction",
    "similarity": "seed_id condition strength draw target layer layer_label layer_index similarity undefined_reason",
    "focus": "seed_id condition strength target layer layer_label layer_index centroid_shift spread_change "
    "entropy_change top_overlap perturbation_correlation",
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
def study(classifier, photos, tmp_path_factory):
    """Twelve images in three chunks, with everything drawn and written."""
    out = tmp_path_factory.mktemp("runs") / "first"
    options = {"strengths": STRENGTHS, "noise_ladder": LADDER, "noise_draws": DRAWS, "chunk_size": CHUNK}
    return study_of(classifier, photos, out, targets=TARGETS, **options)


@pytest.fixture(scope="module")
def pixels(photos):
    """The seed images by name, read without camdrift's pipeline."""
    paths = sorted(photos.iterdir())
    return {p.name: read_image(p, size=SIZE, resize=SIZE).pixels for p in paths}


@pytest.fixture(scope="module")
def perturbations(classifier, pixels):
    """Base perturbation of every seed, from the attack alone, chunk by chunk."""
    found = {}
    names = list(pixels)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        found |= attacks.perturbations(ATTACK, classifier, {name: pixels[name] for name in chunk}, batch_size=2)
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
            "run.json", "report.html", "gallery.npz", "figures",
            *(f"{name}.parquet" for name in (*TABLES, "ceiling", "flips", "newly_covered"))
        }  # fmt: skip
        assert figures == {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf")}
        numbers = {re.match(r"figure_(\d+[ab]?)_", stem)[1] for stem in stems}
        assert numbers == {"2a", "2b", "3", "4a", "4b", "5a", "5b", "6", "7", "8", "9", "13", "14"}

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
        assert set(CONTRACT[name].split()) <= set(table.columns)
        assert_frame_equal(getattr(study, name), table)
        for column in table.select(pl.col(pl.Float64)).columns:
            assert not table[column].is_nan().any(), column

    def test_the_record_says_how_the_study_was_made(self, study, classifier, photos):
        record = json.loads((study.path / "run.json").read_text())
        assert record == study.record
        assert set(record) == {
            "schema_version", "camdrift", "kind", "status", "command", "started", "finished", "arguments", "model",
            "attack", "perturbations", "surrogate", "layers", "images", "versions", "machine", "device", "timings",
            "preflight", "files", "engine", "deterministic",
        }  # fmt: skip
        assert record["deterministic"] == "all"
        assert record["engine"] == {
            "name": "local",
            "address": None,
            "workers": None,
            "threads": torch.get_num_threads(),
        }
        assert record["preflight"].keys() == {
            "n",
            "n_labelled",
            "accuracy",
            "mean_confidence",
            "zero_gradient_share",
            "warnings",
        }
        assert (record["preflight"]["n"], record["preflight"]["warnings"]) == (12, [])
        assert record["model"]["configuration"] == "given"
        assert (record["kind"], record["status"]) == ("study", "done")
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
        assert f"12 images: {analysed} fooled, and analysed; {12 - analysed} withstood the attack" in page
        assert all(layer in page for layer in classifier.layers)
        words = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        assert set(re.findall(r"""(?:src|href)=["']?((?:https?:|//|/)[^"']*)""", words)) == {
            "https://arxiv.org/abs/2303.06032",
            "https://arxiv.org/abs/1610.02391",
        }


def by_deviation(study):
    """The analysed seeds by how far the attack moved their maps under `seed`, largest first.

    It counts at the lowest strength at which at least half of the adversarial examples fool the network, where the
    page opens.
    """
    attacked = study.variants.filter(condition="adversarial").group_by("strength").agg(pl.col("is_flipped").mean())
    strength = attacked.filter(pl.col("is_flipped") >= 0.5)["strength"].min()
    rows = study.similarity.filter(condition="adversarial", strength=strength, target="seed").drop_nulls("similarity")
    found = {}
    for name, value in rows.select("seed_id", "similarity").iter_rows():
        found.setdefault(name, []).append(1 - value)
    return sorted(found, key=lambda name: -np.mean(found[name]))


class TestGallery:
    def test_pictures_are_those_of_every_analysed_seed_by_deviation(self, study, pixels, perturbations):
        with np.load(study.path / "gallery.npz") as gallery:
            assert gallery["seed_ids"].tolist() == by_deviation(study)
            assert set(gallery["seed_ids"].tolist()) == set(perturbations)
            assert gallery["strengths"].tolist() == list(STRENGTHS)
            assert gallery["targets"].tolist() == list(TARGETS)
            for place, name in enumerate(gallery["seed_ids"].tolist()):
                clean = gallery[f"{place}/clean"] / 255
                assert np.abs(clean - pixels[name].permute(1, 2, 0).numpy()).max() <= 1 / 509
                added = {"adversarial": gallery[f"{place}/perturbation"], "noise": gallery[f"{place}/noise"]}
                for (condition, values), peak in zip(added.items(), gallery[f"{place}/peaks"], strict=True):
                    for strength in STRENGTHS:
                        row = {"seed_id": name, "condition": condition, "strength": strength, "draw": 0}
                        image = variant(row, pixels, perturbations).permute(1, 2, 0).numpy()
                        rebuilt = np.clip(clean + strength * peak * values / 127, 0, 1)
                        assert np.abs(rebuilt - image).max() <= 1 / 509 + strength * peak / 253

    def test_heatmaps_are_those_of_the_maps_one_by_one(self, study, classifier, pixels, perturbations):
        kinds = [("clean", 0.0)] + [(c, s) for c in ("adversarial", "noise") for s in STRENGTHS]
        clean_class = dict(study.seeds.select("seed_id", "clean_class").iter_rows())
        with np.load(study.path / "gallery.npz") as gallery:
            for place, name in enumerate(gallery["seed_ids"].tolist()[::2]):
                for slot, (condition, strength) in enumerate(kinds):
                    row = {"seed_id": name, "condition": condition, "strength": strength, "draw": 0}
                    image = pixels[name] if condition == "clean" else variant(row, pixels, perturbations)
                    for target, explained in enumerate(("own", clean_class[name])):
                        maps = camdrift.attribute(classifier, image[None], explained)
                        for index, layer in enumerate(classifier.layers):
                            found = gallery[f"{2 * place}/map/{index}"]
                            assert found.shape == (2, len(kinds), *maps[layer].shape[1:])
                            peak = max(float(maps[layer].max()), 1e-30)
                            expected = 255 * maps[layer][0].numpy() / peak
                            assert np.abs(found[target, slot] - expected).max() <= 1

    def test_pictures_are_chosen_at_the_strength_that_the_page_opens_at(
        self, classifier, photos, tmp_path, monkeypatch
    ):
        skip_report(monkeypatch)
        options = {"strengths": (0.25, 0.75, 1.0), "noise_ladder": (), "targets": ("seed",)}
        found = study_of(classifier, photos, tmp_path / "run", **options)
        assert found.headline_strength < 1
        rows = found.similarity.filter(condition="adversarial", strength=1.0)
        means = rows.group_by("seed_id").agg(pl.col("similarity").mean()).sort("similarity")
        assert list(found.gallery) == by_deviation(found) != means["seed_id"].to_list()

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_some_seeds_span_the_range(self, classifier, photos, tmp_path, monkeypatch, count):
        skip_report(monkeypatch)
        options = {"strengths": (1.0,), "noise_ladder": (), "chunk_size": 0}
        found = study_of(classifier, photos, tmp_path / "run", gallery=count, **options)
        order = by_deviation(found)
        middle = (len(order) - 1) // 2 if count == 1 else round((len(order) - 1) / 2)
        expected = {1: [order[middle]], 2: [order[0], order[-1]], 3: [order[0], order[middle], order[-1]]}[count]
        with np.load(found.path / "gallery.npz") as gallery:
            assert gallery["seed_ids"].tolist() == expected
            assert found.record["arguments"]["passed"]["gallery"] == count
            # By key and place alone: every picture goes with its seed.
            for place, name in enumerate(expected):
                peak = found.seeds.filter(seed_id=name)["perturbation_linf"][0]
                assert gallery[f"{place}/peaks"][0] == pytest.approx(peak)
            assert {key.partition("/")[0] for key in gallery if "/" in key} == {str(i) for i in range(count)}

    def test_all_seeds_also_where_they_are_more_than_are_shown_by_default(self, classifier, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        photos = write_images(tmp_path / "photos", 45)
        options = {"strengths": (1.0,), "noise_ladder": (), "targets": ("seed",), "batch_size": 32}
        shown = []
        for name, count in (("default", {}), ("all", {"gallery": None})):
            found = study_of(classifier, photos, tmp_path / name, **options, **count)
            with np.load(found.path / "gallery.npz") as gallery:
                shown.append(gallery["seed_ids"].tolist())
        order = by_deviation(found)
        assert len(order) > 24 == len(shown[0])
        assert shown[0] == [name for name in order if name in shown[0]]
        assert (shown[0][0], shown[0][-1]) == (order[0], order[-1])
        assert shown[1] == order

    def test_none(self, classifier, photos, tmp_path, monkeypatch):
        draw_only(monkeypatch, "figure_3_heatmaps")
        options = {"strengths": (1.0,), "noise_ladder": (), "limit": 4}
        found = study_of(classifier, photos, tmp_path / "run", gallery=0, **options)
        with np.load(found.path / "gallery.npz") as gallery:
            assert sorted(gallery.files) == ["seed_ids", "strengths", "targets"]
            assert gallery["seed_ids"].tolist() == []
        assert (found.path / "figures" / "figure_3_heatmaps.png").is_file()
        assert "<h1" in (found.path / "report.html").read_text()

    def test_seeds_without_a_label_are_explained_by_their_own_class(self, classifier, photos, tmp_path, monkeypatch):
        """Under `label` alone they have no deviation: they come last, and their pictures are there all the same."""
        skip_report(monkeypatch)
        model = tiny_classifier(labels=[f"class {number}" for number in range(10)])
        for number, path in enumerate(sorted(photos.iterdir())):
            folder = tmp_path / "sorted" / (f"class_{number % 3}" if number % 2 else ".")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
        options = {"strengths": (1.0,), "noise_ladder": (), "targets": ("label",)}
        found = study_of(model, tmp_path / "sorted", tmp_path / "run", **options)
        labels = dict(found.seeds.filter(status="analysed").select("seed_id", "label").iter_rows())
        with np.load(found.path / "gallery.npz") as gallery:
            names = gallery["seed_ids"].tolist()
            known = [labels[name] is not None for name in names]
            assert set(names) == set(labels)
            assert known == sorted(known, reverse=True)
            assert set(known) == {True, False}
            assert all(gallery[f"{place}/map/0"].any() for place in range(len(names)))


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
        # Every analysed seed is held against one other of its chunk, if there is one.
        chunks = [study.seeds[start : start + CHUNK].filter(status="analysed").height for start in range(0, 12, CHUNK)]
        assert study.floor.height == sum(n for n in chunks if n > 1) * len(TARGETS) * layers
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
        clean_maps = {n: camdrift.attribute(classifier, pixels[n][None], clean_class[n]) for n in chosen}
        rows = study.similarity.filter(pl.col("seed_id").is_in(chosen))
        undefined = 0
        for key, part in rows.group_by("seed_id", "condition", "strength", "draw", "target"):
            row = dict(zip(("seed_id", "condition", "strength", "draw"), key, strict=False))
            explained = "own" if key[4] == "own" else clean_class[row["seed_id"]]
            seed = clean_maps[row["seed_id"]]
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
        maps = {n: camdrift.attribute(classifier, pixels[n][None], classes[n]) for n in analysed}
        for row in study.floor.iter_rows(named=True):
            one, other = row["seed_id"], row["other_seed_id"]
            assert one != other
            assert names.index(one) // CHUNK == names.index(other) // CHUNK
            expected = naive_similarity(maps[one][row["layer"]], maps[other][row["layer"]])
            assert row["similarity"] == (None if np.isnan(expected) else pytest.approx(expected, abs=1e-4))


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
