"""Algebra of convolution kernels: several layers as one, and one layer as several."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbook._checks import check_count, check_finite
from cnnbook._draw import draw
from cnnbook.data import seeds

if TYPE_CHECKING:
    from cnnbook.plots import Figure


def compose_kernels(*weights: Tensor) -> Tensor:
    """Return the single kernel that is equivalent to a stack of linear convolutions.

    Without a nonlinearity between them, convolutions with stride 1 compute
    ``y[o, p] = Σ K[o, i, c] x[i, p + c]`` with a single kernel K. For two layers,
    ``K[o, i, c] = Σ w2[o, m, a] w1[m, i, b]`` over all channels m between them and all positions
    with a + b = c: the product of two polynomials. Biases are not part of it. At the border, the
    two agree only if no layer pads.

    Parameters
    ----------
    *weights
        Kernels ``(out, in, h, w)``, the first layer's first; each has as many input channels as
        the one before it has outputs.

    Returns
    -------
    Tensor
        ``(out of the last, in of the first, H, W)``, where H is the sum of all h, minus the number
        of layers, plus one: 5 for two kernels of 3.

    Raises
    ------
    ValueError
        If there are no kernels, or they do not fit together.

    Examples
    --------
    >>> binomial = torch.tensor([[1.0, 2.0, 1.0]])[None, None]
    >>> compose_kernels(binomial, binomial)
    tensor([[[[1., 4., 6., 4., 1.]]]])
    """
    if not weights:
        raise ValueError("give at least one kernel of shape (out, in, h, w)")
    for weight in weights:
        check_finite("a kernel", weight)
        if weight.ndim != 4:
            raise ValueError(f"a kernel must be (out, in, h, w), got {tuple(weight.shape)}")
    whole = weights[0]
    for number, weight in enumerate(weights[1:], start=2):
        if weight.shape[1] != whole.shape[0]:
            raise ValueError(
                f"kernel {number} takes {weight.shape[1]} channels, the one before it outputs "
                f"{whole.shape[0]}; kernels of grouped convolutions must be written out in full"
            )
        # The transposed convolution adds a copy of `weight` for every entry of `whole`.
        whole = F.conv_transpose2d(whole.transpose(0, 1), weight.transpose(0, 1)).transpose(0, 1)
    return whole


@dataclass(frozen=True, eq=False)
class KernelFactors:
    """Two small kernels whose composition approximates a larger one.

    Parameters
    ----------
    kernel
        What was approximated, ``(out, in, K, K)``, float64.
    first, second
        Factors ``(channels, in, size, size)`` and ``(out, channels, K - size + 1, …)``, float64.
        For each channel, both factors have the same norm.

    Examples
    --------
    Two 2×2 kernels of ones, one after the other, are this 3×3 kernel:

    >>> one = torch.ones(1, 1, 2, 2)
    >>> factors = KernelFactors(torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]), one, one)
    >>> factors.product
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    >>> factors.residual
    0.0
    """

    kernel: Tensor
    first: Tensor
    second: Tensor

    @property
    def product(self) -> Tensor:
        """The composition of the factors, ``(out, in, K, K)``."""
        return compose_kernels(self.first, self.second)

    @property
    def residual(self) -> float:
        """Norm of kernel minus product, relative to the kernel's norm. 0 is exact."""
        return float((self.kernel - self.product).norm() / self.kernel.norm())

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw the kernel, the product, their difference and the factors.

        For kernels with one input and one output channel; see :func:`cnnbook.plots.kernel_factors`.
        """
        return draw("kernel_factors", self, alt=alt)

    def __repr__(self) -> str:
        """Return the shapes and the residual."""
        whole, first, second = (
            "×".join(map(str, k.shape)) for k in (self.kernel, self.first, self.second)
        )
        return f"<{whole} ≈ {first} then {second}: relative residual {self.residual:.2g}>"


def factorize_kernel(
    kernel: Tensor,
    channels: int = 1,
    *,
    size: int = 3,
    restarts: int = 20,
    steps: int = 500,
    seed: int = 0,
) -> KernelFactors:
    """Find two small kernels whose composition comes closest to a larger one.

    Two 3×3 kernels with one channel between them have 9 + 9 - 1 free numbers (a factor shifted from
    one to the other changes nothing), a 5×5 kernel has 25: most 5×5 kernels are out of their reach,
    although they see the same pixels. With two channels between them, they have 2 · 18 - 4 = 32
    numbers, and generic 5×5 kernels are matched exactly.

    Alternating least squares: with one factor held, the product is linear in the other, whose
    best value solves a linear system. No step makes the approximation worse. As the problem has
    several local optima, it starts from several random factors and keeps the best result.

    Parameters
    ----------
    kernel
        ``(K, K)``, or ``(out, in, K, K)``.
    channels
        Channels between the two convolutions.
    size
        Side of the first factor; the second has ``K - size + 1``.
    restarts
        Random starts.
    steps
        Maximum number of rounds of solving for both factors. It stops earlier once nothing
        improves.
    seed
        Seed of the starts. The caller's random state is left unchanged.

    Returns
    -------
    KernelFactors
        On the CPU, in float64.

    Raises
    ------
    ValueError
        If the kernel is not square or zero, or an option is out of range.

    Examples
    --------
    A composition of two kernels is factorized exactly. A random kernel is out of their reach unless
    there are two channels between them:

    >>> generator = torch.Generator().manual_seed(0)
    >>> first, second = torch.randn(2, 1, 1, 3, 3, generator=generator)
    >>> factorize_kernel(compose_kernels(first, second), restarts=5).residual < 1e-4
    True
    >>> kernel = torch.randn(5, 5, generator=generator)
    >>> factorize_kernel(kernel, restarts=5).residual > 0.1
    True
    >>> factorize_kernel(kernel, channels=2, restarts=5).residual < 0.01
    True
    """
    check_finite("kernel", kernel)
    shape = tuple(kernel.shape)
    if kernel.ndim == 2:
        kernel = kernel[None, None]
    if kernel.ndim != 4 or kernel.shape[2] != kernel.shape[3]:
        raise ValueError(f"kernel must be (K, K) or (out, in, K, K), got {shape}")
    for name, value in {"channels": channels, "restarts": restarts, "steps": steps}.items():
        check_count(name, value)
    side = kernel.shape[-1]
    if not 1 <= size <= side:
        raise ValueError(f"size must be from 1 to the kernel's side {side}, got {size}")
    kernel = kernel.detach().to("cpu", torch.float64)
    if not kernel.any():
        raise ValueError("the kernel is zero everywhere: nothing to approximate")
    n_out, n_in = kernel.shape[:2]
    generator = seeds.generator(seed)
    first = torch.randn(
        restarts, channels, n_in, size, size, generator=generator, dtype=torch.float64
    )
    other = side - size + 1
    # Rows: the entries of the kernel that one output channel, or one input channel, accounts for.
    by_output = kernel.flatten(1).T
    by_input = kernel.transpose(0, 1).flatten(1).T

    last = torch.full((restarts,), torch.inf, dtype=torch.float64)
    for step in range(1, steps + 1):
        # For one output channel o: kernel[o] = Σ second[o, m] * first[m].
        second = _solve(first, other, by_output).view(restarts, channels, other, other, n_out)
        second = second.permute(0, 4, 1, 2, 3)
        # The same for an input channel, with the roles exchanged.
        found = _solve(second.transpose(1, 2), size, by_input)
        first = found.view(restarts, channels, size, size, n_in).permute(0, 1, 4, 2, 3)
        if step % 10 == 0 or step == steps:
            residual = _residuals(kernel, first, second)
            if residual.min() < 1e-13 or (last - residual).max() < 1e-13:
                break
            last = residual
    best = residual.argmin()
    first, second = first[best], second[best]
    # Only the product of a channel's norms matters: divide it equally.
    tiny = torch.finfo(kernel.dtype).tiny  # a channel that is not needed may be zero
    norm = first.flatten(1).norm(dim=1).clamp(min=tiny)
    other_norm = second.transpose(0, 1).flatten(1).norm(dim=1).clamp(min=tiny)
    balance = (other_norm / norm).sqrt().view(-1, 1, 1, 1)
    return KernelFactors(kernel, first * balance, second / balance.transpose(0, 1))


def _residuals(kernel: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the relative residual of each restart's factors, ``(restarts,)``."""
    products = [compose_kernels(*pair) for pair in zip(first, second, strict=True)]
    residuals: Tensor = (kernel - torch.stack(products)).flatten(1).norm(dim=1) / kernel.norm()
    return residuals


def _solve(known: Tensor, side: int, target: Tensor) -> Tensor:
    """Solve for the other factor by least squares.

    Parameters
    ----------
    known
        One factor, ``(restarts, channels, n, h, w)``.
    side
        Height and width of the factor to find.
    target
        Kernel as columns, ``(n · K · K, columns)``.

    Returns
    -------
    Tensor
        ``(restarts, channels · side · side, columns)``.
    """
    restarts, channels, n = known.shape[:3]
    # The composition with a kernel that is 1 at one position only, for each position.
    units = torch.eye(side * side, dtype=known.dtype).view(-1, 1, side, side)
    shifted = F.conv_transpose2d(known.reshape(-1, 1, *known.shape[3:]), units.transpose(0, 1))
    shifted = shifted.view(restarts, channels, n, side * side, -1)
    matrix = shifted.permute(0, 2, 4, 1, 3).reshape(restarts, len(target), -1)
    targets = target.expand(restarts, -1, -1)
    solution: Tensor = torch.linalg.lstsq(matrix, targets, driver="gelsd").solution
    return solution
