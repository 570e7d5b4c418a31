"""How strongly the loss acts on each layer."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnnbook._checks import check_count, no_tensor
from cnnbook._draw import draw
from cnnbook._networks import Selector, device_of, is_lazy_network, scores_of, unwrapped
from cnnbook.analysis._batches import as_input, cross_entropy, forward, one_batch
from cnnbook.analysis._hooks import check_differentiable, check_model
from cnnbook.analysis._unchanged import seeded, unchanged
from cnnbook.data import DataLike
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure

_FORMATS = {"gradient": ".2e"}


def gradient_norms(
    model: nn.Module,
    x: Tensor | DataLike,
    y: Tensor | None = None,
    *,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    output: Selector = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return the size of the gradient at each weight tensor, for one batch.

    Parameters
    ----------
    model
        Any network. It runs in the mode it is in: in training mode, with dropout, batch statistics
        and auxiliary classifiers, as in a training step. It is left unchanged, and so are its
        gradients and running averages. In a wrapper, as of torch.compile, the names are those that
        its parameters have without it.
    x
        Images, ``(N, C, H, W)``; or labeled data, all of which is one batch: take a part of a large
        set, such as ``train[:256]``. Moved to the network's device; floats take the type of its
        parameters.
    y
        Class numbers, ``(N,)``; not given with labeled data. Moved to the same device.
    loss
        Called as ``loss(output, labels)`` with what the model returns, for example
        :func:`cnnbook.models.googlenet_loss`. If not given, the cross-entropy of its class scores.
    output
        Which part of what the model returns as a tuple or dict the loss takes: an index, a key or
        a function of it. If neither this nor `loss` is given, the first tensor, or the entry
        ``"logits"``, ``"out"``, ``"scores"`` or ``"output"``.
    seed
        Seeds dropout. The caller's random state is left unchanged.

    Returns
    -------
    dict of str to float
        Root mean square of the gradient of every parameter that has more than one dimension
        (weights, not biases), by its name, in the order of ``model.named_parameters()``: from the
        input to the output, if a model lists its layers that way. Parameters that are frozen, or
        that the loss does not depend on, are left out.

    Raises
    ------
    ValueError
        If no weights remain, or the network does not run on integers and `x` has some.
    TypeError
        If `model` is not a network, `x` or `y` is not a tensor, or no scores are found.

    Examples
    --------
    Through sigmoids, each of which passes on at most a quarter, little reaches the first layer:

    >>> net = nn.Sequential(nn.Flatten())
    >>> for _ in range(6):
    ...     _ = net.extend([nn.Linear(16, 16), nn.Sigmoid()])
    >>> x, y = torch.randn(32, 1, 4, 4), torch.arange(32) % 16
    >>> norms = list(gradient_norms(net, x, y).values())
    >>> norms[0] < norms[-1] / 100
    True
    """
    check_model(model)
    check_differentiable(model)
    x, y = _one_batch(model, x, y)
    with unchanged(model), torch.enable_grad():
        if is_lazy_network(model):
            with torch.no_grad():
                forward(model, as_input(model, x))  # gives the layers their weights
        weights = {
            name: parameter
            for name, parameter in unwrapped(model).named_parameters()
            if parameter.requires_grad and parameter.ndim > 1
        }
        if not weights:
            raise ValueError("the model has no weights to take gradients of; unfreeze some")
        with seeded(model, seed):
            found = forward(model, as_input(model, x))
            if loss is None or output is not None:
                found = scores_of(found, output)
            value = (loss or cross_entropy)(found, y.to(device_of(model)))
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss must return one number for the batch, got {what}")
        if not value.requires_grad:
            raise ValueError("the loss does not depend on any weight that is not frozen")
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return {
        name: _size(gradient)
        for name, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    }


