"""Which dimension of a layer's output runs over its units."""

from collections.abc import Mapping

from torch import nn

from cnnbook._networks import unwrapped
from cnnbook.analysis._hooks import find_layer
from cnnbook.analysis._layout import channels_last_layers

# What these return is (N, C, …) or (N, …, C). Not what is derived from them: torchvision's
# LayerNorm2d, for example, is a LayerNorm that returns (N, C, H, W).
_CHANNELS_FIRST = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.GroupNorm),
)
_CHANNELS_LAST = (nn.Linear, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def unit_dims(
    model: nn.Module, image: tuple[int, ...], dims: Mapping[str, int]
) -> dict[str, int | None]:
    """Return the dimension that runs over the units of each layer, None if it cannot be told.

    Parameters
    ----------
    model
        The network.
    image
        Shape of one image.
    dims
        Layer to the number of dimensions of its output.
    """
    found: dict[str, int | None] = {}
    maps = []
    for name, ndim in dims.items():
        layer = type(find_layer(model, name))
        if ndim < 3:
            found[name] = max(0, ndim - 1)
        elif layer in _CHANNELS_FIRST:
            found[name] = 1
        elif layer in _CHANNELS_LAST:
            found[name] = ndim - 1
        elif ndim == 4:
            maps.append(name)
        else:
            found[name] = None
    return found | _map_dims(unwrapped(model), image, maps)


def _map_dims(network: nn.Module, image: tuple[int, ...], maps: list[str]) -> dict[str, int | None]:
    """Return :func:`unit_dims` of layers with four dimensions."""
    if not maps:
        return {}
    try:
        last = channels_last_layers(network, image, maps)
        return {name: 3 if name in last else 1 for name in maps}
    except ValueError:
        if len(maps) == 1:
            return {maps[0]: None}
    # Of one of them it cannot be told.
    return {name: dim for each in maps for name, dim in _map_dims(network, image, [each]).items()}
