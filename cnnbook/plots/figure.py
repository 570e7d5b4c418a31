"""The object that puts a picture on a page.

On the book's pages, figures are inline SVG whose text and axes take the color of the surrounding
text: light and dark pages need it. Everywhere else they are bitmaps on white. Viewers of notebooks
that remove styles and scripts, GitHub's among them, would show the source text of an SVG.
"""

import base64
import hashlib
import html
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import matplotlib.transforms
from matplotlib.axes import Axes
from matplotlib.text import Text

from cnnbook._checks import check_positive
from cnnbook._errors import check_kind
from cnnbook._files import check_writable, expanded, write_whole
from cnnbook._notebook import in_book
from cnnbook.plots.bitmaps import smaller
from cnnbook.plots.style import INK, STYLE

CAPTION_SIZE = 9.0  # points, in bitmaps; a page has its own
# A notebook's front end has 96 pixels to the inch; screens often have twice as many.
PNG_DPI = 192
PHONE = 3.5  # inches: on a phone of 360 pixels, words of nine points then have 11 pixels


class Figure:
    """A finished picture with a text alternative.

    In a notebook, it is displayed when it is the last value of a cell.

    Parameters
    ----------
    figure
        The matplotlib figure.
    alt
        What the picture shows, for readers who cannot see it.
    stacks
        Whether a page may put the axes below each other where they do not fit side by side. Each
        becomes a picture of its own, so nothing may be drawn outside the axes.
    shrinks
        Whether a narrow page may make the picture smaller. If not, the page scrolls, and small text
        remains legible.
    narrow
        The same picture in a form for narrow pages, which the book shows there instead. A chart
        whose axes are below each other needs none: it is laid out again in the width of a phone,
        unless words would touch.
    caption
        What a reader has to know to read the picture; it is displayed below.

    Examples
    --------
    The axes are matplotlib's, and the text alternative is what a screen reader says:

    >>> import torch
    >>> from cnnbook.plots import bars
    >>> figure = bars(["5×5", "3×3 twice"], torch.tensor([25, 18]), xlabel="weights")
    >>> figure.alt
    'Bars, weights: 5×5 25; 3×3 twice 18.'
    >>> _ = figure.axes[0].set_xlim(0, 30)
    """

    def __init__(
        self,
        figure: mpl.figure.Figure,
        alt: str,
        *,
        stacks: bool = False,
        shrinks: bool = True,
        narrow: mpl.figure.Figure | None = None,
        caption: str = "",
    ):
        check_kind(
            "figure", figure, mpl.figure.Figure, "a matplotlib figure, as new_figure makes it"
        )
        check_kind("alt", alt, str, "a text that says what the picture shows")
        self.figure = figure
        self.alt = alt
        self.stacks = stacks
        self.shrinks = shrinks
        self.narrow = narrow
        self.caption = caption

    def __repr__(self) -> str:
        """Return the text alternative."""
        return f"<Figure: {self.alt}>"

    @property
    def axes(self) -> list[Axes]:
        """The matplotlib axes, for your own changes."""
        return self.figure.axes

    def _write(self, buffer: io.IOBase, kind: str, **options: object) -> None:
        """Draw the picture once, where savefig draws twice what still has a layout engine."""
        engine = self.figure.get_layout_engine()
        with mpl.rc_context(STYLE):
            if engine is not None and self.axes:
                engine.execute(self.figure)
            self.figure.set_layout_engine(None)
            try:
                self.figure.savefig(buffer, format=kind, **options)
            finally:
                self.figure.set_layout_engine(engine)

    def _recolor(self) -> None:
        """Give words that were added afterwards, in matplotlib's own color, that of the others."""
        for text in self.figure.findobj(Text):
            assert isinstance(text, Text)
            color = text.get_color()
            if isinstance(color, str) and color in ("black", "k"):  # others may be arrays
                text.set_color(INK)

    def svg(self) -> str:
        """Return the picture as an ``<svg>`` element in the color of the surrounding text.

        A picture that stacks is a ``<div>`` with one ``<svg>`` for each of its axes.
        """
        label = html.escape(self.alt, quote=True)
        described = f'role="img" aria-label="{label}"'
        if not self.stacks:
            width = self.figure.get_figwidth() * 96
            least = "min-width:30rem;" if width > 600 else ""
            if not self.shrinks:
                least = f"min-width:{width:.0f}px;"
            self._recolor()
            return self._svg(described, width, least)
        style = "display:flex;flex-wrap:wrap;align-items:flex-start;gap:0.8rem 0.4rem"
        return f'<div {described} style="{style}">{"".join(self._svgs())}</div>'

    def html(self, change: Callable[[str], str] = str) -> str:
        """Return the picture as the book's pages show it, in both its forms.

        Parameters
        ----------
        change
            What is done to the text of each form.

        Returns
        -------
        str
            A ``<figure>`` with the picture and, if there is one, its form for narrow pages. That is
            hidden, unless a style sheet knows that the page is narrow.
        """
        wide, narrow = self.svg(), self._narrow_svg()
        if narrow:
            wide = wide.replace("<svg", '<svg class="cnnbook-wide"', 1)
        forms = change(wide) + (change(narrow) if narrow else "")
        caption = ""
        if self.caption:
            style = "font-size:.9em;line-height:1.4;margin:.4em 0 0;text-align:left"
            caption = f'<figcaption style="{style}">{html.escape(self.caption)}</figcaption>'
        return (
            '<figure class="cnnbook-figure" tabindex="0" '
            f'style="margin:0;overflow-x:auto">{forms}{caption}</figure>'
        )

    def _narrow_svg(self) -> str:
        """Return the form for narrow pages, hidden; nothing if there is none."""
        if self.narrow is not None:
            text = Figure(self.narrow, self.alt).svg()
        elif self._is_chart() and self.figure.get_figwidth() > PHONE:
            width, height = self.figure.get_size_inches()
            self.figure.set_size_inches(PHONE, height)
            try:
                with mpl.rc_context(STYLE):
                    self.figure.draw_without_rendering()  # lays it out
                if not _apart(self.axes):
                    return ""
                text = Figure(self.figure, self.alt).svg()
            finally:
                self.figure.set_size_inches(width, height)
        else:
            return ""
        text = text.replace("<svg", '<svg class="cnnbook-narrow"', 1)
        return text.replace("display:block", "display:none", 1)

    def _is_chart(self) -> bool:
        """Tell whether there is nothing but axes of any proportions below each other."""
        if self.stacks or not self.shrinks or self.figure.get_layout_engine() is None:
            return False

        def fits(axes: Axes) -> bool:
            position = axes.get_subplotspec()
            is_alone = position is not None and position.get_gridspec().ncols == 1
            return is_alone and axes.axison and axes.get_aspect() == "auto" and not axes.images

        return bool(self.axes) and all(map(fits, self.axes))

    def _svgs(self) -> Iterator[str]:
        """Return each of the axes as a picture of its own."""
        inches = self.figure.dpi_scale_trans.inverted()
        self.figure.draw_without_rendering()  # lays out what is laid out automatically
        self._recolor()  # once there are all words that drawing adds, such as those of ticks
        engine = self.figure.get_layout_engine()
        self.figure.set_layout_engine("none")  # axes that are hidden would lose their room
        for shown in self.axes:
            for axes in self.axes:
                axes.set_visible(axes is shown)
            cut = shown.get_window_extent().transformed(inches)
            if shown.axison:  # with labels and title
                outer = shown.get_tightbbox()
                assert outer is not None
                # Text is wider in an SVG than the layout has measured.
                cut = mpl.transforms.Bbox.union([cut, outer.transformed(inches)]).padded(0.05)
            width = cut.width * 96
            # On a phone, one that leaves no room for another beside it may take the whole width.
            kind = ' class="cnnbook-panel"' if width > 180 else ""
            yield self._svg(f'aria-hidden="true"{kind}', width, bbox_inches=cut)
        for axes in self.axes:
            axes.set_visible(True)
        self.figure.set_layout_engine(engine)

    def _svg(self, attributes: str, width: float, least: str = "", **options: object) -> str:
        """Return the picture, or a part of it, as an element that is `width` pixels wide."""
        buffer = io.StringIO()
        self._write(buffer, "svg", metadata={"Date": None}, **options)
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
        text = text.replace(INK, "currentColor")
        # Two equal images would have the same id, to which nothing refers.
        text = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", text)
        # Several figures share a page: their ids must not collide.
        prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:10] + "-"
        text = re.sub(r'\bid="', f'id="{prefix}', text)
        text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", text)
        # The size follows the page.
        style = f"width:{width:.0f}px;max-width:100%;{least}height:auto;display:block"
        for size in ("width", "height"):
            text = re.sub(rf'^(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
        return text.replace("<svg", f'<svg {attributes} style="{style}"', 1)

    @contextmanager
    def _captioned(self) -> Iterator[dict[str, object]]:
        """Write the caption below the picture for a while; yield the options that make room."""
        if not self.caption:
            yield {}
            return
        width, height = (float(side) for side in self.figure.get_size_inches())
        lines = textwrap.wrap(self.caption, round(13.5 * width))
        gap, room = 0.08, 0.2 + len(lines) * 1.3 * CAPTION_SIZE / 72
        with mpl.rc_context(STYLE):
            text = self.figure.text(
                gap / width, -gap / height, "\n".join(lines),
                va="top", fontsize=CAPTION_SIZE, linespacing=1.3,
            )  # fmt: skip
        try:
            yield {"bbox_inches": mpl.transforms.Bbox([[0, -room], [width, height]])}
        finally:
            text.remove()

    def png(self, *, dpi: int = 150) -> bytes:
        """Return the picture as a PNG with dark text on white, `dpi` pixels per inch."""
        check_positive("dpi", dpi)
        self._recolor()
        buffer = io.BytesIO()
        with self._captioned() as room:
            self._write(buffer, "png", dpi=dpi, facecolor="white", **room)
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the picture to a file: PNG, PDF or SVG by the suffix of `path`.

        Parameters
        ----------
        path
            Where to write. Missing folders are created. An existing file is replaced only once the
            new one is complete.

        Raises
        ------
        ValueError
            If `path` has a suffix of another format.
        OSError
            If the file cannot be written.
        """
        check_kind("path", path, str | Path, "the name of a file")
        path = expanded(path)
        kind = path.suffix.removeprefix(".").lower() or "png"
        if kind not in self.figure.canvas.get_supported_filetypes():
            raise ValueError(f"path must end in .png, .pdf or .svg, got {path.name!r:.60}")
        check_writable(path)
        buffer = io.BytesIO()
        self._recolor()
        with self._captioned() as room:
            self._write(buffer, kind, dpi=200, facecolor="white", **room)
        write_whole(path, buffer.getvalue())

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, object]]:
        # Exactly one form of the picture: front ends disagree about which of several to show.
        if in_book():
            return {
                "text/html": self.html(_with_light_photographs),
                "text/plain": repr(self),
            }, {}
        return shown_as_png(self.png(dpi=PNG_DPI), repr(self))


def _words(axes: Axes) -> Iterator[Text]:
    """Return what is written at a pair of axes; of ticks, those within."""
    yield from (*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label)
    if (legend := axes.get_legend()) is not None:
        yield from legend.get_texts()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        room = 1e-6 * (high - low)
        for tick in axis.get_major_ticks():
            if low - room <= tick.get_loc() <= high + room:
                yield tick.label1


def _apart(all_axes: Iterable[Axes]) -> bool:
    """Tell whether no words of a figure that is laid out touch each other or its edge."""
    words = [text for axes in all_axes for text in _words(axes)]
    words = [text for text in words if text.get_visible() and text.get_text().strip()]
    boxes = [text.get_window_extent().padded(1.0, 0.0) for text in words]
    for box, text in zip(boxes, words, strict=True):
        assert text.figure is not None
        edge = text.figure.bbox.padded(2.0)
        if box.x0 < edge.x0 or box.x1 > edge.x1:
            return False
    return not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def _with_light_photographs(svg: str) -> str:
    return re.sub(r'data:image/png;base64,[^"]*', lambda m: smaller(m[0], quality=90), svg)


def shown_as_png(png: bytes, text: str) -> tuple[dict[str, str], dict[str, object]]:
    """Return data and metadata of an output: a picture of :data:`PNG_DPI`, and a text for it."""
    width = int.from_bytes(png[16:20], "big")  # of a PNG, where its header has it
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": text}
    return data, {"image/png": {"width": round(width * 96 / PNG_DPI)}}
