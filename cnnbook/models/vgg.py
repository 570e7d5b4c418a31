"""VGG, the networks of Simonyan and Zisserman.

"Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
arXiv:1409.1556. Sections and tables below are that paper's.
"""

import torch
from torch import Tensor, nn

from cnnbook._errors import unknown
from cnnbook.models._common import check_exact_input, dropout_layer, new_classifier, scaled
from cnnbook.models.alexnet import ResponseNorm

# Table 1, column by column. In each, three fully connected layers follow: 4096, 4096, num_classes.
CONFIGURATIONS = {
    "A": "conv3-64 maxpool conv3-128 maxpool conv3-256 conv3-256 maxpool "
    "conv3-512 conv3-512 maxpool conv3-512 conv3-512 maxpool",
    "A-LRN": "conv3-64 LRN maxpool conv3-128 maxpool conv3-256 conv3-256 maxpool "
    "conv3-512 conv3-512 maxpool conv3-512 conv3-512 maxpool",
    "B": "conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool conv3-256 conv3-256 maxpool "
    "conv3-512 conv3-512 maxpool conv3-512 conv3-512 maxpool",
    "C": "conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool "
    "conv3-256 conv3-256 conv1-256 maxpool "
    "conv3-512 conv3-512 conv1-512 maxpool conv3-512 conv3-512 conv1-512 maxpool",
    "D": "conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool "
    "conv3-256 conv3-256 conv3-256 maxpool "
    "conv3-512 conv3-512 conv3-512 maxpool conv3-512 conv3-512 conv3-512 maxpool",
    "E": "conv3-64 conv3-64 maxpool conv3-128 conv3-128 maxpool "
    "conv3-256 conv3-256 conv3-256 conv3-256 maxpool "
    "conv3-512 conv3-512 conv3-512 conv3-512 maxpool "
    "conv3-512 conv3-512 conv3-512 conv3-512 maxpool",
}
INITIALIZATIONS = ("he", "glorot", "paper", "small")


class VGG(nn.Module):
    """VGG: one column of Table 1.

    Blocks are ``block1`` … ``block5``, each ending in a pooling layer, then ``fc6`` to ``fc8``.

    Parameters
    ----------
    configuration
        ``"A"``, ``"A-LRN"``, ``"B"``, ``"C"``, ``"D"`` (VGG-16) or ``"E"`` (VGG-19).
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    batch_norm
        Whether batch normalization follows each convolution. The paper does not use it.
    width
        Multiplies all layer widths; 1 gives the paper's.
    input_size
        Height and width of the images, 224 in the paper; at least 16. Where pooling halves an odd
        size, it rounds up; with 224 pixels this never happens.
    init
        Initial weights: ``"he"`` (normal, variance 2 / fan-out; today's usual choice),
        ``"glorot"`` (with which, Section 3.1 adds, the deep configurations can be trained without
        pretraining), ``"paper"`` (normal, *variance* 0.01, which the authors used for
        configuration A), ``"small"`` (normal, *standard deviation* 0.01, with which, as He et al.
        2015 calculate, the signal dies out with depth). Biases start at zero.
    dropout
        Probability of dropping a unit of fc6 or fc7 during training.

    Raises
    ------
    ValueError
        For an unknown name or an input that is too small.

    Examples
    --------
    The first fully connected layer of VGG-16 has three quarters of all parameters:

    >>> with torch.device("meta"):  # shapes without values
    ...     net = VGG("D")
    >>> total = sum(p.numel() for p in net.parameters())
    >>> f"{net.fc6[0].weight.numel() / total:.0%} of {total:,}"
    '74% of 138,357,544'
    """

    def __init__(
        self,
        configuration: str = "D",
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        batch_norm: bool = False,
        width: float = 1,
        input_size: int = 224,
        init: str = "he",
        dropout: float = 0.5,
    ):
        super().__init__()
        if configuration not in CONFIGURATIONS:
            raise unknown("configuration of VGG", configuration, CONFIGURATIONS)
        if init not in INITIALIZATIONS:
            raise unknown("initialization", init, INITIALIZATIONS)
        if input_size < 16:
            raise ValueError(
                "VGG halves its feature maps five times, so images need at least 16×16 pixels, "
                f"got input_size={input_size}"
            )
        self.in_channels, self.input_size = in_channels, input_size

        channels, side, block = in_channels, input_size, []
        for item in CONFIGURATIONS[configuration].split():
            if item == "maxpool":
                block.append(nn.MaxPool2d(2, 2, ceil_mode=True))
                side = -(-side // 2)
                self.add_module(f"block{1 + len(self._modules)}", nn.Sequential(*block))
                block = []
            elif item == "LRN":
                block.append(ResponseNorm())
            else:
                kernel, n_out = map(int, item.removeprefix("conv").split("-"))
                n_out = scaled(n_out, width)
                block.append(nn.Conv2d(channels, n_out, kernel, padding=kernel // 2))
                block += [nn.BatchNorm2d(n_out)] if batch_norm else []
                block.append(nn.ReLU())
                channels = n_out

        fc = scaled(4096, width)
        self.fc6 = nn.Sequential(
            nn.Linear(channels * side**2, fc), nn.ReLU(), dropout_layer(dropout)
        )
        self.fc7 = nn.Sequential(nn.Linear(fc, fc), nn.ReLU(), dropout_layer(dropout))
        self.fc8 = nn.Linear(fc, num_classes)
        self.init = init
        self._draw(self)

    def _draw(self, layers: nn.Module) -> None:
        draw = {
            "he": lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
            "glorot": nn.init.xavier_normal_,
            "paper": lambda w: nn.init.normal_(w, std=0.1),
            "small": lambda w: nn.init.normal_(w, std=0.01),
        }[self.init]
        for module in layers.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                draw(module.weight)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps before the fully connected layers, those of ``block5``.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, input_size, input_size)``.

        Returns
        -------
        Tensor
            ``(N, 512, 7, 7)`` for images of 224×224 pixels.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        check_exact_input(x, "VGG", self.in_channels, self.input_size)
        x = self.block3(self.block2(self.block1(x)))
        return self.block5(self.block4(x))

    def forward(self, x: Tensor) -> Tensor:
        """Score images.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, input_size, input_size)``.

        Returns
        -------
        Tensor
            Class scores (logits), ``(N, num_classes)``.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        x = torch.flatten(self.forward_features(x), 1)
        return self.fc8(self.fc7(self.fc6(x)))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace fc8 by a new one, with random weights as they were at the start.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.fc8 = new_classifier(self.fc8, num_classes)
        self._draw(self.fc8)
