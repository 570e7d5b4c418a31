"""From bytes to what a network is trained on."""

import functools

import torch
from torch import Tensor


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn uint8 images into floats of mean 0 and standard deviation 1.

    Parameters
    ----------
    images
        uint8, ``(N, C, H, W)``.
    mean, std
        Mean and standard deviation per channel, of images scaled to 0…1.

    Returns
    -------
    Tensor
        float32, of the same shape, on the same device.
    """
    factor, offset = normalization(tuple(mean), tuple(std), images.device)
    return images.float().mul_(factor).add_(offset)


@functools.cache  # making them on a GPU would wait for it in every batch
def normalization(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device, fill: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return what bytes, less `fill`, are multiplied by, and what is then added, to normalize them.

    Parameters
    ----------
    mean, std
        Mean and standard deviation per channel, of images scaled to 0…1.
    device
        Where the images are.
    fill
        What has been subtracted from the bytes.

    Returns
    -------
    factor, offset : Tensor
        float32, ``(C, 1, 1)``. They are kept for later calls: leave them unchanged.
    """
    with torch.inference_mode(False):
        mu = torch.tensor(mean, device=device).view(-1, 1, 1)
        sigma = torch.tensor(std, device=device).view(-1, 1, 1)
        # (v/255 - mean) / std, as one multiplication and one addition per pixel
        return 1 / (255 * sigma), (fill / 255 - mu) / sigma
