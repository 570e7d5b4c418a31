"""LeNet-5, the network of LeCun, Bottou, Bengio and Haffner.

"Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE 86(11),
1998, doi:10.1109/5.726791. Sections and equations below are that paper's.

Two forms:

* :class:`LeNet51998` is the network of Section II-B: trainable subsampling, a partly connected
  C3, scaled tanh, and Euclidean radial basis function outputs. 60,000 trainable parameters.
* :class:`LeNet5` is the form taught today: plain pooling, a fully connected C3 and a linear
  output layer, with a choice of activation. 61,706 parameters for ten classes.
"""

from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._checks import is_number
from cnnbook._errors import unknown
from cnnbook.models._common import check_positive_whole, check_scores, new_classifier


class ScaledTanh(nn.Module):
    """The squashing function f(a) = 1.7159 tanh(2a/3) (eq. 6 and Appendix A).

    Its constants make f(±1) = ±1, so targets of ±1 are where the function bends most rather than
    at its asymptotes.
    """

    def forward(self, a: Tensor) -> Tensor:
        """Squash `a`, of any shape, element by element."""
        return 1.7159 * torch.tanh(2 / 3 * a)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled_tanh": ScaledTanh,
    "relu": nn.ReLU,
}
POOLINGS: dict[str, type[nn.AvgPool2d] | type[nn.MaxPool2d]] = {
    "avg": nn.AvgPool2d,
    "max": nn.MaxPool2d,
}


