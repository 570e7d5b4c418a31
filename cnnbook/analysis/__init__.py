"""Numbers about a network, which is left as it was.

Afterward, its weights, averages, caches, counters, generators and modes are as before, and so are
the random states of torch, NumPy and Python. What it keeps out of reach is not restored: attributes
of its class, global variables, variables in a function or hook, iterators, files and connections.
"""

from cnnbook.analysis.activations import (
    Activations,
    ActivationStatistics,
    activation_statistics,
    activations,
)
from cnnbook.analysis.attribution import Attribution, grad_cam, occlusion
from cnnbook.analysis.confusion import ConfusionMatrix, confusion_matrix
from cnnbook.analysis.cost import Cost, conv_cost, linear_cost
from cnnbook.analysis.gradients import (
    GradientFlow,
    GradientHistory,
    GradientRecorder,
    gradient_flow,
    gradient_norms,
)
from cnnbook.analysis.graph import (
    OperationCall,
    Reach,
    Trace,
    Untraceable,
    operation,
    trace,
)
from cnnbook.analysis.kernels import KernelFactors, compose_kernels, factorize_kernel
from cnnbook.analysis.layers import Summary, summary
from cnnbook.analysis.probes import LinearProbes, linear_probes
from cnnbook.analysis.receptive import (
    EffectiveReceptiveField,
    ReceptiveField,
    effective_receptive_field,
    effective_size,
    receptive_field,
)
from cnnbook.analysis.surface import LossSurface, filter_directions, loss_surface
from cnnbook.analysis.visualize import (
    MaximizedUnits,
    TopPatches,
    maximize_activation,
    top_patches,
)

__all__ = [
    "ActivationStatistics",
    "Activations",
    "Attribution",
    "ConfusionMatrix",
    "Cost",
    "EffectiveReceptiveField",
    "GradientFlow",
    "GradientHistory",
    "GradientRecorder",
    "KernelFactors",
    "LinearProbes",
    "LossSurface",
    "MaximizedUnits",
    "OperationCall",
    "Reach",
    "ReceptiveField",
    "Summary",
    "TopPatches",
    "Trace",
    "Untraceable",
    "activation_statistics",
    "activations",
    "compose_kernels",
    "confusion_matrix",
    "conv_cost",
    "effective_receptive_field",
    "effective_size",
    "factorize_kernel",
    "filter_directions",
    "grad_cam",
    "gradient_flow",
    "gradient_norms",
    "linear_cost",
    "linear_probes",
    "loss_surface",
    "maximize_activation",
    "occlusion",
    "operation",
    "receptive_field",
    "summary",
    "top_patches",
    "trace",
]
