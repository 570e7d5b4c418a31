"""GoogLeNet, the network of Szegedy and others.

"Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842. Sections, tables and figures below
are that paper's.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._errors import unknown
from cnnbook.models._common import (
    check_exact_input,
    check_input,
    check_scores,
    dropout_layer,
    new_classifier,
    out_size,
    scaled,
)
from cnnbook.models.alexnet import ResponseNorm

# Three rows of Table 1 are inconsistent: conv1 has 9.4K weights, not 2.7K; 4c's operations match
# its filters, but its parameter count does not; both counts of 5a match a 5×5 reduction to 48
# channels, but its column says 32, which we follow.
#
# Table 1: #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj; None is a 3×3/2 pooling.
INCEPTIONS: dict[str, tuple[int, ...] | None] = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "pool3": None,
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "pool4": None,
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


def conv(n_in: int, n_out: int, kernel: int, stride: int = 1, *, batch_norm: bool) -> nn.Module:
    """Return a convolution that keeps height and width (at stride 1), and its ReLU."""
    layer = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=not batch_norm)
    norm = [nn.BatchNorm2d(n_out)] if batch_norm else []
    return nn.Sequential(layer, *norm, nn.ReLU())


class Inception(nn.Module):
    """Inception module with dimension reductions (Figure 2b).

    Parameters
    ----------
    channels
        Input channels.
    n1, n3_reduce, n3, n5_reduce, n5, pool_proj
        Output channels of the convolutions, named like the columns of Table 1.
    batch_norm
        Whether batch normalization follows each convolution.
    """

    def __init__(
        self,
        channels: int,
        n1: int,
        n3_reduce: int,
        n3: int,
        n5_reduce: int,
        n5: int,
        pool_proj: int,
        *,
        batch_norm: bool = False,
    ):
        super().__init__()
        bn = {"batch_norm": batch_norm}
        self.branch1 = conv(channels, n1, 1, **bn)
        self.branch3 = nn.Sequential(
            conv(channels, n3_reduce, 1, **bn), conv(n3_reduce, n3, 3, **bn)
        )
        self.branch5 = nn.Sequential(
            conv(channels, n5_reduce, 1, **bn), conv(n5_reduce, n5, 5, **bn)
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1), conv(channels, pool_proj, 1, **bn)
        )
        self.out_channels = n1 + n3 + n5 + pool_proj

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to ``(N, n1 + n3 + n5 + pool_proj, H, W)``."""
        return torch.cat(
            [self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], dim=1
        )


class NaiveInception(nn.Module):
    """Inception module without reductions (Figure 2a); pooling keeps all input channels.

    Parameters
    ----------
    channels
        Input channels.
    n1, n3, n5
        Output channels of the convolutions.
    batch_norm
        Whether batch normalization follows each convolution.
    """

    def __init__(self, channels: int, n1: int, n3: int, n5: int, *, batch_norm: bool = False):
        super().__init__()
        self.branch1 = conv(channels, n1, 1, batch_norm=batch_norm)
        self.branch3 = conv(channels, n3, 3, batch_norm=batch_norm)
        self.branch5 = conv(channels, n5, 5, batch_norm=batch_norm)
        self.branch_pool = nn.MaxPool2d(3, 1, padding=1)
        self.out_channels = n1 + n3 + n5 + channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to ``(N, n1 + n3 + n5 + channels, H, W)``."""
        return torch.cat(
            [self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], dim=1
        )


class AuxiliaryClassifier(nn.Module):
    """Small classifier on top of 4a or 4d, used only during training (Section 5).

    5×5 average pooling with stride 3, a 1×1 convolution with 128 filters, a fully connected layer
    with 1024 units, 70 % dropout.

    Parameters
    ----------
    channels
        Input channels.
    side
        Height and width of the input feature maps.
    num_classes
        Number of outputs.
    width
        Multiplies the widths 128 and 1024.
    batch_norm
        Whether batch normalization follows the convolution.
    """

    def __init__(
        self, channels: int, side: int, num_classes: int, *, width: float, batch_norm: bool
    ):
        super().__init__()
        reduced, fc = scaled(128, width), scaled(1024, width)
        # With small images, a 5×5 window would be larger than the feature maps.
        window = min(5, side)
        self.pool = nn.AvgPool2d(window, 3)
        self.conv = conv(channels, reduced, 1, batch_norm=batch_norm)
        pooled = out_size(side, window, 3)
        self.fc = nn.Sequential(nn.Linear(reduced * pooled**2, fc), nn.ReLU(), nn.Dropout(0.7))
        self.output = nn.Linear(fc, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, side, side)`` to scores ``(N, num_classes)``."""
        return self.output(self.fc(self.conv(self.pool(x)).flatten(1)))


