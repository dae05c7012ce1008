"""The look before a study: every warning provoked by a network with that very fault, and none without."""

import json
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from camdrift.cli.progress import show_progress
from camdrift.errors import ModelError
from camdrift.images.sources import find_images
from camdrift.models.classifier import Classifier
from camdrift.pipeline.plan import Design, assemble
from camdrift.pipeline.preflight import preflight
from camdrift.pipeline.settings import Settings
from camdrift.report.opening import preflight_warnings as report_warnings
from camdrift.study.run import run

LABELS = ("red", "green", "blue")
MEAN, STD = (0.5, 0.5, 0.5), (0.02, 0.02, 0.02)
RUN = {"strengths": (1.0,), "noise_ladder": (4.0,), "attack": "dlfuzz(iterations=1)"}


class Colours(nn.Module):
    """The brightest of three planes, for pixels normalised by MEAN and STD; surer of what is more so.

    A constant class that no real colour is wins whenever the input is not normalised as it should be: inputs nearer
    than 1 to zero are those of pixels that nobody normalised, or of pixels normalised twice.
    """

    def __init__(self, *, sharpness=5.0, dull=None):
        super().__init__()
        self.planes = nn.Conv2d(3, 3, 1, bias=False)
        self.sharpness, self.dull = sharpness, dull
        with torch.no_grad():
            self.planes.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, x):
        means = self.planes(x).mean((2, 3))
        logits = self.sharpness * means
        if self.dull is not None:
            strange = (means.amax(1) > 25) | (means.amax(1) < 1)
            constant = torch.zeros_like(logits)
            constant[:, self.dull] = 0.1
            logits = torch.where(strange[:, None], constant, logits)
        return logits


class Normalising(nn.Module):
    """A network with its normalisation inside."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((x - 0.5) / 0.02)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve reddish and twelve bluish pictures of 16 px, in folders of these names."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, plane in (("red", 0), ("blue", 2)):
        (folder / name).mkdir()
        for number in range(12):
            pixels = rng.integers(110, 150, (16, 16, 3))
            pixels[:, :, plane] += 60
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def looked(module, photos, *, labelled=True, **options):
    classifier = Classifier(module, size=16, labels=LABELS if labelled else None, **options)
    files = find_images(photos)
    folders = {"red": 0, "blue": 2} if labelled else {}
    design = Design(Settings(), classifier.layers, folders, batch_size=5, chunks=1)
    return preflight(assemble(design, classifier), files)


def only(warnings, *words):
    (warning,) = warnings
    assert all(word in warning for word in words), warning
    assert "\n" not in warning


class TestNothingWrong:
    def test_numbers(self, photos):
        seen = looked(Colours(), photos, mean=MEAN, std=STD)
        assert (seen.n, seen.n_labelled, seen.accuracy, seen.warnings) == (24, 24, 1.0, ())
        assert 0.9 < seen.mean_confidence <= 1

    def test_without_labels(self, photos):
        seen = looked(Colours(), photos, labelled=False, mean=MEAN, std=STD)
        assert (seen.n, seen.n_labelled, seen.accuracy, seen.warnings) == (24, 0, None, ())

    def test_unsure_networks_are_not_suspected(self, photos):
        """Stronger contrast makes them surer, which says nothing."""
        assert looked(Colours(sharpness=0.3), photos, labelled=False).warnings == ()

    def test_unreadable_images_and_nothing_but_those(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"no picture")
        seen = looked(Colours(), tmp_path, labelled=False)
        assert (seen.n, seen.mean_confidence, seen.warnings) == (0, None, ())

    def test_at_most_32_images(self, photos):
        files = [*find_images(photos)] * 2
        classifier = Classifier(Colours(), size=16)
        design = Design(Settings(), (), {}, batch_size=8, chunks=1)
        assert preflight(assemble(design, classifier), files).n == 32


class TestInput:
    def test_normalised_twice(self, photos):
        seen = looked(Normalising(Colours(dull=1)), photos, mean=MEAN, std=STD)
        assert seen.accuracy == 0
        only(
            seen.warnings,
            "24 of 24 predictions are right without the mean and std, 0 as given (McNemar p = 1e-07)",
            "leave out mean and std",
        )

    def test_normalised_twice_without_labels(self, photos):
        seen = looked(Normalising(Colours(dull=1)), photos, labelled=False, mean=MEAN, std=STD)
        only(seen.warnings, "mean confidence is 1.00 without the mean and std, 0.36 as given", "a suspicion")

    def test_red_and_blue_exchanged(self, photos):
        class Blue(Colours):
            def forward(self, x):
                return super().forward(x.flip(1))

        only(
            looked(Blue(), photos, mean=MEAN, std=STD).warnings,
            "24 of 24 predictions are right with red and blue exchanged, 0 as given",
            "`x = x.flip(1)`",
        )

    def test_not_normalised(self, photos):
        class Shifted(Colours):
            """Knows colours by sign: pixels that nobody normalised are all positive."""

            def forward(self, x):
                means = self.planes(x).mean((2, 3))
                return torch.where((means > 0.2).all(1)[:, None], torch.tensor([0.0, 2.0, 0.0]), means)

        seen = looked(Shifted(), photos)
        only(seen.warnings, "predictions are right with ImageNet's mean and std, 0 as given", "mean=(0.485, 0.456,")

    def test_a_difference_that_chance_makes_is_none(self, photos):
        class Half(nn.Module):
            """Right for every red picture, in this order of channels and in the other."""

            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 1)

            def forward(self, x):
                return 0 * self.conv(x).mean((2, 3)) + torch.tensor([2.0, 0.0, 0.0])

        seen = looked(Half(), photos, mean=MEAN, std=STD)
        assert seen.accuracy == 0.5
        assert "gradient" in seen.warnings[0]
        only(seen.warnings[1:], "12 of 24 predictions are right, where guessing gets 33.3 %")

    def test_a_gradient_that_torch_cannot_compute_is_told_with_its_error(self, photos):
        class Written(Colours):
            """Writes to what the backward pass needs, but before the first layer."""

            def forward(self, x):
                return super().forward(x.exp().add_(1).log())

        seen = looked(Written().eval(), photos, mean=MEAN, std=STD)
        assert seen.zero_gradient_share is None
        only(seen.warnings, "the gradient of the logits cannot be computed: RuntimeError: one of the variables")

    def test_training_mode(self, photos):
        module = nn.Sequential(Colours(), nn.Dropout(0.5))
        assert looked(module.eval(), photos, mean=MEAN, std=STD).warnings == ()
        seen = looked(module.train(), photos, mean=MEAN, std=STD)
        only(seen.warnings, "dropout or batch norm was in training mode", "studied in evaluation mode")


class TestProbabilities:
    @pytest.mark.parametrize(
        ("change", "got"), [("softmax", "probabilities (every row"), ("log_softmax", "log-probabilities (exp of every")]
    )
    def test_are_refused(self, photos, change, got):
        class Late(Colours):
            """Logits for made-up images, and something else for photographs."""

            def forward(self, x):
                logits = super().forward(x)
                return logits if x.amax() < 1.5 else getattr(logits, change)(1)

        class Always(Colours):
            def forward(self, x):
                return super().forward(x).log_softmax(1)

        with pytest.raises(ModelError, match="`model` must return logits, got: log-probabilities"):
            looked(Always(), photos)
        module = Late()
        module.forward_ = module.forward
        classifier_options = {"mean": (0.0, 0.0, 0.0), "std": (0.5, 0.5, 0.5)}
        module.eval()
        with pytest.raises(ModelError) as caught:
            looked(_Switching(Colours(), change), photos, **classifier_options)
        assert caught.value.message.startswith(f"`model` must return logits, got: {got}")


class _Switching(nn.Module):
    """Logits for the first calls, which load and trace it, and something else from then on."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change, self.calls = inner, change, count(1)  # a number would be put back

    def forward(self, x):
        logits = self.inner(x)
        return logits if next(self.calls) <= 6 else getattr(logits, self.change)(1)


