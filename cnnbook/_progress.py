"""Progress bars, in notebooks and terminals."""

import os
import warnings
from typing import Any

with warnings.catch_warnings():
    # Without ipywidgets, tqdm warns once and prints text bars: nothing the reader needs to know.
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm


def progress_bar(total: int | None, *, show: bool = True, **options: Any) -> "tqdm[Any]":
    """Return a tqdm bar that obeys ``TQDM_DISABLE``, which tqdm itself ignores in notebooks.

    Parameters
    ----------
    total
        Number of steps, if known.
    show
        Whether to show the bar at all.
    **options
        Passed to tqdm.
    """
    hidden = not show or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(total=total, disable=hidden, **options)
