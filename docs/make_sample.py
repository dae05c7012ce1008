"""Writes docs/sample/report.html: a study of photographs that everybody may publish.

It needs scikit-image, whose wheel holds the photographs: `python -m pip install scikit-image`.
docs/sample.md says what they show and under which licence.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import skimage

import camdrift

DOCS = Path(__file__).parent
PHOTOS = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg")
# The first layer, the end of every block but the first, the last layer: the page stays small.
LAYERS = ("conv_stem", "blocks.*.conv_pwl", "conv_head")
OPTIONS = {
    "attack": "pgd(eps=4/255, steps=10, rel_stepsize=0.25)",
    "strengths": (0.5, 1, 2),
    "layers": LAYERS,
    "gallery": 3,
}


def write_sample(place: Path) -> None:
    """Study the photographs, and write the report to some place."""
    with TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        for name in PHOTOS:
            shutil.copy(Path(skimage.__path__[0], "data", name), photos)
        study = camdrift.run(camdrift.load_model(device="cpu"), photos, out=Path(folder, "sample"), **OPTIONS)
        place.parent.mkdir(exist_ok=True)
        # The folder is gone afterwards, and nobody else's.
        text = (study.path / "report.html").read_text(encoding="utf-8").replace(f"{folder}/", "")
        place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_sample(DOCS / "sample" / "report.html")
