"""A study whose memory runs out goes on with fewer images per pass, and finds the same."""

import pytest
import torch
from torch import nn

import camdrift
from camdrift.errors import UserError
from camdrift.models.memory import fastest_batch, is_out_of_memory, within_memory
from camdrift.pipeline.plan import ON_PROCESSOR
from support.studies import ATTACK, SIZE, SMALL, TinyNet, assert_same, skip_report, study_of, write_images

ON_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...")
ON_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ...")


class Narrow(nn.Module):
    """Runs out of memory for more than `most` images with a graph."""

    def __init__(self, most, error=ON_GPU):
        super().__init__()
        self.net, self.most, self.error = TinyNet(), most, error

    def forward(self, images):
        if len(images) > self.most and torch.is_grad_enabled():
            raise self.error
        return self.net(images)


def narrow(*arguments):
    return camdrift.wrap(Narrow(*arguments), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)


@pytest.fixture(autouse=True)
def without_report(monkeypatch):
    skip_report(monkeypatch)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("memory") / "images", 6)


@pytest.mark.parametrize(
    ("attack", "error"),
    [(ATTACK, ON_GPU), (ATTACK, MemoryError()), ("pgd(eps=0.1)", ON_CPU)],
    ids=["dlfuzz-GPU", "dlfuzz-Python", "pgd-CPU"],
)
def test_it_goes_on_with_half_as_many(images, tmp_path, error, attack):
    seen = []
    options = {**SMALL, "attack": attack}
    out = tmp_path / "run"
    study = camdrift.run(narrow(2, error), images, out=out, batch_size=8, on_progress=seen.append, **options)
    told = [text for progress in seen for text in progress.warnings if "memory" in text]
    assert told == [f"memory ran out at {n} images per pass: going on with {n // 2}" for n in (8, 4)]
    assert study.record["arguments"]["effective"]["batch_size"] == 2
    assert study.record["arguments"]["passed"]["batch_size"] == 8
    # The first chunk tells how much fits; the second one begins with that.
    assert study.seeds["status"].to_list().count("analysed") > 0
    assert_same(study, camdrift.run(narrow(99), images, out=tmp_path / "wide", batch_size=2, **options))


def test_where_one_image_is_too_much_it_says_so_and_keeps_what_is_there(images, tmp_path):
    whole = study_of(narrow(99), images, tmp_path / "whole", batch_size=1, **SMALL)
    out, classifier = tmp_path / "run", narrow(99)

    def shrink(progress):
        if progress.stage == "write":
            classifier.module.most = 0

    with pytest.raises(
        UserError, match="`batch_size` 1 needs more memory than there is: OutOfMemoryError: CUDA out of memory"
    ) as caught:
        study_of(classifier, images, out, batch_size=1, on_progress=shrink, **SMALL)
    assert "fewer --layers" in caught.value.hint
    assert [path.name for path in (out / "chunks").iterdir()] == ["00000"]
    assert_same(study_of(narrow(99), images, out, batch_size=1, resume=True, **SMALL), whole)


def test_memory_that_runs_out_at_the_look_at_clean_images(images, tmp_path):
    """Before the first chunk, and without a graph."""

    class Narrower(Narrow):
        def forward(self, images):
            if len(images) > self.most:
                raise ON_GPU
            return self.net(images)

    classifier = camdrift.wrap(Narrower(2), mean=(0.5,) * 3, std=(0.25,) * 3, size=SIZE)
    seen = []
    study = study_of(classifier, images, tmp_path / "run", batch_size=8, on_progress=seen.append, **SMALL)
    told = [text for text in study.record["preflight"]["warnings"] if "memory" in text]
    assert told == [f"memory ran out at {n} images per pass: going on with {n // 2}" for n in (8, 4)]
    assert [text for progress in seen for text in progress.warnings if "memory" in text] == told
    assert study.record["arguments"]["effective"]["batch_size"] == 2


def test_other_errors_are_not_taken_for_memory():
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    with pytest.raises(ZeroDivisionError):
        within_memory(4, lambda size: 1 // 0, print)
    with pytest.raises(ZeroDivisionError):
        fastest_batch(lambda size: 1 // 0)


class Card:
    """A card with room for so many images, on which a pass of `size` images takes `seconds(size)`."""

    def __init__(self, room, seconds):
        self.room, self.seconds = room, seconds
        self.time, self.tried = 0.0, []

    def compute(self, size):
        first = size not in self.tried
        self.tried.append(size)
        if size > self.room:
            raise ON_GPU
        self.time += self.seconds(size) + (5.0 if first else 0.0)  # the first pass asks for memory and chooses kernels

    def fastest(self):
        return fastest_batch(self.compute, now=lambda: self.time)


@pytest.mark.parametrize(("room", "expected"), [(0, 1), (1, 1), (5, 4), (64, 64), (1000, 256)])
def test_the_fastest_batch_fits(room, expected):
    """Here each pass takes the same time, so that the most images are fastest."""
    card = Card(room, lambda size: 1.0)
    assert card.fastest() == expected
    assert max(card.tried) <= 256


def test_memory_that_runs_out_at_a_later_pass_of_the_same_size():
    """Where the first has left it in pieces, or another program takes some meanwhile."""
    card = Card(1000, lambda size: 1.0)
    compute = card.compute

    def fragmented(size):
        if size == 8 and size in card.tried:
            raise ON_GPU
        compute(size)

    card.compute = fragmented
    assert card.fastest() == 4


def test_the_largest_that_fits_is_not_the_fastest():
    """As it was on an H100: 69 ms a seed at 64 images, 116 at 256."""
    card = Card(1000, lambda size: size * {32: 75, 64: 69, 128: 90}.get(size, 120 if size < 32 else 116))
    assert card.fastest() == 64
    assert max(card.tried) == 128  # it gets no better from there


def test_of_batches_that_are_as_fast_the_smallest_is_taken():
    card = Card(1000, lambda size: 1.0 + size)
    # Milliseconds an image: 2, 1.5, 1.25, 1.125, 1.0625, 1.03125, and 1.0039 for the most.
    assert card.fastest() == 32


def test_auto_finds_it_off_the_processor(images, tmp_path, monkeypatch):
    """On a device that is no processor; the tensors stay where they are."""
    monkeypatch.setattr("camdrift.pipeline.plan.ON_PROCESSOR", None)
    assert ON_PROCESSOR == 4
    study = study_of(narrow(24), images, tmp_path / "run", **SMALL)
    assert study.record["arguments"]["effective"]["batch_size"] == 16
