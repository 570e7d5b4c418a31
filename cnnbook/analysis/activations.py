"""What a network computes along the way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from cnnbook._checks import no_tensor
from cnnbook._draw import draw
from cnnbook._errors import unknown
from cnnbook._networks import Selector, device_of, evaluating, unwrapped
from cnnbook.analysis._batches import (
    as_input,
    check_images,
    forward,
    one_batch,
    silent_layers,
    tensor_of,
    watch,
)
from cnnbook.analysis._hooks import (
    Hook,
    Layers,
    check_differentiable,
    forward_hooks,
    layer_names,
)
from cnnbook.analysis._units import unit_dims
from cnnbook.data import DataLike
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
        The network's input, ``(N, C, H, W)``; a tuple if it takes several.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> seen = activations(lenet5(), torch.zeros(2, 1, 32, 32), ["c1", "f6"])
    >>> seen
    <Activations of 2 inputs: c1 6×28×28, f6 84>
    >>> seen["c1"].shape
    torch.Size([2, 6, 28, 28])
    """

    def __init__(self, outputs: Mapping[str, Tensor], inputs: Tensor | tuple[Tensor, ...]):
        super().__init__(outputs)
        self.inputs = inputs
        # The network, which says how feature maps lie; not given to those made by hand.
        self._model: nn.Module | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: not the network."""
        return vars(self) | {"_model": None}

    @property
    def images(self) -> Tensor:
        """The network's input; of several, the first made of images, ``(N, C, H, W)``."""
        if isinstance(self.inputs, Tensor):
            return self.inputs
        return next((x for x in self.inputs if x.ndim == 4), self.inputs[0])

    def plot(
        self,
        layers: Layers | None = None,
        *,
        image: Tensor | None = None,
        index: int = 0,
        **options: Any,
    ) -> "Figure":
        """Draw the feature maps of one layer, or those of several beside the image.

        Parameters
        ----------
        layers
            One layer, as its name or the module itself: a grid of its maps, by
            :func:`cnnbook.plots.feature_maps`. Several, or all if not given: the image and every
            layer's maps at one scale, by :func:`cnnbook.plots.activations`. Outputs
            ``(N, H, W, C)``, as of Swin and ConvNeXt, are turned to ``(N, C, H, W)``.
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
            If there is no such layer or input, its output is not maps (or, of several layers,
            neither maps nor a vector), or which dimension holds the channels cannot be told.
        """
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(f"index must be an integer, got {index!r}")
        if not 0 <= index < len(self.images):
            raise ValueError(f"index must be from 0 to {len(self.images) - 1}, got {index}")
        if isinstance(layers, str | nn.Module):
            name = self._name(layers)
            return draw("feature_maps", self.channels_first([name])[name][index], **options)
        names = [self._name(layer) for layer in (self if layers is None else layers)]
        maps = self.channels_first(names)
        chosen = Activations(maps, self.images.detach())
        return draw("activations", chosen, image, index=index, **options)

    def _name(self, layer: str | nn.Module) -> str:
        """Return under which name the output of a layer is kept."""
        if isinstance(layer, nn.Module) and self._model is not None:
            network = unwrapped(self._model)
            modules = network.named_modules(remove_duplicate=False)
            layer = next((n for n, m in modules if m is layer and n in self), type(layer).__name__)
        if not isinstance(layer, str) or layer not in self:
            raise unknown("layer", str(layer), self)
        return layer

    def channels_first(self, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return outputs with the channels of feature maps in dimension 1, as drawings have them.

        Parameters
        ----------
        names
            Names of the layers; all if not given.

        Returns
        -------
        dict of str to Tensor
            Outputs ``(N, H, W, C)`` as ``(N, C, H, W)``, without gradients; others as they are.

        Raises
        ------
        ValueError
            If it cannot be told which dimension holds the channels.

        Examples
        --------
        >>> class Last(nn.Module):
        ...     def forward(self, x):
        ...         return x.permute(0, 2, 3, 1)
        >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), Last())
        >>> seen = activations(net, torch.rand(1, 3, 8, 8))
        >>> seen["1"].shape, seen.channels_first()["1"].shape
        (torch.Size([1, 6, 6, 5]), torch.Size([1, 5, 6, 6]))
        """
        found = {name: self[name].detach() for name in (self if names is None else names)}
        maps = {name: 4 for name, output in found.items() if output.ndim == 4}
        if self._model is None or not maps:
            return found
        inputs = self.inputs
        given = tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else inputs
        for name, dim in unit_dims(self._model, given, maps).items():
            if dim is None:
                raise ValueError(
                    f"whether layer {name!r} returns (N, C, H, W) or (N, H, W, C) cannot be told; "
                    "plots.feature_maps draws maps (C, H, W) that you permute yourself"
                )
            found[name] = found[name].movedim(dim, 1)
        return found

    def __repr__(self) -> str:
        """Return the layers with the shapes of their outputs."""
        shapes = (f"{name} {'×'.join(map(str, t.shape[1:]))}" for name, t in self.items())
        return f"<Activations of {len(self.images)} inputs: {', '.join(shapes)}>"


def activations(
    model: nn.Module,
    x: Tensor | tuple[Tensor, ...] | DataLike,
    layers: Layers | None = None,
    *,
    output: Selector = None,
    grad: bool = False,
    device: torch.device | str | None = None,
) -> Activations:
    """Run a network on `x` and keep the outputs of some of its layers.

    All outputs are held in memory. For statistics over many images, see
    :func:`activation_statistics`, which processes them in batches.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode and is left unchanged.
    x
        Input, ``(N, C, H, W)``; a tuple, if the network takes several; or labeled data, all of
        whose images are normalized and run at once. Moved to the network's device; floats take the
        type of its parameters.
    layers
        One or several layers, as names in ``model.named_modules()`` or as the modules themselves;
        the model's direct children if not given.
    output
        Which part to keep of what a layer returns as a tuple or dict: an index, a key or a function
        of it. The first tensor of a tuple if not given.
    grad
        Whether to keep the graph of the computation, so that you can differentiate with respect to
        the outputs kept, and back to `x`. Then the input is a copy of `x` that requires gradients,
        unless `x` already does, and is in the result's ``inputs``. A network that changes its own
        weights while it runs gets them back, so torch refuses to differentiate by them.
    device
        Where to keep the outputs: the CPU if not given; with `grad`, the network's device.

    Returns
    -------
    Activations
        A dict with the output of each layer in the order in which the layers ran. A layer that runs
        more than once keeps its last output. Its ``plot`` draws them.

    Raises
    ------
    ValueError
        If the model has no such layer, does not run it in evaluation mode, or `x` has another
        shape.
    TypeError
        If `x` is neither a tensor nor labeled data, or a layer returns no tensor.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> net = lenet5()
    >>> seen = activations(net, torch.zeros(2, 1, 32, 32), ["c1", net.c3, "c5"])
    >>> {name: tuple(output.shape[1:]) for name, output in seen.items()}
    {'c1': (6, 28, 28), 'c3': (16, 10, 10), 'c5': (120, 1, 1)}

    How the first class's score depends on the third layer's feature maps, and on the pixels:

    >>> seen = activations(net, torch.rand(1, 1, 32, 32), ["c3", "output"], grad=True)
    >>> score = seen["output"][0, 0]
    >>> [g.shape for g in torch.autograd.grad(score, [seen["c3"], seen.inputs])]
    [torch.Size([1, 16, 10, 10]), torch.Size([1, 1, 32, 32])]
    """
    names = layer_names(model, layers)
    if not isinstance(x, Tensor | tuple):
        x, _ = one_batch(x, device_of(model))
    for each in x if isinstance(x, tuple) else (x,):
        # A network of two-dimensional layers takes a single image for N images without channels.
        if not isinstance(each, Tensor):
            raise no_tensor("x", each)
        if isinstance(x, Tensor) and x.ndim == 3 and _has_conv2d(model):
            check_images(x)
    if grad:
        check_differentiable(model)
    place = device if grad or device is not None else "cpu"
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: object, found: object) -> object:
            tensor = tensor_of(name, found, output)
            kept.pop(name, None)
            if not grad:
                # A copy: the next layer may operate in place.
                kept[name] = tensor.detach().to(place, copy=True)
                return None
            kept[name] = tensor if place is None else tensor.to(place)
            # The network goes on from a copy of what is kept, whose gradient includes all that
            # follows.
            return tree_map(lambda part: part.clone() if part is tensor else part, found)

        return hook

    with forward_hooks(model, names, keeper), evaluating(model), torch.set_grad_enabled(grad):
        inputs = x if isinstance(x, tuple) else (x,)
        if grad:
            inputs = tuple(map(_followed, inputs))
        forward(model, tuple(as_input(model, each) for each in inputs))
    if layers is not None and len(kept) < len(names):
        raise silent_layers(names, kept)
    if not grad:
        inputs = tuple(each.detach().to(place) for each in inputs)
    found = Activations(kept, inputs if isinstance(x, tuple) else inputs[0])
    found._model = model
    return found


def _followed(x: Tensor) -> Tensor:
    """Return `x` if gradients lead to it, or a copy to which they do; integers as they are."""
    if x.requires_grad or not (x.is_floating_point() or x.is_complex()):
        return x
    return x.detach().clone().requires_grad_()


def _has_conv2d(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


@dataclass
class _Moments:
    """Running statistics of one layer."""

    ndim: int = 0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean
    zeros: int = 0
    lowest: float = math.inf  # not a number if any value is not
    # Highest value of each unit, for each dimension that may run over the units; None if its
    # length changes.
    highest: dict[int, Tensor | None] = field(default_factory=dict)

    def add(self, layer: str, output: Tensor) -> None:
        if output.is_complex():
            raise ValueError(
                f"layer {layer!r} has complex outputs, which have no order; output=torch.abs takes "
                "their absolute values"
            )
        if not output.numel():
            raise ValueError(f"layer {layer!r} has an empty output: {tuple(output.shape)}")
        # Half precision would overflow in sums.
        values = output if output.dtype == torch.float64 else output.float()
        variance, mean = (v.item() for v in torch.var_mean(values, correction=0))
        new = values.numel()
        # Chan, Golub and LeVeque (1983): combines two parts without the cancellation error of a
        # difference of sums of squares.
        total, step = self.count + new, mean - self.mean
        self.squares += variance * new + step * step * self.count * new / total
        self.mean += step * new / total
        self.count = total
        self.zeros += int((values == 0).sum())
        lowest = values.min().item()
        if math.isnan(lowest) or lowest < self.lowest:  # once not a number, it stays so
            self.lowest = lowest
        self.ndim = values.ndim
        for dim in {1, values.ndim - 1} if values.ndim > 1 else {0}:
            self._raise(dim, values)

    def _raise(self, dim: int, values: Tensor) -> None:
        # A vector of N values is one unit, as seen in N images.
        parts = values.transpose(0, dim).flatten(1) if dim else values.reshape(1, -1)
        highest = parts.amax(1)
        before = self.highest.get(dim, highest)
        if before is not None and before.shape == highest.shape:
            self.highest[dim] = torch.maximum(before, highest)
        else:
            self.highest[dim] = None

    def row(self, layer: str, dim: int | None) -> dict[str, object]:
        highest = None if dim is None else self.highest.get(dim)
        return {
            "layer": layer,
            "mean": self.mean,
            "standard_deviation": math.sqrt(self.squares / self.count),
            "zeros": self.zeros / self.count,
            "units": None if highest is None else len(highest),
            "dead": int((highest <= 0).sum()) if highest is not None and self.lowest >= 0 else None,
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
    x: Tensor | DataLike,
    layers: Layers | None = None,
    *,
    output: Selector = None,
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
        Images ``(N, C, H, W)`` as the network takes them, or labeled data, whose images are
        normalized first.
    layers
        One or several layers, as names in ``model.named_modules()`` or as the modules themselves;
        the model's direct children if not given.
    output
        Which part counts of what a layer returns as a tuple or dict: an index, a key or a function
        of it. The first tensor of a tuple if not given.
    batch_size
        Images at a time. It affects only the memory needed.

    Returns
    -------
    ActivationStatistics
        A :class:`cnnbook.tables.Table` with one row per layer, in the order in which they first
        ran: layer, mean, standard_deviation (of all values, divided by their number), zeros
        (fraction of values that are exactly zero, 0 to 1), units, dead (their number). The last is
        None for a layer with negative outputs, which no ReLU can have produced, or with values
        that are no numbers: there, "dead" has no meaning. Both are None where it cannot be told
        which dimension holds the units, as in sequences ``(N, T, C)`` of a layer of its own kind.
        For a layer that runs more than once, all its outputs count. Its ``plot`` draws it.

    Raises
    ------
    ValueError
        If the model has no such layer, does not run it in evaluation mode, or `x` has no images.
    TypeError
        If a layer returns no tensor.

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
    shapes: list[tuple[int, ...]] = []
    watch(
        model,
        x,
        layers,
        lambda name, found: seen.setdefault(name, _Moments()).add(name, found),
        batch_size=batch_size,
        output=output,
        batch=lambda images: shapes.append(tuple(images.shape[1:])),
    )
    units = unit_dims(model, shapes[0], {name: moments.ndim for name, moments in seen.items()})
    rows = [moments.row(name, units[name]) for name, moments in seen.items()]
    return ActivationStatistics(rows, formats={"zeros": ".1%"})
