"""Numbers about a network."""

from cnnbook.analysis.activations import activations
from cnnbook.analysis.confusion import confusion_matrix
from cnnbook.analysis.gradients import gradient_norms
from cnnbook.analysis.layers import layer_table

__all__ = ["activations", "confusion_matrix", "gradient_norms", "layer_table"]
