"""What several architectures need: size arithmetic, input checks, new and copied weights."""

from numbers import Integral

from torch import Tensor, nn

from cnnbook._checks import check_positive, is_number, no_tensor


def out_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Return the output size of a kernel along `size` pixels (0 if it does not fit)."""
    return max(0, (size + 2 * padding - kernel) // stride + 1)


def scaled(channels: int, width: float, divisor: int = 1) -> int:
    """Return ``channels * width``, rounded to a positive multiple of `divisor`."""
    check_positive("width", width)
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


def dropout_layer(share: float) -> nn.Dropout:
    """Return dropout of a share of the values; ValueError unless it is a number from 0 to 1."""
    if not is_number(share) or not 0 <= share <= 1:
        raise ValueError(f"dropout must be a number from 0 to 1, got dropout={share!r:.50}")
    return nn.Dropout(share)


def check_scores(name: str, scores: object, target: object) -> None:
    """Raise TypeError unless a loss is given what it compares, two tensors."""
    for argument, value in ((name, scores), ("target", target)):
        if not isinstance(value, Tensor):
            raise no_tensor(argument, value)


class WeightsError(RuntimeError):
    """Weights cannot be downloaded, are damaged, or belong to another network.

    Examples
    --------
    >>> from cnnbook import models
    >>> lenet5, vgg = models.create("lenet5"), models.create_scaled_down("vgg11")
    >>> models.copy_weights(lenet5.state_dict(), vgg)
    Traceback (most recent call last):
    cnnbook.models._common.WeightsError: the weights have 10 tensors, VGG has 22: they belong to \
another network
    """


def check_positive_whole(name: str, count: object) -> None:
    """Raise ValueError unless a count is a positive whole number."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise ValueError(f"{name} must be a positive whole number, got {name}={count!r:.50}")


def new_classifier(old: nn.Linear, num_classes: int) -> nn.Linear:
    """Return a linear layer with random weights that reads what `old` reads."""
    check_positive_whole("num_classes", num_classes)
    weight = old.weight
    return nn.Linear(
        old.in_features, int(num_classes), old.bias is not None, weight.device, weight.dtype
    )


def copy_weights(state: dict[str, Tensor], model: nn.Module) -> None:
    """Copy a state dict whose entries are in the same order but have other names.

    Raises
    ------
    WeightsError
        If the number of entries or a shape differs. The message names the first difference.

    Examples
    --------
    Names may differ; the order may not:

    >>> import torch
    >>> state = {"first.w": torch.ones(2, 3), "first.b": torch.zeros(2)}
    >>> layer = nn.Linear(3, 2)
    >>> copy_weights(state, layer)
    >>> layer(torch.ones(1, 3)).tolist()
    [[3.0, 3.0]]
    """
    own = model.state_dict()
    if len(state) != len(own):
        raise WeightsError(
            f"the weights have {len(state)} tensors, {type(model).__name__} has {len(own)}: they "
            "belong to another network"
        )
    for (theirs, value), (ours, target) in zip(state.items(), own.items(), strict=True):
        if value.shape != target.shape:
            raise WeightsError(
                f"{theirs} has shape {tuple(value.shape)}, but {ours} of {type(model).__name__} "
                f"needs {tuple(target.shape)}: the weights belong to another network or number "
                "of classes"
            )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))
