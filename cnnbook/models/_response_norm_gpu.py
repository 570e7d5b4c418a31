"""Local response normalization as one Triton kernel each way. Imported on a GPU only."""
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def normalize(x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int) -> Tensor:
    """Normalize ``(N, C, …)`` of 16- or 32-bit floats."""
    x, inner = _dense(x)
    y = torch.empty_like(x)
    _forward[(triton.cdiv(x.numel(), _BLOCK),)](
        *(x, y, x.numel(), inner, x.shape[1] // groups),
        *(alpha / size, beta, k, size // 2, (size - 1) // 2, _BLOCK),
    )
    return y


def gradient(
    x: Tensor, grad: Tensor, size: int, alpha: float, beta: float, k: float, groups: int
) -> Tensor:
    """Return the gradient of `x` from that of the result."""
    x, inner = _dense(x)
    # In the layout of x: both are read by position in memory.
    grad = torch.empty_like(x).copy_(grad)
    result = torch.empty_like(x)
    _backward[(triton.cdiv(x.numel(), _BLOCK),)](
        *(x, grad, result, x.numel(), inner, x.shape[1] // groups),
        *(alpha / size, beta, k, size // 2, (size - 1) // 2, _BLOCK),
    )
    return result


def _dense(x: Tensor) -> tuple[Tensor, int]:
    """Return `x` without gaps in memory, and the distance there between neighboring channels."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x, 1
    return x.contiguous(), math.prod(x.shape[2:])


@triton.jit
def _denominator(
    x, i, c, inside, inner, channels, scale, k, BEFORE: tl.constexpr, AFTER: tl.constexpr
):
    """Return k + scale * the sum of squares of the window of channel c, at memory position i."""
    total = tl.zeros_like(i).to(tl.float32)
    for j in tl.static_range(-BEFORE, AFTER + 1):
        near = inside & (c + j >= 0) & (c + j < channels)
        value = tl.load(x + i + j * inner, mask=near, other=0).to(tl.float32)
        total += value * value
    return k + scale * total


@triton.jit
def _forward(
    x,
    y,
    n,
    inner,
    channels,
    scale,
    beta,
    k,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    c = (i // inner) % channels
    d = _denominator(x, i, c, inside, inner, channels, scale, k, BEFORE, AFTER)
    value = tl.load(x + i, mask=inside, other=0).to(tl.float32)
    tl.store(y + i, value * tl.exp2(-beta * tl.log2(d)), mask=inside)


@triton.jit
def _backward(
    x,
    grad,
    out,
    n,
    inner,
    channels,
    scale,
    beta,
    k,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    c = (i // inner) % channels
    own = tl.zeros_like(i).to(tl.float32)
    total = tl.zeros_like(i).to(tl.float32)
    # Over the channels whose windows this one is in; their sums are computed again, which is
    # faster than reading them from memory.
    for j in tl.static_range(-AFTER, BEFORE + 1):
        near = inside & (c + j >= 0) & (c + j < channels)
        at = i + j * inner
        d = _denominator(x, at, c + j, near, inner, channels, scale, k, BEFORE, AFTER)
        g = tl.load(grad + at, mask=near, other=0).to(tl.float32)
        scaled = g * tl.exp2(-beta * tl.log2(d))
        if j == 0:
            own = scaled
        total += scaled * tl.load(x + at, mask=near, other=0).to(tl.float32) / d
    value = tl.load(x + i, mask=inside, other=0).to(tl.float32)
    tl.store(out + i, own - 2 * scale * beta * value * total, mask=inside)
