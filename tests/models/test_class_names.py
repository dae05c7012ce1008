"""Class names, and the class that a folder's name means."""

import numpy as np
import pytest

from camdrift.errors import ModelError
from camdrift.models.class_names import checked_labels, class_index, imagenet_labels

IMAGENETTE = (
    "tench",
    "English springer",
    "cassette player",
    "chain saw",
    "church",
    "French horn",
    "garbage truck",
    "gas pump",
    "golf ball",
    "parachute",
)


def test_a_thousand_labels_in_the_order_of_the_checkpoints():
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert [labels[i] for i in (0, 1, 217, 281, 999)] == [
        "tench",
        "goldfish",
        "English springer",
        "tabby",
        "toilet tissue",
    ]


@pytest.mark.parametrize("name", ["French horn", "french_horn", "FRENCH-HORN", " French  Horn "])
def test_case_spaces_and_dashes_do_not_matter(name):
    assert class_index(name, IMAGENETTE) == 5


@pytest.mark.parametrize("name", ["horn", "French", "n03394916x", "03394916", "", "misc"])
def test_other_names_are_no_class(name):
    assert class_index(name, IMAGENETTE) is None


@pytest.mark.parametrize(
    ("synset", "index"), [("n01440764", 0), ("n02102040", 217), ("n02123045", 281), ("n15075141", 999)]
)
def test_wordnet_ids_of_imagenet(synset, index):
    assert class_index(synset, imagenet_labels()) == index


def test_wordnet_ids_by_name_for_other_models(imagenette):
    found = [class_index(folder.name, IMAGENETTE) for folder in sorted(imagenette.iterdir())]
    assert found == list(range(10))


def test_a_synonym_of_a_wordnet_id_will_do():
    assert class_index("n02123045", ("dog", "tabby cat")) == 1


@pytest.mark.parametrize("synset", ["n02084071", "n99999999"])
def test_a_wordnet_id_outside_the_classes_is_none(synset):
    assert class_index(synset, imagenet_labels()) is None
    assert class_index(synset, IMAGENETTE) is None


def test_two_classes_of_one_name_are_not_certain():
    assert class_index("crane", ("crane", "robin", "Crane")) is None
    assert class_index("robin", ("crane", "robin", "Crane")) == 1


class TestCheckedLabels:
    @pytest.mark.parametrize(
        "labels",
        [
            ["cat", "dog"],
            {0: "cat", 1: "dog"},
            {1: "dog", 0: "cat"},
            {"0": "cat", "1": "dog"},
            {"dog": 1, "cat": 0},
            np.array(["cat", "dog"]),
        ],
    )
    def test_names_in_the_order_of_the_classes(self, labels):
        assert checked_labels(labels) == ("cat", "dog")

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (list(range(10)), "`labels` must be texts, got: 0 (int) for class 0"),
            (range(3), "`labels` must be texts, got: 0 (int) for class 0"),
            (["cat", None], "`labels` must be texts, got: None (NoneType) for class 1"),
            ("labels.txt", "`labels` must be a list of texts, got: 'labels.txt' (str)"),
            ({"cat", "dog"}, "`labels` must be a list of texts, got: {"),
            ({0: "cat", 2: "dog"}, "`labels` must name every class from 0 up, got: no name for class 1"),
            ({0: "cat", "0": "dog"}, "`labels` must name every class once, got: two names for class 0"),
            ({0: "cat", 1: 5}, "`labels` must map classes to texts, got: 1 (int) for 5 (int)"),
        ],
    )
    def test_no_names(self, labels, message):
        with pytest.raises(ModelError) as caught:
            checked_labels(labels)
        assert caught.value.message.startswith(message)
