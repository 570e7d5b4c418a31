"""EfficientNet-Lite0, after the networks of Tan and Le.

"EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946. Sections and tables below are that paper's. Its Table 1 is EfficientNet-B0, found
by a search for high accuracy at few operations. The same authors' Lite0, published in 2020 as code
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite), is B0 without
squeeze-and-excitation and with ReLU6 instead of swish, because phones compute these faster.
4,652,008 parameters.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._errors import unknown
from cnnbook.models._common import check_input, dropout_layer, new_classifier, scaled

# Table 1, stages 2 to 8: operator, kernel size, stride of the first block, channels, layers. The
# table gives a stage's input resolution; a stride of 2 halves it for the next. MBConv6 widens its
# input sixfold.
STAGES = {
    "stage2": ("MBConv1", 3, 1, 16, 1),  # 112×112
    "stage3": ("MBConv6", 3, 2, 24, 2),  # 112×112 → 56×56
    "stage4": ("MBConv6", 5, 2, 40, 2),  # 56×56 → 28×28
    "stage5": ("MBConv6", 3, 2, 80, 3),  # 28×28 → 14×14
    "stage6": ("MBConv6", 5, 1, 112, 3),  # 14×14
    "stage7": ("MBConv6", 5, 2, 192, 4),  # 14×14 → 7×7
    "stage8": ("MBConv6", 3, 1, 320, 1),  # 7×7
}


class SamePadding(nn.Module):
    """TensorFlow's padding "same" before a convolution of stride 2: output size ⌈H/2⌉×⌈W/2⌉.

    Where the number of zeros needed is odd, as for every even H, the additional one is at the
    bottom or on the right. A convolution's own padding would add it at the top and on the left,
    too, and shift what the trained weights see by a pixel.

    Parameters
    ----------
    kernel
        Kernel size of the convolution that follows, 2 or more.
    """

    def __init__(self, kernel: int):
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Surround ``(N, C, H, W)`` with zeros."""
        # An output size of ⌈n/2⌉ needs kernel - 2 zeros if n is even, kernel - 1 if it is odd.
        bottom, right = (self.kernel - 2 + side % 2 for side in x.shape[2:])
        return F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))


def conv_bn(n_in: int, n_out: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Module:
    """Return a convolution that pads as TensorFlow does, and batch normalization as it is there.

    TensorFlow's decay of 0.99 for running averages is torch's momentum of 0.01.
    """
    padding = kernel // 2 if stride == 1 else 0
    return nn.Sequential(
        *([] if stride == 1 else [SamePadding(kernel)]),
        nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(n_out, eps=1e-3, momentum=0.01),
    )


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Section 4; Sandler et al. 2018, arXiv:1801.04381).

    A 1×1 convolution widens, a depthwise one filters each channel by itself, and a 1×1 convolution
    without activation narrows; where shape allows, the input is added.

    Parameters
    ----------
    n_in, n_out
        Channels before and after.
    expansion
        How many times wider the inside is: the number in the name, 1 (nothing is widened) or 6.
    kernel
        Kernel size of the depthwise convolution.
    stride
        Stride of the depthwise convolution.
    """

    def __init__(self, n_in: int, n_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        n = n_in * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = nn.Sequential(conv_bn(n_in, n, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(conv_bn(n, n, kernel, stride, groups=n), nn.ReLU6())
        self.project = conv_bn(n, n_out, 1)
        self.residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, n_in, H, W)`` to ``(N, n_out, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Table 1, with the changes of the authors' Lite form).

    Stages are ``stage1``, a 3×3 convolution; ``stage2`` to ``stage8``, sequences of
    ``MBConv`` blocks; and ``stage9``, a 1×1 convolution, followed by pooling and ``fc``. The
    published weights count the blocks of all stages from 0 to 15: block 10 is the last of
    ``stage6``.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    width
        Multiplies all layer widths, rounded to multiples of 8; 1 gives those of Table 1.
    stem
        ``"imagenet"``: stage 1 has stride 2; ``"small"``: it has stride 1, for images of 28 to 96
        pixels.
    dropout
        Probability of dropping an input of the last layer during training.

    Raises
    ------
    ValueError
        For an unknown stem, or a width that is not positive.

    Notes
    -----
    The authors trained with stochastic depth (Section 5.2), which drops whole blocks; it is not
    included here, and makes no difference to a trained network.

    An image of 224×224 takes 385,187,552 multiply-accumulates in convolutions and the last layer,
    as torch's counter also finds for timm's copy of the network. The authors' page states 407
    million; it does not say what is counted. For each of the five Lite networks, their number is
    larger than that of timm's copy by about three per value that a convolution outputs, 6.7 million
    values here, as if batch normalization and activation were counted, too.

    Examples
    --------
    Depthwise convolutions are where the filters are, and have few of the parameters:

    >>> net = EfficientNetLite0()
    >>> total = sum(p.numel() for p in net.parameters())
    >>> depthwise = sum(
    ...     m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1
    ... )
    >>> f"{depthwise / total:.1%} of {total:,}"
    '3.9% of 4,652,008'
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width: float = 1,
        stem: str = "imagenet",
        dropout: float = 0.2,
    ):
        super().__init__()
        if stem not in ("imagenet", "small"):
            raise unknown("stem of EfficientNet", stem, ("imagenet", "small"))
        self.in_channels = in_channels
        channels = scaled(32, width, 8)
        stride = 2 if stem == "imagenet" else 1
        self.stage1 = nn.Sequential(conv_bn(in_channels, channels, 3, stride), nn.ReLU6())
        for name, (operator, kernel, stride, n_out, layers) in STAGES.items():
            expansion, n_out = int(operator.removeprefix("MBConv")), scaled(n_out, width, 8)
            blocks = [MBConv(channels, n_out, expansion, kernel, stride)]
            blocks += [MBConv(n_out, n_out, expansion, kernel, 1) for _ in range(layers - 1)]
            self.add_module(name, nn.Sequential(*blocks))
            channels = n_out
        last = scaled(1280, width, 8)
        self.stage9 = nn.Sequential(conv_bn(channels, last, 1), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = dropout_layer(dropout)
        self.fc = nn.Linear(last, num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the authors' code: variance 2 / fan-out
                outputs = module.out_channels // module.groups
                std = math.sqrt(2 / (outputs * module.kernel_size[0] * module.kernel_size[1]))
                nn.init.normal_(module.weight, std=std)
        nn.init.zeros_(self.fc.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps before global pooling, those of ``stage9``.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, H, W)``.

        Returns
        -------
        Tensor
            ``(N, 1280, ⌈H/32⌉, ⌈W/32⌉)`` for a width of 1 and the stem ``"imagenet"``.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        check_input(x, "EfficientNet", self.in_channels, 1)
        x = self.stage1(x)
        for name in STAGES:
            x = getattr(self, name)(x)
        return self.stage9(x)

    def forward(self, x: Tensor) -> Tensor:
        """Score images.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, H, W)``, of any height and width.

        Returns
        -------
        Tensor
            Class scores (logits), ``(N, num_classes)``.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        return self.fc(self.dropout(self.pool(self.forward_features(x)).flatten(1)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one with random weights.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.fc = new_classifier(self.fc, num_classes)
