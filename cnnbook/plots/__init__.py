"""Pictures of networks, images and results, in one style for light and dark pages."""

from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import feature_maps, filters, images, maps_through_depth
from cnnbook.plots.results import bars, confusion, curves, lines

__all__ = [
    "Figure",
    "bars",
    "confusion",
    "curves",
    "feature_maps",
    "filters",
    "images",
    "lines",
    "maps_through_depth",
]
