"""Where an output is shown: on a page of the book, in a notebook, or in a terminal."""

import os
import sys


def in_book() -> bool:
    """Return whether this notebook is executed for a page of the book.

    The book's pages are light or dark as the reader chooses, and show the HTML of an output as it
    is. Elsewhere, a notebook is also read in viewers that remove styles, scripts and inline SVG,
    and leave the letters of their source.
    """
    return bool(os.environ.get("CNNBOOK_BOOK"))


def in_cell() -> bool:
    """Return whether this is the kernel of a notebook, in Jupyter, Colab or another front end."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None
