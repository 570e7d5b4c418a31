"""Random networks out of many operations, and what their units depend on by brute force."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Step:
    """An operation, and whether boxes after it are exact: padding hides what lies behind it."""

    name: str
    function: object
    exact: bool = True


def softplus(x: Tensor) -> Tensor:
    return F.softplus(x / 4)


def conv(random, x, *, transposed=False):
    c, h, w = x.shape[1:]
    kernel = (random.randint(1, min(3, h)), random.randint(1, min(3, w)))
    stride = (random.randint(1, 2), random.randint(1, 2))
    groups = random.choice([1, 1, 1, c])
    if transposed:
        padding = tuple(random.randint(0, (k - 1) // 2) for k in kernel)
        weight = torch.rand(c, 2 if groups == 1 else 1, *kernel).double() + 0.5
        return Step(
            f"transposed {kernel} {stride} {padding} {groups}",
            lambda x: F.conv_transpose2d(x, weight, None, stride, padding, 0, groups),
            False,
        )
    padding = tuple(random.choice([0, 0, k // 2]) for k in kernel)
    dilation = tuple(
        random.choice([1, 2]) if (k - 1) * 2 < n else 1 for k, n in zip(kernel, (h, w), strict=True)
    )
    weight = torch.rand(2 * c if groups == 1 else c, c // groups, *kernel).double() + 0.5
    return Step(
        f"conv {kernel} {stride} {padding} {dilation} {groups}",
        lambda x: F.conv2d(x, weight, None, stride, padding, dilation, groups),
        padding == (0, 0),
    )


def make(random: random.Random, x: Tensor) -> Step:
    """Return an operation that runs on a tensor (1, C, H, W) and returns such a tensor."""
    n, c, h, w = x.shape
    dim = random.choice([2, 3])
    size = x.shape[dim]
    other = 5 - dim
    kind = random.choice(
        [
            "conv",
            "conv",
            "conv",
            "transposed",
            "pool",
            "adaptive",
            "resize",
            "nearest",
            "bicubic",
            "area",
            "pad_zero",
            "pad_reflect",
            "pad_replicate",
            "pad_circular",
            "shuffle",
            "unshuffle",
            "channels",
            "glu",
            "roll",
            "flip",
            "slice",
            "repeat",
            "interleave",
            "tile",
            "cat_same",
            "cat_channels",
            "stack",
            "softmax",
            "block_softmax",
            "window_mean",
            "gate",
            "center",
            "layer_norm",
            "group_norm",
            "instance_norm",
            "cumsum",
            "pair",
            "gram",
            "attention",
            "row_attention",
            "unfold",
            "fold",
            "select",
            "tensor_unfold",
            "permute",
            "hw",
            "rot",
            "diagonal",
            "index",
            "matmul",
            "tokens",
            "einsum",
            "max_two",
            "expand",
            "sort",
            "windows",
            "chunk",
        ]
    )

    def step(function, exact=True, name=kind):
        return Step(f"{name} dim {dim}", function, exact)

    if kind in ("conv", "transposed"):
        return conv(random, x, transposed=kind == "transposed")
    if kind == "pool":
        k, s = random.randint(1, min(3, h, w)), random.randint(1, 3)
        p, ceil = random.randint(0, k // 2), random.random() < 0.3
        return step(lambda x: F.avg_pool2d(x, k, s, p, ceil), p == 0 and not ceil, f"pool{k}{s}{p}")
    if kind == "adaptive":
        out = (random.randint(1, h), random.randint(1, w))
        return step(lambda x: F.adaptive_avg_pool2d(x, out), name=f"adaptive {out}")
    if kind == "resize":
        out = (random.randint(1, 2 * h), random.randint(1, 2 * w))
        corners, aa = random.choice([(False, False), (False, True), (True, False)])
        return step(
            lambda x: F.interpolate(x, out, mode="bilinear", align_corners=corners, antialias=aa),
            name=f"bilinear {out} {corners} {aa}",
        )
    if kind == "bicubic":  # its negative weights may cancel
        return step(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), False)
    if kind == "area":
        return step(lambda x: F.interpolate(x, (max(1, h // 2), w), mode="area"))
    if kind == "nearest":
        mode = random.choice(["nearest", "nearest-exact"])
        factor = random.choice([2, 3, 1.5, 0.5 if min(h, w) > 1 else 2])
        return step(
            lambda x: F.interpolate(x, scale_factor=factor, mode=mode), name=f"near{factor}"
        )
    if kind.startswith("pad_"):
        mode = {"zero": "constant"}.get(kind[4:], kind[4:])
        most = 2 if mode in ("constant", "replicate") else min(2, h - 1, w - 1)
        pad = [random.randint(0, most) for _ in range(4)]
        return step(lambda x: F.pad(x, pad, mode=mode), mode != "constant", f"{kind} {pad}")
    if kind == "shuffle":
        return step(lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2))
    if kind == "unshuffle":
        return step(lambda x: F.pixel_unshuffle(x[:, :, : h // 2 * 2, : w // 2 * 2], 2))
    if kind == "channels":
        return step(lambda x: F.channel_shuffle(x.repeat(1, 2, 1, 1), 2))
    if kind == "glu":
        return step(lambda x: F.glu(x.repeat(1, 2, 1, 1), 1))
    if kind == "roll":
        shift = (random.randint(-3, 3), random.randint(-3, 3))
        return step(lambda x: x.roll(shift, (2, 3)), name=f"roll {shift}")
    if kind == "flip":
        return step(lambda x: x.flip(dim))
    if kind == "slice":
        first, stride = random.randint(0, size // 3), random.randint(1, 2)
        index = [slice(None)] * 4
        index[dim] = slice(first, None, stride)
        return step(lambda x: x[tuple(index)], name=f"slice {first} {stride}")
    if kind == "repeat":
        return step(lambda x: x.repeat(1, 1, 2, 1) if dim == 2 else x.repeat(1, 1, 1, 2))
    if kind == "interleave":
        times = random.choice([2, 3])
        return step(lambda x: x.repeat_interleave(times, dim))
    if kind == "tile":
        return step(lambda x: torch.stack([x, x], dim + 1).flatten(dim, dim + 1))
    if kind == "cat_same":
        return step(lambda x: torch.cat([x, x.flip(dim) * 2], dim))
    if kind == "cat_channels":
        return step(lambda x: torch.cat([x, F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)], 1), False)
    if kind == "stack":
        return step(lambda x: torch.stack([x, x + 1], 2).sum(2))
    if kind == "softmax":
        return step(lambda x: x.softmax(dim))
    blocks = [b for b in (2, 3, 4) if size % b == 0]
    if kind in ("block_softmax", "window_mean") and blocks:
        b = random.choice(blocks)
        shape = [n, c, h, w]
        shape[dim : dim + 1] = [size // b, b]

        def blockwise(x):
            y = x.reshape(shape)
            if kind == "block_softmax":
                return y.softmax(dim + 1).reshape(x.shape)
            return (y + y.mean(dim + 1, keepdim=True)).reshape(x.shape)

        return step(blockwise, name=f"{kind} {b}")
    if kind == "gate":
        return step(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid())
    if kind == "center":
        return step(lambda x: x + x.mean(dim, keepdim=True))
    if kind == "layer_norm":
        return step(
            lambda x: softplus(F.layer_norm(x.transpose(1, 3), (c,)).transpose(1, 3)), False
        )
    if kind == "group_norm":
        return step(lambda x: F.group_norm(x, 1) + 9, False)
    if kind == "instance_norm":
        return step(lambda x: F.instance_norm(x) + 9, False)
    if kind == "cumsum":
        return step(lambda x: x.cumsum(dim) / size)
    if kind == "pair":
        over = random.choice([2, 3])
        return step(lambda x: softplus(x[:, :, :, None, :] + x[:, :, None, :, :]).sum(over) / h)
    if kind == "gram":
        return step(
            lambda x: (
                torch.einsum("bchw,bcgw->bhgw", x, x)
                .div(8)
                .exp()
                .mean(2)[:, None]
                .expand(-1, c, -1, -1)
            )
        )
    if kind in ("attention", "row_attention"):

        def attend(x):
            if kind == "row_attention":
                y = x.permute(0, 2, 3, 1)
                return F.scaled_dot_product_attention(y, y, y).permute(0, 3, 1, 2)
            y = x.flatten(2).transpose(1, 2)
            return F.scaled_dot_product_attention(y, y, y).transpose(1, 2).reshape(x.shape)

        return step(attend)
    if kind == "unfold" and h > 1 and w > 1:
        return step(lambda x: F.unfold(x, 2).view(1, 4 * c, h - 1, w - 1))
    if kind == "fold" and h > 2 and w > 2:
        stride = random.choice([1, 2])
        if (h - 2) % stride or (w - 2) % stride:
            stride = 1
        return step(lambda x: F.fold(F.unfold(x, 2, stride=stride), (h, w), 2, stride=stride))
    if kind == "select":
        i = random.randrange(size)
        return step(lambda x: x + x.select(dim, i).unsqueeze(dim), name=f"select {i}")
    if kind == "tensor_unfold" and size > 2:
        s = random.randint(1, 2)
        return step(lambda x: x.unfold(dim, 2, s).sum(-1), name=f"T.unfold {s}")
    if kind == "permute":
        return step(lambda x: x.transpose(2, 3).contiguous())
    if kind == "hw":
        return step(lambda x: x.flatten(2).roll(1, 2).view(x.shape))
    if kind == "rot":
        k = random.randint(1, 3)
        return step(lambda x: torch.rot90(x, k, (2, 3)), name=f"rot {k}")
    if kind == "diagonal":
        return step(
            lambda x: (
                x + torch.diagonal(x[:, :, : min(h, w), : min(h, w)], 0, 2, 3)[:, :, -1:, None]
            )
        )
    if kind == "index":
        index = torch.tensor([random.randrange(size) for _ in range(size)])
        return step(lambda x: x.index_select(dim, index), name=f"index {index.tolist()}")
    if kind == "matmul":
        weight = torch.rand(w, w).double()
        return step(lambda x: x @ weight)
    if kind == "tokens":
        weight = torch.rand(c, c).double()
        return step(
            lambda x: (
                F.linear(x.flatten(2).transpose(1, 2), weight).transpose(1, 2).reshape(x.shape)
            )
        )
    if kind == "einsum":
        weight = torch.rand(c, 2).double()
        return step(lambda x: torch.einsum("bchw,cd->bdhw", x, weight))
    if kind == "max_two":
        return step(lambda x: softplus(x) + softplus(x.flip(dim)))
    if kind == "expand":
        return step(lambda x: x + x.mean(other, keepdim=True).expand_as(x))
    if kind == "windows" and h % 2 == 0 and w % 2 == 0:

        def windows(x):
            y = x.permute(0, 2, 3, 1).view(1, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5)
            y = y.reshape(-1, 4, c)
            y = (y @ y.transpose(1, 2)).softmax(-1) @ y
            y = y.view(1, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
            return y.reshape(1, h, w, c).permute(0, 3, 1, 2)

        shift = random.choice([0, 1])
        return step(lambda x: windows(x.roll((-shift,) * 2, (2, 3))).roll((shift,) * 2, (2, 3)))
    if kind == "chunk" and size > 1:
        return step(
            lambda x: sum(part for part in x[:, :, : h // 2 * 2, : w // 2 * 2].chunk(2, dim))
        )
    return step(lambda x: softplus(x), name="softplus")


class Random(nn.Module):
    """A few random operations in a row."""

    def __init__(self, seed: int, side: tuple[int, int] = (12, 10), longest: int = 5):
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        self.steps: list[Step] = []
        self.last = nn.Identity()
        self.unused = nn.Parameter(torch.zeros(1).double())  # of the networks' type
        self.shape = (2, *side)
        x = torch.rand(1, *self.shape).double() + 0.5
        for _ in range(draw.randint(1, longest)):
            step = make(draw, x)
            y = step.function(x)
            if min(y.shape) < 1 or y.numel() > 6000 or y.shape[1] > 64:
                continue
            self.steps.append(step)
            x = softplus(y)
        self.exact = all(step.exact for step in self.steps)

    def forward(self, x):
        for step in self.steps:
            x = softplus(step.function(x))
        return self.last(x)


def supports(net: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Return, for each unit, which pixels it depends on: (rows, columns, H, W)."""
    torch.manual_seed(0)
    x = (torch.rand(1, *shape).double() + 0.5).requires_grad_()
    y = net(x).sum(1)[0]
    found = [
        torch.autograd.grad(y[i, j], x, retain_graph=True)[0][0].abs().sum(0)
        for i in range(y.shape[0])
        for j in range(y.shape[1])
    ]
    # What is smaller than this is the rounding of weights that are zero.
    return (torch.stack(found) > 1e-17).view(*y.shape, *shape[1:])
