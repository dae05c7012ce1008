"""Class names, and the class that a folder's name means."""

import pytest

from camdrift.models.class_names import class_index, imagenet_labels

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
