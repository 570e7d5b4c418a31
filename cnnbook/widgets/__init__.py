"""Figures the reader can change, also on a page without a kernel."""

from cnnbook.widgets.explore import explore

__all__ = ["explore"]
