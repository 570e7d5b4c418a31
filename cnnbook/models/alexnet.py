"""AlexNet, the network of Krizhevsky, Sutskever and Hinton.

"ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012. Sections and
figures below are that paper's.

* :class:`AlexNet` is the network of Figure 2 on one device. Its two towers become two groups:
  conv2, conv4 and conv5 see only the feature maps of their own tower. 60,965,224 parameters.
  With ``towers=1`` it is the one-column network, 62,378,344 parameters.
* :class:`AlexNetTwoDevices` puts each tower on its own device, as the authors did.
* :class:`AlexNet2014` is torchvision's "alexnet", after the one-column network of Krizhevsky's
  later paper (arXiv:1404.5997): different widths, no response normalization. 61,100,840 parameters.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook._errors import unknown
from cnnbook.models._common import (
    check_exact_input,
    dropout_layer,
    new_classifier,
    out_size,
    scaled,
)
from cnnbook.models._response_norm import LocalResponseNorm

# Kernel size, stride and padding of conv1, and the input size it is meant for.
STEMS = {
    "227": (11, 4, 0, 227),  # the paper's 55×55 feature maps need 227 pixels …
    "224": (11, 4, 2, 224),  # … or the 224 that it states and a padding of 2
    "small": (5, 1, 2, 32),  # for images of 28 to 96 pixels
}


class ResponseNorm(LocalResponseNorm):
    """Local response normalization (Section 3.3), within each tower.

    ``b_i = a_i / (2 + 1e-4 * sum of a_j² over 5 neighboring channels j) ** 0.75``. torch's layer
    divides its sum by 5, hence the factor of 5. The towers do not communicate here: in the paper
    they do so only before conv3 and the fully connected layers.

    Parameters
    ----------
    towers
        Number of groups into which the channels are divided.
    """

    def __init__(self, towers: int = 1):
        super().__init__(5, alpha=5 * 1e-4, beta=0.75, k=2, groups=towers)


class AlexNet(nn.Module):
    """AlexNet on one device (Section 3.5, Figure 2).

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the input image.
    towers
        2 for the paper's network (conv2, conv4, conv5 in two groups), 1 for one column.
    width
        Multiplies all layer widths; 1 gives the paper's.
    stem
        ``"227"``: conv1 without padding; ``"224"``: with padding 2; ``"small"``: 5×5 with
        stride 1, for images of 28 to 96 pixels.
    input_size
        Height and width of the images; by default 227, 224 or 32, depending on the stem.
    activation
        Class of the activation function. The paper's is ReLU.
    lrn
        Whether local response normalization follows conv1 and conv2, as in the paper.
    pool
        Size of the pooling windows, whose stride is 2: with 3 they overlap, as in the paper; with
        2 they do not.
    dropout
        Probability of dropping a unit of fc6 or fc7 during training.

    Raises
    ------
    ValueError
        For an unknown stem, `towers` other than 1 or 2, or an `input_size` that is too small.

    Examples
    --------
    Two towers save the weights between them, but only in three of the convolutions:

    >>> with torch.device("meta"):  # shapes without values
    ...     counts = [sum(p.numel() for p in AlexNet(towers=n).parameters()) for n in (2, 1)]
    >>> counts
    [60965224, 62378344]
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        towers: int = 2,
        width: float = 1,
        stem: str = "227",
        input_size: int | None = None,
        activation: type[nn.Module] = nn.ReLU,
        lrn: bool = True,
        pool: int = 3,
        dropout: float = 0.5,
    ):
        super().__init__()
        if towers not in (1, 2):
            raise ValueError(f"AlexNet has 1 or 2 towers, got towers={towers}")
        if stem not in STEMS:
            raise unknown("stem of AlexNet", stem, STEMS)
        kernel, stride, padding, usual_size = STEMS[stem]
        self.in_channels = in_channels
        self.input_size = usual_size if input_size is None else input_size
        side = _side_of_pool5(self.input_size, stem, pool)
        n1, n2, n3, n4, n5 = (scaled(n, width, 2) for n in (96, 256, 384, 384, 256))
        fc = scaled(4096, width, 2)

        def norm() -> nn.Module:
            return ResponseNorm(towers) if lrn else nn.Identity()

        # Comments: channels and size of the feature maps for an input of 227×227.
        self.conv1 = nn.Sequential(  # 96@55×55
            nn.Conv2d(in_channels, n1, kernel, stride, padding), activation(), norm()
        )
        self.pool1 = nn.MaxPool2d(pool, 2)  # 96@27×27
        self.conv2 = nn.Sequential(  # 256@27×27
            nn.Conv2d(n1, n2, 5, padding=2, groups=towers), activation(), norm()
        )
        self.pool2 = nn.MaxPool2d(pool, 2)  # 256@13×13
        self.conv3 = nn.Sequential(  # 384@13×13
            nn.Conv2d(n2, n3, 3, padding=1), activation()
        )
        self.conv4 = nn.Sequential(  # 384@13×13
            nn.Conv2d(n3, n4, 3, padding=1, groups=towers), activation()
        )
        self.conv5 = nn.Sequential(  # 256@13×13
            nn.Conv2d(n4, n5, 3, padding=1, groups=towers), activation()
        )
        self.pool5 = nn.MaxPool2d(pool, 2)  # 256@6×6
        self.fc6 = nn.Sequential(
            nn.Linear(n5 * side * side, fc), activation(), dropout_layer(dropout)
        )
        self.fc7 = nn.Sequential(nn.Linear(fc, fc), activation(), dropout_layer(dropout))
        self.fc8 = nn.Linear(fc, num_classes)

    @torch.no_grad()
    def init_as_in_paper(self) -> "AlexNet":
        """Draw weights from N(0, 0.01²); biases 1 in conv2, conv4, conv5, fc6, fc7 (Section 5).

        Returns
        -------
        AlexNet
            The network itself.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                layer = name.split(".")[0]
                nn.init.constant_(module.bias, layer not in ("conv1", "conv3", "fc8"))
        return self

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps before the fully connected layers, those of ``pool5``.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, input_size, input_size)``.

        Returns
        -------
        Tensor
            ``(N, 256, 6, 6)`` for images of 227×227 pixels.

        Raises
        ------
        ValueError
            If `x` has another shape.
        """
        check_exact_input(x, "AlexNet", self.in_channels, self.input_size)
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        return self.pool5(self.conv5(self.conv4(self.conv3(x))))

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
        return self.fc8(self.fc7(self.fc6(self.forward_features(x).flatten(1))))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace fc8 by a new one with random weights, for fine-tuning.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.fc8 = new_classifier(self.fc8, num_classes)


