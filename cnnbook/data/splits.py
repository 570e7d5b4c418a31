"""Dividing labeled images into two parts in which every class has the same share."""

import torch
from torch import Tensor

from cnnbook._checks import is_number
from cnnbook.data.seeds import generator


def stratified(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw a fraction of each class.

    Parameters
    ----------
    labels
        int64, ``(N,)``.
    fraction
        Share of the images to draw. Of each class, the exact share is rounded down or up, such
        that the total is right (largest remainders); of a class of two or more images, at least
        one is drawn and at least one is left.
    seed
        Any integer.

    Returns
    -------
    left, drawn : Tensor
        Indices, int64, in ascending order.

    Raises
    ------
    TypeError
        If `fraction` is not a number.
    ValueError
        If it does not lie between 0 and 1, or no class has two images.
    """
    if not is_number(fraction):
        raise TypeError(f"fraction must be a number between 0 and 1, got {fraction!r}")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, such as 0.1, got {fraction}")
    labels = labels.cpu()
    counts = labels.bincount().tolist()
    lowest = [int(count > 1) for count in counts]
    highest = [max(0, count - 1) for count in counts]
    if not any(lowest):
        raise ValueError(
            f"{len(labels)} images, none of which shares its class with another, cannot be split: "
            "both parts need an image of each class"
        )
    # Exact up to 1e-9: 0.1 of 70 is 7, whatever 0.1 is in binary.
    exact = [round(count * fraction, 9) for count in counts]
    taken = [
        min(max(int(share), low), high)
        for share, low, high in zip(exact, lowest, highest, strict=True)
    ]
    total = min(max(round(len(labels) * fraction), sum(lowest)), sum(highest))
    while sum(taken) != total:
        step = 1 if sum(taken) < total else -1
        limit = highest if step > 0 else lowest
        free = [c for c in range(len(counts)) if taken[c] != limit[c]]
        taken[max(free, key=lambda c: step * (exact[c] - taken[c]))] += step

    order = torch.randperm(len(labels), generator=generator(seed))
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for number, count in enumerate(taken):
        drawn[order[labels[order] == number][:count]] = True
    return (~drawn).nonzero()[:, 0], drawn.nonzero()[:, 0]