def _one_batch(model: nn.Module, x: Tensor | DataLike, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return images and labels from two tensors, or those of labeled data."""
    if y is None and not isinstance(x, Tensor):
        return one_batch(x, device_of(model))
    for name, given in {"x": x, "y": y}.items():
        if not isinstance(given, Tensor):
            raise no_tensor(name, given)
    assert isinstance(x, Tensor)
    assert isinstance(y, Tensor)
    return x, y


def _size(gradient: Tensor) -> float:
    """Return the root mean square; in double precision, as small halves have no square."""
    return gradient.abs().double().square().mean().sqrt().item()


class GradientFlow(Table):
    """The table that :func:`gradient_flow` returns.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    >>> flow = gradient_flow({"linear": net}, torch.randn(4, 1, 4, 4), torch.arange(4))
    >>> flow.plot().alt.split(":")[0]
    'Gradient by layer. linear'
    """

    def plot(self, *, align: bool = False, alt: str | None = None) -> "Figure":
        """Draw one line per network. See :func:`cnnbook.plots.gradient_flow`."""
        return draw("gradient_flow", self, align=align, alt=alt)


def gradient_flow(
    models: Mapping[str, nn.Module],
    x: Tensor | DataLike,
    y: Tensor | None = None,
    *,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    output: Selector = None,
    seed: int = 0,
) -> GradientFlow:
    """Compare several networks by the gradient that reaches each of their layers.

    Parameters
    ----------
    models
        Label to network. They run in the mode they are in; see :func:`gradient_norms`.
    x
        Images, ``(N, C, H, W)``, or labeled data: one batch, the same for all.
    y
        Class numbers, ``(N,)``; not given with labeled data.
    loss
        Called as ``loss(output, labels)``; the cross-entropy of the class scores if not given.
    output
        Which part of what a model returns as a tuple or dict the loss takes.
    seed
        Seeds dropout.

    Returns
    -------
    GradientFlow
        A :class:`cnnbook.tables.Table` with one row per weight tensor of each network: network,
        layer (name of the parameter), number (1 for the network's first), gradient (root mean
        square). Its ``plot`` draws it.

    Raises
    ------
    TypeError
        If `models` is not a mapping.

    Examples
    --------
    >>> from cnnbook.models import create
    >>> models = {"ResNet-20": create("resnet20"), "plain": create("resnet20", plain=True)}
    >>> table = gradient_flow(models, torch.randn(4, 3, 32, 32), torch.arange(4))
    >>> len(table) // 2, table.columns  # 19 convolutions and a linear layer each
    (20, ['network', 'layer', 'number', 'gradient'])
    """
    if not isinstance(models, Mapping):
        raise TypeError(
            "models must be a mapping from labels to networks, {'my network': net}; got "
            f"{type(models).__name__}"
        )
    if y is None and not isinstance(x, Tensor):
        x, y = one_batch(x, torch.device("cpu"))  # once: a loader may draw another the next time
    options: Any = {"loss": loss, "output": output, "seed": seed}
    return GradientFlow(
        [
            row
            for label, model in models.items()
            for row in _rows("network", label, gradient_norms(model, x, y, **options))
        ],
        formats=_FORMATS,
    )


def _rows(what: str, label: object, norms: Mapping[str, float]) -> list[dict[str, object]]:
    return [
        {what: label, "layer": layer, "number": number, "gradient": norm}
        for number, (layer, norm) in enumerate(norms.items(), start=1)
    ]


class GradientHistory(Table):
    """The table of a :class:`GradientRecorder`.

    Examples
    --------
    >>> row = {"step": 1, "layer": "weight", "number": 1, "gradient": 0.5}
    >>> GradientHistory([row, row | {"step": 9}]).plot().alt.split(". ")[1]
    'First layer: 5.0e-01 at step 1, 5.0e-01 at step 9.'
    """

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw gradient by layer and step. See :func:`cnnbook.plots.gradient_history`."""
        return draw("gradient_history", self, alt=alt)


class GradientRecorder:
    """Callback of :func:`cnnbook.training.fit` that follows the gradients through training.

    What a step leaves in the parameters' ``grad`` is not always the gradient: some optimizers add
    momentum to it, and mixed precision may scale it. It also belongs to a different batch each
    time. The recorder therefore computes the gradient itself, always of the same batch, so that any
    change is due to the network. Each recording takes as long as one training step.

    Parameters
    ----------
    x
        Images, ``(N, C, H, W)``, normalized like the training images; or labeled data, all of which
        is one batch.
    y
        Class numbers, ``(N,)``; not given with labeled data.
    every
        Record the first step and then those whose number is a multiple of this.
    loss, output
        As for :func:`gradient_norms`.

    Attributes
    ----------
    norms : dict
        Step number to what :func:`gradient_norms` returned after that step.

    Raises
    ------
    ValueError
        If `every` is not positive.

    Examples
    --------
    >>> from cnnbook import data, models, training
    >>> train, _ = data.load("fashion-mini", size=32)
    >>> x, y = next(data.Batches(train, 32, device="cpu").epoch(0))
    >>> recorder = GradientRecorder(x, y, every=2)
    >>> options = {"epochs": 1, "callbacks": [recorder], "device": "cpu", "progress": False}
    >>> _ = training.fit(models.lenet5(), train[:320], **options)
    >>> list(recorder.norms)
    [1, 2, 4]
    """

    def __init__(
        self,
        x: Tensor | DataLike,
        y: Tensor | None = None,
        *,
        every: int = 10,
        loss: Callable[[Any, Tensor], Tensor] | None = None,
        output: Selector = None,
    ):
        check_count("every", every)
        if y is None and not isinstance(x, Tensor):
            x, y = one_batch(x, torch.device("cpu"))  # always the same images
        for name, given in {"x": x, "y": y}.items():
            if not isinstance(given, Tensor):
                raise no_tensor(name, given)
        self.x, self.y, self.every, self.loss, self.output = x, y, every, loss, output
        self.norms: dict[int, dict[str, float]] = {}

    def on_step(self, run: Any) -> None:
        """Record if the step is due: the hook of :class:`cnnbook.training.Callback`."""
        if run.step == 1 or run.step % self.every == 0:
            self.norms[run.step] = gradient_norms(
                run.model, self.x, self.y, loss=self.loss, output=self.output
            )

    def table(self) -> GradientHistory:
        """Return one row per recorded step and weight tensor: step, layer, number, gradient."""
        return GradientHistory(
            [row for step, norms in self.norms.items() for row in _rows("step", step, norms)],
            formats=_FORMATS,
        )

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw gradient by layer and step. See :func:`cnnbook.plots.gradient_history`."""
        return self.table().plot(alt=alt)

    def __repr__(self) -> str:
        """Return how much has been recorded."""
        layers = len(next(iter(self.norms.values()), {}))
        return f"<GradientRecorder: {len(self.norms)} steps of {layers} layers>"