def _side_of_pool5(input_size: int, stem: str, pool: int) -> int:
    side = out_size(input_size, *STEMS[stem][:3])
    for _ in ("pool1", "pool2", "pool5"):
        side = out_size(side, pool, 2)
    if side < 1:
        advice = "use larger images" + ("" if stem == "small" else " or stem='small'")
        raise ValueError(
            f"images of {input_size}×{input_size} are too small for AlexNet with stem={stem!r}: "
            f"nothing is left after pool5; {advice}"
        )
    return side


class Tower(nn.Module):
    """One half of AlexNet: one row of layers in Figure 2."""

    def __init__(self, net: AlexNet):
        super().__init__()

        def half(layer: nn.Conv2d | nn.Linear) -> nn.Module:
            # Every layer computes half of its outputs in each tower. Inputs differ: a grouped
            # convolution already sees only its own tower.
            if isinstance(layer, nn.Linear):
                return nn.Linear(layer.in_features, layer.out_features // 2)
            return nn.Conv2d(
                layer.in_channels // layer.groups,
                layer.out_channels // 2,
                layer.kernel_size,
                layer.stride,
                layer.padding,
            )

        def sequence(layers: nn.Sequential) -> nn.Sequential:
            # Copies: hooks on a layer of one tower must not see the other's.
            first, *rest = copy.deepcopy(layers)
            rest = [ResponseNorm(1) if isinstance(m, ResponseNorm) else m for m in rest]
            return nn.Sequential(half(first), *rest)

        self.conv1, self.pool1 = sequence(net.conv1), copy.deepcopy(net.pool1)
        self.conv2, self.pool2 = sequence(net.conv2), copy.deepcopy(net.pool2)
        self.conv3 = sequence(net.conv3)
        self.conv4 = sequence(net.conv4)
        self.conv5, self.pool5 = sequence(net.conv5), copy.deepcopy(net.pool5)
        self.fc6, self.fc7 = sequence(net.fc6), sequence(net.fc7)


class AlexNetTwoDevices(nn.Module):
    """AlexNet with each tower on its own device (Section 3.2, Figure 2).

    The devices exchange feature maps before conv3, fc6 and fc7, and the second device sends its
    half of fc7 to the first, which runs fc8. All other layers see only their own tower.

    Parameters
    ----------
    devices
        The two devices, which may be the same.
    num_classes, in_channels, **options
        As for :class:`AlexNet`, except `towers`.

    Raises
    ------
    ValueError
        If the number of devices is not two, or as for :class:`AlexNet`.

    Examples
    --------
    The two towers compute what the grouped network computes:

    >>> grouped = AlexNet(10, stem="small", width=0.1).eval()
    >>> net = AlexNetTwoDevices(10, stem="small", width=0.1, devices=("cpu", "cpu")).eval()
    >>> x = torch.randn(2, 3, 32, 32)
    >>> torch.allclose(net.copy_from(grouped)(x), grouped(x), atol=1e-5)
    True
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        devices: Sequence[torch.device | str] = ("cuda:0", "cuda:1"),
        **options: Any,
    ):
        super().__init__()
        if len(devices) != 2:
            raise ValueError(f"AlexNet's two towers need two devices, got {list(devices)}")
        self.devices = [torch.device(device) for device in devices]
        with torch.device("meta"):
            net = AlexNet(num_classes, in_channels, towers=2, **options)
        self.in_channels, self.input_size = net.in_channels, net.input_size
        self.towers = nn.ModuleList([Tower(net).to(device) for device in self.devices])
        self.fc8 = nn.Linear(net.fc8.in_features, num_classes, device=self.devices[0])

    @torch.no_grad()
    def copy_from(self, net: AlexNet) -> "AlexNetTwoDevices":
        """Copy the weights of a grouped :class:`AlexNet` with the same options.

        Each tower gets half of every layer's outputs.

        Returns
        -------
        AlexNetTwoDevices
            The network itself.
        """
        for name, value in net.state_dict().items():
            if name.startswith("fc8."):
                self.get_parameter(name).copy_(value)
            else:
                for tower, half in zip(self.towers, value.chunk(2), strict=True):
                    tower.get_parameter(name).copy_(half)
        return self

    def exchange(self, halves: list[Tensor]) -> list[Tensor]:
        """Give both halves to each device, in the order of the towers: the only communication."""
        return [torch.cat([half.to(d) for half in halves], dim=1) for d in self.devices]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the feature maps of both ``pool5``, as :meth:`AlexNet.forward_features` does.

        They are on the first device, one tower's after the other's: ``(N, 256, 6, 6)`` for images
        of 227×227 pixels.
        """
        first, second = self._features(x)
        return torch.cat([first, second.to(self.devices[0])], dim=1)

    def _features(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps of each tower's ``pool5``, on its device."""
        check_exact_input(x, "AlexNet", self.in_channels, self.input_size)
        halves = []
        for tower, device in zip(self.towers, self.devices, strict=True):
            maps = tower.pool1(tower.conv1(x.to(device)))
            halves.append(tower.pool2(tower.conv2(maps)))
        return [
            tower.pool5(tower.conv5(tower.conv4(tower.conv3(both))))
            for tower, both in zip(self.towers, self.exchange(halves), strict=True)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Score images as :meth:`AlexNet.forward` does; the scores are on the first device."""
        maps = [features.flatten(1) for features in self._features(x)]
        for layer in ("fc6", "fc7"):
            both = self.exchange(maps)
            maps = [getattr(t, layer)(b) for t, b in zip(self.towers, both, strict=True)]
        return self.fc8(torch.cat([maps[0], maps[1].to(self.devices[0])], dim=1))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace fc8 by a new one with random weights, for fine-tuning.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.fc8 = new_classifier(self.fc8, num_classes)


class AlexNet2014(nn.Module):
    """torchvision's "alexnet", after the one-column network of Krizhevsky 2014 (arXiv:1404.5997).

    Its convolutions have 64, 192, 384, 256 and 256 channels; for conv4, that paper says 384, its
    author's code 256. There is no response normalization, and dropout precedes fc6 and fc7 instead
    of following them.

    Parameters
    ----------
    num_classes, in_channels
        Number of outputs, and channels of the input image (224×224).
    dropout
        Probability of dropping an input of fc6 or fc7 during training.

    Examples
    --------
    Nearly all parameters are in the fully connected layers:

    >>> with torch.device("meta"):  # shapes without values
    ...     net = AlexNet2014()
    >>> total = sum(p.numel() for p in net.parameters())
    >>> fc = sum(p.numel() for name, p in net.named_parameters() if name.startswith("fc"))
    >>> f"{fc / total:.0%} of {total:,}"
    '96% of 61,100,840'
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.in_channels, self.input_size = in_channels, 224

        def conv(n_in: int, n_out: int, *shape: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(n_in, n_out, *shape), nn.ReLU())

        self.conv1 = conv(in_channels, 64, 11, 4, 2)  # 64@55×55
        self.pool1 = nn.MaxPool2d(3, 2)  # 64@27×27
        self.conv2 = conv(64, 192, 5, 1, 2)
        self.pool2 = nn.MaxPool2d(3, 2)  # 192@13×13
        self.conv3 = conv(192, 384, 3, 1, 1)
        self.conv4 = conv(384, 256, 3, 1, 1)
        self.conv5 = conv(256, 256, 3, 1, 1)
        self.pool5 = nn.MaxPool2d(3, 2)  # 256@6×6
        self.fc6 = nn.Sequential(dropout_layer(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU())
        self.fc7 = nn.Sequential(dropout_layer(dropout), nn.Linear(4096, 4096), nn.ReLU())
        self.fc8 = nn.Linear(4096, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images to the feature maps of ``pool5``, ``(N, 256, 6, 6)``."""
        check_exact_input(x, "AlexNet2014", self.in_channels, self.input_size)
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        return self.pool5(self.conv5(self.conv4(self.conv3(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, in_channels, 224, 224)`` to scores ``(N, num_classes)``."""
        return self.fc8(self.fc7(self.fc6(self.forward_features(x).flatten(1))))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace fc8 by a new one with random weights, for fine-tuning.

        Parameters
        ----------
        num_classes
            Number of outputs from now on.
        """
        self.fc8 = new_classifier(self.fc8, num_classes)
