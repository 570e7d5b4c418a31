"""Local response normalization by sums of shifted squares, many times faster than by pooling."""

from math import isfinite
from numbers import Integral
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from cnnbook._checks import is_number, no_tensor

_HALF = (torch.float16, torch.bfloat16)
_FLOATS = (*_HALF, torch.float32, torch.float64)


class LocalResponseNorm(nn.LocalResponseNorm):
    """torch's local response normalization, faster, and within groups of channels if asked to.

    torch averages the squares with a three-dimensional pooling layer, which takes longer than the
    convolutions around it. Here, the squares are shifted along the channels and added; on a GPU,
    one kernel does everything. Results are the same up to rounding, and 16-bit numbers are computed
    with in 32 bits.

    Parameters
    ----------
    size, alpha, beta, k
        As in :class:`torch.nn.LocalResponseNorm`.
    groups
        Number of groups of channels that are normalized apart.

    Examples
    --------
    >>> x = torch.rand(2, 8, 3, 3)
    >>> torch.allclose(LocalResponseNorm(5)(x), nn.LocalResponseNorm(5)(x))
    True
    """

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, groups: int = 1
    ):
        for name, value in (("size", size), ("groups", groups)):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, got {value!r}")
        if size < 1 or groups < 1:
            raise ValueError(f"size and groups are at least 1, got size={size}, groups={groups}")
        for name, number in (("alpha", alpha), ("beta", beta), ("k", k)):
            if not is_number(number) or not isfinite(number):
                raise TypeError(f"{name} must be a finite number, got {number!r}")
        super().__init__(int(size), float(alpha), float(beta), float(k))
        self.groups = int(groups)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize floats ``(N, C, …)``; C must be divisible by the number of groups."""
        # TorchScript compiles only the branch that it takes.
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return _by_torch(input, self.size, self.alpha, self.beta, self.k, self.groups)
        else:
            return self._forward(input)

    def _forward(self, input: Tensor) -> Tensor:
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]  # then sizes are tensors
        self._check(input, tracing)
        # Compilers fuse plain operations themselves; torch.func differentiates them in all ways,
        # and so does forward mode.
        if (
            tracing
            or torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or forward_ad.unpack_dual(input).tangent is not None
        ):
            return _by_plain_operations(
                input, self.size, self.alpha, self.beta, self.k, self.groups
            )
        training = torch.is_grad_enabled() and input.requires_grad
        if input.is_meta or not training:
            # analysis.trace follows operations one by one, on tensors without numbers: it shall see
            # torch's.
            return _by_torch(input, self.size, self.alpha, self.beta, self.k, self.groups)
        result, _ = _Normalize.apply(input, self.size, self.alpha, self.beta, self.k, self.groups)
        return cast(Tensor, result)

    def _check(self, input: Tensor, tracing: bool) -> None:
        if not isinstance(input, Tensor):
            raise no_tensor("input", input)
        if input.dtype not in _FLOATS or input.layout != torch.strided or input.is_nested:
            kind = "a nested tensor" if input.is_nested else f"{input.dtype}, {input.layout}"
            raise TypeError(
                "local response normalization takes dense tensors of floating-point numbers with "
                f"16, 32 or 64 bits, got {kind}; x.float() converts integers"
            )
        if input.ndim < 3 or (not tracing and input.shape[1] % self.groups):
            raise ValueError(
                "local response normalization takes (N, C, ...) with at least three dimensions and "
                f"a number of channels divisible by {self.groups}, got {tuple(input.shape)}"
            )

    def extra_repr(self) -> str:
        """Return the options as text."""
        return super().extra_repr() + (f", groups={self.groups}" if self.groups > 1 else "")


def _by_torch(x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int) -> Tensor:
    # 300² overflows in float16.
    wide = x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x
    parts = [F.local_response_norm(p, size, alpha, beta, k) for p in wide.chunk(groups, 1)]
    return torch.cat(parts, 1).to(x.dtype)


def _by_plain_operations(
    x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int
) -> Tensor:
    if groups > 1:
        parts = x.chunk(groups, 1)
        return torch.cat([_by_plain_operations(p, size, alpha, beta, k, 1) for p in parts], 1)
    wide = x.float() if x.dtype in _HALF else x
    padding = [0, 0] * (x.ndim - 2) + [size // 2, (size - 1) // 2]
    total = _window_sums(F.pad(wide * wide, padding), size)
    return (wide * _power(total * (alpha / size) + k, beta)).to(x.dtype)


def _window_sums(values: Tensor, size: int) -> Tensor:
    """Return the sums of `size` neighbors in dimension 1, from sums of 1, 2, 4, … of them."""
    parts, start, width = [], 0, 1
    while width <= size:
        if size & width:
            end = start + width - size  # from the end of these sums
            parts.append(values[:, start : end or None])
            start += width
        if 2 * width <= size:
            values = values[:, :-width] + values[:, width:]
        width *= 2
    return sum(parts[1:], start=parts[0])


def _power(denominator: Tensor, beta: float) -> Tensor:
    """Return ``denominator ** -beta``; for the papers' 0.75, by roots, which are faster."""
    if beta != 0.75:
        return denominator.pow(-beta)
    root = denominator.rsqrt()
    return root * root.sqrt()


