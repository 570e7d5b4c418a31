"""Which dimension of a layer's output holds the channels."""

from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from cnnbook._networks import device_of, evaluating, input_type, unwrapped
from cnnbook.analysis._hooks import Hook, forward_hooks
from cnnbook.analysis.graph import Call, InputLike, trace

# Layers whose outputs are (N, C, H, W) by definition.
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,  # batch and instance normalization
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)

# In autograd's graph: operations with the channels in dimension 1, and those that leave every
# dimension where it is.
_DEFINING = ("Convolution", "BatchNorm", "NativeGroupNorm")
_ELEMENTWISE = (
    *("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Mish", "Hardswish", "Hardtanh", "Prelu"),
    *("Hardsigmoid", "Sigmoid", "Tanh", "Softplus", "Add", "Sub", "Mul", "Div", "Alias", "Clone"),
    *("Clamp", "ClampMin", "ClampMax", "Contiguous", "ToCopy", "Cat"),
    *("MaxPool2D", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "UpsampleNearest2D"),
)


def channels_last_layers(
    model: nn.Module, input_shape: InputLike, layers: Sequence[str]
) -> set[str]:
    """Return those of some layers whose output is ``(N, H, W, C)``.

    What each element of the output depends on says it. Where that cannot be followed, as in
    Swin's shifted windows, the network is traced on an image twice as large: positions double,
    channels do not. If it takes only one size, the part of the image on which the slices of
    the output depend most must move along one of the two dimensions and not along the other.
    Last, maps with more rows than the image and fewer columns are ruled out.

    Parameters
    ----------
    model
        The network.
    input_shape
        Shape of one image, ``(C, H, W)``; or what else :func:`trace` takes, for which only what
        the elements depend on is asked.
    layers
        Their names, as in ``unwrapped(model).named_modules()``. Those that do not run, or whose
        output has not four dimensions, are not channels-last.

    Raises
    ------
    ValueError
        If it cannot be told.
    """
    model = unwrapped(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    asked = [name for name in layers if not isinstance(modules.get(name), _CHANNELS_FIRST)]
    if not asked:
        return set()
    calls = _calls(model, input_shape, asked)
    found = {name: {_by_reach(call) for call in runs} for name, runs in calls.items()}
    image = _shape_of_image(input_shape)
    unclear = [name for name in found if None in found[name]]
    if image is not None and unclear:
        for name, answer in _by_size(model, image, calls, unclear).items():
            found[name] = (found[name] - {None}) | {answer}
    unclear = [name for name in found if None in found[name]]
    if image is not None and unclear:
        for name, answer in _by_gradient(model, image, unclear).items():
            found[name] = (found[name] - {None}) | {answer}
    for name in found:
        if image is not None and None in found[name]:
            left = {_by_shape(image, call.shape) for call in calls[name]}
            found[name] = (found[name] - {None}) | left
    for name, answers in found.items():
        if None in answers or len(answers) > 1:
            why = "its runs differ" if len(answers) > 1 else "all its units see the same"
            raise ValueError(
                f"whether layer {name!r} returns (N, C, H, W) or (N, H, W, C) cannot be told: "
                f"{why}, and shapes {', '.join(str(call.shape) for call in calls[name])} fit both; "
                "choose another layer, such as a convolution"
            )
    return {name for name, answers in found.items() if True in answers}


def _shape_of_image(given: InputLike) -> tuple[int, ...] | None:
    """Return an input that is given as the shape of one image, otherwise None."""
    if isinstance(given, Tensor) or len(given) != 3:
        return None
    sides = tuple(int(side) for side in given if isinstance(side, Integral))
    return sides if len(sides) == 3 else None


def _calls(
    model: nn.Module, input_shape: InputLike, layers: Iterable[str]
) -> dict[str, list[Call]]:
    """Return the runs of layers that depend on the image and return four dimensions."""
    kept: dict[str, list[Call]] = {}
    for call in trace(model, input_shape).calls:
        if call.name in layers and len(call.shape) == 3 and call.reach is not None:
            kept.setdefault(call.name, []).append(call)
    return kept


def _by_reach(call: Call) -> bool | None:
    """Return whether one run's output is channels-last, or None if that is not known."""
    if call.channels_last is not None:
        return call.channels_last
    # One position: the channels are what is left.
    if call.shape[1:] == (1, 1):
        return False
    return True if call.shape[:2] == (1, 1) else None


def _by_size(
    model: nn.Module,
    input_shape: Sequence[int],
    calls: dict[str, list[Call]],
    layers: Sequence[str],
) -> dict[str, bool | None]:
    *channels, height, width = input_shape
    try:
        larger = _calls(model, (*channels, 2 * height, 2 * width), layers)
    except Exception:  # whatever a network says to images of another size
        return {}
    answers: dict[str, bool | None] = {}
    for name in layers:
        pairs = zip(calls[name], larger.get(name, ()), strict=False)
        grown = [[b > a for a, b in zip(x.shape, y.shape, strict=True)] for x, y in pairs]
        if grown and all(sides == [True, True, False] for sides in grown):
            answers[name] = True
        elif grown and all(sides == [False, True, True] for sides in grown):
            answers[name] = False
        else:
            answers[name] = None
    return answers


def _by_gradient(
    model: nn.Module, input_shape: Sequence[int], layers: Sequence[str]
) -> dict[str, bool | None]:
    device = device_of(model)
    if device.type == "meta":
        return {}
    generator = torch.Generator().manual_seed(0)
    shape = (1, *input_shape[-3:])
    x = torch.randn(shape, generator=generator).to(device, input_type(model)).requires_grad_()
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                kept[name] = output.clone()

        return hook

    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        forward_hooks(model, layers, keep),
        evaluating(model),
        torch.enable_grad(),
    ):
        model(x)
        followed = {name: output for name, output in kept.items() if output.grad_fn is not None}
        return {name: _moving(x, output) for name, output in followed.items()}


