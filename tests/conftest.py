"""Shared by all tests: where the shared pictures and models lie, and a small classifier with images for it.

Torch is imported by those fixtures alone that need it: tests of tables and figures start without.
"""

import gc
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import config

from support.fixtures import classifier, eight, no_figures, no_report  # noqa: F401

# Shells start what runs in the background deaf to Ctrl-C, and so would be every process that a test sends one to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What is imported stays: it isn't looked through for garbage, neither now nor at each collection in a test.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_sessionfinish():
    gc.unfreeze()


def pytest_fixture_setup():
    """What a fixture draws at random is the same whichever test asks for it first."""
    seed_all()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Shapes of tensors are checked call by call where they are the subject: a quarter of the time of a small study."""
    place = item.path.relative_to(ROOT).with_suffix("").as_posix()
    config.update("jaxtyping_disable", not place.startswith(SHAPED))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call():
    """What a test draws at random without a generator of its own is the same each time, in any order of tests."""
    seed_all()


def pytest_collection_modifyitems(items):
    """Files with a slow test come first: with several processes none works on alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


ROOT = Path(__file__).parents[1]
# Tests of rooms that say the shapes of their tensors, examples of docstrings, and one whole study.
SHAPED = (
    *(f"tests/{room}/" for room in ("attacks", "coverage", "explanations", "images", "layers", "models", "pipeline")),
    "tests/test_matrix",
    "tests/study/test_run",
    "src/",
)


def seed_all():
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


SHARED = Path(__file__).parents[2] / "shared"


def shared(*parts):
    """A file or folder beside the project; the test is skipped where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs ../shared/{'/'.join(parts)} beside the project")
    return path


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut():
    """Nobody waits for the disk, which is a quarter of a small study: what a test writes need not outlast a power cut.

    A descriptor that could not be flushed is told all the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield


@pytest.fixture(scope="session")
def imagenette():
    """200 validation photographs in ten folders named by WordNet ID."""
    return shared("images", "imagenette")


@pytest.fixture(scope="session")
def dlfuzz_seeds():
    """DLFuzz's twenty ImageNet seeds."""
    return shared("images", "dlfuzz_seeds")


@pytest.fixture(scope="session")
def dlfuzz_adversarial():
    """24 adversarial images that DLFuzz published."""
    return shared("images", "dlfuzz_adversarial")


@pytest.fixture(scope="session")
def vgg16_imagenette():
    """Spec of a real VGG-16 for Imagenette's ten classes."""
    shared("models", "vgg16_imagenette.safetensors")
    return f"{shared('models', 'vgg16_imagenette.py')}:build"


@pytest.fixture
def camdrift_command(monkeypatch, capfd):
    """Runs a command line in this process: exit code, stdout, stderr."""
    from camdrift.cli.app import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["camdrift", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        output = capfd.readouterr()
        assert "error: unexpected: " not in output.err, output.err
        return ending.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def images():
    """Eight images of 16 px."""
    import torch

    return torch.rand((8, 3, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def plain(images):
    """A classifier of 16 px images with two convolutions, `features.0` and `features.3`, and four classes.

    It predicts several classes for `images`.
    """
    import torch

    from camdrift.models.classifier import Classifier
    from support.nets import Plain, fixed

    module = fixed(Plain())
    plain = Classifier(module, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), size=16)
    with torch.no_grad():
        module.head.bias -= plain(images).mean(0)
    return plain
