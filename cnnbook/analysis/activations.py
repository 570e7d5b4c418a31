"""What a network computes on the way."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnbook.analysis._hooks import device_of, evaluation, forward_hooks


def activations(
    model: nn.Module, x: Tensor, layers: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Run a network on `x` and keep the outputs of some of its layers.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode, without gradients, and is left unchanged.
    x
        Input, ``(N, C, H, W)``. Moved to the device of the model's first parameter.
    layers
        Names as in ``model.named_modules()``; the model's direct children if not given.

    Returns
    -------
    dict of str to Tensor
        Output of each layer, on the CPU, in the order in which the layers ran. A layer that runs
        more than once keeps its last output.

    Raises
    ------
    ValueError
        If the model has no layer of a given name.
    TypeError
        If a layer returns something else than a tensor.
    """
    if layers is None:
        layers = [name for name, _ in model.named_children()]
    kept: dict[str, Tensor] = {}

    def keeper(name: str):
        def hook(_module, _inputs, output):
            if not isinstance(output, Tensor):
                raise TypeError(f"layer {name!r} returns {type(output).__name__}, not a tensor")
            kept.pop(name, None)
            # A copy: the next layer may work in place.
            kept[name] = output.detach().to("cpu", copy=True)

        return hook

    with forward_hooks(model, layers, keeper), evaluation(model), torch.no_grad():
        model(x.to(device_of(model)))
    return kept
