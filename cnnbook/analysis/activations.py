"""What a network computes along the way."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnnbook._draw import draw
from cnnbook._errors import unknown
from cnnbook.analysis._batches import Labeled, check_images, check_tensor, forward, watch
from cnnbook.analysis._hooks import device_of, evaluation, forward_hooks, layer_names
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure


class Activations(dict[str, Tensor]):
    """Outputs of the layers of a network: a dict from layer name to tensor.

    Parameters
    ----------
    outputs
        Layer name to output, ``(N, …)``, in the order in which the layers ran.
    inputs
        The network's input, ``(N, C, H, W)``.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> seen = activations(lenet5(), torch.zeros(2, 1, 32, 32), ["c1", "f6"])
    >>> seen
    <Activations of 2 inputs: c1 6×28×28, f6 84>
    >>> seen["c1"].shape
    torch.Size([2, 6, 28, 28])
    """

    def __init__(self, outputs: Mapping[str, Tensor], inputs: Tensor):
        super().__init__(outputs)
        self.inputs = inputs

    def plot(
        self,
        layers: str | Sequence[str] | None = None,
        *,
        image: Tensor | None = None,
        index: int = 0,
        **options: Any,
    ) -> "Figure":
        """Draw the feature maps of one layer, or those of several beside the image.

        Parameters
        ----------
        layers
            One name: a grid of that layer's maps, by :func:`cnnbook.plots.feature_maps`. Several
            names, or all if not given: the image and every layer's maps at one scale, by
            :func:`cnnbook.plots.activations`.
        image
            Picture to show with several layers, ``(1 or 3, H, W)``, uint8 or float from 0 to 1.
            If not given, the network's input, stretched from its lowest to its highest value.
        index
            Which of the N inputs.
        **options
            Other options of the two functions, for example ``columns`` or ``titles``.

        Returns
        -------
        cnnbook.plots.Figure

        Raises
        ------
        ValueError
            If there is no such layer or input, or its output is neither maps nor a vector.
        """
        if not 0 <= index < len(self.inputs):
            raise ValueError(f"index must be from 0 to {len(self.inputs) - 1}, got {index}")
        names = [layers] if isinstance(layers, str) else list(self if layers is None else layers)
        for name in names:
            if name not in self:
                raise unknown("layer", name, self)
        if isinstance(layers, str):
            return draw("feature_maps", self[layers][index], **options)
        chosen = Activations({name: self[name] for name in names}, self.inputs)
        return draw("activations", chosen, image, index=index, **options)

    def __repr__(self) -> str:
        """Return the layers with the shapes of their outputs."""
        shapes = (f"{name} {'×'.join(map(str, t.shape[1:]))}" for name, t in self.items())
        return f"<Activations of {len(self.inputs)} inputs: {', '.join(shapes)}>"


def activations(
    model: nn.Module, x: Tensor, layers: str | Sequence[str] | None = None
) -> Activations:
    """Run a network on `x` and keep the outputs of some of its layers.

    All outputs are held in memory. For statistics over many images, see
    :func:`activation_statistics`, which processes them in batches.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode, without gradients, and is left unchanged.
    x
        Input, ``(N, C, H, W)``. Moved to the device of the model's first parameter.
    layers
        One or several names as in ``model.named_modules()``; the model's direct children if not
        given.

    Returns
    -------
    Activations
        A dict with the output of each layer, on the CPU, in the order in which the layers ran. A
        layer that runs more than once keeps its last output. Its ``plot`` draws them.

    Raises
    ------
    ValueError
        If the model has no layer of a given name, does not run it in evaluation mode, or `x` has
        another shape.
    TypeError
        If `x` is not a tensor, or a layer returns something else.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> seen = activations(lenet5(), torch.zeros(2, 1, 32, 32), ["c1", "c3", "c5"])
    >>> {name: tuple(output.shape[1:]) for name, output in seen.items()}
    {'c1': (6, 28, 28), 'c3': (16, 10, 10), 'c5': (120, 1, 1)}
    """
    names = layer_names(model, layers)
    # A network of two-dimensional layers takes a single image for N images without channels.
    if not isinstance(x, Tensor) or (x.ndim == 3 and _has_conv2d(model)):
        check_images(x)
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: object) -> None:
            tensor = check_tensor(name, output)
            kept.pop(name, None)
            # A copy: the next layer may operate in place.
            kept[name] = tensor.detach().to("cpu", copy=True)

        return hook

    with forward_hooks(model, names, keeper), evaluation(model), torch.no_grad():
        forward(model, x.to(device_of(model)))
    silent = [name for name in names if name not in kept]
    if silent and layers is not None:
        raise ValueError(f"layers {silent} do not run in evaluation mode; leave them out")
    return Activations(kept, x.detach().cpu())


def _has_conv2d(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


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
        variance, mean = (v.item() for v in torch.var_mean(output.float(), correction=0))
        new = output.numel()
        # Chan, Golub and LeVeque (1983): combines two parts without the cancellation error of a
        # difference of sums of squares.
        total, step = self.count + new, mean - self.mean
        self.squares += variance * new + step**2 * self.count * new / total
        self.mean += step * new / total
        self.count = total
        self.zeros += int((output == 0).sum())
        self.lowest = min(self.lowest, output.min().item())
        units = output.transpose(0, 1).flatten(1).amax(1)
        self.highest = units if self.highest is None else torch.maximum(self.highest, units)

    def row(self, layer: str) -> dict[str, object]:
        assert self.highest is not None  # something was added
        return {
            "layer": layer,
            "mean": self.mean,
            "standard_deviation": math.sqrt(self.squares / self.count),
            "zeros": self.zeros / self.count,
            "units": len(self.highest),
            "dead": int((self.highest <= 0).sum()) if self.lowest >= 0 else None,
        }


class ActivationStatistics(Table):
    """The table that :func:`activation_statistics` returns.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> activation_statistics(net, torch.zeros(1, 1, 8, 8), ["1"]).plot().alt.split(":")[0]
    'Activations by layer'
    """

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw mean, standard deviation, zeros and dead units by layer.

        See :func:`cnnbook.plots.activation_statistics`.
        """
        return draw("activation_statistics", self, alt=alt)


