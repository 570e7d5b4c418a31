"""Inception modules against the alternatives they were made for (Szegedy et al. 2015, Section 4).

Five networks with the same first layer, five modules with poolings at the same positions, the same
classifier, batch normalization after every convolution, and equal MACs per image (within 3 %). Only
the modules differ:

- *Inception*: 1×1, 3×3, 5×5 and pooling side by side, with 1×1 reductions (Figure 2b), at the
  proportions of five rows of Table 1;
- *naive*: the same without reductions (Figure 2a), where pooling keeps all of its input channels;
- *naive, 1×1 after pooling*: without the reductions before 3×3 and 5×5, but with the projection
  after the pooling. In the naive network, pooling passes all channels on without a weight, so that
  they pile up from module to module; here, it passes on a projection to a few;
- *one 3×3* layer per module: as many modules, half of Inception's depth;
- *two 3×3* layers per module: as deep as Inception's longest path.

The widths of the modules make the MACs equal: what reductions save is spent on more filters.
Learning rates are chosen in runs of full length. The larger sizes show garments at several scales,
which is what the module is for. The paper itself has no such comparison: it reports a top-5 error
of 6.67 % (seven networks, 144 crops) with 12 times fewer parameters than AlexNet.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook.experiments import figures
from cnnbook.experiments.conditions import DOTS_AND_BARS, said_unfinished
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.models import googlenet
from cnnbook.plots import Figure

KINDS = {
    "Inception": "inception",
    "naive": "naive",
    "naive, 1×1 after pooling": "projected",
    "one 3×3": "one",
    "two 3×3": "two",
}
# Rows of Table 1; None is a 2×2 pooling.
ROWS = ("inception3a", "inception3b", None, "inception4a", "inception4e", None, "inception5b")


class ProjectedInception(nn.Module):
    """Inception module with a single reduction, the 1×1 convolution after the pooling.

    Parameters
    ----------
    channels
        Input channels.
    n1, n3, n5, pool_proj
        Output channels of the convolutions.
    """

    def __init__(self, channels: int, n1: int, n3: int, n5: int, pool_proj: int):
        super().__init__()
        self.branch1, self.branch3, self.branch5 = (
            googlenet.conv(channels, n, kernel, batch_norm=True)
            for n, kernel in ((n1, 1), (n3, 3), (n5, 5))
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1), googlenet.conv(channels, pool_proj, 1, batch_norm=True)
        )
        self.out_channels = n1 + n3 + n5 + pool_proj

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, H, W)`` to ``(N, n1 + n3 + n5 + pool_proj, H, W)``."""
        return torch.cat(
            [self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], dim=1
        )


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return a network of each kind, as wide as equal MACs allow."""
    rates = tuple(settings["rates"])
    return [
        Arm(name, {"kind": kind, "width": settings["widths"][kind]}, rates)
        for name, kind in KINDS.items()
    ]


def network(
    kind: str, width: float, settings: Mapping[str, Any], classes: int = 10, channels: int = 1
) -> nn.Module:
    """Return a network with modules of one kind, and new weights of He et al. 2015.

    Parameters
    ----------
    kind
        ``"inception"``, ``"naive"``, ``"projected"``, ``"one"`` or ``"two"``.
    width
        Multiplies the widths of the modules.
    settings
        ``"stem"``, channels of the first layer, which all kinds share.
    classes
        Number of outputs.
    channels
        Channels of the images.
    """
    stem = settings["stem"]
    layers = [googlenet.conv(channels, stem, 3, batch_norm=True), nn.MaxPool2d(2)]
    channels = stem
    for name in ROWS:
        if name is None:
            layers.append(nn.MaxPool2d(2))
            continue
        row = googlenet.INCEPTIONS[name]
        assert row is not None
        module, channels = _module(kind, channels, [max(1, round(n * width)) for n in row])
        layers.append(module)
    net = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def _module(kind: str, channels: int, row: list[int]) -> tuple[nn.Module, int]:
    n1, n3_reduce, n3, n5_reduce, n5, pool = row
    if kind == "inception":
        inception = googlenet.Inception(
            channels, n1, n3_reduce, n3, n5_reduce, n5, pool, batch_norm=True
        )
        return inception, inception.out_channels
    if kind == "naive":
        naive = googlenet.NaiveInception(channels, n1, n3, n5, batch_norm=True)
        return naive, naive.out_channels
    if kind == "projected":
        projected = ProjectedInception(channels, n1, n3, n5, pool)
        return projected, projected.out_channels
    out = n1 + n3 + n5 + pool
    first = googlenet.conv(channels, out, 3, batch_norm=True)
    if kind == "one":
        return first, out
    return nn.Sequential(first, googlenet.conv(out, out, 3, batch_norm=True)), out


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network."""
    train, val, test = (part.padded(settings["side"]) for part in load_parts(settings))
    shape = len(train.classes), train.images.shape[1]
    net = network(options["kind"], options["width"], settings, *shape)
    return learn(net, train, val, test, lr=lr, epochs=settings["epochs"], seed=seed)


