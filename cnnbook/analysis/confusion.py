"""Which classes a network mistakes for which."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cnnbook._checks import check_count, check_fits, no_tensor
from cnnbook._draw import draw
from cnnbook._frames import data_frame

if TYPE_CHECKING:
    from cnnbook.plots import Figure


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """How often each class was taken for each class.

    Parameters
    ----------
    counts
        int64, ``(K, K)``: row is the true class, column the predicted one.
    classes
        Names of the K classes.

    Examples
    --------
    >>> matrix = ConfusionMatrix(torch.tensor([[9, 1], [4, 6]]), ("shirt", "coat"))
    >>> matrix
    <ConfusionMatrix of 2 classes: 15 of 20 images on the diagonal>
    >>> matrix.plot().alt.split("; ")[1]
    'the most frequent mistake is coat taken for shirt (4 images).'
    """

    counts: Tensor
    classes: tuple[str, ...]

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw the matrix. See :func:`cnnbook.plots.confusion_matrix`."""
        return draw("confusion_matrix", self, alt=alt)

    def to_pandas(self) -> Any:
        """Return the counts as a pandas.DataFrame: true classes down, predicted ones across.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        names = list(self.classes)
        frame = data_frame(self.counts.tolist(), index=names, columns=names)
        return frame.rename_axis(index="true", columns="predicted")

    def __repr__(self) -> str:
        """Return the number of classes and of correct predictions."""
        right, images = int(self.counts.trace()), int(self.counts.sum())
        return (
            f"<ConfusionMatrix of {len(self.classes)} classes: {right} of {images} images on the "
            "diagonal>"
        )


def confusion_matrix(
    labels: Tensor, predictions: Tensor, classes: int | Sequence[str]
) -> ConfusionMatrix:
    """Count predictions by true class.

    Parameters
    ----------
    labels
        True classes, ``(N,)``.
    predictions
        Predicted classes, ``(N,)``.
    classes
        Names of the K classes, or their number K; all entries must lie in 0 … K-1.

    Returns
    -------
    ConfusionMatrix
        Its ``counts`` are ``(K, K)``: row is the true class, column the predicted one. Its
        ``plot`` draws it.

    Raises
    ------
    ValueError
        If the shapes differ, they are not one-dimensional or a class lies outside the range.
    TypeError
        If one of them is not a tensor of integers.

    Examples
    --------
    One of three images of class 0 was taken for class 1:

    >>> labels, predictions = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 0, 1])
    >>> confusion_matrix(labels, predictions, ["cat", "dog"]).counts
    tensor([[2, 1],
            [0, 1]])
    """
    if isinstance(classes, Integral):
        check_count("classes", classes)
    elif not isinstance(classes, Iterable) or isinstance(classes, str):
        raise TypeError(f"classes must be names, or their number; got {classes!r}")
    names = tuple(map(str, range(classes) if isinstance(classes, Integral) else classes))
    check_fits(f"counts of {len(names):,} classes", 8 * len(names) ** 2)
    for name, given in {"labels": labels, "predictions": predictions}.items():
        if not isinstance(given, Tensor):
            raise no_tensor(name, given)
    if labels.shape != predictions.shape or labels.ndim != 1:
        scores = predictions.ndim == labels.ndim + 1
        raise ValueError(
            f"labels and predictions must have one shape, (N,), got {tuple(labels.shape)} and "
            f"{tuple(predictions.shape)}"
            + ("; predictions.argmax(1) are the classes with the highest scores" if scores else "")
        )
    for name, given in {"labels": labels, "predictions": predictions}.items():
        if given.is_floating_point() or given.is_complex():
            raise TypeError(f"{name} must be class numbers, integers, got {given.dtype}")
        if given.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got {given.layout}")
    for what, values in (("labels", labels), ("predictions", predictions)):
        if len(values) and not 0 <= values.min() <= values.max() < len(names):
            raise ValueError(
                f"{what} must lie in 0 … {len(names) - 1}, got {values.min()} … {values.max()}"
            )
    k = len(names)
    # Small types would overflow; the two may be on different devices.
    pairs = labels.long().cpu() * k + predictions.long().cpu()
    return ConfusionMatrix(torch.bincount(pairs, minlength=k**2).view(k, k), names)