def activation_statistics(
    model: nn.Module,
    x: Tensor | Labeled,
    layers: str | Sequence[str] | None = None,
    *,
    batch_size: int = 100,
) -> ActivationStatistics:
    """Summarize the outputs of some layers over many images.

    A *unit* is a channel of a layer's feature maps, or an entry of its output vector. It is *dead*
    if it is never above zero in any image of `x`: after a ReLU, its weights then get no gradient
    from these images.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode, without gradients, and is left unchanged.
    x
        Images ``(N, C, H, W)`` as the network takes them, or a data set, whose images are
        normalized first.
    layers
        One or several names as in ``model.named_modules()``; the model's direct children if not
        given.
    batch_size
        Images at a time. It affects only the memory needed.

    Returns
    -------
    ActivationStatistics
        A :class:`cnnbook.tables.Table` with one row per layer, in the order in which they first
        ran: layer, mean, standard_deviation (of all values, divided by their number), zeros
        (fraction of values that are exactly zero, 0 to 1), units, dead (their number). The last is
        None for a layer with negative outputs, which no ReLU can have produced: there, "dead" has
        no meaning. For a layer that runs more than once, all its outputs count. Its ``plot`` draws
        it.

    Raises
    ------
    ValueError
        If the model has no layer of a given name, or `x` has no images.
    TypeError
        If a layer returns something other than a tensor.

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
    seen: dict[str, _Moments] = {}
    watch(
        model,
        x,
        layer_names(model, layers),
        lambda name, output: seen.setdefault(name, _Moments()).add(output),
        batch_size=batch_size,
    )
    rows = [moments.row(name) for name, moments in seen.items()]
    return ActivationStatistics(rows, formats={"zeros": ".1%"})
