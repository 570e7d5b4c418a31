"""How linearly separable the classes are at each depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._checks import check_count
from cnnbook._draw import draw
from cnnbook._networks import Selector, device_of, evaluating
from cnnbook.analysis._batches import (
    as_input,
    forward,
    labeled_batches,
    tensor_of,
)
from cnnbook.analysis._hooks import Hook, Layers, check_values, forward_hooks, layer_names
from cnnbook.analysis._units import unit_dims
from cnnbook.analysis.activations import activations
from cnnbook.data import DataLike
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure


class LinearProbes(Table):
    """The table that :func:`linear_probes` returns.

    Examples
    --------
    >>> row = {"layer": "input", "train_accuracy": 0.86, "test_accuracy": 0.80}
    >>> LinearProbes([row, row | {"layer": "c1", "test_accuracy": 0.82}]).plot()
    <Figure: Test accuracy of linear probes by layer. input 80%, c1 82%.>
    """

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw the accuracy by layer.

        Those of several networks can be drawn together: see
        :func:`cnnbook.plots.linear_probes`.
        """
        return draw("linear_probes", self, alt=alt)


def linear_probes(
    model: nn.Module,
    train: DataLike,
    test: DataLike,
    layers: Layers | None = None,
    *,
    output: Selector = None,
    max_features: int = 1024,
    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    batch_size: int = 500,
) -> LinearProbes:
    """Train a linear classifier on the output of each layer (Alain & Bengio 2016).

    "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644. The
    network itself is not trained. A probe's accuracy says how well a linear layer could read off
    the class at that depth.

    Each probe is a ridge classifier: least squares on the classes written as 0 and 1, with a
    penalty on the weights. Unlike logistic regression, which that paper uses, it has a closed form.
    It is therefore exact, reproducible, and much faster on features as strongly correlated as
    these, and a suitable penalty for each layer can be found from the training images alone. Its
    accuracy may fall short of the best linear classifier's, especially with many classes.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode and is left unchanged.
    train
        Labeled images to fit the probes on.
    test
        Labeled images to evaluate them on.
    layers
        One or several layers, as names in ``model.named_modules()`` or as the modules themselves;
        the model's direct children if not given.
    output
        Which part counts of what a layer returns as a tuple or dict: an index, a key or a function
        of it. The first tensor of a tuple if not given.
    max_features
        Maximum number of a probe's inputs, D, so that wide early layers have no advantage. Feature
        maps ``(C, H, W)`` are averaged over windows to the largest square ``(C, S, S)`` with C·S²
        at most this, but S at least 1. Maps and vectors with fewer values are left unchanged.
        Memory grows as D² and time as D³.
    penalties
        Weights of the penalty to choose from, positive, for features scaled to standard deviation
        1. Each probe gets the one with the smallest leave-one-out error on the training images.
    batch_size
        Images at a time when the features are computed.

    Returns
    -------
    LinearProbes
        A :class:`cnnbook.tables.Table` with one row for the input (the normalized pixels) and
        one per layer in the order in which they ran: layer, pooled_to (shape of the probe's
        input, channels first), features (their number), train_accuracy, test_accuracy (0 to 1).
        The first row is called ``"input"``, or ``"input (pixels)"`` if a layer has that name. Of a
        layer that runs more than once, the last output counts. Its ``plot`` draws it.

    Raises
    ------
    ValueError
        If the model has no such layer or does not run it in evaluation mode, an option is out of
        range, the labels are no class numbers, or feature maps must be averaged and it cannot be
        told which dimension holds the channels.
    TypeError
        If a layer returns no tensor.

    Examples
    --------
    Four untrained features hold less information about the class than the 64 pixels they are
    computed from:

    >>> from cnnbook import data
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU())
    >>> table = linear_probes(net, train, test, ["2"])
    >>> [(row["layer"], row["features"]) for row in table.to_dicts()]
    [('input', 64), ('2', 4)]
    >>> table[0]["test_accuracy"] > table[1]["test_accuracy"]
    True
    """
    check_count("max_features", max_features)
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive, at least one, got {tuple(penalties)}")
    options: Any = {"max_features": max_features, "batch_size": batch_size, "output": output}
    shapes, features, labels = _features(model, train, layers, **options)
    _, test_features, test_labels = _features(model, test, layers, **options)
    classes = 1 + int(max(labels.max(), test_labels.max()))
    rows: list[dict[str, object]] = []
    for name, x in features.items():
        classify = ridge_classifier(x, labels, classes, penalties)
        rows.append(
            {
                "layer": name or ("input (pixels)" if "input" in features else "input"),
                "pooled_to": "×".join(map(str, shapes[name])),
                "features": x.shape[1],
                "train_accuracy": _accuracy(classify(x), labels),
                "test_accuracy": _accuracy(classify(test_features[name]), test_labels),
            }
        )
    return LinearProbes(rows, formats={"train_accuracy": ".1%", "test_accuracy": ".1%"})


def _accuracy(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(1) == labels).double().mean().item()


