"""The loss around a network's weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnnbook._checks import check_count, check_positive
from cnnbook._draw import draw
from cnnbook._frames import data_frame
from cnnbook._networks import Selector, device_of, evaluating, is_lazy_network, scores_of, unwrapped
from cnnbook.analysis._batches import as_input, cross_entropy, forward, labeled_batches
from cnnbook.analysis._hooks import check_model, check_values
from cnnbook.analysis._unchanged import unchanged
from cnnbook.data import DataLike, seeds

if TYPE_CHECKING:
    from cnnbook.plots import Figure


@dataclass(frozen=True, eq=False)
class LossSurface:
    """Loss on a plane through a network's weights.

    Parameters
    ----------
    a, b
        How far along the first and the second direction, ``(steps,)`` each. 0 is the network
        itself; at 1 each filter is displaced by its own norm.
    loss
        Mean loss per image, ``(steps, steps)``: ``loss[i, j]`` belongs to ``a[i]`` and ``b[j]``.
        It may be infinite or not a number where the weights are far off.

    Examples
    --------
    >>> from cnnbook import data
    >>> _, test = data.load("digits")
    >>> surface = loss_surface(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), test, steps=3)
    >>> surface.a, surface.loss.shape
    (tensor([-1.,  0.,  1.]), torch.Size([3, 3]))
    """

    a: Tensor
    b: Tensor
    loss: Tensor

    def plot(
        self, *, levels: int = 14, highest: float | None = None, alt: str | None = None
    ) -> "Figure":
        """Draw the surface as contours.

        Several can be drawn side by side with common levels: see
        :func:`cnnbook.plots.loss_surface`, also for what the arguments mean.
        """
        return draw("loss_surface", self, levels=levels, highest=highest, alt=alt)

    def to_pandas(self) -> Any:
        """Return the loss as a pandas.DataFrame: a row for each of `a`, a column for each of `b`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        frame = data_frame(self.loss.tolist(), index=self.a.tolist(), columns=self.b.tolist())
        return frame.rename_axis(index="a", columns="b")

    def __repr__(self) -> str:
        """Return the extent and the range of the loss."""
        finite = self.loss[self.loss.isfinite()]
        values = f"{finite.min():.3g} to {finite.max():.3g}" if finite.numel() else "not finite"
        return f"<LossSurface: {len(self.a)}×{len(self.b)} points, loss {values}>"


def filter_directions(model: nn.Module, *, seed: int = 0) -> dict[str, Tensor]:
    """Draw a random direction in weight space whose filters have the norms of the network's.

    Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the Loss Landscape of Neural Nets",
    arXiv:1712.09913, Section 4: each filter of a Gaussian direction is scaled to the norm of the
    network's filter. A fully connected layer counts as a 1×1 convolution, so its filters are its
    rows. Biases and the parameters of batch normalization are not displaced.

    Parameters
    ----------
    model
        Any network.
    seed
        Seed of the draw. The caller's random state is left unchanged.

    Returns
    -------
    dict of str to Tensor
        Parameter name to direction, for each parameter with more than one dimension. A network in a
        wrapper, as of torch.compile, goes by the names that it has without it.

    Raises
    ------
    ValueError
        If the network is lazy and has not run yet.

    Examples
    --------
    >>> net = nn.Linear(5, 2)
    >>> drawn = filter_directions(net)
    >>> list(drawn)  # the bias is not displaced
    ['weight']
    >>> torch.allclose(drawn["weight"].norm(dim=1), net.weight.norm(dim=1))
    True
    """
    check_model(model)
    if is_lazy_network(model):
        raise ValueError("the network has layers without weights yet; run it once on some images")
    generator = seeds.generator(seed)
    directions = {}
    for name, weight in unwrapped(model).named_parameters():
        if weight.ndim > 1:
            drawn = torch.randn(weight.shape, generator=generator).to(weight)
            own, length = (t.detach().flatten(1).norm(dim=1) for t in (weight, drawn))
            directions[name] = drawn * (own / length).view(-1, *[1] * (weight.ndim - 1))
    return directions