def _moving(x: Tensor, output: Tensor) -> bool | None:
    """Return True if dimension 1 of a layer's output runs down the image and 3 does not.

    False if 2 does and 1 does not, None if neither is clear.
    """
    generator = torch.Generator().manual_seed(0)

    def shift(dim: int) -> float:
        """How far down the image the effect moves from the first to the last quarter of `dim`."""
        share = max(1, output.shape[dim] // 4)
        centers = []
        for start in (0, output.shape[dim] - share):
            part = output.narrow(dim, start, share)
            # Random weights: after a layer normalization, the sum over channels is constant.
            weights = torch.randn(part.shape, generator=generator).to(part)
            (gradient,) = torch.autograd.grad((weights * part).sum(), x, retain_graph=True)
            effect = gradient.double().abs().sum((0, 1, 3))
            rows = torch.linspace(0, 1, len(effect), device=x.device, dtype=torch.double)
            centers.append(((effect * rows).sum() / effect.sum().clamp(min=1e-300)).item())
        return centers[1] - centers[0]

    first, second = shift(1), shift(2)
    if first > 0.25 and abs(second) < 0.1:
        return True
    if second > 0.25 and abs(first) < 0.1:
        return False
    return None


def _by_shape(image: Sequence[int], shape: Sequence[int]) -> bool | None:
    """Return the layout that is left if the other would stretch one side and shrink the other."""

    def possible(height: int, width: int) -> bool:
        return not (height > image[-2] and width < image[-1]) and not (
            height < image[-2] and width > image[-1]
        )

    first, last = possible(shape[1], shape[2]), possible(shape[0], shape[1])
    return last if first != last else None


def made_channels_first(output: Tensor) -> bool:
    """Return whether autograd's record proves that an output is ``(N, C, H, W)``.

    It does if only elementwise operations and pooling lie between a convolution or a batch
    normalization and the output. False says nothing: :func:`channels_last_layers` finds out.
    """
    waiting, seen = [output.grad_fn], set[object]()
    while waiting and len(seen) < 200:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kind = node.name()
        if any(defining in kind for defining in _DEFINING):
            return True
        if kind.startswith(_ELEMENTWISE):
            waiting.extend(following for following, _ in node.next_functions)
    return False
