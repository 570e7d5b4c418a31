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
    mu = torch.tensor(mean, device=images.device).view(-1, 1, 1)
    sigma = torch.tensor(std, device=images.device).view(-1, 1, 1)
    # (v/255 - mean) / std, as one multiplication and one addition per pixel
    return images.float().mul_(1 / (255 * sigma)).add_(-mu / sigma)
