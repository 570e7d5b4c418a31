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
from collections.abc import Iterator
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

# A notebook's front end has 96 pixels to the inch; screens often have twice as many.
PNG_DPI = 192


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
        The same picture in a form for narrow pages, which the book shows there instead.

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

        A picture that stacks is a ``<div>`` with one ``<svg>`` for each of its axes. One with a
        form for narrow pages is a ``<div>`` of both; the second is hidden, unless a style sheet
        knows that the page is narrow.
        """
        label = html.escape(self.alt, quote=True)
        described = f'role="img" aria-label="{label}"'
        if not self.stacks:
            width = self.figure.get_figwidth() * 96
            least = "min-width:30rem;" if width > 600 else ""
            if not self.shrinks:
                least = f"min-width:{width:.0f}px;"
            self._recolor()
            if self.narrow is None:
                return self._svg(described, width, least)
            wide = self._svg('class="cnnbook-wide" aria-hidden="true"', width, least)
            return f"<div {described}>{wide}{self._narrow_svg()}</div>"
        style = "display:flex;flex-wrap:wrap;align-items:flex-start;gap:0.8rem 0.4rem"
        return f'<div {described} style="{style}">{"".join(self._svgs())}</div>'

    def _narrow_svg(self) -> str:
        """Return the form for narrow pages, hidden."""
        assert self.narrow is not None
        form = Figure(self.narrow, self.alt)
        form._recolor()
        text = form._svg(
            'class="cnnbook-narrow" aria-hidden="true"', form.figure.get_figwidth() * 96
        )
        return text.replace("display:block", "display:none", 1)

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
            yield self._svg('aria-hidden="true"', cut.width * 96, bbox_inches=cut)
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

    def png(self, *, dpi: int = 150) -> bytes:
        """Return the picture as a PNG with dark text on white, `dpi` pixels per inch."""
        check_positive("dpi", dpi)
        self._recolor()
        buffer = io.BytesIO()
        self._write(buffer, "png", dpi=dpi, facecolor="white")
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
        self._write(buffer, kind, dpi=200, facecolor="white")
        write_whole(path, buffer.getvalue())

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, object]]:
        # Exactly one form of the picture: front ends disagree about which of several to show.
        if in_book():
            picture = re.sub(
                r'data:image/png;base64,[^"]*', lambda m: smaller(m[0], quality=90), self.svg()
            )
            return {
                "text/html": (
                    '<figure class="cnnbook-figure" tabindex="0" '
                    f'style="margin:0;overflow-x:auto">{picture}</figure>'
                ),
                "text/plain": repr(self),
            }, {}
        return shown_as_png(self.png(dpi=PNG_DPI), repr(self))


def shown_as_png(png: bytes, text: str) -> tuple[dict[str, str], dict[str, object]]:
    """Return data and metadata of an output: a picture of :data:`PNG_DPI`, and a text for it."""
    width = int.from_bytes(png[16:20], "big")  # of a PNG, where its header has it
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": text}
    return data, {"image/png": {"width": round(width * 96 / PNG_DPI)}}
