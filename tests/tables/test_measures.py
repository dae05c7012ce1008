"""Measures: which explanations go with which metrics, and what a wrong name is told."""

import pytest

from camdrift.errors import UserError
from camdrift.tables.measures import Measure, measures


def test_all_pairs_that_suit():
    found = measures(["hirescam", "activation", "gradcam"], ["ssim", "cka", "cosine"])
    assert found == (
        Measure("hirescam", "ssim"),
        Measure("hirescam", "cosine"),
        Measure("activation", "relative-error"),
        Measure("activation", "cka"),
        Measure("gradcam", "ssim"),
        Measure("gradcam", "cosine"),
    )


def test_a_representation_alone():
    assert measures(["activation"], ["cosine", "cka"][1:]) == (
        Measure("activation", "relative-error"),
        Measure("activation", "cka"),
    )


@pytest.mark.parametrize(
    ("explanations", "metrics", "said"),
    [
        (["grad-cam"], ["cosine"], "`explain` must be one of gradcam"),
        (["gradcam", "gradcam"], ["cosine"], "each once, got: gradcam, gradcam"),
        (["gradcam"], ["cosin"], "`similarity` must be one of cosine"),
        (["gradcam"], [], "got: none"),
        (["gradcam"], ["cka"], "`similarity` cka must come with `activation`"),
        (["gradcam", "activation"], ["cka"], "`explain` gradcam must come with a metric of maps"),
    ],
)
def test_refused(explanations, metrics, said):
    with pytest.raises(UserError) as error:
        measures(explanations, metrics)
    assert said in error.value.message


def test_the_nearest_name_is_the_hint():
    with pytest.raises(UserError) as error:
        measures(["GradCAM"], ["cosine"])
    assert error.value.hint == "did you mean gradcam?"
