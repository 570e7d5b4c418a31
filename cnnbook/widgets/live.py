"""A small network that runs in the reader's browser, on what the reader draws."""

import base64
import functools
import html
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnbook._checks import no_tensor
from cnnbook._errors import described
from cnnbook._networks import device_of, evaluating
from cnnbook._notebook import in_book
from cnnbook.analysis import activations
from cnnbook.data import Dataset
from cnnbook.data.pixels import normalize
from cnnbook.plots import Figure, sheets
from cnnbook.plots.figure import PNG_DPI, shown_as_png
from cnnbook.plots.style import SIGNED

HERE = Path(__file__).parent
# A stroke must redraw within a frame or two, and a page must stay light.
MAX_MACS = 20_000_000
MAX_BYTES = 1_000_000
MAX_CLASSES = 40
COLORS = 129


class LiveNetwork:
    """Networks that a page computes itself, made by :func:`live_network`.

    Parameters
    ----------
    content
        What the page needs of the networks: weights, samples, names.
    still
        The picture of the first sample, for readers without JavaScript.
    words
        What the first network says about it.

    Examples
    --------
    A page of your own, complete in one file:

    >>> from cnnbook import data, models
    >>> _, test = data.load("fashion-mini", size=32)
    >>> live = live_network(clothes=(models.lenet5(), test))
    >>> page = "<!doctype html><meta charset=utf-8>" + live.html()
    """

    def __init__(self, content: dict[str, Any], still: Figure, words: str):
        self.content = content
        self.still = still
        self.words = words

    def __repr__(self) -> str:
        """Return the names of the networks, and their layers."""
        networks = (
            f"{n['name']}: {', '.join(step['name'] for step in n['steps'])}"
            for n in self.content["networks"]
        )
        return f"<LiveNetwork {'; '.join(networks)}>"

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None, **_options: object
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = {"text/plain": repr(self)}, {}
        png = None
        if not in_book():
            # For viewers that show no HTML; within the HTML, for those that run no script.
            data, metadata = shown_as_png(self.still.png(dpi=PNG_DPI), repr(self))
            png = data["image/png"]
        return data | {"text/html": self.html(png)}, metadata

    def html(self, png: str | None = None) -> str:
        """Return an element with everything that it needs, for any page.

        Parameters
        ----------
        png
            The picture for readers without JavaScript, in base64. By default, an inline SVG, which
            takes the color of the text around it.

        Returns
        -------
        str
            HTML, with style, weights, samples and program.
        """
        alt = html.escape(self.still.alt, quote=True)
        picture = (
            f'<img src="data:image/png;base64,{png}" alt="{alt}">' if png else self.still.svg()
        )
        # Within a script element, "</" could end it.
        content = json.dumps(self.content, separators=(",", ":")).replace("</", "<\\/")
        return (
            f'<div class="cnnbook-live"><style>{_text("live.css")}</style>'
            f'<div class="cnnbook-live-still"><figure class="cnnbook-figure" style="margin:0">'
            f'{picture}</figure><p class="cnnbook-caption">{html.escape(self.words)}</p></div>'
            f'<script type="application/json">{content}</script>'
            f"<script>{_text('live.js')}</script></div>"
        )


