"""A plan is a design, which travels to other processes, and what is made of it there."""

import pickle

import torch

from camdrift.attacks.stored import StoredImages
from camdrift.images.sources import find_images
from camdrift.pipeline.clock import Clock
from camdrift.pipeline.denoised import Denoised
from camdrift.pipeline.emulation import Emulation
from camdrift.pipeline.full_precision import FullPrecision
from camdrift.pipeline.plan import Design, assemble, study_plan
from camdrift.pipeline.settings import Settings
from support.studies import ATTACK, tiny_classifier, write_images


def test_a_design_travels_and_is_assembled_alike(tmp_path):
    images = write_images(tmp_path / "photos", 5)
    settings = Settings(
        attack=ATTACK, explanations=("gradcam", "activation"), similarities=("cosine", "cka"), chunk_size=2
    )
    tables = (Denoised(), Emulation(), FullPrecision())
    here = study_plan(tiny_classifier(), find_images(images), settings, Clock(), extra_tables=tables)
    design = pickle.loads(pickle.dumps(here.design))
    assert design == here.design
    assert (design.chunks, design.batch_size, design.extra_tables) == (3, 64, tables)
    there = assemble(design, tiny_classifier())
    assert there.attack == here.attack
    assert there.measures == here.measures
    assert [explainer.spec for explainer in there.explainers] == ["gradcam", "activation"]
    assert there.clock is not here.clock


def test_large_layers_go_in_small_batches_on_a_processor(tmp_path, monkeypatch):
    files = find_images(write_images(tmp_path / "photos", 1))
    for values, expected in ((2**16, 4), (2**18, 16), (2**40, 64)):
        monkeypatch.setattr("camdrift.pipeline.plan._BATCH_VALUES", values)
        assert study_plan(tiny_classifier(), files, Settings(), Clock()).batch_size == expected
        # A pass holds all layers, whichever are looked at.
        assert study_plan(tiny_classifier(), files, Settings(layers=("last",)), Clock()).batch_size == expected
    assert study_plan(tiny_classifier(), files, Settings(batch_size=2), Clock()).batch_size == 2


def test_stored_images_travel_with_the_design(tmp_path):
    images = write_images(tmp_path / "photos", 3)
    mine = write_images(tmp_path / "mine", 2)
    settings = Settings(adversarial=str(mine))
    design = study_plan(tiny_classifier(), find_images(images), settings, Clock()).design
    there = assemble(pickle.loads(pickle.dumps(design)), tiny_classifier())
    assert isinstance(there.attack, StoredImages)
    assert sorted(there.attack.paths) == ["img_00.png", "img_01.png"]


def test_the_attack_sees_the_surrogate_and_the_batch_size_can_change():
    model, surrogate = tiny_classifier(), tiny_classifier()
    plan = assemble(Design(Settings(), model.layers, {}, batch_size=8, chunks=1), model, surrogate=surrogate)
    assert plan.victim is surrogate
    assert assemble(plan.design, model).victim is model
    smaller = plan.with_batch_size(3)
    assert (smaller.batch_size, plan.batch_size) == (3, 8)
    assert smaller.classifier is model


def test_columns_of_layers_are_in_execution_order():
    model = tiny_classifier()
    plan = assemble(Design(Settings(), model.layers, {}, batch_size=1, chunks=1), model)
    columns = plan.layer_columns
    assert list(columns["layer"]) == list(model.layers)
    assert list(columns["layer_index"]) == list(range(len(model.layers)))
    assert list(columns["layer_label"]) == [info.label for info in model.layer_infos]
    assert torch.tensor(columns["layer_index"]).unique().numel() == len(columns["layer_label"])
