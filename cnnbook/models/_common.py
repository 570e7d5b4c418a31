"""What several architectures need: size arithmetic, input checks, published weights."""

import hashlib
import os
import pickle
import re
import urllib.error
from pathlib import Path

import torch
from torch import Tensor, nn


def out_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Return the output size of a kernel along `size` pixels (0 if it does not fit)."""
    return max(0, (size + 2 * padding - kernel) // stride + 1)


def scaled(channels: int, width: float, divisor: int = 1) -> int:
    """Return ``channels * width``, rounded to a positive multiple of `divisor`."""
    if width <= 0:
        raise ValueError(f"width must be positive, got {width}")
    return divisor * max(1, round(channels * width / divisor))


def check_input(x: Tensor, name: str, channels: int, smallest: int) -> None:
    """Raise ValueError unless `x` is ``(N, channels, H, W)`` with H and W at least `smallest`."""
    if x.ndim != 4 or x.shape[1] != channels or min(x.shape[2:]) < smallest:
        raise ValueError(
            f"{name} takes images of shape (N, {channels}, H, W) with H and W at least "
            f"{smallest}, got {tuple(x.shape)}"
        )


def check_exact_input(x: Tensor, name: str, channels: int, size: int) -> None:
    """Raise ValueError unless `x` is ``(N, channels, size, size)``."""
    if x.ndim != 4 or x.shape[1:] != (channels, size, size):
        raise ValueError(
            f"this {name} was built for images of shape (N, {channels}, {size}, {size}), got "
            f"{tuple(x.shape)}; pass input_size= and in_channels= to build it for others"
        )


def load_imagenet_weights(model: nn.Module, enum_name: str) -> None:
    """Fill `model` with weights that torchvision publishes for the same network.

    The file is downloaded over HTTPS into torch hub's cache, unless it is already there, and
    checked against the SHA-256 prefix in its name.

    Parameters
    ----------
    model
        A network whose parameters and buffers are in the same order as torchvision's.
    enum_name
        torchvision's name of the weights, for example ``"VGG16_Weights.IMAGENET1K_V1"``.

    Raises
    ------
    RuntimeError
        If the file cannot be downloaded, is damaged, or belongs to another network.
    """
    import torchvision

    url = torchvision.models.get_weight(enum_name).url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = not os.environ.get("TQDM_DISABLE")  # torch's own bar ignores it
            torch.hub.download_url_to_file(url, str(path), _hash_prefix(path), progress=shown)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise RuntimeError(
            f"could not download {url} ({error}). Without internet, put the file into "
            f"{path.parent} yourself, or leave weights=None"
        ) from None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(_hash_prefix(path)):
        raise RuntimeError(
            f"{path} is damaged or a different file: its SHA-256 starts with {found[:8]}, "
            f"its name says {_hash_prefix(path)}. Delete it and run again"
        )
    try:
        theirs = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise RuntimeError(f"{path} does not hold weights ({error}). Delete it") from None
    copy_weights(theirs, model)


def _hash_prefix(path: Path) -> str:
    return re.search(r"-([0-9a-f]{8,})\.", path.name)[1]


def copy_weights(state: dict[str, Tensor], model: nn.Module) -> None:
    """Copy a state dict whose entries are in the same order but have other names.

    Raises
    ------
    RuntimeError
        If the number of entries or a shape differs. The message names the first difference.

    Examples
    --------
    Names may differ; the order may not:

    >>> state = {"first.w": torch.ones(2, 3), "first.b": torch.zeros(2)}
    >>> layer = nn.Linear(3, 2)
    >>> copy_weights(state, layer)
    >>> layer(torch.ones(1, 3)).tolist()
    [[3.0, 3.0]]
    """
    own = model.state_dict()
    if len(state) != len(own):
        raise RuntimeError(
            f"the weights have {len(state)} tensors, {type(model).__name__} has {len(own)}: they "
            "belong to another network"
        )
    for (theirs, value), (ours, target) in zip(state.items(), own.items(), strict=True):
        if value.shape != target.shape:
            raise RuntimeError(
                f"{theirs} has shape {tuple(value.shape)}, but {ours} of {type(model).__name__} "
                f"needs {tuple(target.shape)}: the weights belong to another network or number "
                "of classes"
            )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))