def _text(name: str) -> str:
    """Return a file without its comments and indentation, which only its authors need."""
    lines = map(str.strip, (HERE / name).read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


def live_network(**networks: tuple[nn.Module, Dataset]) -> LiveNetwork:
    """Let the reader draw an image, and see every feature map follow, on a page without a kernel.

    The weights become part of the page, and a program of the page computes the network, so that
    each stroke changes all feature maps at once. A unit that the reader points at is explained:
    what it reads, its kernel, the products and their sum, and what it sees of the input. Everything
    can be done with the mouse, by touch, and with the keyboard.

    Parameters
    ----------
    **networks
        ``name=(network, data)``. If there are several, the reader chooses by name. Of the data,
        preferably images that the network was not trained on, the first image of each class becomes
        a sample; its mean and standard deviation normalize what is drawn. One draws
        in white on black, with a pen as wide as a sixth of the image, or a brush twice as wide.

    Returns
    -------
    LiveNetwork
        Displayed when it is the last value of a cell. Where no script runs, it is a picture of the
        first sample. Dropout is off, and batch normalization is part of the kernels.

    Raises
    ------
    ValueError
        If a network is no chain of layers that the page can compute: convolutions, max and average
        pooling, fully connected layers, batch normalization, ReLU, tanh, sigmoid. If it is too
        large: more than 20 million multiply–adds, or 1 MB of weights. If the images do not fit, or
        its scores are not one per class.
    TypeError
        If a value is no pair of a network and a :class:`cnnbook.data.Dataset`.

    Examples
    --------
    >>> from cnnbook import data, models
    >>> _, test = data.load("fashion-mini", size=32)
    >>> live_network(clothes=(models.lenet5(), test))
    <LiveNetwork clothes: c1, s2, c3, s4, c5, f6, output>
    """
    if not networks:
        raise ValueError(
            "give a network and images of its kind: live_network(name=(network, data))"
        )
    exported, stills, size = [], [], 0
    for name, given in networks.items():
        if not (
            isinstance(given, (tuple, list))
            and len(given) == 2
            and isinstance(given[0], nn.Module)
            and isinstance(given[1], Dataset)
        ):
            raise TypeError(
                f"{name} must be a pair (network, data.Dataset), got {described(given)}"
            )
        net, data = given
        samples = _samples(name, data)
        x = normalize(samples.images.cpu(), data.mean, data.std)
        with evaluating(net), torch.no_grad():
            steps = _followed(name, net, x.to(device_of(net)), len(data.classes))
        content = _exported(name.replace("_", " "), steps, samples)
        size += len(json.dumps(content))
        exported.append(content)
        if not stills:
            stills.append(_still(net, samples, x.to(device_of(net)), steps))
    if size > MAX_BYTES:
        raise ValueError(
            f"the networks take {size / 1e6:.1f} MB, more than the {MAX_BYTES / 1e6:g} MB that a "
            "page should; export fewer or smaller ones"
        )
    colors = mpl.colormaps[SIGNED](torch.linspace(0, 1, COLORS).numpy(), bytes=True)[:, :3]
    return LiveNetwork({"palette": colors.tolist(), "networks": exported}, *stills[0])


def _samples(name: str, data: Dataset) -> Dataset:
    """Return the first image of each class."""
    channels = data.images.shape[1]
    if channels not in (1, 3) or len(data.classes) > MAX_CLASSES:
        raise ValueError(
            f"{name} needs gray or color images of up to {MAX_CLASSES} classes to draw, got "
            f"{channels} channels and {len(data.classes)} classes"
        )
    found = [torch.nonzero(data.labels == label) for label in range(len(data.classes))]
    first = [int(index[0]) for index in found if len(index)]
    if not first:
        raise ValueError(f"the data of {name} have no images to show as samples")
    return data[first]


# ------------------------------------------------------------------ from a network to its layers


@dataclass
class _Step:
    """A layer, with the activation function that follows it."""

    kind: str  # conv, linear, max, avg, or same for an activation function alone
    name: str
    shape: tuple[int, ...] = ()  # of the output, (channels, height, width)
    activation: str = "none"
    weight: Tensor | None = None
    bias: Tensor | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    modules: list[str] = field(default_factory=list)  # that take part

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the layer as the page does."""
        geometry = self.stride, self.padding
        if self.kind == "conv":
            assert self.weight is not None
            x = F.conv2d(x, self.weight, self.bias, *geometry, self.dilation, self.groups)
        elif self.kind == "linear":
            assert self.weight is not None
            x = F.linear(x.flatten(1), self.weight, self.bias)[..., None, None]
        elif self.kind == "max":
            x = F.max_pool2d(x, self.kernel, *geometry, self.dilation)
        elif self.kind == "avg":
            x = F.avg_pool2d(x, self.kernel, *geometry)
        return _FUNCTIONS[self.activation](x)


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class _Refused(ValueError):
    """A computation that the page does not know."""


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *others = value
    return int(first), int(others[0] if others else first)


# With torch's own parameters, in torch's order.


def _conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> _Step:
    kernel, stride, dilation = _pair(weight.shape[2:]), _pair(stride), _pair(dilation)
    if padding == "same":
        around = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        if any(n % 2 for n in around):
            raise _Refused("pads one side more than the other")
        padding = [n // 2 for n in around]
    padding = _pair(0 if padding == "valid" else padding)
    geometry = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return _Step("conv", "", weight=weight, bias=bias, groups=groups, **geometry)


def _linear(input, weight, bias=None) -> _Step:
    return _Step("linear", "", weight=weight, bias=bias)


def _max(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
) -> _Step:
    if ceil_mode:
        raise _Refused("pools with ceil_mode=True")
    geometry = {"padding": _pair(padding), "dilation": _pair(dilation)}
    stride = _pair(stride or kernel_size)
    return _Step("max", "", kernel=_pair(kernel_size), stride=stride, **geometry)


def _avg(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
) -> _Step:
    padding, stride = _pair(padding), _pair(stride or kernel_size)
    if ceil_mode or divisor_override or (any(padding) and not count_include_pad):
        raise _Refused("averages in a way of its own (ceil_mode, divisor or count_include_pad)")
    return _Step("avg", "", kernel=_pair(kernel_size), stride=stride, padding=padding)


def _adaptive(input, output_size) -> _Step:
    found, wanted = tuple(input.shape[2:]), _pair(output_size)
    kernel = _pair([n // parts for n, parts in zip(found, wanted, strict=True)])
    if tuple(k * parts for k, parts in zip(kernel, wanted, strict=True)) != found:
        raise _Refused(f"pools {found} positions to {wanted}, in unequal windows")
    return _Step("avg", "", kernel=kernel, stride=kernel)


_LAYERS: dict[str, Callable[..., _Step]] = {
    "conv2d": _conv,
    "linear": _linear,
    "max_pool2d": _max,
    "avg_pool2d": _avg,
    "adaptive_avg_pool2d": _adaptive,
}
# They change no number; what is dropped out in training stays in evaluation.
_SHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "contiguous"}
_IDLE = _SHAPES | {"dropout", "dropout1d", "dropout2d", "to", "float", "detach"}


class _Follower(TorchFunctionMode):
    """Writes down which layers a network computes, and of which modules they are."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.running: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and self.running:
            name = getattr(func, "__name__", str(func)).removesuffix("_")
            self._add(name, result, args, kwargs or {})
        return result

    def _add(self, name: str, result: Tensor, args: tuple, kwargs: dict) -> None:
        module = self.running[-1]
        last = self.steps[-1] if self.steps else None
        if name in _IDLE or name == "__get__":
            return
        if name in _LAYERS:
            step = _LAYERS[name](*args, **kwargs)
            step.name = module or name
            self.steps.append(step)
        elif name in _FUNCTIONS:
            if last is None or last.activation != "none":
                self.steps.append(_Step("same", module or name))
            self.steps[-1].activation = name
        elif name == "batch_norm" and last and last.weight is not None:
            if last.activation != "none":
                raise _Refused("normalizes the output of an activation function")
            self.steps[-1] = _normalized(last, *args, **kwargs)
        else:
            raise _Refused(f"calls {name!r}")
        shape = (*result.shape[1:], 1, 1)
        self.steps[-1].shape = tuple(shape[:3])
        self.steps[-1].modules.append(module)


def _normalized(
    step: _Step,
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
) -> _Step:
    """Return a layer that includes the batch normalization of its output."""
    assert step.weight is not None
    factor = torch.rsqrt(running_var + eps)
    factor = factor if weight is None else factor * weight
    offset = -running_mean if step.bias is None else step.bias - running_mean
    offset = offset * factor if bias is None else offset * factor + bias
    scaled = step.weight * factor.view(-1, *[1] * (step.weight.ndim - 1))
    return replace(step, weight=scaled, bias=offset)


def _followed(name: str, net: nn.Module, x: Tensor, classes: int) -> list[_Step]:
    """Return the layers of a network, which compute what it computes."""
    follower, handles = _Follower(), []

    def leave(*_: object) -> None:
        follower.running.pop()

    for path, module in net.named_modules():
        enter = functools.partial(lambda path, *_: follower.running.append(path), path)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    sentence = (
        f"{name}: a page computes a chain of convolutions, max and average pooling, fully "
        "connected layers, batch normalization, ReLU, tanh and sigmoid; this network "
    )
    try:
        with follower:
            scores = net(x)
    except _Refused as error:
        raise ValueError(f"{sentence}{error}") from None
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(scores, Tensor):
        raise no_tensor("the output of the network", scores)
    if scores.shape != (len(x), classes):
        raise ValueError(
            f"{name}: the network must return a score for each of {classes} classes, got "
            f"{tuple(scores.shape)} for {len(x)} images"
        )
    out, macs = x, 0
    try:
        for step in follower.steps:
            out = step(out)
            if step.weight is not None:
                macs += step.weight[0].numel() * math.prod(step.shape)
        same = torch.allclose(out.flatten(1), scores, rtol=1e-4, atol=1e-5)
    except RuntimeError:  # shapes that do not fit: a branch
        same = False
    if not same:
        raise ValueError(f"{sentence}is no chain: it does something between its layers")
    if macs > MAX_MACS:
        raise ValueError(
            f"{name} takes {macs:,} multiply–adds for an image, more than the {MAX_MACS:,} that a "
            "page can repeat with every stroke"
        )
    _rename(follower.steps, net)
    steps = [step for step in follower.steps if step.kind != "same" or step.activation != "none"]
    return [
        replace(
            step,
            weight=None if step.weight is None else step.weight.detach().cpu().float(),
            bias=None if step.bias is None else step.bias.detach().cpu().float(),
        )
        for step in steps
    ]


def _rename(steps: list[_Step], net: nn.Module) -> None:
    """Call a layer and its activation function by the module that holds both, if there is one."""
    leaves = [path for path, m in net.named_modules() if not any(True for _ in m.children())]
    for step in steps:
        parent = step.name.rpartition(".")[0]
        inside = {path for path in leaves if path.startswith(f"{parent}.")}
        if parent and inside <= set(step.modules):
            step.name = parent


# ------------------------------------------------------------------ from layers to a page


def _exported(name: str, steps: list[_Step], samples: Dataset) -> dict[str, Any]:
    _, channels, height, width = samples.images.shape
    return {
        "name": name,
        "channels": channels,
        "height": height,
        "width": width,
        "classes": samples.classes,
        "mean": samples.mean,
        "std": samples.std,
        "samples": [
            {"label": int(label), "pixels": _base64(image)}
            for image, label in zip(samples.images.cpu(), samples.labels, strict=True)
        ],
        "steps": [_exported_step(step) for step in steps],
    }


def _exported_step(step: _Step) -> dict[str, Any]:
    content = {key: getattr(step, key) for key in ("kind", "name", "shape", "activation")}
    if step.kind not in ("linear", "same"):
        content |= {key: getattr(step, key) for key in ("kernel", "stride", "padding", "dilation")}
    if step.weight is not None:
        content |= {"groups": step.groups, "weight": _base64(step.weight), "bias": None}
        if step.bias is not None:
            content["bias"] = _base64(step.bias)
    return content


def _base64(tensor: Tensor) -> str:
    # Little-endian, as every browser's machine.
    array = tensor.contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<"))).decode()


def _still(net: nn.Module, samples: Dataset, x: Tensor, steps: list[_Step]) -> tuple[Figure, str]:
    """Return what stands in for the page's program: the first sample in the network, and words."""
    names = list(dict.fromkeys(step.name for step in steps))
    known = dict(net.named_modules())
    seen = activations(net, x[:1], [name for name in names if name in known])
    shown = list(seen)
    titles, how, windows = {"input": f"input\n{_size(x.shape[1:])}"}, {}, {}
    for step in steps:
        if step.name not in shown:
            continue
        titles[step.name] = f"{step.name}\n{_size(step.shape)}"
        if step.kind in ("conv", "max", "avg"):
            side = "×".join(map(str, step.kernel))
            how[step.name] = f"{'conv' if step.kind == 'conv' else 'pool'}\n{side}"
            if step.kernel[0] == step.kernel[1]:
                windows[step.name] = step.kernel[0]
        elif step.kind == "linear":
            how[step.name] = "linear"
    with evaluating(net), torch.no_grad():
        share, label = net(x[:1]).softmax(1)[0].max(0)
    truth, answer = samples.classes[int(samples.labels[0])], samples.classes[int(label)]
    words = (
        f"A sample, {truth}, in the network: it says {answer} with {100 * float(share):.0f} %. "
        "On the web page, with JavaScript, you can draw here, and the feature maps follow."
    )
    classes = samples.classes if titles.get(steps[-1].name) else ()
    picture = sheets(
        seen, samples.images[0] / 255, titles=titles, steps=how, windows=windows, classes=classes
    )
    return picture, words


def _size(shape: tuple[int, ...] | torch.Size) -> str:
    channels, *sides = shape
    flat = all(side == 1 for side in sides)
    return str(channels) if flat else f"{channels}@{'×'.join(map(str, sides))}"
