"""What a page of the book needs to compute an explorer for a picture of its reader's."""

import html
import json
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np

from cnnbook.plots.style import COLORS, SIGNED

SHADES = 33  # of purple, white and orange


def own_picture(
    kind: str,
    size: Sequence[int],
    kernels: Mapping[str, Sequence[Sequence[float]]],
    **more: object,
) -> str:
    """Return an invisible element that says what the page's script, own-picture.js, needs to know.

    Parameters
    ----------
    kind
        Which explorer it is, ``"convolution"`` or ``"filters"``.
    size
        Height and width, in pixels, that a picture is shrunk to.
    kernels
        Name to square kernel.
    **more
        What else this kind of explorer needs.
    """
    colors = mpl.colormaps[SIGNED](np.linspace(0, 1, SHADES), bytes=True)[:, :3].tolist()
    content = {"kind": kind, "size": list(size), "kernels": dict(kernels), "palette": colors}
    given = json.dumps(content | {"colors": COLORS} | more, separators=(",", ":"))
    return f"<span hidden data-own='{html.escape(given, quote=True)}'></span>"
