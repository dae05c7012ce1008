"""A reproduction of the paper with a tiny network: its images, its readings, its tables."""

import itertools
import json

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import camdrift
from camdrift.errors import StoreError, UserError
from camdrift.explanations.attribution import attribute
from camdrift.explanations.similarity import similarity
from camdrift.images.pixels import read_image
from camdrift.paper.defects import Defects, jet_direction, rungs, truncated
from camdrift.paper.ladder import rank_agreement
from camdrift.paper.readings import rows_of
from camdrift.pipeline.emulation import Mixture, make_image, mixtures
from camdrift.pipeline.noise import matched_noise
from camdrift.statistics.controls import NOISE_AGAINST_NOISE, NOTHING
from camdrift.statistics.layers import layer_statistics
from camdrift.study.reproduce import reproduce
from camdrift.tables.reproduction import CLAIMS, EMULATION, LADDER
from camdrift.tables.study import CONTROLS, FLOOR, SIMILARITY
from support.studies import ATTACK, SIZE, skip_report, tiny_classifier, write_images

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
OPTIONS = {"attack": ATTACK, "noise_ladder": (8.0,), "gallery": 0, "chunk_size": 5}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"), 12)


@pytest.fixture(scope="module")
def study(classifier, photos, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        return reproduce(classifier, photos, out=tmp_path_factory.mktemp("runs") / "run", **OPTIONS)


@pytest.fixture(scope="module")
def perturbations(classifier, photos, study):
    """Base perturbations, recovered from an attack of the same chunks."""
    found = {}

    class Spy:
        table = "emulation"

        def __call__(self, plan, seeds, advance):
            found.update({seed.file.seed_id: (seed.pixels, seed.perturbation) for seed in seeds})
            return EMULATION.frame()

    from camdrift.pipeline.settings import Settings
    from camdrift.study.launch import Launch
    from camdrift.study.run import RunKind, run_study

    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        launch = Launch(study.path.parent / "spied")
        run_study(classifier, photos, Settings(**OPTIONS), launch, kind=RunKind("spied", (Spy(),)))
    return found


class TestRecipes:
    def test_make_the_released_images(self):
        found = {
            (r.condition, r.strength, r.is_accumulated, r.is_truncated): r
            for r in mixtures(STRENGTHS, STRENGTHS)
            if not r.is_control
        }
        assert [found["adversarial", s, True, True].attack_factor for s in STRENGTHS] == [
            0.25,
            -0.25,
            -0.25,
            0.75,
            3.75,
        ]
        assert [found["noise", s, True, True].attack_factor for s in STRENGTHS] == [0, -0.75, -1.25, -1.25, -0.25]
        assert [found["noise", s, True, True].noise_factor for s in STRENGTHS] == list(STRENGTHS)
        assert [found["adversarial", s, False, False].attack_factor for s in STRENGTHS] == list(STRENGTHS)

    def test_strengths_0_5_and_1_share_their_image(self):
        keys = {
            r.strength: r.image_key
            for r in mixtures(STRENGTHS, STRENGTHS)
            if r.condition == "adversarial" and r.is_accumulated and r.is_truncated
        }
        assert keys[0.5] == keys[1.0]
        assert len(set(keys.values())) == 4

    def test_noise_up_the_ladder_lies_around_the_seed(self):
        far = [r for r in mixtures((1.0,), (1.0, 16.0)) if r.condition == "noise" and r.strength == 16]
        assert {r.attack_factor for r in far} == {0}

    def test_images_are_mixed_and_stored(self):
        seed, p, r = torch.rand((3, 3, 5, 4), generator=torch.Generator().manual_seed(0))
        recipe = Mixture("noise", 2.0, -1.25, 2.0)
        assert torch.equal(make_image(seed, p, r, recipe), (seed - 1.25 * p + 2 * r).clamp(0, 1))
        stored = make_image(seed, p, r, Mixture("noise", 2.0, -1.25, 2.0, is_truncated=True))
        assert torch.equal((stored * 255).round() / 255, stored)
        assert np.array_equal((stored * 255).round().numpy(), truncated((seed - 1.25 * p + 2 * r).numpy()))


class TestEmulation:
    def test_every_image_in_every_reading(self, study):
        found = study.emulation
        analysed = study.seeds.filter(pl.col("status") == "analysed").height
        assert analysed > 5
        assert found.schema == EMULATION.schema
        full, controls = 2 * (2 * 5 + 2 * 6), 3 * 6 + 1
        assert found.height == analysed * len(study.record["arguments"]["effective"]["layers"]) * (
            full * 8 + controls * 2
        )

    def test_the_plain_reading_is_the_study(self, study):
        """Without any defect, the emulation has to say what the study says."""
        keys = ["seed_id", "condition", "strength", "layer"]
        rows = rows_of(study.emulation, Defects()).select(*keys, "similarity")
        expected = study.similarity.filter(pl.col("target") == "seed").select(*keys, "similarity")
        joined = rows.join(expected, on=keys, suffix="_study")
        assert joined.height == rows.height == expected.height
        both = joined.drop_nulls()
        assert np.allclose(both["similarity"], both["similarity_study"], atol=1e-5)
        assert joined["similarity"].null_count() == joined["similarity_study"].null_count()
        own = rows_of(study.emulation, Defects(own_class=True))
        assert np.allclose(
            own.drop_nulls("similarity")["similarity"].sum(),
            study.similarity.filter(pl.col("target") == "own")["similarity"].sum(),
            rtol=1e-5,
        )

    def test_one_released_similarity_worked_step_by_step(self, study, classifier, perturbations):
        """All defects: softmax map of the clean image, logit map of the stored image's own class, jet pictures."""
        from camdrift.explanations.attribution import explain_batch

        seed_id, (pixels, delta) = sorted(perturbations.items())[0]
        noise = matched_noise(delta, rng_seed=0, seed_id=seed_id)
        stored = {
            ("adversarial", 2.0): pixels + 0.75 * delta,
            ("noise", 2.0): pixels - 1.25 * delta + 2 * noise,
        }
        clean = explain_batch(classifier, pixels[None], [None], scores="probability").maps[0]
        rows = rows_of(study.emulation, Defects.all()).filter(pl.col("seed_id") == seed_id)
        for (condition, strength), image in stored.items():
            image = torch.tensor(truncated(image.numpy())) / 255
            maps = attribute(classifier, image[None])
            at = rows.filter(pl.col("condition") == condition, pl.col("strength") == strength)
            for layer, value in at.select("layer", "similarity").iter_rows():
                one, other = (jet_direction(part[layer][0].numpy(), (SIZE, SIZE)) for part in (clean, maps))
                assert value == pytest.approx(float(one @ other), abs=2e-3), (condition, layer)
            l2 = torch.linalg.vector_norm((image - pixels).double()).item()
            assert at["realised_l2"].unique().to_list() == pytest.approx([l2], rel=1e-6)
            assert at["is_flipped"][0] == (classifier(image[None]).argmax() != classifier(pixels[None]).argmax()).item()

    def test_batch_size_changes_nothing(self, study, classifier, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        # What is worked out of the tables afterwards takes most of the time.
        monkeypatch.setattr("camdrift.study.reproduce.finish", lambda *_: None)
        again = reproduce(classifier, photos, out=tmp_path / "run", **OPTIONS, batch_size=3)
        assert_frame_equal(study.emulation, again.emulation, abs_tol=2e-3)

    def test_nothing_is_done_to_the_image_at_strength_0(self, study):
        rows = study.emulation.filter(pl.col("condition") == "unperturbed")
        assert rows["realised_l2"].max() == 0
        assert rows["n_gained"].max() == 0
        assert rows["similarity"].min() > 1 - 1e-6


class TestLadder:
    def test_has_every_rung(self, study):
        assert study.ladder.schema == LADDER.schema
        assert study.ladder["defects"].unique(maintain_order=True).to_list() == [d.name for d in rungs()]

    def test_first_rung_is_the_study(self, study):
        first = study.ladder.filter(pl.col("defects") == "none")
        layers = study.layers.filter(pl.col("target") == "seed")
        assert first["mean_similarity"].to_list() == pytest.approx(layers["adversarial_mean"].to_list(), abs=1e-5)
        assert first["compromised_fraction"].to_list() == pytest.approx(
            layers["compromised_fraction"].to_list(), abs=0.2
        )

    def test_ranks_are_by_mean_similarity(self, study):
        for _, part in study.ladder.drop_nulls("mean_similarity").group_by("defects", "strength"):
            ranked = part.sort("rank")["mean_similarity"].to_list()
            assert ranked == sorted(ranked)

    def test_accumulated_strengths_make_two_curves_one(self, study):
        alike = study.ladder.filter(pl.col("defects") == "accumulated")
        half, one = (alike.filter(pl.col("strength") == s)["mean_similarity"] for s in (0.5, 1.0))
        assert half.to_list() == one.to_list()
        found = rank_agreement(study.ladder)
        distance = dict(found.select("defects", "half_one").iter_rows())
        assert distance["accumulated"] == distance["all"] == 0
        assert distance["none"] > 0.05

    def test_agreement_with_itself_is_perfect(self, study):
        first = rank_agreement(study.ladder).row(0, named=True)
        assert (first["defects"], first["tau_deviation"], first["tau_gain"]) == (
            "none",
            pytest.approx(1),
            pytest.approx(1),
        )

    def test_pooled_threshold_counts_layers(self, study):
        pooled = study.ladder.filter(pl.col("defects") == "pooled_threshold")
        assert set(pooled["compromised_fraction"].drop_nulls()) <= {0.0, 1.0}
        at = pooled.filter(pl.col("strength") == 1.0)
        below = at["mean_similarity"] < at["noise_similarity"].mean()
        assert at["compromised_fraction"].to_list() == below.cast(pl.Float64).to_list()

    def test_noise_read_as_attack_gives_half(self, study):
        """Its threshold is its own median: nobody lies further from it than half of the images."""
        swapped = study.ladder.filter(pl.col("defects") == "noise_for_attack", pl.col("strength") > 0.25)
        assert swapped["compromised_fraction"].max() <= 0.5
        lowest = pl.col("strength") == 0.25
        plain = study.ladder.filter(pl.col("defects") == "none", lowest)["compromised_fraction"]
        kept = study.ladder.filter(pl.col("defects") == "noise_for_attack", lowest)["compromised_fraction"]
        assert kept.to_list() == plain.to_list()


class TestControls:
    def test_are_in_the_table(self, study):
        assert study.controls.schema == CONTROLS.schema
        nothing = study.controls.filter(pl.col("control") == NOTHING).row(0, named=True)
        assert nothing["value"] < 1e-6

    def test_null_is_that_of_two_draws(self, study):
        """Recomputed from the rows of the two draws."""
        rows = study.emulation.filter(
            pl.col("condition") == "noise", ~pl.col("is_accumulated"), ~pl.col("is_truncated"),
            pl.col("target") == "seed", pl.col("clean_score") == "logit", pl.col("metric") == "cosine",
            pl.col("strength") == 1.0,
        )  # fmt: skip
        fractions = []
        for _, layer in rows.group_by("layer"):
            first, second = (layer.filter(pl.col("draw") == d)["similarity"].drop_nulls() for d in (0, 1))
            fractions.append((second < first.median()).mean())
        found = study.controls.filter(
            pl.col("control") == NOISE_AGAINST_NOISE,
            pl.col("quantity") == "compromised fraction",
            pl.col("strength") == 1.0,
        )
        assert found["value"].to_list() == pytest.approx([np.mean(fractions)])
        assert found["expected"].to_list() == [0.5]


class TestRun:
    def test_writes_its_tables_beside_those_of_a_study(self, study):
        assert study.record["kind"] == "reproduction"
        assert study.claims.schema == CLAIMS.schema
        assert camdrift.open(study.path).claims.equals(study.claims)
        assert study.record["timings"]["emulation"] > 0

    def test_is_resumed_as_what_it_was_begun(self, study, classifier, photos, monkeypatch):
        skip_report(monkeypatch)
        with pytest.raises(StoreError, match="kind was reproduction, now study"):
            camdrift.run(classifier, photos, out=study.path, resume=True, **OPTIONS)
        assert reproduce(classifier, photos, out=study.path, resume=True, **OPTIONS).claims.equals(study.claims)

    def test_goes_on_after_an_interruption(self, study, classifier, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)

        class StoppedError(Exception):
            pass

        def stop(progress):
            if progress.seeds_done >= 6:
                raise StoppedError

        with pytest.raises(StoppedError):
            reproduce(classifier, photos, out=tmp_path / "run", on_progress=stop, **OPTIONS)
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
        resumed = reproduce(classifier, photos, out=tmp_path / "run", resume=True, **OPTIONS)
        for name in ("emulation", "ladder", "claims", "controls"):
            assert_frame_equal(getattr(resumed, name), getattr(study, name))

    def test_needs_both_targets(self, classifier, photos, tmp_path):
        with pytest.raises(UserError, match="`target` must name own and seed in a reproduction, got: own"):
            reproduce(classifier, photos, out=tmp_path / "run", targets=("own",))

    def test_without_success_claims_little_and_ends(self, classifier, photos, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        found = reproduce(classifier, photos, out=tmp_path / "run", **{**OPTIONS, "attack": "dlfuzz(step=0.0)"})
        assert found.claims["claim"].to_list() == ["48 % of the images can be attacked"]
        assert found.claims["corrected"].to_list() == [0]
        assert found.ladder.is_empty()
        assert found.controls.is_empty()


def test_noise_against_noise_finds_nothing():
    """Twenty repetitions on the tiny network: Holm-corrected rejections at 5 % happen in no more than two."""
    classifier = tiny_classifier()
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(
        torch.rand((16, 3, 5, 5), generator=generator), size=SIZE, mode="bicubic"
    ).clamp(0, 1)
    delta = 0.03 * torch.randn((3, SIZE, SIZE), generator=generator)
    clean = attribute(classifier, images)
    target = classifier(images).argmax(1)

    def rows(condition, draw):
        noise = [matched_noise(delta, rng_seed=7, seed_id=str(i), draw=draw) for i in range(len(images))]
        maps = attribute(classifier, (images + torch.stack(noise)).clamp(0, 1), target)
        for index, layer in enumerate(classifier.layers):
            values = similarity(clean[layer], maps[layer], (SIZE, SIZE))
            for i, value in enumerate(values.tolist()):
                known = None if np.isnan(value) else value
                yield (
                    {"seed_id": str(i), "condition": condition, "strength": 1.0, "draw": 0, "target": "seed"}
                    | {"explanation": "gradcam", "metric": "cosine"}
                    | {"layer": layer, "layer_label": layer, "layer_index": index, "similarity": known}
                )

    rejections, fractions = 0, []
    for repetition in range(20):
        pair = itertools.chain(rows("adversarial", 2 * repetition), rows("noise", 2 * repetition + 1))
        table = SIMILARITY.frame(list(pair))
        variants = (
            table.select("seed_id", "condition", "strength", "draw").unique().with_columns(realised_l2=pl.lit(1.0))
        )
        found = layer_statistics(table, variants, FLOOR.frame(), rng_seed=0, n_bootstrap=0)
        rejections += bool((found["wilcoxon_p_holm"] < 0.05).any())
        fractions.append(found["compromised_fraction"].mean())
    assert rejections <= 2
    assert np.mean(fractions) == pytest.approx(0.5, abs=0.05)


def test_images_are_read_as_the_study_reads_them(photos, perturbations):
    """The perturbations above belong to the images on disk."""
    name, (pixels, _) = sorted(perturbations.items())[0]
    assert torch.equal(pixels, read_image(photos / name, size=SIZE, resize=SIZE).pixels)
