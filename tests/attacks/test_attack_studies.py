"""Whole studies with library attacks: success, bounds and failures in the tables; transfer; what the report says."""

import sys

import numpy as np
import polars as pl
import pytest
import torch

import camdrift
from camdrift.attacks.base import PER_IMAGE
from camdrift.cli import app as cli
from camdrift.errors import StoreError, UserError
from camdrift.figures.scope import scope_of
from camdrift.images.pixels import read_image
from camdrift.models.classifier import Classifier
from camdrift.pipeline.settings import Settings
from camdrift.report import threat
from camdrift.tensors import perturbed
from support.attacks import perturbations
from support.studies import (
    ATTACK,
    SIZE,
    SMALL,
    TinyNet,
    assert_same,
    skip_report,
    tiny_classifier,
    write_factory,
    write_images,
)

# Small enough to fail on some images.
FGSM = "fgsm(eps=2/255)"
OPTIONS = {**SMALL, "strengths": (0.5, 1.0, 2.0)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def study(photos, tmp_path_factory):
    """Eight images under FGSM."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        skip_report(monkeypatch)
        return camdrift.run(tiny_classifier(), photos, out=out, attack=FGSM, **OPTIONS)


@pytest.fixture
def pixels(photos):
    return {path.name: read_image(path, size=SIZE, resize=SIZE).pixels for path in sorted(photos.iterdir())}


def predicted(model, image):
    with torch.no_grad():
        return int(model(image[None]).argmax())


class TestTables:
    def test_success_is_what_the_model_says_of_the_image(self, study, pixels):
        model = tiny_classifier()
        found = perturbations(FGSM, model, pixels)
        statuses = set()
        for row in study.seeds.iter_rows(named=True):
            seed = pixels[row["seed_id"]]
            image = perturbed(seed, found[row["seed_id"]])
            before, after = predicted(model, seed), predicted(model, image)
            statuses.add(row["status"])
            assert row["clean_class"] == before
            assert row["status"] == ("analysed" if before != after else "no_adversarial")
            assert row["iterations"] is None
            assert row["target_class"] is None
            if before != after:
                assert row["adversarial_class"] == after
                assert row["perturbation_linf"] == pytest.approx(2 / 255, abs=1e-6)
                assert row["within_threat"] is True
            else:
                assert row["reason"] == "the image that the attack made does not change the prediction"
                assert row["within_threat"] is None
        assert statuses == {"analysed", "no_adversarial"}

    def test_the_record_tells_attack_bound_and_seeding(self, study):
        assert study.record["arguments"]["effective"]["attack"] == FGSM
        assert study.record["attack"] == {
            "spec": FGSM,
            "threat": {"norm": "linf", "epsilon": 2 / 255},
            "seeding": PER_IMAGE,
            "images_sha256": None,
            "advice": "a larger `eps` (now 2/255) may fool more",
            "code": None,
        }
        assert study.record["surrogate"] is None

    def test_the_report_tells_that_strengths_above_one_leave_the_bound(self, study):
        sentence = (
            "The attack is allowed a change of at most 2/255 per pixel and colour (pixels in [0, 1]); strength 2 "
            "leaves that threat model."
        )
        assert sentence in study.summary()

    def test_a_bound_that_is_broken_is_told(self, study):
        tables = {name: getattr(study, name) for name in ("seeds", "layers", "similarity", "variants")}
        tables["seeds"] = tables["seeds"].with_columns(
            within_threat=pl.when(pl.col("status") == "analysed").then(pl.col("seed_id") == "img_00.png")
        )
        n = tables["seeds"].filter(status="analysed").height
        outside = n - tables["seeds"].filter(within_threat=True).height
        text = threat.bound(tables, study.record, scope_of(tables, study.record))
        assert text.endswith(f". {outside} of {n} adversarial examples exceed it even at strength 1.")


@pytest.fixture
def quick(photos, tmp_path, monkeypatch):
    """A study without a report."""
    skip_report(monkeypatch)
    runs = []

    def run(model=None, images=photos, **options):
        runs.append(None)
        out = tmp_path / f"run {len(runs)}"
        return camdrift.run(model or tiny_classifier(), images, out=out, **{**SMALL, **options})

    return run


class TestBadAttacks:
    @pytest.fixture
    def own(self, tmp_path):
        def write(body):
            path = tmp_path / "own.py"
            path.write_text(f"import torch\n\ndef made(model, images, classes):\n    {body}\n")
            return f"{path}:made"

        return write

    def test_failures_leave_the_other_images(self, quick, own, pixels):
        means = {name: float(image.mean()) for name, image in pixels.items()}
        limit = float(np.median(list(means.values())))
        spec = own(f"assert images.mean() > {limit}, 'too dark'; return images + 0.3 * torch.randn_like(images)")
        seeds = quick(attack=spec).seeds
        failed = seeds.filter(status="failed")
        assert set(failed["seed_id"]) == {name for name, mean in means.items() if mean <= limit}
        assert set(failed["reason"]) == {"the attack failed: AssertionError: too dark"}
        assert seeds.filter(status="analysed").height > 0

    def test_an_attack_that_returns_the_seed_has_no_success(self, quick, own):
        seeds = quick(attack=own("return images")).seeds
        assert set(seeds["status"]) == {"no_adversarial"}

    def test_a_model_that_breaks_on_the_image_makes_a_failure(self, quick, own):
        class Fragile(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = TinyNet().eval()

            def forward(self, x):
                return self.net(x) / (x.amax((1, 2, 3)) < 1).float()[:, None]

        seeds = quick(Classifier(Fragile(), size=SIZE), attack=own("return images + 5"), limit=3).seeds
        assert set(seeds["status"]) == {"failed"}
        assert set(seeds["reason"]) <= {
            "the model returned NaN or infinity for the adversarial image",
            "the model returned NaN or infinity for the clean image",
        }

    def test_nothing_is_written_for_a_target_that_the_model_lacks(self, photos, tmp_path):
        with pytest.raises(UserError, match="must be below the number of classes, 10"):
            camdrift.run(tiny_classifier(), photos, out=tmp_path / "run", attack="pgd(target_class=10)")
        assert list(tmp_path.iterdir()) == []


def test_targeted_success_is_the_target_alone(quick):
    study = quick(attack="pgd(eps=4/255, steps=5, target_class=3)")
    assert set(study.seeds["target_class"]) == {3}
    for row in study.seeds.iter_rows(named=True):
        if row["status"] == "analysed":
            assert row["adversarial_class"] == 3
        elif row["clean_class"] == 3:
            assert row["reason"] == "its clean prediction is the target class already"
        else:
            start = "the image that the attack made is predicted class "
            assert row["reason"].startswith(start)
            assert row["reason"].endswith(", not the target class 3")
    study = quick(attack="pgd(eps=16/255, steps=10, target_class='second')")
    assert study.seeds.filter(status="analysed").height >= 6
    assert "changed the prediction to the class that it was to reach for" in study.summary()


def test_another_class_than_the_target_is_no_success(quick, tmp_path):
    """A function that is given a target and flees the clean class instead."""
    body = """
import torch

def made(model, images, classes, target_classes):
    images.requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(images), classes)
    return images + 8 / 255 * torch.autograd.grad(loss, images)[0].sign()