def loss_surface(
    model: nn.Module,
    data: DataLike,
    *,
    steps: int = 21,
    span: float = 1.0,
    seed: int = 0,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    output: Selector = None,
    batch_size: int = 500,
) -> LossSurface:
    """Evaluate a network on a plane of weights around its own.

    The plane is spanned by two directions of :func:`filter_directions`. As they have the scale
    of each network's filters, surfaces of different networks can be compared side by side.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode with displaced copies of its weights and is left
        unchanged.
    data
        Labeled images to measure the loss on. Each of the ``steps²`` points is one pass over
        them.
    steps
        Points along each direction; odd, so that the network itself is one of them.
    span
        How far to go in each direction, forward and backward, in norms of the filters.
    seed
        Seed of the directions.
    loss
        Called as ``loss(output, labels)`` with what the model returns for all images, returning
        the mean over them; once for each batch, if the model does not return a tensor. If not
        given, the cross-entropy of its class scores.
    output
        Which part of what the model returns as a tuple or dict the loss takes: an index, a key or
        a function of it. If neither this nor `loss` is given, the first tensor, or the entry
        ``"logits"``, ``"out"``, ``"scores"`` or ``"output"``.
    batch_size
        Images at a time.

    Returns
    -------
    LossSurface
        On the CPU.

    Raises
    ------
    ValueError
        If `steps` is not a positive odd number, `span` is not positive, or the loss is not one
        number.
    TypeError
        If no scores are found in what the model returns.

    Examples
    --------
    The network itself is in the middle:

    >>> from cnnbook import data, training
    >>> _, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> surface = loss_surface(net, test, steps=3)
    >>> abs(surface.loss[1, 1].item() - training.evaluate(net, test, device="cpu").loss) < 1e-5
    True
    """
    check_count("steps", steps)
    if steps % 2 == 0:
        raise ValueError(f"steps must be odd, so that the network is in the middle; got {steps}")
    check_positive("span", span)
    check_model(model)
    check_values(model)
    with unchanged(model), evaluating(model), torch.no_grad():
        axis = torch.linspace(-span, span, steps)
        axis[steps // 2] = 0  # exactly
        grid = torch.empty(steps, steps)
        given = labeled_batches(data, batch_size, device_of(model))
        batches = [(as_input(model, x), y) for x, y in given]
        if not batches:
            raise ValueError("there are no images; an iterator gives its batches only once")
        if is_lazy_network(model):
            forward(model, batches[0][0])  # gives the layers their weights
        first, second = (filter_directions(model, seed=2 * seed + i) for i in range(2))
        own = dict(unwrapped(model).named_parameters())
        for i, a in enumerate(axis.tolist()):
            for j, b in enumerate(axis.tolist()):
                moved = {
                    own[name]: own[name].detach() + a * first[name] + b * second[name]
                    for name in first
                }
                with _displaced(moved):
                    grid[i, j] = _mean_loss(model, batches, loss, output)
    return LossSurface(axis, axis.clone(), grid)


@contextmanager
def _displaced(values: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Give parameters other values while the block runs.

    Not by torch.func.functional_call: that leaves the other values in a layer that has two names,
    and does not reach the list of its weights that an LSTM keeps.
    """
    own = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        yield
    finally:
        for parameter, value in own.items():
            parameter.data = value


def _mean_loss(
    model: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    loss: Callable[[Any, Tensor], Tensor] | None,
    output: Selector,
) -> float:
    """Return the mean loss over all images."""
    found = [forward(model, x) for x, _ in batches]
    if loss is None or output is not None:
        found = [scores_of(each, output) for each in found]
    labels = [y for _, y in batches]
    if all(isinstance(each, Tensor) for each in found):
        # All at once: a mean weighted by class, for example, is not the mean of those of batches.
        found, labels = [torch.cat(found)], [torch.cat(labels)]
    total = 0.0
    for each, y in zip(found, labels, strict=True):
        value = (loss or cross_entropy)(each, y)
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss must return one number, the mean over the images, got {what}")
        total += value.item() * len(y)
    return total / sum(map(len, labels))
