"""ResNet, the networks of He, Zhang, Ren and Sun.

"Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385. Sections, tables and
figures below are that paper's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._errors import unknown
from cnnbook.models._common import check_input, new_classifier, scaled


def conv_bn(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution followed by batch normalization, as in Section 3.4."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out)
    )


class ZeroPadShortcut(nn.Module):
    """Shortcut of option A: takes every `stride`-th position and adds channels of zeros.

    Parameters
    ----------
    n_in, n_out
        Channels before and after; `n_out` is at least `n_in`.
    stride
        Stride in height and width.
    """

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.new_channels, self.stride = n_out - n_in, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, n_in, H, W)`` to ``(N, n_out, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(n_in: int, n_out: int, stride: int, option: str) -> nn.Module:
    """Return the shortcut of one block (Section 3.3 and Table 3).

    Parameters
    ----------
    n_in, n_out, stride
        Channels before and after the block, and its stride.
    option
        ``"A"``: identity, zero-padded where the shape changes; ``"B"``: a 1×1 projection where
        the shape changes, identity elsewhere; ``"C"``: a projection everywhere.
    """
    if option == "C" or (option == "B" and (stride != 1 or n_in != n_out)):
        return conv_bn(n_in, n_out, 1, stride)
    if stride != 1 or n_in != n_out:
        return ZeroPadShortcut(n_in, n_out, stride)
    return nn.Identity()


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (Figure 5, left).

    Parameters
    ----------
    n_in
        Input channels.
    n
        Channels of both convolutions.
    stride
        Stride of the first.
    shortcut
        Option A, B or C, or None for a plain block.
    version
        Not used: this block is the same in both versions.
    """

    expansion = 1

    def __init__(self, n_in: int, n: int, stride: int, shortcut: str | None, version: str):
        super().__init__()
        self.conv1, self.relu1 = conv_bn(n_in, n, 3, stride), nn.ReLU()
        self.conv2 = conv_bn(n, n, 3)
        self.shortcut = None if shortcut is None else make_shortcut(n_in, n, stride, shortcut)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, n_in, H, W)`` to ``(N, n, H/stride, W/stride)``."""
        residual = self.conv2(self.relu1(self.conv1(x)))
        if self.shortcut is None:
            return self.relu2(residual)
        return self.relu2(residual + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1 to reduce, 3×3, 1×1 to restore, and a shortcut (Figure 5, right).

    Parameters
    ----------
    n_in
        Input channels.
    n
        Channels of the first two convolutions; the third has 4·n.
    stride
        Stride of the block.
    shortcut
        Option A, B or C, or None for a plain block.
    version
        ``"v1"`` puts the stride in the first 1×1 convolution, as the paper does; ``"v1.5"`` in the
        3×3, as torchvision does.
    """

    expansion = 4

    def __init__(self, n_in: int, n: int, stride: int, shortcut: str | None, version: str):
        super().__init__()
        first, second = (stride, 1) if version == "v1" else (1, stride)
        self.conv1, self.relu1 = conv_bn(n_in, n, 1, first), nn.ReLU()
        self.conv2, self.relu2 = conv_bn(n, n, 3, second), nn.ReLU()
        self.conv3 = conv_bn(n, 4 * n, 1)
        self.shortcut = None if shortcut is None else make_shortcut(n_in, 4 * n, stride, shortcut)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, n_in, H, W)`` to ``(N, 4·n, H/stride, W/stride)``."""
        residual = self.conv3(self.relu2(self.conv2(self.relu1(self.conv1(x)))))
        if self.shortcut is None:
            return self.relu3(residual)
        return self.relu3(residual + self.shortcut(x))


# Table 1: type of block, and the number of blocks in conv2_x … conv5_x.
IMAGENET: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
# Section 4.2, for CIFAR-10: 6n + 2 layers, n blocks for each of three feature map sizes.
CIFAR = (20, 32, 44, 56, 110)


class ResNet(nn.Module):
    """A residual or plain network of Table 1 or Section 4.2.

    Stages are ``conv2_x`` … ``conv5_x`` (depths 18 to 152), or ``conv2_x`` … ``conv4_x`` (20 to
    110), each a sequence of blocks.

    Parameters
    ----------
    depth
        Number of layers with weights: 18, 34, 50, 101, 152 for large images, 20, 32, 44, 56, 110
        for small ones. Any other 6n + 2 is built like the latter.
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    shortcut
        Option ``"A"``, ``"B"`` or ``"C"``; by default, as in the paper, B for the networks of
        Table 1 and A for those of Section 4.2.
    plain
        Whether to leave out all shortcuts: the paper's plain networks.
    version
        Which convolution of a bottleneck has the stride: ``"v1"`` (the paper), the first 1×1;
        ``"v1.5"`` (torchvision), the 3×3.
    zero_init
        Whether the last batch normalization of every residual branch starts with weight zero, so
        that initially F = 0 (Goyal et al. 2017, arXiv:1706.02677).
    width
        Multiplies all layer widths; 1 gives the paper's.
    stem
        ``"imagenet"``: 7×7 with stride 2 and pooling; ``"small"``: 3×3 with stride 1. The default
        is the paper's for this depth; choose ``"small"`` for images of 28 to 96 pixels.

    Raises
    ------
    ValueError
        For an unknown depth or option.

    Examples
    --------
    Shortcuts of option A have no parameters, so the plain network has just as many:

    >>> net, plain = ResNet(20), ResNet(20, plain=True)
    >>> [sum(p.numel() for p in n.parameters()) for n in (net, plain)]
    [334072, 334072]
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        shortcut: str | None = None,
        plain: bool = False,
        version: str = "v1",
        zero_init: bool = False,
        width: float = 1,
        stem: str | None = None,
    ):
        super().__init__()
        large = depth in IMAGENET
        if not large and (depth < 8 or (depth - 2) % 6):
            allowed = ", ".join(map(str, (*IMAGENET, *CIFAR)))
            raise ValueError(f"depth {depth} is not one of {allowed}, nor 6n + 2 for a whole n > 0")
        shortcut = shortcut or ("B" if large else "A")
        stem = stem or ("imagenet" if large else "small")
        for what, value, allowed in (
            ("shortcut option", shortcut, ("A", "B", "C")),
            ("version", version, ("v1", "v1.5")),
            ("stem of ResNet", stem, ("imagenet", "small")),
        ):
            if value not in allowed:
                raise unknown(what, value, allowed)
        block, counts = IMAGENET[depth] if large else (BasicBlock, ((depth - 2) // 6,) * 3)
        channels = scaled(64 if large else 16, width)
        self.in_channels = in_channels

        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = nn.Sequential(conv_bn(in_channels, channels, kernel, stride), nn.ReLU())
        self.pool1 = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()
        self.stages: list[str] = []
        n = channels
        for number, count in enumerate(counts):
            blocks = []
            for i in range(count):
                # Half the size, twice the filters: the MACs per layer stay the same (Section 3.3).
                stride = 2 if number > 0 and i == 0 else 1
                blocks.append(block(channels, n, stride, None if plain else shortcut, version))
                channels = n * block.expansion
            self.stages.append(f"conv{number + 2}_x")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
            n *= 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # Section 3.4: as He et al. 2015
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    last = module.conv2 if isinstance(module, BasicBlock) else module.conv3
                    nn.init.zeros_(last[1].weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps before global pooling, those of the last stage.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, H, W)``.

        Returns
        -------
        Tensor
            ``(N, 512, ⌈H/32⌉, ⌈W/32⌉)`` for depths 18 and 34 (2048 channels for 50 and more), with
            ``stem="small"`` an eighth of the height and width instead; ``(N, 64, ⌈H/4⌉, ⌈W/4⌉)``
            for the networks of Section 4.2.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        check_input(x, "ResNet", self.in_channels, 1)
        x = self.pool1(self.conv1(x))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return x

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
        return self.fc(torch.flatten(self.pool(self.forward_features(x)), 1))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace fc by a new one with random weights, for fine-tuning.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.fc = new_classifier(self.fc, num_classes)