"""
    (tmp_path / "flees.py").write_text(body)
    seeds = quick(attack=f"{tmp_path}/flees.py:made(target_class='least_likely')").seeds
    assert set(seeds["status"]) == {"no_adversarial"}
    reached = seeds["reason"].str.extract(r"is predicted class (\d+), not the target class").cast(pl.Int64)
    assert (reached != seeds["clean_class"]).sum() >= 6
    assert (reached != seeds["target_class"]).all()


class TestTransfer:
    @pytest.mark.parametrize("spec", ["pgd(eps=16/255, steps=5)", ATTACK])
    def test_the_attack_sees_the_surrogate_and_the_model_judges(self, quick, pixels, spec):
        model, surrogate = tiny_classifier(), tiny_classifier(rng_seed=2)
        study = quick(model, surrogate=surrogate, attack=spec, chunk_size=0)
        found = perturbations(spec, surrogate, pixels)
        analysed = study.seeds.filter(status="analysed")
        for row in study.seeds.iter_rows(named=True):
            delta, seed = found[row["seed_id"]], pixels[row["seed_id"]]
            assert row["clean_class"] == predicted(model, seed)
            if delta is None:
                assert row["reason"].startswith("no adversarial example in ")
                continue
            after = predicted(model, perturbed(seed, delta))
            assert (row["status"] == "analysed") == (after != row["clean_class"])
            if row["status"] == "analysed":
                assert row["adversarial_class"] == after
                assert row["perturbation_l2"] == pytest.approx(float(delta.norm()), rel=1e-5)
        assert analysed.height > 0 or spec == ATTACK  # whose small steps transfer to none

    def test_the_record_names_the_surrogate_and_resume_knows_it(self, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        model, surrogate = tiny_classifier(), tiny_classifier(rng_seed=2, spec="other")
        options = {"out": tmp_path / "run", "attack": "fgsm", **SMALL}
        study = camdrift.run(model, photos, surrogate=surrogate, **options)
        assert study.record["surrogate"]["weights_sha256"] == surrogate.weights_checksum()
        assert study.record["arguments"]["passed"]["surrogate"] == "other"
        assert "The attack (fgsm(eps=8/255), made on other) changed" in study.summary()
        again = camdrift.run(model, photos, surrogate=surrogate, resume=True, **options)
        assert_same(study, again)
        for changed in (tiny_classifier(rng_seed=3, spec="other"), None):
            with pytest.raises(StoreError, match="surrogate was other"):
                camdrift.run(model, photos, surrogate=changed, resume=True, **options)

    def test_both_must_agree(self, photos, tmp_path):
        larger = Classifier(TinyNet().eval(), size=2 * SIZE)
        with pytest.raises(UserError, match="got: 64 px and 10 classes for 32 px and 10 classes"):
            camdrift.run(tiny_classifier(), photos, out=tmp_path / "run", surrogate=larger)
        with pytest.raises(UserError, match="`surrogate` must be a camdrift classifier, got: TinyNet"):
            camdrift.run(tiny_classifier(), photos, out=tmp_path / "run", surrogate=TinyNet())
        with pytest.raises(UserError, match="`surrogate` must be a camdrift classifier, got: torchvision/vgg16"):
            camdrift.run(tiny_classifier(), photos, settings=Settings(surrogate="torchvision/vgg16"))

    def test_on_the_command_line(self, photos, tmp_path, monkeypatch, capsys):
        skip_report(monkeypatch)
        monkeypatch.chdir(tmp_path)
        spec, other = write_factory(tmp_path), write_factory(tmp_path, name="other.py", rng_seed=2)
        line = ["run", photos, "--model", spec, "--surrogate", other, "--attack", "fgsm", "--out", "run", "--limit", 4]
        monkeypatch.setattr(sys, "argv", ["camdrift", *map(str, line)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        assert f"made on {other}" in capsys.readouterr().out
        study = camdrift.run(
            camdrift.load_model(spec),
            photos,
            surrogate=camdrift.load_model(other),
            attack="fgsm",
            limit=4,
            out=tmp_path / "second",
        )
        assert_same(study, camdrift.open(tmp_path / "run"))