def _check_input(x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[1:] != (channels, 32, 32):
        raise ValueError(
            f"LeNet-5 takes images of shape (N, {channels}, 32, 32), got {tuple(x.shape)}; pad "
            "smaller images, for example with cnnbook.data.load(name, size=32)"
        )


class LeNet5(nn.Module):
    """LeNet-5 as taught today: every feature map of C3 is connected to every one of S2.

    Layer names are the paper's; as in the paper, a layer includes its activation function.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    activation
        ``"tanh"``, ``"sigmoid"``, ``"relu"`` or ``"scaled_tanh"``.
    pool
        ``"avg"`` (closest to the paper's subsampling) or ``"max"``.

    Raises
    ------
    ValueError
        For an unknown activation or pooling.

    Examples
    --------
    Most of the weights are in C5, whose kernels cover the whole of S4:

    >>> net = LeNet5()
    >>> {name: sum(p.numel() for p in layer.parameters()) for name, layer in net.named_children()}
    {'c1': 156, 's2': 0, 'c3': 2416, 's4': 0, 'c5': 48120, 'f6': 10164, 'output': 850}
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        *,
        activation: str = "tanh",
        pool: str = "avg",
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if pool not in POOLINGS:
            raise unknown("pooling", pool, POOLINGS)
        squash, subsample = ACTIVATIONS[activation], POOLINGS[pool]

        self.in_channels = in_channels
        self.c1 = nn.Sequential(nn.Conv2d(in_channels, 6, 5), squash())  # 6@28×28
        self.s2 = subsample(2)  # 6@14×14
        self.c3 = nn.Sequential(nn.Conv2d(6, 16, 5), squash())  # 16@10×10
        self.s4 = subsample(2)  # 16@5×5
        self.c5 = nn.Sequential(nn.Conv2d(16, 120, 5), squash())  # 120@1×1
        self.f6 = nn.Sequential(nn.Linear(120, 84), squash())  # 84
        self.output = nn.Linear(84, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps of C5, each of a single position.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, 32, 32)``.

        Returns
        -------
        Tensor
            ``(N, 120, 1, 1)``.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        _check_input(x, self.in_channels)
        x = self.s2(self.c1(x))
        x = self.s4(self.c3(x))
        return self.c5(x)

    def forward(self, x: Tensor) -> Tensor:
        """Score images.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, 32, 32)``.

        Returns
        -------
        Tensor
            Class scores (logits), ``(N, num_classes)``.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        return self.output(self.f6(self.forward_features(x).flatten(1)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace output by a new one with random weights, for fine-tuning.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.output = new_classifier(self.output, num_classes)


# Table I: for each of the sixteen feature maps of C3, the maps of S2 that it is connected to.
C3_INPUTS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


class Subsampling(nn.Module):
    """S2 and S4: the sum of each 2×2 block, times a coefficient, plus a bias.

    Parameters
    ----------
    channels
        Number of feature maps, C. Each has its own coefficient and bias: 2·C parameters.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C, H/2, W/2)``."""
        return self.coefficient * (4 * F.avg_pool2d(x, 2)) + self.bias


class PartialConv2d(nn.Module):
    """C3: a 5×5 convolution whose feature maps see only some of the input maps (Table I).

    Only the kernels that exist are stored, so that counting parameters gives the paper's 1,516.

    Parameters
    ----------
    inputs
        For each output map, the input maps it is connected to.
    kernel_size
        Height and width of the kernels.
    """

    def __init__(self, inputs: tuple[tuple[int, ...], ...], kernel_size: int = 5):
        super().__init__()
        connected = torch.zeros(len(inputs), 1 + max(map(max, inputs)), dtype=torch.bool)
        for output_map, input_maps in enumerate(inputs):
            connected[output_map, list(input_maps)] = True
        self.register_buffer("connected", connected)
        self.weight = nn.Parameter(torch.empty(sum(map(len, inputs)), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(inputs)))

    def full_weight(self) -> Tensor:
        """Return the kernels as ``(out, in, k, k)``, zero where maps are not connected."""
        full = self.weight.new_zeros(*self.connected.shape, *self.weight.shape[1:])
        return full.masked_scatter(self.connected[..., None, None], self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, in, H, W)`` to ``(N, out, H-k+1, W-k+1)``."""
        return F.conv2d(x, self.full_weight(), self.bias)


# Our own drawing of the digits 0-9 on a 7×12 grid, in the style of the paper's Figure 3.
DIGIT_BITMAPS = """
.#####.|...##..|.#####.|.#####.|....##.|#######|..####.|#######|.#####.|.#####.
##...##|..###..|##...##|##...##|...###.|##.....|.##....|##...##|##...##|##...##
##...##|.####..|##...##|.....##|..####.|##.....|##.....|.....##|##...##|##...##
##...##|...##..|.....##|.....##|.##.##.|##.....|##.....|....##.|##...##|##...##
##...##|...##..|.....##|.....##|.##.##.|######.|######.|....##.|##...##|##...##
##...##|...##..|....##.|..####.|##..##.|.....##|##...##|...##..|.#####.|.######
##...##|...##..|...##..|.....##|##..##.|.....##|##...##|...##..|##...##|.....##
##...##|...##..|..##...|.....##|#######|.....##|##...##|..##...|##...##|.....##
##...##|...##..|.##....|.....##|....##.|.....##|##...##|..##...|##...##|.....##
##...##|...##..|##.....|.....##|....##.|.....##|##...##|.##....|##...##|.....##
##...##|...##..|##.....|##...##|....##.|##...##|##...##|.##....|##...##|....##.
.#####.|.######|#######|.#####.|....##.|.#####.|.#####.|.##....|.#####.|.####..
"""


def digit_codes() -> Tensor:
    """Return the ±1 codes of the ten digits, ``(10, 84)``: 7×12 bitmaps read row by row."""
    rows = [line.split("|") for line in DIGIT_BITMAPS.split()]
    codes = [[pixel == "#" for row in rows for pixel in row[digit]] for digit in range(10)]
    return torch.tensor(codes) * 2.0 - 1.0


def random_codes(num_classes: int) -> Tensor:
    """Return random ±1 codes, ``(num_classes, 84)``, an alternative that Section II-B mentions.

    The seed is fixed, so a given number of classes always has the same codes.
    """
    generator = torch.Generator().manual_seed(1998)
    return torch.randint(0, 2, (num_classes, 84), generator=generator) * 2.0 - 1.0


class EuclideanRBF(nn.Module):
    """Output layer: squared distance between F6 and each class's fixed code (eq. 7).

    Parameters
    ----------
    codes
        One code of ±1 per class, ``(num_classes, 84)``. A buffer, not a parameter: the paper
        fixes the codes by hand.
    """

    def __init__(self, codes: Tensor):
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 84)`` to scores ``(N, num_classes)``: *minus* the paper's penalty y.

        The sign is reversed so that, as everywhere in this package, the largest score wins.
        """
        return -(x[:, None, :] - self.codes).square().sum(2)


class LeNet51998(nn.Module):
    """LeNet-5 as published in 1998 (Section II-B, Figure 2): 60,000 trainable parameters.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image (1 in the paper).
    codes
        The targets of F6: ``"digits"``, ten 7×12 bitmaps; ``"random"``, fixed random ±1 codes
        for any number of classes; or a tensor of ±1, ``(num_classes, 84)``.

    Raises
    ------
    ValueError
        For unknown codes or codes of another shape.

    Examples
    --------
    Sixty thousand parameters, not counting the fixed codes. A score is minus a squared distance:

    >>> net = LeNet51998()
    >>> sum(p.numel() for p in net.parameters())
    60000
    >>> bool((net(torch.randn(5, 1, 32, 32)) <= 0).all())
    True
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, *, codes: str | Tensor = "digits"
    ):
        super().__init__()
        if isinstance(codes, str):
            if codes not in ("digits", "random"):
                raise unknown("codes", codes, ("digits", "random"))
            codes = digit_codes() if codes == "digits" else random_codes(num_classes)
        if codes.shape != (num_classes, 84):
            raise ValueError(
                f"codes have shape {tuple(codes.shape)}, but {num_classes} classes need "
                f"({num_classes}, 84); codes='random' fits any number of classes"
            )

        self.in_channels = in_channels
        self.c1 = nn.Sequential(nn.Conv2d(in_channels, 6, 5), ScaledTanh())  # 6@28×28
        self.s2 = nn.Sequential(Subsampling(6), ScaledTanh())  # 6@14×14
        self.c3 = nn.Sequential(PartialConv2d(C3_INPUTS), ScaledTanh())  # 16@10×10
        self.s4 = nn.Sequential(Subsampling(16), ScaledTanh())  # 16@5×5
        self.c5 = nn.Sequential(nn.Conv2d(16, 120, 5), ScaledTanh())  # 120@1×1
        self.f6 = nn.Sequential(nn.Linear(120, 84), ScaledTanh())  # 84
        self.output = EuclideanRBF(codes)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every weight from U(-2.4/F, 2.4/F), where F is its unit's fan-in (Appendix A)."""
        per_map = torch.tensor([25.0 * len(inputs) for inputs in C3_INPUTS])
        per_kernel = torch.tensor([25.0 * len(inputs) for inputs in C3_INPUTS for _ in inputs])
        for parameter, fan_in in (
            *((p, 25 * self.in_channels) for p in self.c1.parameters()),
            *((p, 4) for p in self.s2.parameters()),
            (self.c3[0].weight, per_kernel[:, None, None]),
            (self.c3[0].bias, per_map),
            *((p, 4) for p in self.s4.parameters()),
            *((p, 25 * 16) for p in self.c5.parameters()),
            *((p, 120) for p in self.f6.parameters()),
        ):
            parameter.uniform_(-1, 1).mul_(2.4 / fan_in)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps of C5, each of a single position.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, 32, 32)``.

        Returns
        -------
        Tensor
            ``(N, 120, 1, 1)``.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        _check_input(x, self.in_channels)
        x = self.s2(self.c1(x))
        x = self.s4(self.c3(x))
        return self.c5(x)

    def forward(self, x: Tensor) -> Tensor:
        """Score images.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, 32, 32)``.

        Returns
        -------
        Tensor
            Scores, ``(N, num_classes)``, all ≤ 0: minus the squared distances of eq. 7. The
            closest code has the largest score.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        return self.output(self.f6(self.forward_features(x).flatten(1)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the codes: by those of the digits for ten classes, by random ones otherwise.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        check_positive_whole("num_classes", num_classes)
        codes = digit_codes() if num_classes == 10 else random_codes(num_classes)
        self.output = EuclideanRBF(codes.to(self.output.codes))


def map_loss(scores: Tensor, target: Tensor, *, j: float = 10.0) -> Tensor:
    """Discriminative loss of the 1998 network (equation 9), averaged over the batch.

    ``y_target + log(exp(-j) + sum_i exp(-y_i))`` with the penalties ``y = -scores``: cross
    entropy with an additional, constant "rubbish" class. It stops pushing wrong classes away once
    they are far off.

    Parameters
    ----------
    scores
        Output of :class:`LeNet51998`, ``(N, num_classes)``.
    target
        Class numbers, ``(N,)``.
    j
        Penalty of the rubbish class, positive. The paper gives no value.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        If `j` is not positive and finite.
    TypeError
        If `scores` or `target` is not a tensor.

    Examples
    --------
    Where all penalties are far above `j`, only that of the correct class counts, and the loss keeps
    reducing it. Cross entropy only compares it with the wrong class's and may already be near zero:

    >>> target = torch.tensor([0])
    >>> near, far = torch.tensor([[-50.0, -50.0]]), torch.tensor([[-50.0, -90.0]])
    >>> [round(map_loss(scores, target).item(), 1) for scores in (near, far)]
    [40.0, 40.0]
    >>> [round(F.cross_entropy(scores, target).item(), 1) for scores in (near, far)]
    [0.7, 0.0]
    """
    check_scores("scores", scores, target)
    if not is_number(j) or not 0 < j < inf:
        raise ValueError(f"j must be positive and finite, got {j!r:.50}")
    rubbish = scores.new_full((len(scores), 1), -j)
    return F.cross_entropy(torch.cat([scores, rubbish], 1), target)


def lenet5(num_classes: int = 10, in_channels: int = 1, **options: Any) -> LeNet5:
    """Build LeNet-5 as taught today.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    **options
        `activation` and `pool`, see :class:`LeNet5`.

    Returns
    -------
    LeNet5
        A network for images of 32×32 pixels.

    Raises
    ------
    ValueError
        For an unknown activation or pooling.
    TypeError
        For an option the network does not have.

    Examples
    --------
    >>> import torch
    >>> lenet5(activation="relu")(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    return LeNet5(num_classes, in_channels, **options)


def lenet5_1998(num_classes: int = 10, in_channels: int = 1, **options: Any) -> LeNet51998:
    """Build LeNet-5 as published in 1998. It is trained with :func:`map_loss`.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    **options
        `codes`, see :class:`LeNet51998`.

    Returns
    -------
    LeNet51998
        A network for images of 32×32 pixels.

    Raises
    ------
    ValueError
        For unknown codes, or codes of another shape.
    TypeError
        For an option the network does not have.

    Examples
    --------
    >>> import torch
    >>> lenet5_1998(26, codes="random")(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 26])
    """
    return LeNet51998(num_classes, in_channels, **options)
