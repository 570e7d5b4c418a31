"""Figures of networks, images and results, in one style for light and dark pages."""

from cnnbook.plots.architecture import architecture, flowchart, heads, residual_block, towers
from cnnbook.plots.costs import layer_costs
from cnnbook.plots.depth import (
    activation_statistics,
    gradient_flow,
    gradient_history,
    linear_probes,
)
from cnnbook.plots.figure import Figure
from cnnbook.plots.heatmaps import attribution
from cnnbook.plots.kernels import kernel_factors
from cnnbook.plots.pictures import activations, feature_maps, filters, images
from cnnbook.plots.receptive import effective_receptive_field, receptive_fields
from cnnbook.plots.results import bars, confusion_matrix, curves, lines, sweep
from cnnbook.plots.sheets import sheets
from cnnbook.plots.surfaces import loss_surface
from cnnbook.plots.units import maximized_units, top_patches

__all__ = [
    "Figure",
    "activation_statistics",
    "activations",
    "architecture",
    "attribution",
    "bars",
    "confusion_matrix",
    "curves",
    "effective_receptive_field",
    "feature_maps",
    "filters",
    "flowchart",
    "gradient_flow",
    "gradient_history",
    "heads",
    "images",
    "kernel_factors",
    "layer_costs",
    "linear_probes",
    "lines",
    "loss_surface",
    "maximized_units",
    "receptive_fields",
    "residual_block",
    "sheets",
    "sweep",
    "top_patches",
    "towers",
]
