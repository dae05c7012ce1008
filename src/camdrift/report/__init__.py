"""The report of a stored study: figures as files, and one HTML page that holds everything a reader needs."""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from camdrift.figures import study_figures
from camdrift.figures.heatmaps import Gallery
from camdrift.figures.scope import Record, Tables, effective, reason_for_nothing, scope
from camdrift.report import findings
from camdrift.report.page import render

__all__ = ["notebook_html", "render", "summary", "write_figure", "write_file", "write_report"]

# Without hinting text is drawn in half the time; type 42 is what publishers take.
_SAVING: Final[dict[Any, Any]] = {"text.hinting": "none", "pdf.fonttype": 42, "pdf.compression": 6}
_FEW_COLOURS: Final = 1 << 13


def write_report(directory: Path, tables: Tables, record: Record, gallery: Gallery) -> Path:
    """Write `figures/*.png`, `figures/*.pdf` and `report.html` into a run directory; the path of the page.

    The same tables, record and gallery give the same bytes.

    Args:
        directory: The run directory.
        tables: All tables of `records.TABLES` by name.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
    """
    # Beside each other: most of the page's time goes into encoders and a bundler that need no interpreter.
    with ThreadPoolExecutor(1) as pool:
        rendered = pool.submit(render, tables, record, gallery)
        for name, figure in study_figures(tables, record, gallery).items():
            write_figure(directory, name, figure)
    page = directory / "report.html"
    write_file(page, rendered.result().encode())
    return page


def write_figure(directory: Path, name: str, figure: Figure) -> Path:
    """Write one figure as `figures/{name}.png` and `.pdf` into a run directory; the path of the PNG."""
    folder = directory / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    write_file(path, _png(_raster(figure), figure))
    write_file(folder / f"{name}.pdf", _pdf(figure))
    return path


def summary(tables: Tables, record: Record) -> list[str]:
    """What a study found, in full sentences with intervals and n; why there is nothing, if there is nothing."""
    of = scope(tables, record)
    return findings.sentences(tables, record, of) if of.analysed else [reason_for_nothing(of)]


def notebook_html(directory: Path, tables: Tables, record: Record) -> str:
    """A study for a notebook: what was found, the two main figures, the others folded away.

    Figures are those that `write_report` left in the directory; without them the words stand alone.
    """
    of = scope(tables, record)
    pictures = {path.stem: _inline(path) for path in sorted((directory / "figures").glob("figure_*.png"))}
    first = [
        pictures.pop(name) for name in ("figure_12_released", "figure_8_gain", "figure_3_heatmaps") if name in pictures
    ]
    rest = f"<details><summary>More figures</summary>{''.join(pictures.values())}</details>" if pictures else ""
    words = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary(tables, record))
    title = f"{of.model} under {effective(record).get('attack') or 'attack'}: {findings.reading_of(of)}"
    return f"<div><p><b>{escape(title)}</b></p><ul>{words}</ul>{''.join(first)}{rest}</div>"


def _inline(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    look = "max-width: 100%; background: #fff"
    return f'<img alt="{escape(path.stem.replace("_", " "))}" style="{look}" src="data:image/png;base64,{data}">'


def _raster(figure: Figure) -> Image.Image:
    """The figure's pixels, with a palette where few colours do."""
    with mpl.rc_context(_SAVING):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    colours = pixels.getcolors(_FEW_COLOURS)
    return pixels.convert("RGB") if colours is None else _with_palette(pixels, colours)


def _with_palette(pixels: Image.Image, colours: list[tuple[int, Any]]) -> Image.Image:
    """The opaque RGBA image in its 256 most frequent colours, those exact, every other as the nearest of them.

    What is not exact are rare mixtures along the edges of lines and letters. Pillow's own quantisation would
    tint the white ground.
    """
    ordered = np.array([colour for _, colour in sorted(colours, reverse=True)], dtype=np.uint8)
    channels = ordered[:, :3].astype(np.int32)
    table = np.empty(1 << 24, dtype=np.uint8)
    table[_packed(ordered)] = np.square(channels[:, None] - channels[:256]).sum(-1, dtype=np.int32).argmin(1)
    image = Image.fromarray(table[_packed(np.asarray(pixels))])
    image.putpalette(ordered[:256, :3].tobytes())
    return image


def _packed(rgba: np.ndarray) -> np.ndarray:
    """Red, green and blue of every pixel in one number below 2^24."""
    packed: np.ndarray = rgba.view("<u4")[..., 0] & np.uint32(0xFFFFFF)
    return packed


def _png(raster: Image.Image, figure: Figure) -> bytes:
    buffer = BytesIO()
    raster.save(buffer, "PNG", dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    buffer = BytesIO()
    for text in figure.findobj(Text):
        if hasattr(text, "set_fontfeatures"):  # from matplotlib 3.11 on, where a ligature is embedded as a second font
            text.set_fontfeatures(["-liga"])
    with mpl.rc_context(_SAVING):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write beside the file and rename, so that a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
