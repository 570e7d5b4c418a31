"""The first state of an explorer as one picture, for viewers that show neither widgets nor SVG."""

import io
import textwrap
from collections.abc import Mapping, Sequence

from PIL import Image

from cnnbook.plots.figure import PNG_DPI, Figure
from cnnbook.plots.style import WIDTH, new_figure

LINE = 0.2  # inches
LETTERS = 10  # to the inch; digits are the widest


def _pieces(result: object) -> list[object]:
    """Return what one state shows, in one list even where lists hold lists."""
    if isinstance(result, list | tuple):
        return [piece for part in result for piece in _pieces(part)]
    return [result]


def still_png(labels: Mapping[str, str], result: object) -> bytes:
    """Return a PNG of :data:`PNG_DPI`: the choices, and below them the figures, texts and tables.

    Parameters
    ----------
    labels
        Name of each selector to the label chosen.
    result
        What was drawn for this state.
    """
    parts = _pieces(result)
    inches = [part.figure.get_figwidth() for part in parts if isinstance(part, Figure)]
    width = max(inches, default=WIDTH)
    chosen = " · ".join(f"{name.replace('_', ' ')}: {label}" for name, label in labels.items())
    rows = [_words(chosen, width), *(_bitmap(part, width) for part in parts)]
    images = [Image.open(io.BytesIO(row)).convert("RGB") for row in rows]
    size = max(image.width for image in images), sum(image.height for image in images)
    page, top = Image.new("RGB", size, "white"), 0
    for image in images:
        page.paste(image, (0, top))
        top += image.height
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _bitmap(part: object, width: float) -> bytes:
    if isinstance(part, Figure):
        return part.png(dpi=PNG_DPI)
    if isinstance(part, str):
        return _words(part, width)
    return _lines(repr(part).splitlines(), width, family="monospace")  # a table


def _words(text: str, width: float) -> bytes:
    return _lines(textwrap.wrap(text, int(LETTERS * width)), width)


def _lines(lines: Sequence[str], width: float, **font: str) -> bytes:
    """Return lines of text as a PNG; the letters of long ones are smaller."""
    height = LINE * (len(lines) + 1)
    longest = max(map(len, lines), default=1)
    size = min(10.5, 0.95 * 72 * width / longest / 0.602) if font else 10.5
    with new_figure(width, height) as figure:
        for i, line in enumerate(lines):
            y = 1 - LINE * (i + 0.5) / height
            figure.text(0.01, y, line, va="top", size=size, parse_math=False, **font)
    return Figure(figure, "").png(dpi=PNG_DPI)
