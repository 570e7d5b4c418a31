"""Which classes a network mistakes for which."""

import torch
from torch import Tensor


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Count predictions by true class.

    Parameters
    ----------
    labels
        True classes, ``(N,)``.
    predictions
        Predicted classes, ``(N,)``.
    num_classes
        Number of classes K; all entries must lie in 0 … K-1.

    Returns
    -------
    Tensor
        int64, ``(K, K)``: row is the true class, column the predicted one.

    Raises
    ------
    ValueError
        If the shapes differ or a class lies outside the range.

    Examples
    --------
    One of three images of class 0 was taken for class 1:

    >>> confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 0, 1]), 2)
    tensor([[2, 1],
            [0, 1]])
    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels and predictions must have one shape, got {tuple(labels.shape)} and "
            f"{tuple(predictions.shape)}"
        )
    for what, values in (("labels", labels), ("predictions", predictions)):
        if len(values) and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"{what} must lie in 0 … {num_classes - 1}, got {values.min()} … {values.max()}"
            )
    pairs = labels.long() * num_classes + predictions.long()  # small types would overflow
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
