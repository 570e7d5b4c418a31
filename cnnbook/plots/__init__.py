"""Pictures of networks, images and results, in one style for light and dark pages."""

from cnnbook.plots.architecture import architecture
from cnnbook.plots.attribution import heatmap
from cnnbook.plots.costs import layer_costs
from cnnbook.plots.depth import (
    activation_statistics,
    gradient_flow,
    gradient_history,
    linear_probes,
)
from cnnbook.plots.figure import Figure
from cnnbook.plots.kernels import factorization
from cnnbook.plots.pictures import feature_maps, filters, images, maps_through_depth
from cnnbook.plots.receptive import effective_receptive_field, receptive_fields
from cnnbook.plots.results import bars, confusion, curves, lines, sweep
from cnnbook.plots.surfaces import loss_surfaces
from cnnbook.plots.units import maximized_units, top_patches

__all__ = [
    "Figure",
    "activation_statistics",
    "architecture",
    "bars",
    "confusion",
    "curves",
    "effective_receptive_field",
    "factorization",
    "feature_maps",
    "filters",
    "gradient_flow",
    "gradient_history",
    "heatmap",
    "images",
    "layer_costs",
    "linear_probes",
    "lines",
    "loss_surfaces",
    "maps_through_depth",
    "maximized_units",
    "receptive_fields",
    "sweep",
    "top_patches",
]