class _Normalize(torch.autograd.Function):
    """The same, keeping only its input and the sums of squares for the backward pass.

    With ``y = x d^-β`` and ``d = k + α/size Σ x²`` over each channel's window, the gradient of x is
    ``g d^-β - 2αβ/size x Σ g x d^(-β-1)``, summed over the channels whose windows it is in.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, size: int, alpha: float, beta: float, k: float, groups: int
    ) -> tuple[Tensor, Tensor]:
        kernel = _gpu_kernel(x)
        if kernel is not None:  # computes the sums again in the backward pass
            return kernel.normalize(x, size, alpha, beta, k, groups), x.new_empty(0)
        wide = x.float() if x.dtype in _HALF else x
        sums = _shifted_sums(wide * wide, size // 2, (size - 1) // 2, groups)
        denominator = sums.mul_(alpha / size).add_(k)
        return (wide * _power(denominator, beta)).to(x.dtype), denominator

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, *ctx.options = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, denominator = ctx.saved_tensors
        size, alpha, beta, _k, groups = ctx.options
        rest = (None,) * len(ctx.options)
        again = torch.is_grad_enabled()  # the gradient itself is to be differentiated
        if again or _stands_for_several(grad):
            with torch.enable_grad():
                y = _by_plain_operations(x, *ctx.options)
            return *torch.autograd.grad(y, x, grad, create_graph=again), *rest
        kernel = _gpu_kernel(x)
        if kernel is not None:
            return kernel.gradient(x, grad, *ctx.options), *rest
        wide = x.float() if x.dtype in _HALF else x
        scaled = grad * _power(denominator, beta)
        terms = (scaled * wide).div_(denominator)
        sums = _shifted_sums(terms, (size - 1) // 2, size // 2, groups)
        result = torch.addcmul(scaled, wide, sums, value=-2 * alpha * beta / size)
        return result.to(x.dtype), *rest


def _stands_for_several(grad: Tensor) -> bool:
    """Whether a gradient is several at once, or has a tangent: what kernels cannot read."""
    several: bool = torch._C._functorch.is_legacy_batchedtensor(grad)
    return several or forward_ad.unpack_dual(grad).tangent is not None


def _shifted_sums(values: Tensor, before: int, after: int, groups: int) -> Tensor:
    """Return each channel's sum with `before` channels before it and `after` channels after it.

    Added in place, without a padded copy: the memory layout stays.
    """
    sums = values.clone()
    old, new = (t.unflatten(1, (groups, -1)) for t in (values, sums))
    channels = old.shape[2]
    for shift in range(1, min(before, channels - 1) + 1):
        new[:, :, shift:] += old[:, :, :-shift]
    for shift in range(1, min(after, channels - 1) + 1):
        new[:, :, :-shift] += old[:, :, shift:]
    return sums


def _gpu_kernel(x: Tensor) -> Any:
    """Return the module with the kernels for a GPU, or None where they do not apply."""
    # A kernel needs memory: what only stands for a tensor, as under a FakeTensorMode, has none.
    if type(x) not in (Tensor, nn.Parameter) or not x.is_cuda or not x.numel():
        return None
    if x.dtype not in (torch.float32, *_HALF):
        return None
    try:
        from cnnbook.models import _response_norm_gpu
    except ImportError:  # torch for Windows comes without Triton
        return None
    return _response_norm_gpu
