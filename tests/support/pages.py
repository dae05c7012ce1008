"""Pages in a browser, and figures and pages as plain text."""

import base64
import io
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from camdrift.report.page.rendering import render

HOSTILE = "<script>alert('x')</script> \"&amp;\" \u2028</script>"


def plain(text):
    """The text with single spaces."""
    return " ".join(text.replace("\u00a0", " ").split())


def words(figure):
    """All text of a figure."""
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def written(made, folder):
    """Path of the page of a synthetic study, written into a folder."""
    path = folder / "report.html"
    path.write_text(render(made.tables, made.record, made.gallery), encoding="utf-8")
    return path


def decoded(address):
    """A picture that an address holds, in grey: (height, width)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("L"), dtype=float)


@contextmanager
def opened(browser, path, **options):
    """A page in a new tab; afterwards it must have logged nothing and asked for nothing."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "accept_downloads": True, **options})
    tab = context.new_page()
    troubles, requests = [], []
    tab.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    yield tab
    context.close()
    assert troubles == []
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {path.as_uri()}


def shown(tab, chart):
    """Bring a chart of a study's page into view and wait until it is drawn; returns its picture."""
    tab.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    tab.wait_for_selector(f"#chart-{chart}[data-drawn=yes]")
    return tab.locator(f"#chart-{chart} svg")


def pixels(tab, canvas):
    """A canvas as (height, width, 3) bytes."""
    address = tab.locator(f"#{canvas}").evaluate("canvas => canvas.toDataURL()")
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def descriptions(tab, chart, marks):
    """The words of the marks of a chart for those who cannot see them: those of the tooltips."""
    figure = shown(tab, chart)
    return [plain(words) for words in attributes(figure.locator(marks), "aria-label")]


def attributes(elements, name):
    """An attribute of every element, asked for at once: each question to the browser takes its time."""
    return elements.evaluate_all("(elements, name) => elements.map((element) => element.getAttribute(name))", name)


def stops(tab):
    """What the Tab key reaches from the start of a page, in its order."""
    tab.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    tab.locator("body").click(position={"x": 1, "y": 1})
    places = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        place = tab.evaluate(
            "() => { const a = document.activeElement; if (a === document.body || a.dataset.stop) return null;"
            " a.dataset.stop = 1; return a.id || a.name || a.textContent.trim(); }"
        )
        if not place:
            break
        places.append(place)
    return places


def violations(tab):
    """What axe finds wrong for a reader: the rule, how grave it is, and the first elements that break it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    rows = axe.Axe().run(tab).response["violations"]
    return [(row["id"], row["impact"], [node["html"][:200] for node in row["nodes"][:3]]) for row in rows]