def _pooled(output: Tensor, max_features: int) -> Tensor:
    """Average feature maps until their values are at most `max_features`."""
    if output.ndim != 4:
        return output
    _, channels, height, width = output.shape
    if channels * height * width <= max_features:
        return output
    side = max(1, math.isqrt(max_features // channels))
    return F.adaptive_avg_pool2d(output, (min(side, height), min(side, width)))


def _features(
    model: nn.Module,
    data: DataLike,
    layers: Layers | None,
    *,
    max_features: int,
    batch_size: int,
    output: Selector,
) -> tuple[dict[str, tuple[int, ...]], dict[str, Tensor], Tensor]:
    """Return shapes and values of each layer's pooled outputs, and the labels, on the CPU.

    The pixels are those of the layer ``""``.
    """
    names = layer_names(model, layers)
    check_values(model)
    batches = labeled_batches(data, batch_size, device_of(model))
    first = next(batches, None)
    if first is None:
        raise ValueError("there are no images; an iterator gives its batches only once")
    found = activations(model, first[0][:1], None if layers is None else names, output=output)
    image = tuple(first[0].shape[1:])
    dims = unit_dims(model, image, {name: value.ndim for name, value in found.items()})
    shapes: dict[str, tuple[int, ...]] = {}
    kept: dict[str, list[Tensor]] = {}
    labels = []
    seen: dict[str, Tensor] = {}

    def pooled(name: str, values: Tensor) -> Tensor:
        if values.is_complex():
            raise ValueError(
                f"layer {name!r} has complex outputs; output= a function of them, such as "
                "torch.view_as_real, makes features"
            )
        if not values.isfinite().all():
            raise ValueError(
                f"layer {name!r} outputs values that are infinite or no numbers (NaN), which "
                "separate nothing"
            )
        if values.ndim == 4 and dims[name] is None and values[0].numel() > max_features:
            raise ValueError(
                f"layer {name!r} outputs {tuple(values.shape)}, and it cannot be told which "
                f"dimension holds the channels; max_features={values[0].numel()} averages nothing"
            )
        if values.ndim == 4 and dims[name] == 3:
            values = values.permute(0, 3, 1, 2)
        return _pooled(values, max_features)

    def keeper(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: object, given: object) -> None:
            # Copied, as the next layer may operate in place; the last output of a layer counts.
            seen.pop(name, None)
            seen[name] = pooled(name, tensor_of(name, given, output)).to("cpu", copy=True)

        return hook

    with forward_hooks(model, names, keeper), evaluating(model), torch.no_grad():
        for x, y in chain([first], batches):
            seen.clear()
            seen[""] = _pooled(x, max_features).cpu()
            forward(model, as_input(model, x))
            labels.append(_class_numbers(y))
            for name, values in seen.items():
                if len(values) != len(x):
                    raise ValueError(
                        f"layer {name!r} outputs {tuple(values.shape)} for {len(x)} images; a "
                        "probe needs features of each"
                    )
                shapes[name] = tuple(values.shape[1:])
                kept.setdefault(name, []).append(
                    values.flatten(1) if values.ndim > 1 else values[:, None]
                )
    return shapes, {name: torch.cat(parts) for name, parts in kept.items()}, torch.cat(labels)


def _class_numbers(y: Tensor) -> Tensor:
    if y.ndim != 1 or y.is_floating_point() or y.is_complex() or (len(y) and y.min() < 0):
        raise ValueError(
            f"labels must be class numbers from 0, one for each image, got {y.dtype} of shape "
            f"{tuple(y.shape)}" + (f" down to {y.min()}" if y.ndim == 1 and len(y) else "")
        )
    return y.long().cpu()


@dataclass(frozen=True, eq=False)
class RidgeClassifier:
    """A linear classifier, fitted by :func:`ridge_classifier`.

    Parameters
    ----------
    weight
        ``(K, D)``, float64.
    bias
        ``(K,)``, float64.
    penalty
        The penalty it was fitted with.
    """

    weight: Tensor
    bias: Tensor
    penalty: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return the scores ``(N, K)`` of features ``(N, D)``; the largest names the class."""
        return x.double() @ self.weight.T + self.bias


def ridge_classifier(
    x: Tensor, y: Tensor, classes: int, penalties: Sequence[float]
) -> RidgeClassifier:
    """Fit a linear classifier to features by penalized least squares.

    Minimizes ``mean ‖W z + b - t‖² + penalty · ‖W‖²`` over W and b. z are the features scaled to
    mean 0 and standard deviation 1, t is 1 for the true class and 0 for the others. Of several
    penalties, the one with the smallest squared leave-one-out error is chosen, which needs no
    further fits (Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", 2009,
    Section 7.10).

    Parameters
    ----------
    x
        Features, ``(N, D)``.
    y
        Class numbers from 0, ``(N,)``.
    classes
        Number of classes, K.
    penalties
        Positive numbers to choose from.

    Returns
    -------
    RidgeClassifier
    """
    x, target = x.double(), F.one_hot(y, classes).double()
    mean, share = x.mean(0), target.mean(0)
    std = x.std(0, correction=0)
    # A constant feature carries no information. It gets weight zero.
    scale = torch.where(std > 1e-6 * std.max(), 1 / std, 0.0)
    x, target = (x - mean) * scale, target - share
    # One decomposition serves all penalties: along its axes the fit is a division.
    curvature, axes = torch.linalg.eigh(x.T @ x / len(x))
    curvature = curvature.clamp(min=0)
    x = x @ axes
    moments = x.T @ target / len(x)

    def left_out_error(penalty: float) -> float:
        inverse = 1 / (curvature + penalty)
        # How much an image's own target counts in its prediction; 1/N of it through the bias.
        leverage = (x.square() @ inverse + 1) / len(x)
        wrong = target - x @ (inverse[:, None] * moments)
        return float((wrong / (1 - leverage)[:, None]).square().sum())

    penalty = min(penalties, key=left_out_error)
    weight = (axes @ (moments / (curvature + penalty)[:, None])).T * scale
    return RidgeClassifier(weight, share - weight @ mean, penalty)
