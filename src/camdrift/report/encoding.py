"""Figures as bytes: PNG and PDF, the same for the same figure."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from io import BytesIO
from string import printable
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends import _backend_pdf_ps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from matplotlib.text import Text
from PIL import Image

from camdrift.tables.file_names import FIGURES

# Without hinting text is drawn in half the time; type 42 is what publishers take.
_SAVING: Final[dict[Any, Any]] = {"text.hinting": "none", "pdf.fonttype": 42, "pdf.compression": 6}
_FEW_COLOURS: Final = 1 << 13
# The usual signs, as matplotlib cuts them into fonts: those below 256, and others.
_SIGNS: Final = (f" {printable.strip()}\u00b1\u00b5\u00d7", "\u2013\u2026\u2192\u2212\u2264\u2265")
# matplotlib's own: called with a font's file and the signs wanted, or from 3.11 on the numbers of their glyphs.
_subset: Final[Any] = _backend_pdf_ps.get_glyphs_subset
_as_file: Final[Any] = _backend_pdf_ps.font_as_file


def figure_files(name: str, figure: Figure) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of a figure's two files, `figures/{name}.png` and `figures/{name}.pdf`."""
    yield f"{FIGURES}/{name}.png", _png(_raster(figure), figure)
    yield f"{FIGURES}/{name}.pdf", _pdf(figure)


def _raster(figure: Figure) -> Image.Image:
    """The figure's pixels, with a palette where few colours do."""
    with mpl.rc_context(_SAVING):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    colours = pixels.getcolors(_FEW_COLOURS)
    return pixels.convert("RGB") if colours is None else _with_palette(pixels, colours)


def _with_palette(pixels: Image.Image, colours: list[tuple[int, Any]]) -> Image.Image:
    """The opaque RGBA image in its 256 most frequent colours; every other colour becomes the nearest of them.

    Those others are rare mixtures along the edges of lines and letters. Pillow's own quantisation would tint the
    white ground.
    """
    palette = np.array([colour for _, colour in sorted(colours, reverse=True)], dtype=np.uint8)
    channels = palette[:, :3].astype(np.int32)
    table = np.empty(1 << 24, dtype=np.uint8)
    table[_packed(palette)] = np.square(channels[:, None] - channels[:256]).sum(-1, dtype=np.int32).argmin(1)
    image = Image.fromarray(table[_packed(np.asarray(pixels))])
    image.putpalette(palette[:256, :3].tobytes())
    return image


def _packed(rgba: np.ndarray) -> np.ndarray:
    """Red, green and blue of every pixel in one number below 2^24."""
    numbers: np.ndarray = rgba.view("<u4")[..., 0] & np.uint32(0xFFFFFF)
    return numbers


def _png(raster: Image.Image, figure: Figure) -> bytes:
    buffer = BytesIO()
    raster.save(buffer, "PNG", dpi=(figure.dpi, figure.dpi))
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    buffer = BytesIO()
    for text in figure.findobj(Text):
        if hasattr(text, "set_fontfeatures"):  # from matplotlib 3.11 on, where a ligature is embedded as a second font
            text.set_fontfeatures(["-liga"])
    with mpl.rc_context(_SAVING), _one_font():
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


@contextmanager
def _one_font() -> Iterator[None]:
    """Inside the block figures that need no sign but the usual ones share one font.

    Cutting a font down to a figure's signs takes longer than drawing the figure, and writing it a tenth of that.
    """
    module: Any = _backend_pdf_ps
    module.get_glyphs_subset = lambda file, wanted: nullcontext(_font(file, _with_usual(file, wanted)))
    module.font_as_file = lambda font: BytesIO(_font_bytes(font))
    try:
        yield
    finally:
        module.get_glyphs_subset, module.font_as_file = _subset, _as_file


def _with_usual(file: Any, wanted: Any) -> Any:
    """What a figure wants of a font, with all of the usual signs of which it wants any."""
    if isinstance(wanted, str):
        usual = [sign for signs in _SIGNS if {*signs} & {*wanted} for sign in signs]
        return "".join(sorted({*wanted, *usual}))
    groups = [{get_font(file).get_char_index(ord(sign)) for sign in signs} for signs in _SIGNS]
    return frozenset(wanted).union(*(group for group in groups if not group.isdisjoint(wanted)))


@cache
def _font(file: Any, wanted: Any) -> Any:
    with _subset(file, wanted) as font:
        return font


@cache
def _font_bytes(font: Any) -> bytes:
    """The file of a font that `_font` keeps."""
    content: bytes = _as_file(font).getvalue()
    return content
