"""Cost of a layer by hand: the formulas behind :func:`cnnbook.analysis.summary`."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral


@dataclass(frozen=True)
class Cost:
    """What a layer costs. Costs of several layers can be added.

    Attributes
    ----------
    parameters
        Weights and biases.
    macs
        Multiply–adds (MACs) for one image: multiplications, each with its addition. Adding
        biases is not counted.
    formula
        The multiply–adds as calculated with pencil and paper.

    Examples
    --------
    >>> Cost(10, 90, "3·3·10 = 90") + Cost(2, 20, "10·2 = 20")
    Cost(parameters=12, macs=110, formula='90 + 20 = 110')
    """

    parameters: int
    macs: int
    formula: str

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both together."""
        if not isinstance(other, Cost):
            return NotImplemented
        total = self.macs + other.macs
        return Cost(
            self.parameters + other.parameters,
            total,
            f"{_terms(self.formula)} + {_terms(other.formula)} = {total:,}",
        )

    def __str__(self) -> str:
        """Return the formula, and the number of parameters."""
        return f"{self.formula} multiply–adds; {self.parameters:,} parameters"


def _terms(formula: str) -> str:
    """Return a sum unchanged, and the value of a product."""
    terms, value = formula.split(" = ")
    return terms if " + " in terms else value


def conv_cost(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int],
    output_size: int | tuple[int, int],
    *,
    groups: int = 1,
    bias: bool = True,
) -> Cost:
    """Return the cost of a convolution.

    Each of the ``out_channels`` numbers at each of the ``H·W`` positions of the output is a sum of
    ``in_channels/groups · k·k`` products. The weights are the same at all positions, so there are
    ``out_channels · in_channels/groups · k·k`` of them, and one bias per output channel.

    Parameters
    ----------
    in_channels, out_channels
        Numbers of feature maps before and after.
    kernel
        Side of the kernel, or its height and width.
    output_size
        Side of the output, or its height and width.
    groups
        Number of groups into which the channels are divided; each sees only its own channels.
    bias
        Whether there are biases.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If a number is not positive, or the channels cannot be divided into the groups.

    Examples
    --------
    A 5×5 convolution from 192 to 32 feature maps of 28×28, and the same after a reduction to 16
    (Szegedy et al. 2015, module 3a):

    >>> print(conv_cost(192, 32, 5, 28).formula)
    28·28·192·5·5·32 = 120,422,400
    >>> print((conv_cost(192, 16, 1, 28) + conv_cost(16, 32, 5, 28)).formula)
    2,408,448 + 10,035,200 = 12,443,648
    """
    kernel, size = _pair(kernel), _pair(output_size)
    _check_positive(
        in_channels=in_channels,
        out_channels=out_channels,
        groups=groups,
        kernel=min(kernel),
        output_size=min(size),
    )
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{in_channels} and {out_channels} channels cannot be divided into {groups} groups"
        )
    seen = in_channels // groups
    weights = seen * prod(kernel) * out_channels
    return Cost(weights + bias * out_channels, *_product(*size, seen, *kernel, out_channels))


def linear_cost(inputs: int | Sequence[int], outputs: int, *, bias: bool = True) -> Cost:
    """Return the cost of a fully connected layer: one product per weight.

    Parameters
    ----------
    inputs
        Number of inputs, or the shape of the feature maps that are flattened into them.
    outputs
        Number of outputs.
    bias
        Whether there are biases.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> linear_cost((7, 7, 1024), 1024, bias=False).formula
    '7·7·1024·1024 = 51,380,224'
    """
    sides = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    _check_positive(inputs=min(sides, default=0), outputs=outputs)
    return Cost(prod(sides) * outputs + bias * outputs, *_product(*sides, outputs))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _product(*factors: int) -> tuple[int, str]:
    return prod(factors), f"{'·'.join(map(str, factors))} = {prod(factors):,}"


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"{name} must be an integer, got {number!r}")
        if number < 1:
            raise ValueError(f"{name} must be positive, got {number}")
