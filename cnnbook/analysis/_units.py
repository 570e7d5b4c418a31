"""Which dimension of a layer's output runs over its units."""

from collections.abc import Mapping

from torch import nn

from cnnbook._networks import unwrapped
from cnnbook.analysis._hooks import find_layer, layer_names
from cnnbook.analysis._layout import channels_last_layers
from cnnbook.analysis.graph import InputLike

# What these return is (N, C, …) or (N, …, C). Not what is derived from them: torchvision's
# LayerNorm2d, for example, is a LayerNorm that returns (N, C, H, W).
_CHANNELS_FIRST = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.GroupNorm),
)
_CHANNELS_LAST = (nn.Linear, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def unit_dims(model: nn.Module, image: InputLike, dims: Mapping[str, int]) -> dict[str, int | None]:
    """Return the dimension that runs over the units of each layer, None if it cannot be told.

    Parameters
    ----------
    model
        The network.
    image
        Shape of one image, or what else :func:`trace` takes.
    dims
        Layer to the number of dimensions of its output.
    """
    found: dict[str, int | None] = {}
    maps = {}  # to its first name
    for name, ndim in dims.items():
        module = find_layer(model, name)
        layer = type(module)
        if ndim < 3:
            found[name] = max(0, ndim - 1)
        elif layer in _CHANNELS_FIRST:
            found[name] = 1
        elif layer in _CHANNELS_LAST:
            found[name] = ndim - 1
        elif ndim == 4:
            maps[name] = layer_names(model, module)[0]
        else:
            found[name] = None
    return found | _map_dims(unwrapped(model), image, maps)


def _map_dims(
    network: nn.Module, image: InputLike, maps: Mapping[str, str]
) -> dict[str, int | None]:
    """Return :func:`unit_dims` of layers with four dimensions, given with their first names."""
    if not maps:
        return {}
    try:
        last = channels_last_layers(network, image, list(maps.values()))
        return {name: 3 if first in last else 1 for name, first in maps.items()}
    except ValueError:
        if len(maps) == 1:
            return dict.fromkeys(maps)
    # Of one of them it cannot be told.
    alone = [_map_dims(network, image, {name: first}) for name, first in maps.items()]
    return {name: dim for each in alone for name, dim in each.items()}