class _Noisy(nn.Module):
    """Logits that are others every time, where images are smooth as photographs are; finite or not if so asked."""

    def __init__(self, inner, noise):
        super().__init__()
        self.inner, self.noise, self.calls = inner, noise, count(1)  # a number would be put back

    def forward(self, x):
        calls = next(self.calls)
        logits = self.inner(x)
        is_made_up = (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2, 3)) > 0.06
        change = torch.nan if self.noise is None and calls % 2 else (self.noise or 0.0) * calls
        return torch.where(is_made_up[:, None], logits, logits + change)


class TestRepeatedBatch:
    """What looks steady on two made-up images, and is not on those of the study."""

    @pytest.mark.parametrize(
        ("noise", "got"),
        [(0.05, "logits that differ by 0.25 when the same images are given again"), (None, "NaN or infinity only one")],
    )
    def test_another_answer_is_refused(self, photos, noise, got):
        with pytest.raises(ModelError) as caught:
            looked(_Noisy(Colours().eval(), noise).eval(), photos)
        assert caught.value.message.startswith(f"`model` must return the same logits for the same images, got: {got}")
        assert "draws random numbers" in caught.value.hint

    def test_rounding_is_none(self, photos):
        assert looked(_Noisy(Colours().eval(), 1e-6).eval(), photos).n == 24


class TestStudy:
    @pytest.fixture(scope="class")
    @classmethod
    def study(cls, photos, tmp_path_factory):
        classifier = Classifier(Normalising(Colours(dull=1)), size=16, labels=LABELS, mean=MEAN, std=STD)
        seen = []
        study = run(classifier, photos, out=tmp_path_factory.mktemp("run") / "x", on_progress=seen.append, **RUN)
        return study, seen

    def test_the_record_has_it(self, study):
        record = json.loads((study[0].path / "run.json").read_text())
        assert record["preflight"]["n"] == 24
        assert record["preflight"]["accuracy"] == 0
        only(record["preflight"]["warnings"], "24 of 24 predictions are right without")
        assert record["timings"]["preflight"] > 0

    def test_it_is_said_once_and_at_once(self, study):
        warned = [number for number, progress in enumerate(study[1]) if progress.warnings]
        assert warned == [0]
        assert study[1][0].stage == "preflight"

    def test_the_page_says_it(self, study):
        page = (study[0].path / "report.html").read_text(encoding="utf-8")
        (warning,) = report_warnings(study[0].record)
        assert "Before you trust this study:" in page
        assert warning.split(":")[0] in page

    def test_the_console_says_it(self, study, capsys):
        from rich.console import Console

        with show_progress(Console(stderr=True, width=60)) as shown:
            shown(study[1][0])
        (warning,) = study[1][0].warnings
        assert capsys.readouterr().err == f"warning: {warning}\n"
