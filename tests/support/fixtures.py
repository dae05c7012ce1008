"""Fixtures of many modules of tests, which know them by name; torch is imported by those alone that need it."""

import pytest


@pytest.fixture(scope="module")
def classifier():
    """A tiny classifier that DLFuzz fools."""
    from support.studies import tiny_classifier

    return tiny_classifier()


@pytest.fixture(scope="module")
def no_report():
    """All runs of a module end without drawing: the page is a stub."""
    from support.studies import skip_report

    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        yield


@pytest.fixture(scope="module")
def no_figures():
    """All runs and campaigns of a module make their page, but write no figure."""
    from support.studies import draw_only

    with pytest.MonkeyPatch.context() as patch:
        draw_only(patch)
        yield


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A folder of eight images."""
    from support.studies import write_images

    return write_images(tmp_path_factory.mktemp("eight"), 8)
