"""What a network computes on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbook.analysis._batches import Labeled, check_tensor, watch
from cnnbook.analysis._hooks import device_of, evaluation, forward_hooks
from cnnbook.tables import Table


def activations(
    model: nn.Module, x: Tensor, layers: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Run a network on `x` and keep the outputs of some of its layers.

    All outputs are held in memory. For numbers over many images see
    :func:`activation_statistics`, which goes through them in batches.

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
        If the model has no layer of a given name, or does not run it in evaluation mode.
    TypeError
        If a layer returns something else than a tensor.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> maps = activations(lenet5(), torch.zeros(2, 1, 32, 32), ["c1", "c3", "c5"])
    >>> {name: tuple(output.shape[1:]) for name, output in maps.items()}
    {'c1': (6, 28, 28), 'c3': (16, 10, 10), 'c5': (120, 1, 1)}
    """
    names = [name for name, _ in model.named_children()] if layers is None else list(layers)
    kept: dict[str, Tensor] = {}

    def keeper(name: str):
        def hook(_module, _inputs, output):
            check_tensor(name, output)
            kept.pop(name, None)
            # A copy: the next layer may work in place.
            kept[name] = output.detach().to("cpu", copy=True)

        return hook

    with forward_hooks(model, names, keeper), evaluation(model), torch.no_grad():
        model(x.to(device_of(model)))
    silent = [name for name in names if name not in kept]
    if silent and layers is not None:
        raise ValueError(f"layers {silent} do not run in evaluation mode; leave them out")
    return kept


@dataclass
class _Moments:
    """Running statistics of one layer."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean
    zeros: int = 0
    lowest: float = math.inf
    highest: Tensor | None = None  # of each unit

    def add(self, output: Tensor) -> None:
        variance, mean = torch.var_mean(output.float(), correction=0)
        new, mean = output.numel(), mean.item()
        # Chan, Golub and LeVeque (1983): joins two parts without the cancellation that a
        # difference of sums of squares suffers.
        total, step = self.count + new, mean - self.mean
        self.squares += variance.item() * new + step**2 * self.count * new / total
        self.mean += step * new / total
        self.count = total
        self.zeros += int((output == 0).sum())
        self.lowest = min(self.lowest, output.min().item())
        units = output.transpose(0, 1).flatten(1).amax(1)
        self.highest = units if self.highest is None else torch.maximum(self.highest, units)


def activation_statistics(
    model: nn.Module,
    x: Tensor | Labeled,
    layers: Sequence[str] | None = None,
    *,
    batch_size: int = 100,
) -> Table:
    """Describe the outputs of some layers over many images.

    A *unit* is a channel of a layer's maps, or an entry of its output vector. It is *dead* if it
    is above zero nowhere, in no image of `x`: behind a ReLU its weights then get no gradient
    from these images.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode, without gradients, and is left unchanged.
    x
        Images ``(N, C, H, W)`` as the network takes them, or a data set, whose images are
        normalized first.
    layers
        Names as in ``model.named_modules()``; the model's direct children if not given.
    batch_size
        Images at a time. Only the memory needed depends on it.

    Returns
    -------
    Table
        One row per layer, in the order in which they first ran: layer, mean, standard deviation
        (of all values, divided by their number), zeros (share of values that are exactly zero,
        0 to 1), units, dead (their number). The last is None where the layer puts out negative
        values, as then it is not behind a ReLU and the word has no meaning. A layer that runs
        more than once is described over all its outputs.

    Raises
    ------
    ValueError
        If the model has no layer of a given name, or `x` has no images.
    TypeError
        If a layer returns something else than a tensor.

    Examples
    --------
    A unit whose bias is far below zero is silent in every image, and gets no gradient:

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> with torch.no_grad():
    ...     net[0].bias[1] = -1000
    >>> table = activation_statistics(net, torch.rand(50, 1, 8, 8), ["1"])
    >>> table[0]["units"], table[0]["dead"] >= 1
    (4, True)
    """
    if layers is None:
        layers = [name for name, _ in model.named_children()]
    seen: dict[str, _Moments] = {}
    watch(
        model,
        x,
        layers,
        lambda name, output: seen.setdefault(name, _Moments()).add(output),
        batch_size=batch_size,
    )
    return Table(
        [
            {
                "layer": name,
                "mean": found.mean,
                "standard deviation": math.sqrt(found.squares / found.count),
                "zeros": found.zeros / found.count,
                "units": len(found.highest),
                "dead": int((found.highest <= 0).sum()) if found.lowest >= 0 else None,
            }
            for name, found in seen.items()
        ],
        formats={"zeros": ".1%"},
    )