class GoogLeNetOutput(NamedTuple):
    """What GoogLeNet returns in training: the scores of its three classifiers.

    Examples
    --------
    >>> net = GoogLeNet(10, stem="small", width=0.1)
    >>> output = net(torch.zeros(2, 3, 32, 32))
    >>> output._fields
    ('scores', 'auxiliary_4a', 'auxiliary_4d')
    >>> output.auxiliary_4a.shape
    torch.Size([2, 10])
    """

    scores: Tensor
    auxiliary_4a: Tensor
    auxiliary_4d: Tensor


def googlenet_loss(
    output: GoogLeNetOutput | Tensor,
    target: Tensor,
    *,
    auxiliary_weight: float = 0.3,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy of the main classifier plus 0.3 times that of each auxiliary one (Section 5).

    Parameters
    ----------
    output
        What the network returned: three score tensors in training; one in evaluation, or without
        auxiliary classifiers.
    target
        Class numbers, ``(N,)``.
    auxiliary_weight
        Weight of each auxiliary loss.
    label_smoothing
        Fraction of the target that is spread over all classes, 0 to 1.

    Returns
    -------
    Tensor
        Scalar. It is a weighted sum, not an average.

    Raises
    ------
    TypeError
        If `output` or `target` is something else.

    Examples
    --------
    If no classifier prefers any of ten classes, each loss is log 10, and the sum is 1.6 times that:

    >>> undecided = torch.zeros(4, 10)
    >>> output = GoogLeNetOutput(undecided, undecided, undecided)
    >>> loss = googlenet_loss(output, torch.arange(4))
    >>> round((loss / torch.tensor(10.0).log()).item(), 4)
    1.6
    """
    classifiers = output if isinstance(output, tuple | list) else (output,)
    for scores in classifiers:
        check_scores("output", scores, target)
    main, *auxiliary = (
        F.cross_entropy(scores, target, label_smoothing=label_smoothing) for scores in classifiers
    )
    return main + auxiliary_weight * sum(auxiliary)


class GoogLeNet(nn.Module):
    """GoogLeNet after Table 1 and Figure 3.

    In training mode it returns :class:`GoogLeNetOutput` if it has auxiliary classifiers; in
    evaluation mode it skips them and returns the scores of the main classifier.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    auxiliary
        Whether to include the two auxiliary classifiers.
    naive
        Whether to use modules without 1×1 reductions (Figure 2a).
    head
        ``"gap"``: global average pooling and one fully connected layer, as in the paper;
        ``"fc"``: the last feature maps are flattened and go through a fully connected layer with
        1024 units first.
    batch_norm
        Whether batch normalization follows each convolution and response normalization is omitted,
        as is usual today. The paper has no batch normalization.
    width
        Multiplies all layer widths; 1 gives the paper's.
    stem
        ``"paper"`` for large images; ``"small"`` for 28 to 96 pixels: 3×3 with stride 1 instead
        of 7×7 with stride 2, and no pooling after it.
    input_size
        Height and width of the images; by default 224 or 32, depending on the stem. Only the
        auxiliary classifiers and the fully connected head depend on it.
    dropout
        Probability of dropping an input of the last layer during training.

    Raises
    ------
    ValueError
        For an unknown stem or head, or an input that is too small.

    Examples
    --------
    The auxiliary classifiers hold almost half of all parameters, and only training needs them:

    >>> with torch.device("meta"):  # shapes without values
    ...     counts = [
    ...         sum(p.numel() for p in GoogLeNet(auxiliary=auxiliary).parameters())
    ...         for auxiliary in (True, False)
    ...     ]
    >>> counts
    [13378280, 6998552]
    >>> net = GoogLeNet(10, stem="small", width=0.1).eval()
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        auxiliary: bool = True,
        naive: bool = False,
        head: str = "gap",
        batch_norm: bool = False,
        width: float = 1,
        stem: str = "paper",
        input_size: int | None = None,
        dropout: float = 0.4,
    ):
        super().__init__()
        if stem not in ("paper", "small"):
            raise unknown("stem of GoogLeNet", stem, ("paper", "small"))
        if head not in ("gap", "fc"):
            raise unknown("head of GoogLeNet", head, ("gap", "fc"))
        self.smallest = {"paper": 32, "small": 8}[stem]
        if input_size is None:
            input_size = {"paper": 224, "small": 32}[stem]
        if input_size < self.smallest:
            raise ValueError(
                f"input_size={input_size} is too small for GoogLeNet with stem={stem!r}: it needs "
                f"{self.smallest} pixels or more"
            )
        self.in_channels, self.input_size = in_channels, input_size
        self.fixed_input_size = auxiliary or head == "fc"
        bn = {"batch_norm": batch_norm}
        n64, n192 = scaled(64, width), scaled(192, width)

        def norm() -> nn.Module:
            return nn.Identity() if batch_norm else ResponseNorm()

        # `side` is the size of the feature maps; 3×3/2 pooling rounds up: 112 → 56 in Table 1.
        if stem == "paper":
            self.conv1 = conv(in_channels, n64, 7, 2, **bn)
            self.pool1 = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), norm())
            side = _halved(out_size(input_size, 7, 2, 3))
        else:
            self.conv1 = conv(in_channels, n64, 3, **bn)
            self.pool1 = norm()
            side = input_size
        self.conv2_reduce = conv(n64, n64, 1, **bn)
        self.conv2 = nn.Sequential(conv(n64, n192, 3, **bn), norm())
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        channels, side = n192, _halved(side)

        for name, row in INCEPTIONS.items():
            if row is None:
                self.add_module(name, nn.MaxPool2d(3, 2, ceil_mode=True))
                side = _halved(side)
                continue
            n1, n3_reduce, n3, n5_reduce, n5, pool_proj = (scaled(n, width) for n in row)
            if naive:
                module = NaiveInception(channels, n1, n3, n5, **bn)
            else:
                module = Inception(channels, n1, n3_reduce, n3, n5_reduce, n5, pool_proj, **bn)
            self.add_module(name, module)
            channels = module.out_channels
            if auxiliary and name in ("inception4a", "inception4d"):
                classifier = AuxiliaryClassifier(channels, side, num_classes, width=width, **bn)
                self.add_module(name.replace("inception", "auxiliary_"), classifier)

        self.auxiliary = auxiliary
        if head == "gap":
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), dropout_layer(dropout))
        else:
            fc = scaled(1024, width)
            self.head = nn.Sequential(
                nn.Flatten(), nn.Linear(channels * side**2, fc), nn.ReLU(), dropout_layer(dropout)
            )
            channels = fc
        self.output = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutput:
        """Score images.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, input_size, input_size)``. Without auxiliary classifiers or a
            fully connected head, any size from `smallest` pixels up.

        Returns
        -------
        Tensor or GoogLeNetOutput
            Class scores (logits), ``(N, num_classes)``; three such tensors in training mode with
            auxiliary classifiers.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        x4a, x4d, x = self._features(x)
        scores = self.output(self.head(x))
        if self.training and self.auxiliary:
            return GoogLeNetOutput(scores, self.auxiliary_4a(x4a), self.auxiliary_4d(x4d))
        return scores

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps before global pooling, those of ``inception5b``.

        Parameters
        ----------
        x
            Images, as for :meth:`forward`.

        Returns
        -------
        Tensor
            ``(N, 1024, 7, 7)`` for images of 224×224 pixels.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        return self._features(x)[-1]

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs of 4a and 4d, which auxiliary classifiers read, and of 5b."""
        if self.fixed_input_size:
            check_exact_input(x, "GoogLeNet", self.in_channels, self.input_size)
        else:
            check_input(x, "GoogLeNet", self.in_channels, self.smallest)
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(self.conv2_reduce(x)))
        x = self.pool3(self.inception3b(self.inception3a(x)))
        x4a = self.inception4a(x)
        x4d = self.inception4d(self.inception4c(self.inception4b(x4a)))
        x = self.pool4(self.inception4e(x4d))
        return x4a, x4d, self.inception5b(self.inception5a(x))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer of each classifier by a new one with random weights.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.output = new_classifier(self.output, num_classes)
        if self.auxiliary:
            for name in ("auxiliary_4a", "auxiliary_4d"):
                classifier: AuxiliaryClassifier = getattr(self, name)
                classifier.output = new_classifier(classifier.output, num_classes)


def _halved(side: int) -> int:
    """Return the size after 3×3/2 pooling that rounds up, for `side` of at least 2."""
    return max(1, -(-(side - 3) // 2) + 1)
