"""Takes the pictures of reports that README and docs show: python docs/make_pictures.py RUN PHOTO.

RUN is what `camdrift run` wrote, PHOTO what `camdrift explain chair.jpg` did (docs/tutorial.md). It needs Playwright
and a Chromium: `python -m playwright install chromium`, or the path of one in CHROMIUM.
"""

import os
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
WIDTH, FIRST_SCREEN, PHOTO_SCREEN = 1280, 725, 690
IMAGE = "imagenet_01_559.jpg"
QUALITY = 88
MARGIN = 12


def save(page: Page, name: str, top: float, bottom: float, left: float = 0, right: float = WIDTH) -> None:
    """Save a part of the page, in pixels from its top left corner."""
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    picture = Image.open(BytesIO(page.screenshot(full_page=True, clip=clip)))
    picture.convert("RGB").save(DOCS / f"{name}.webp", quality=QUALITY, method=6)


def edges(page: Page, selector: str) -> tuple[float, float, float, float]:
    """Top, bottom, left and right of an element."""
    box = page.locator(selector).bounding_box()
    assert box is not None, selector
    top = box["y"] + page.evaluate("scrollY")
    return top, top + box["height"], box["x"], box["x"] + box["width"]


def take(run: Path, photo: Path) -> None:
    """Open both reports, and save their pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto((run / "report.html").absolute().as_uri())
        page.wait_for_timeout(1500)
        save(page, "report_first", 0, FIRST_SCREEN)
        top, *_ = edges(page, "section[aria-labelledby=layer]")
        save(page, "report_layers", top - MARGIN, edges(page, "#layer-facts")[1] + MARGIN)
        page.locator(f"#seeds >> text={IMAGE}").first.click()
        page.wait_for_timeout(500)
        top, _, left, right = edges(page, "#stage")
        bottom = edges(page, "#stage .images.maps >> nth=0")[1]
        save(page, "report_images", top - MARGIN, bottom + MARGIN, left - MARGIN, right + MARGIN)
        page.goto((photo / "report.html").absolute().as_uri())
        page.wait_for_timeout(1500)
        save(page, "explain", 0, PHOTO_SCREEN)
        browser.close()


if __name__ == "__main__":
    take(*map(Path, sys.argv[1:3]))