def verdict(result: Result) -> str:
    """Say how Inception compares with each of the others."""
    ours = result["Inception"]
    others = {
        "naive": "naive ones",
        "naive, 1×1 after pooling": "naive ones with a 1×1 convolution after the pooling",
        "one 3×3": "one 3×3 layer in place of each",
        "two 3×3": "two 3×3 layers in place of each",
    }
    said = []
    least = max(result, key=lambda arm: sum(arm.values("train_error"))).name
    for name, words in others.items():
        change = of_difference(ours.values("test_error"), result[name].values("test_error"))
        text = f"{change.in_words()} compared with {words}"
        trained = [arm.values("train_error") for arm in (result[name], ours)]
        if name == least and of_difference(*trained).low > 0:
            ends = [f"{100 * sum(errors) / len(errors):.0f}" for errors in trained]
            text += f", which had learned least (training error {ends[0]} against {ends[1]} %)"
        said.append(text)
    macs = ours.runs[0]["macs"] / 1e6
    text = (
        f"At {macs:.1f} million MACs per image, the test error with Inception modules is "
        f"{'; '.join(said)} (95 % intervals)."
    )
    text = " ".join(filter(None, [text, _say_unfinished(result)]))
    if result.size == "live":  # two live runs print the same
        return text
    times = _seconds(ours) / _seconds(result["one 3×3"])
    return (
        f"{text} MACs are equal, time is not: training with Inception modules took {times:.1f} "
        "times as long as with one 3×3 layer in place of each."
    )


def _say_unfinished(result: Result) -> str:
    """Say that no network was trained to its end, where that is so."""
    ends = {arm.name: fmean(arm.values("train_error")) for arm in result}
    tests = {arm.name: fmean(arm.values("test_error")) for arm in result}
    alike = len(set(ends.values())) == len(ends)  # equal ones have no order
    alike &= sorted(ends, key=ends.__getitem__) == sorted(tests, key=tests.__getitem__)
    order = ", in the same order as the test errors" if alike else ""
    steps = max((run.get("steps", 0) for arm in result for run in arm.runs), default=0)
    learned = f", so this compares what they learn in {steps:,} steps" if steps else ""
    return said_unfinished({"": ends.values()}, f"{order}{learned}")


def _seconds(arm: ArmResult) -> float:
    return fmean(arm.values("seconds"))


def plot(result: Result) -> Figure:
    """Draw the test errors at equal MACs; the labels have parameters, MACs and training time."""
    named = {
        f"{arm.name}: {arm.runs[0]['parameters'] / 1e3:,.0f} k parameters,\n"
        f"{arm.runs[0]['macs'] / 1e6:.1f} M MACs, {_seconds(arm):,.0f} s": arm
        for arm in result
    }
    return figures.intervals(named, xlabel="test error (%)", accuracy=False)


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training: branches take longer at equal MACs."""
    branches = {"inception": 2.0, "naive": 1.5, "projected": 1.5}.get(options["kind"], 1.0)
    return float(branches * (settings["images"] or 55_000) * settings["epochs"])


# Found by bisection: MACs within 3 % of Inception's.
_NARROW = {"inception": 0.15, "naive": 0.0563, "projected": 0.0815, "one": 0.076, "two": 0.0469}
_WIDE = {"inception": 0.25, "naive": 0.0897, "projected": 0.1365, "one": 0.1275, "two": 0.0782}
_SAME = {"rates": (0.03, 0.1, 0.3), "stem": 16, "shrink": 2, "side": 32}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"data": "fashion-mini", "images": 1_152, "val_images": 300, "epochs": 4},
            **{"side": 16, "rates": (0.1,), "widths": _NARROW},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"data": "cluttered-fashion-mnist", "images": 12_000, "val_images": 3_000},
            **{"epochs": 6, "widths": _NARROW},
        },
        seeds=3,
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **_SAME,
            **{"data": "cluttered-fashion-mnist", "images": None, "val_images": 5_000},
            **{"epochs": 8, "stem": 32, "widths": _WIDE},
        },
        seeds=3,
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "inception",
    "Inception modules, naive ones and plain 3×3 layers at equal MACs",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    marks=f"{DOTS_AND_BARS} M: million; s: seconds of training, mean over the seeds.",
)
