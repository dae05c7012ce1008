"""`camdrift head` and studies with heads: what training reaches, what a record names, verify, resume, compare."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import camdrift
from camdrift.cli.app import app
from camdrift.errors import StoreError, UserError
from camdrift.statistics.estimates import calibration_error
from support.comparisons import skip_page
from support.studies import skip_report

NET = """
import torch
from torch import nn

MEAN, STD, SIZE, LABELS = (0.5,) * 3, (0.25,) * 3, 16, ("red", "green", "blue", "grey")


def build():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
"""
COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


def write_colours(folder, names=None, count=6):
    """Folders of noisy pictures, each of one colour, called as their colours or as `names` says."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        place = folder / (names or {}).get(name, name)
        place.mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + rng.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{name}_{number}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("camdrift.models.head_training._STEPS", 150)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a network that was never trained, pictures of three of its four classes, and two heads for it."""
    folder = tmp_path_factory.mktemp("heads")
    (folder / "net.py").write_text(NET)
    write_colours(folder / "photos")
    classifier = camdrift.load_model(f"{folder / 'net.py'}:build", device="cpu")
    results = {
        kind: camdrift.train_head(classifier, folder / "photos", head=kind, out=folder / f"{kind}.safetensors")
        for kind in ("linear", "zero-bias")
    }
    return folder, classifier, results


def test_training_reaches_what_the_features_tell(place):
    folder, classifier, results = place
    for kind, result in results.items():
        assert (result.accuracy, result.images, result.folds, result.labels) == (1, 18, 5, "folders"), kind
        assert result.accuracy_low == pytest.approx(0.824, abs=1e-3)  # Wilson, 18 of 18
        assert result.own_accuracy < 0.7  # the network was never trained
        assert result.classes == (0, 1, 2)
        assert "the head knows 3 of the model's 4 classes, and never predicts others" in result.remarks
        assert result.calibration == pytest.approx(1 - result.confidence, abs=1e-6)  # all predictions are right
        with safe_open(str(folder / f"{kind}.safetensors"), "pt") as file:
            metadata = file.metadata()
        assert metadata["kind"] == kind
        assert metadata["model_sha256"] == classifier.weights_checksum()
        assert metadata["images_sha256"] == result.images_sha256
        assert json.loads(metadata["classes"]) == [0, 1, 2]
        assert json.loads(metadata["accuracy"]) == result.accuracy
        assert json.loads(metadata["scale"]) == {"linear": None, "zero-bias": 5.0}[kind]


def test_it_is_the_same_again_and_in_other_batches(place, tmp_path):
    folder, classifier, results = place
    for name, size in (("a", 0), ("b", 5)):
        out = tmp_path / f"{name}.safetensors"
        result = camdrift.train_head(classifier, folder / "photos", head="linear", out=out, batch_size=size)
        assert result.confidence == pytest.approx(results["linear"].confidence, abs=1e-5)
        if not size:
            assert out.read_bytes() == (folder / "linear.safetensors").read_bytes()


def test_folders_that_are_no_classes_give_way_to_predictions(place, tmp_path):
    _, classifier, _ = place
    photos = write_colours(tmp_path / "photos", {"red": "one", "green": "two", "blue": "three"})
    result = camdrift.train_head(classifier, photos, head="linear", out=tmp_path / "h.safetensors")
    assert (result.labels, result.own_accuracy) == ("predictions", 1)
    assert any("the model's own predictions" in remark for remark in result.remarks)


def test_what_cannot_be_trained(place, tmp_path):
    folder, classifier, _ = place
    with pytest.raises(UserError, match=r"must be a .safetensors file, got: h.pt"):
        camdrift.train_head(classifier, folder / "photos", out="h.pt")
    with pytest.raises(UserError, match="must lie in a folder that exists"):
        camdrift.train_head(classifier, folder / "photos", out=tmp_path / "no" / "h.safetensors")
    with pytest.raises(UserError, match="two classes or more, got: 6 images of"):
        camdrift.train_head(classifier, folder / "photos" / "blue", out=tmp_path / "h.safetensors")


def test_calibration_by_hand():
    """Two bins: confidence .9 with accuracy .5, confidence .6 with accuracy 1."""
    confidence, is_right = np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True])
    assert calibration_error(confidence, is_right) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


SMALL = {
    "attack": "pgd(eps=128/255, steps=10)", "strengths": (1.0,), "noise_ladder": (4.0,), "gallery": 0, "limit": 9,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(place):
    """A study of the network with either head."""
    folder, _, results = place
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        for kind, result in results.items():
            classifier = camdrift.load_model(f"{folder / 'net.py'}:build", device="cpu", head=result.spec)
            camdrift.run(classifier, folder / "photos", out=folder / f"run-{kind}", **SMALL)
    return {kind: camdrift.open(folder / f"run-{kind}") for kind in results}


class TestStudies:
    def test_a_record_names_the_head(self, runs):
        for kind, study in runs.items():
            head = study.record["model"]["head"]
            assert (head["kind"], len(head["sha256"])) == (kind, 64)
            assert head["spec"].endswith(f"{kind}.safetensors")
            assert study.seeds["clean_class"].to_list() == study.seeds["label"].to_list()
            assert (study.seeds["status"] == "analysed").sum() >= 3
            assert f"with {kind} head" in study.cite().methods

    def test_verify_loads_it_again(self, place, runs):
        _, classifier, _ = place
        again = camdrift.verify(runs["zero-bias"].path, trust=True, sample=2)
        assert (again.problems, again.is_complete) == ((), True)
        other = camdrift.verify(runs["zero-bias"].path, classifier, sample=2)
        assert "head was zero-bias of checksum" in other.skipped[0]
        assert "now the model's own" in other.skipped[0]

    def test_another_head_does_not_go_on(self, place, runs):
        folder, classifier, results = place
        head = camdrift.with_head(classifier, results["linear"].spec)
        with pytest.raises(StoreError, match=r"head was zero-bias of checksum .*, now linear of checksum"):
            camdrift.run(head, folder / "photos", out=folder / "run-zero-bias", resume=True, **SMALL)

    def test_a_comparison_calls_its_sides_by_their_heads(self, runs, tmp_path, monkeypatch):
        skip_page(monkeypatch)
        made = camdrift.compare(*runs.values(), out=tmp_path / "c", n_bootstrap=20)
        assert made.sides["side"].to_list() == made.sides["head"].to_list() == ["linear", "zero-bias"]
        assert (made.differences["layer_a"] == made.differences["layer_b"]).all()


def test_commands(place, tmp_path, monkeypatch):
    """One line each: what `head` prints as JSON is what is written, and `run --head` takes it."""
    from typer.testing import CliRunner

    folder, _, _ = place
    skip_report(monkeypatch)
    monkeypatch.chdir(tmp_path)
    model = f"{folder / 'net.py'}:build"
    words = ["head", str(folder / "photos"), "--model", model, "--head", "cosine(scale=auto)", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["spec"], result["accuracy"]) == ("cosine@head.safetensors", 1)
    run = ["run", str(folder / "photos"), "--model", model, "--limit", "2", "--out", "r", "--gallery", "0"]
    run += ["--attack", SMALL["attack"], "--strengths", "1", "--noise-ladder", "4", "--device", "cpu"]
    done = CliRunner().invoke(app, [*run, "--head", result["spec"]])
    assert done.exit_code == 0, done.output
    assert camdrift.open("r").record["model"]["head"]["kind"] == "cosine"
    wrong = CliRunner().invoke(app, [*run, "--head", "linear@head.safetensors"])
    assert "`head` must name what the file holds" in str(wrong.exception)
