"""From bytes to what a network is trained on."""

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
    factor, offset = normalization(mean, std, images.device)
    return images.float().mul_(factor).add_(offset)


def normalization(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what bytes are multiplied by, and what is then added, to normalize them.

    Making them for every batch would make a GPU wait each time.

    Parameters
    ----------
    mean, std
        Mean and standard deviation per channel, of images scaled to 0…1.
    device
        Where the images are.

    Returns
    -------
    factor, offset : Tensor
        float32, ``(C, 1, 1)``.
    """
    mu = torch.tensor(mean, device=device).view(-1, 1, 1)
    sigma = torch.tensor(std, device=device).view(-1, 1, 1)
    # (v/255 - mean) / std, as one multiplication and one addition per pixel
    return 1 / (255 * sigma), -mu / sigma
