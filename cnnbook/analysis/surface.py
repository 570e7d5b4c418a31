"""The loss around a network's weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cnnbook._draw import draw
from cnnbook.analysis._batches import Labeled, labeled_batches
from cnnbook.analysis._hooks import check_model, device_of, evaluation

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
        Parameter name to direction, for each parameter with more than one dimension.

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
    generator = torch.Generator().manual_seed(seed)
    directions = {}
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            drawn = torch.randn(weight.shape, generator=generator).to(weight)
            own, length = (t.detach().flatten(1).norm(dim=1) for t in (weight, drawn))
            directions[name] = drawn * (own / length).view(-1, *[1] * (weight.ndim - 1))
    return directions


def loss_surface(
    model: nn.Module,
    data: Labeled,
    *,
    steps: int = 21,
    span: float = 1.0,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
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
        Called as ``loss(output, labels)``, returning the mean over the batch.
    batch_size
        Images at a time.

    Returns
    -------
    LossSurface
        On the CPU.

    Raises
    ------
    ValueError
        If `steps` is not a positive odd number or `span` is not positive.

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
    if steps < 1 or steps % 2 == 0:
        raise ValueError(f"steps must be odd, so that the network is in the middle; got {steps}")
    if span <= 0:
        raise ValueError(f"span must be positive, got {span}")
    first, second = (filter_directions(model, seed=2 * seed + i) for i in range(2))
    own = {name: weight.detach() for name, weight in model.named_parameters()}
    batches = list(labeled_batches(data, batch_size, device_of(model)))
    images = sum(len(y) for _, y in batches)
    axis = torch.linspace(-span, span, steps)
    axis[steps // 2] = 0  # exactly
    grid = torch.empty(steps, steps)
    with evaluation(model), torch.no_grad():
        for i, a in enumerate(axis.tolist()):
            for j, b in enumerate(axis.tolist()):
                displaced = {name: own[name] + a * first[name] + b * second[name] for name in first}
                total = sum(
                    loss(functional_call(model, displaced, (x,)), y).item() * len(y)
                    for x, y in batches
                )
                grid[i, j] = total / images
    return LossSurface(axis, axis.clone(), grid)
