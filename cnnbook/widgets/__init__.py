"""Figures the reader can change, even on a page without a kernel."""

from cnnbook.widgets.experiments import augmentation, reduction_cost, shortcut_gradients
from cnnbook.widgets.explore import explore
from cnnbook.widgets.filters import filters
from cnnbook.widgets.live import LiveNetwork, live_network
from cnnbook.widgets.networks import architecture, feature_maps, receptive_field
from cnnbook.widgets.sliding import convolution
from cnnbook.widgets.stacking import stacking

__all__ = [
    "LiveNetwork",
    "architecture",
    "augmentation",
    "convolution",
    "explore",
    "feature_maps",
    "filters",
    "live_network",
    "receptive_field",
    "reduction_cost",
    "shortcut_gradients",
    "stacking",
]
