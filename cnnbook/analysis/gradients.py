"""How strongly the loss pulls at each layer."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


def gradient_norms(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, float]:
    """Return the size of the gradient at each weight tensor, for one batch.

    Parameters
    ----------
    model
        Any network. Its gradients are cleared.
    x
        Images, ``(N, C, H, W)``, on the model's device.
    y
        Class numbers, ``(N,)``.
    loss
        Called as ``loss(scores, labels)``.

    Returns
    -------
    dict of str to float
        Root mean square of the gradient of every parameter that has more than one dimension
        (weights, not biases), by its name, from the input to the output.
    """
    model.zero_grad()
    loss(model(x), y).backward()
    norms = {
        name: parameter.grad.square().mean().sqrt().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.ndim > 1
    }
    model.zero_grad()
    return norms
