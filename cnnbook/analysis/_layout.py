"""Which dimension of a layer's output holds the channels."""

from collections.abc import Sequence

from torch import nn

from cnnbook.analysis.graph import trace


def channels_last_layers(
    model: nn.Module, input_shape: Sequence[int], layers: Sequence[str]
) -> set[str]:
    """Return those of some layers whose output is ``(N, H, W, C)``.

    Parameters
    ----------
    model
        The network.
    input_shape
        Shape of one image, ``(C, H, W)``.
    layers
        Names of the layers.
    """
    calls = trace(model, input_shape).calls
    return {call.name for call in calls if call.name in layers and call.channels_last}
