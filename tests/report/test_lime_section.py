"""The section on LIME: pictures painted square by square, deviations beside the floor, and what is not resolved."""

import base64
import io
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from PIL import Image

from camdrift.figures.scope import scope_of
from camdrift.report.lime import lime_section
from camdrift.report.material import Material
from camdrift.report.page.rendering import render
from camdrift.tables.gallery import picture_of
from support.studies import SMALL, study_of, tiny_classifier, write_images

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def material(tmp_path_factory, no_report):
    folder = tmp_path_factory.mktemp("lime")
    options = {**SMALL, "gallery": None, "lime": True, "lime_design": "lime(grid=4, samples=40)"}
    study = study_of(tiny_classifier(), write_images(folder / "photos", 6), folder / "run", **options)
    with study.open_gallery() as gallery:
        tables = study._tables
        yield Material(tables, study.record, dict(gallery.items()), scope_of(tables, study.record))


def colours(address):
    """A picture that an address holds, (height, width, 3), 0 to 1."""
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) / 255


def with_lime(material, **columns):
    """The same study with other values in table `lime`."""
    return replace(material, tables={**material.tables, "lime": material.tables["lime"].with_columns(**columns)})


def test_a_square_is_painted_as_it_speaks(material):
    """By hand: 1 is the colour map's end over a fifth of the grey photo, 0 the photo in grey, -1 the other end."""
    square = pl.lit([1.0, -1.0] + 14 * [0.0])
    photo = lime_section(with_lime(material, coefficients=square))["lime"]["photos"][0]
    place = [str(name) for name in material.gallery["seed_ids"]].index(photo["seed"])
    for picture, condition in zip(photo["pictures"], ("clean", "adversarial", "noise"), strict=True):
        grey = picture_of(material.gallery, place, condition, 1.0).mean(2) / 255
        painted, side = colours(picture["map"]), len(grey) // 4
        ends = {0: mpl.colormaps["PuOr_r"](1.0)[:3], 1: mpl.colormaps["PuOr_r"](0.0)[:3]}
        for column, end in ends.items():
            area = np.s_[2 : side - 2, column * side + 2 : (column + 1) * side - 2]
            by_hand = 0.8 * np.array(end) + 0.2 * grey[area].mean()
            assert painted[area].mean((0, 1)) == pytest.approx(by_hand, abs=0.06)
        rest = np.s_[side + 2 :]
        assert painted[rest].mean((0, 1)) == pytest.approx(3 * [grey[rest].mean()], abs=0.03)


def test_numbers_stand_beside_the_floor(material):
    values, table = lime_section(material)["lime"], material.tables["lime"]
    for line, condition in zip(values["lines"], ("adversarial", "noise"), strict=True):
        rows = table.filter(condition=condition)
        columns = ("similarity", "floor_similarity", "positive", "floor_positive")
        assert [value for value, _ in line["cells"]] == [f"{1 - rows[name].median():.3f}" for name in columns]
        assert line["resolved"] == f"{rows['is_resolved'].sum()} of {rows.height}"


def test_what_is_not_resolved_is_said(material):
    text = "not resolved with 40 samples"
    for is_resolved in (True, False):
        rows = with_lime(material, is_resolved=pl.when(pl.col("condition") != "clean").then(pl.lit(is_resolved)))
        values = lime_section(rows)["lime"]
        clean, *others = values["photos"][0]["pictures"]
        assert "floor" in clean["words"]
        assert text not in clean["words"]
        assert [text in picture["words"] for picture in others] == 2 * [not is_resolved]
        assert (text in values["sentence"]) != is_resolved


@pytest.mark.parametrize(
    ("design", "has_maps"),
    [
        ("lime:paper", False),
        ("lime:paper(samples=40)", False),
        ("lime(segments='quickshift')", False),
        ("lime:paper(segments='grid')", True),
        ("lime(samples=40)", True),
    ],
)
def test_superpixels_have_numbers_and_no_maps(material, design, has_maps):
    record = material.record
    arguments = {**record["arguments"], "effective": {**record["arguments"]["effective"], "lime_design": design}}
    photos = lime_section(replace(material, record={**record, "arguments": arguments}))["lime"]["photos"]
    pictures = [picture for each in photos for picture in each["pictures"]]
    assert all((picture["map"] is not None) == has_maps and picture["words"] for picture in pictures)


def test_the_page_has_it_only_with_the_table(material):
    page = render(material.tables, material.record, material.gallery)
    assert '<h2 id="lime">' in page
    assert '<a href="#lime">' in page
    without = {name: table for name, table in material.tables.items() if name != "lime"}
    page = render(without, material.record, material.gallery)
    assert '<h2 id="lime">' not in page
    assert 'href="#lime"' not in page
