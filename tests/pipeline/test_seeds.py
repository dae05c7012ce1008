"""Stages of a seed: each adds its columns to the row; whoever is left out stays in its place."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from camdrift.images.places import Folder, ImageFile
from camdrift.pipeline.receivers import TargetMaps
from camdrift.pipeline.seeds import (
    AdversarialSeed,
    AttackedSeed,
    CleanSeed,
    LeftOut,
    NoisySeed,
    ReadSeed,
    Seed,
    further,
    in_hand,
    variant_columns,
)
from camdrift.pipeline.variants import Variant, describe_perturbations
from camdrift.tables.study import SEEDS
from camdrift.tables.words import ADVERSARIAL, CLEAN, FAILED, NOISE


def listed(name="a.png"):
    return Seed(ImageFile(name, Folder(), name), label=3)


def read(name="a.png"):
    return ReadSeed(**vars(listed(name)), sha256="5e", pixels=torch.full((3, 2, 2), 0.5))


def clean(name="a.png"):
    return CleanSeed(
        **vars(read(name)),
        clean_class=1,
        clean_probability=0.9,
        covered=np.array([True, False]),
        logits=torch.tensor([0.0, 2.0]),
        neurons=torch.tensor([0.3, 0.1]),
    )


def attacked(name="a.png", target_class=None):
    return AttackedSeed(**vars(clean(name)), iterations=7, target_class=target_class)


def noisy(name="a.png"):
    fooling = AdversarialSeed(
        **vars(attacked(name)),
        perturbation=torch.full((3, 2, 2), 0.25),
        adversarial_class=0,
        adversarial_probability=0.6,
        survives_uint8=True,
        within_threat=None,
    )
    noise = (torch.full((3, 2, 2), -0.5), torch.full((3, 2, 2), 0.75))
    (description,) = describe_perturbations([fooling.pixels], [fooling.perturbation], [noise[0]])
    return NoisySeed(**vars(fooling), noise=noise, description=description)


class TestRows:
    def test_every_stage_adds_its_columns(self):
        stages = [listed(), read(), clean(), attacked(), noisy()]
        for earlier, later in pairwise(stages):
            assert earlier.row().items() < later.row().items()
        assert noisy().row()["status"] == "analysed"
        assert noisy().row()["perturbation_linf"] == 0.25
        assert noisy().row()["noise_mean"] == -0.5
        assert set(noisy().row()) | {"reason"} == set(SEEDS.schema)

    def test_a_seed_that_is_left_out_keeps_what_is_known_of_it(self):
        row = LeftOut(attacked(), FAILED, "why").row()
        assert row == {**attacked().row(), "status": "failed", "reason": "why"}
        assert "adversarial_class" not in row

    def test_stages_do_not_change(self):
        with pytest.raises(AttributeError):
            clean().clean_class = 2


class TestOrder:
    def test_those_who_are_left_out_stay_in_their_places(self):
        seeds = [read("a"), LeftOut(listed("b"), FAILED, "why"), read("c"), read("d")]
        asked = []

        def step(batch):
            asked.append([seed.seed_id for seed in batch])
            return [LeftOut(seed, FAILED, "no") if seed.seed_id == "c" else clean(seed.seed_id) for seed in batch]

        results = further(seeds, step)
        assert asked == [["a", "c", "d"]]
        assert [seed.row()["seed_id"] for seed in results] == ["a", "b", "c", "d"]
        assert [type(seed) for seed in results] == [CleanSeed, LeftOut, LeftOut, CleanSeed]
        assert [seed.seed_id for seed in in_hand(results)] == ["a", "d"]


class TestImages:
    def test_of_variants(self):
        seed = noisy()
        assert torch.equal(seed.image(Variant(0, CLEAN, 0.0)), seed.pixels)
        assert torch.equal(seed.image(Variant(0, ADVERSARIAL, 1.0)), torch.full((3, 2, 2), 0.75))
        assert torch.equal(seed.image(Variant(0, NOISE, 0.5, draw=0)), torch.full((3, 2, 2), 0.25))
        assert torch.equal(seed.image(Variant(0, NOISE, 4.0, draw=1)), torch.ones(3, 2, 2))

    def test_columns_of_variants(self):
        variants = [Variant(1, ADVERSARIAL, 2.0), Variant(0, NOISE, 1.0, draw=3)]
        assert variant_columns([noisy("a"), noisy("b")], variants) == {
            "seed_id": ["b", "a"], "condition": ["adversarial", "noise"], "strength": [2.0, 1.0], "draw": [0, 3],
        }  # fmt: skip


def test_fooled_is_any_other_class_or_the_target():
    assert [attacked().is_fooled(prediction) for prediction in (0, 1, 2)] == [True, False, True]
    aimed = replace(attacked(), target_class=2)
    assert [aimed.is_fooled(prediction) for prediction in (0, 1, 2)] == [False, False, True]


def test_targets_that_share_their_maps_are_computed_once():
    own, label = ({"layer": torch.full((1, 1, 1), value)} for value in (1.0, 2.0))
    calls = []
    maps = TargetMaps((own, own, label), same_as=(0, 0, 2))
    assert maps.each(lambda part: calls.append(1) or float(part["layer"])) == [1.0, 1.0, 2.0]
    assert len(calls) == 2
