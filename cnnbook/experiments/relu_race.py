"""ReLU against tanh: how soon the training error falls (Krizhevsky et al. 2012, Figure 1).

The paper trains a convolutional network of four layers on CIFAR-10, once with ReLU and once with
tanh, without regularization, "the learning rates … chosen independently to make training as fast as
possible"; with ReLU, the training error is down to 25 % six times faster. It does not describe the
network. Ours has the four weighted layers of the networks for CIFAR-10 in its author's code
cuda-convnet: 5×5 convolutions of 32, 32 and 64 channels, each followed by overlapping 3×3 pooling,
and a fully connected layer. Plain momentum 0.9 and a constant learning rate.

The paper does describe its pixels and its start (Sections 2 and 5): values from 0 to 255 from which
the mean is subtracted, and nothing else; weights from N(0, 0.01²). (Its biases of 1 in some layers
are left out, as they are meant for ReLU.) There are three pairs of arms, one step away from each
other:

* ``"as in 2012"``: those pixels and that start. On clothes, what the first layer's units sum up
  then has a standard deviation of about four, so that tanh has a slope below 0.1 at six of ten
  positions and the first layer hardly learns; ReLU's slope is 1 wherever it is active;
* ``"pixels scaled"``: pixels divided by their standard deviation, the start as before;
* ``"start scaled"``: also weights whose standard deviation suits the layer and the activation
  function, √(2 / n_in) for ReLU (He et al. 2015) and √(2 / (n_in + n_out)) for tanh (Glorot &
  Bengio 2010), as one does today.

Three things differ from other experiments. Training ends as soon as the mean training error of an
epoch has reached the level. What is minimized to choose a learning rate (``"val_error"``) is the
number of epochs to the level as a share of those allowed; for the slower of two trainings, so that
a rate that works by luck is not chosen; one that never arrives counts 1 plus its training error.
And the level depends on the data: 25 % on CIFAR-10, as in the paper; what the settings say on
clothes, which are easier.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from cnnbook import settings as where
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_ratio
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import WIDTH, line_style, new_figure

SETUPS = ("as in 2012", "pixels scaled", "start scaled")
ACTIVATIONS: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "tanh": nn.Tanh}
LEVELS = {"cifar10": 0.25}  # of the paper, whatever the settings say


class PixelScale(nn.Module):
    """Undoes the division of normalized pixels: they are in units of 0 … 255 again.

    Parameters
    ----------
    std
        Standard deviation of each channel, of pixels scaled to 0 … 1.
    """

    scale: Tensor

    def __init__(self, std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("scale", 255 * torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scale images, ``(N, C, H, W)``."""
        return x * self.scale


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return both activation functions in every setup."""
    return [
        Arm(
            f"{activation}, {setup}",
            {"activation": activation, "setup": setup},
            tuple(settings["rates"][setup][activation]),
        )
        for setup in settings["setups"]
        for activation in ACTIVATIONS
    ]


@torch.no_grad()
def build(
    options: Mapping[str, Any], classes: int, shape: tuple[int, ...], std: tuple[float, ...], w: int
) -> nn.Sequential:
    """Return an arm's network, with new weights.

    Parameters
    ----------
    options
        ``"activation"`` and ``"setup"``.
    classes
        Number of outputs.
    shape
        Channels, height and width of the images.
    std
        Standard deviations of the pixels, see :class:`PixelScale`.
    w
        Channels of the first layer.
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    if options["setup"] == "as in 2012":
        layers.append(PixelScale(std))
    for n in (w, w, 2 * w):
        layers += [nn.Conv2d(channels, n, 5, padding=2), ACTIVATIONS[options["activation"]]()]
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        channels, height, width = n, (height + 1) // 2, (width + 1) // 2
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            n_in = layer.weight[0].numel()
            n_out = layer.weight[:, :1].numel()
            std_of_weights = math.sqrt(2 / (n_in + n_out))
            if options["setup"] != "start scaled":
                std_of_weights = 0.01
            elif options["activation"] == "ReLU" and isinstance(layer, nn.Conv2d):
                std_of_weights = math.sqrt(2 / n_in)
            nn.init.normal_(layer.weight, std=std_of_weights)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return net


def level_of(settings: Mapping[str, Any]) -> float:
    """Return the training error at which the race ends."""
    return float(LEVELS.get(settings["data"], settings["level"]))


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train until the level is reached; several times if the settings say so, for the slowest."""
    slowest: dict[str, Any] = {}
    for i in range(settings.get("attempts", 1)):
        found = race(options, settings, lr, seed + i)
        if not slowest or found["val_error"] > slowest["val_error"]:
            slowest = found
        if slowest["val_error"] > 1:  # did not arrive, which is all there is to know of this rate
            break
    return slowest


def race(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train until the level is reached, and say how long it took."""
    parts = load_parts(settings)
    first = parts[0]
    torch.manual_seed(seed)
    shape = tuple(first.images.shape[1:])
    net = build(options, len(first.classes), shape, tuple(first.std), settings["width"])
    device = where.device()
    net.to(device)
    on_gpu = device.type == "cuda"  # there, steps can be recorded if nothing waits for the CPU
    sgd = torch.optim.SGD(
        net.parameters(),
        lr=torch.tensor(lr, device=device) if on_gpu else lr,
        momentum=0.9,
        fused=on_gpu or None,
    )
    level, epochs = level_of(settings), settings["epochs"]
    found = learn(net, *parts, lr=lr, epochs=epochs, seed=seed, optimizer=sgd, until=level)
    reached = epochs_to(found["curves"]["train_error"], level)
    per_epoch = found["seconds"] / max(1, len(found["curves"]["train_error"]))
    found["seconds_per_epoch"] = per_epoch
    found["reached"] = reached is not None
    found["epochs_to_level"] = epochs if reached is None else reached
    found["val_error"] = 1 + found["train_error"] if reached is None else reached / epochs
    return found


def epochs_to(errors: list[float], level: float) -> float | None:
    """Return when the mean training error of an epoch is at the level; None if never.

    Between the epochs before and after, the error is taken to fall evenly.

    Examples
    --------
    >>> epochs_to([0.8, 0.4, 0.2], 0.3)
    2.5
    >>> epochs_to([0.2], 0.3), epochs_to([0.8, 0.4], 0.3)
    (1.0, None)
    """
    for i, error in enumerate(errors):
        if error <= level:
            if i == 0:
                return 1.0
            return i + (errors[i - 1] - level) / (errors[i - 1] - error)
    return None


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the images that are trained on at most, or half of them where fewer will do."""
    images = (settings["images"] or 50_000) * settings["epochs"] * settings.get("attempts", 1)
    return float(images * (1.0 if options["setup"] == "as in 2012" else 0.5))


def verdict(result: Result) -> str:
    """Compare the epochs that both activation functions need, in every setup."""
    within = result.settings["epochs"]
    said = [
        _say_compared(
            _say_setup[setup],
            result[f"ReLU, {setup}"],
            result[f"tanh, {setup}"],
            within,
            timed=result.size != "live",  # two live runs print the same
        )
        for setup in result.settings["setups"]
    ]
    level = f"{100 * level_of(result.settings):.0f}"
    return f"To reach a training error of {level} %: {'; '.join(said)} (95 % intervals)."


_say_setup = {
    "as in 2012": "with pixels and initial weights as in 2012",
    "pixels scaled": "with scaled pixels and the initial weights of 2012",
    "start scaled": "with scaled pixels and initial weights that suit each function",
}


def _say_compared(setup: str, relu: ArmResult, tanh: ArmResult, within: int, *, timed: bool) -> str:
    told, late = [], []
    for arm, label in ((relu, "ReLU"), (tanh, "tanh")):
        arrived = [run["epochs_to_level"] for run in arm.runs if run["reached"]]
        missing = len(arm.runs) - len(arrived)
        if missing:
            late.append(f"{missing} of {len(arm.runs)} runs with {label}")
        else:
            told.append(f"{label} takes {sum(arrived) / len(arrived):.1f} epochs")
    if late:
        told.append(f"{' and '.join(late)} need more than {within}")
        return f"{setup}, {' and '.join(told)}"
    ratio = of_ratio(tanh.values("epochs_to_level"), relu.values("epochs_to_level"))
    ends = f"{ratio.low:.1f} to {ratio.high:.1f}"
    text = f"{setup}, {' and '.join(told)}, {ratio.mean:.1f} times as many ({ends}"
    if timed:
        seconds = [
            [run["epochs_to_level"] * run["seconds_per_epoch"] for run in arm.runs]
            for arm in (tanh, relu)
        ]
        text += f"; {of_ratio(*seconds).mean:.1f} times the seconds"
    if ratio.low > 1:
        return f"{text})"
    return f"{text}): " + ("tanh is faster" if ratio.high < 1 else "no difference is shown")


def plot(result: Result) -> Figure:
    """Draw the training error of every training, one panel for each setup."""
    level = 100 * level_of(result.settings)
    setups, said = result.settings["setups"], []
    with new_figure(WIDTH - 0.4, 3.4) as figure:  # room for the gaps between pictures
        row = figure.subplots(1, len(setups), sharey=True, sharex=True, squeeze=False)[0]
        for axes, setup in zip(row, setups, strict=True):
            axes.axhline(level, color="#777777", linewidth=1)
            for i, label in enumerate(ACTIVATIONS):
                arm, style = result[f"{label}, {setup}"], line_style(i)
                style |= {"marker": "o", "markersize": 3.5, "markevery": [-1]}  # where it ends
                for number, curve in enumerate(arm.curves("train_error")):
                    named = {"label": label} if number == 0 else {}
                    epochs = range(1, 1 + len(curve))
                    errors = [100 * error for error in curve]
                    axes.plot(epochs, errors, linewidth=1.2, **named, **style)
                ends_at = np.mean(arm.values("epochs_to_level"))
                height = level * (0.68, 0.24)[i]
                axes.plot(ends_at, height, "^", color=style["color"], markersize=5)
                axes.text(ends_at + 0.6, height, f"{ends_at:.1f}", fontsize=9.5, va="center")
            shown = {label: result[f"{label}, {setup}"].runs for label in ACTIVATIONS}
            ends = [
                f"{label} after {sum(r['epochs_to_level'] for r in runs) / len(runs):.1f} epochs"
                for label, runs in shown.items()
            ]
            said.append(f"{_say_panel[setup]} ({', '.join(ends)})")
            axes.set(xlabel="epoch", ylabel="training error (%)", title=_say_panel[setup])
            axes.set_ylim(0, 100)
            axes.tick_params(labelleft=True)  # on a phone, the panels are below each other
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.legend()
        curves = (curve for arm in result for curve in arm.curves("train_error"))
        numbers = [float(np.mean(arm.values("epochs_to_level"))) for arm in result]
        longest = max([*numbers, *(float(len(curve)) for curve in curves)])
        row[0].set_xlim(0, longest + 0.5)  # for all panels, as they share the axis
        row[0].set_yticks([0, level, 50, 75, 100] if level == 25 else [0, level, 25, 50, 75, 100])
    return Figure(
        figure,
        f"Training error by epoch, a line for each seed, until it is {level:.0f} %. Mean length of "
        f"the race: {'; '.join(said)}.",
        stacks=True,
    )


_say_panel = {
    "as in 2012": "as in 2012",
    "pixels scaled": "pixels scaled",
    "start scaled": "weights scaled too",
}


# Pixels of 0 … 255 make gradients about a hundred times as large as scaled ones.
_RATES = {
    setup: dict.fromkeys(ACTIVATIONS, rates)
    for setup, rates in {
        "as in 2012": (0.001, 0.003, 0.01),
        "pixels scaled": (0.01, 0.03, 0.1),
        "start scaled": (0.01, 0.03, 0.1),
    }.items()
}
SIZES = {
    "live": Size(
        {
            **{"data": "fashion-mini", "images": 3_000, "val_images": 100, "epochs": 20},
            **{"width": 8, "level": 0.25, "setups": ("as in 2012", "start scaled")},
            "rates": {
                "as in 2012": {"ReLU": (0.003,), "tanh": (0.01,)},
                "start scaled": {"ReLU": (0.01,), "tanh": (0.03,)},
            },
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **{"data": "fashion-mnist", "images": 8_000, "val_images": 100, "epochs": 30},
            **{"width": 16, "level": 0.15, "setups": SETUPS, "rates": _RATES},
        },
        seeds=5,
        tuning={"attempts": 2},
    ),
    "full": Size(
        {
            **{"data": "fashion-mnist", "images": 50_000, "val_images": 100, "epochs": 20},
            **{"width": 32, "level": 0.1, "setups": SETUPS, "rates": _RATES},
        },
        seeds=5,
        tuning={"attempts": 2},
    ),
}

EXPERIMENT = Experiment(
    "relu_race",
    "ReLU against tanh: epochs to a given training error, from three starts",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    marks=(
        "Each line is one seed and ends at the first epoch whose mean training error is at or "
        "below the gray line. Triangle and number: when the gray line is reached, interpolated "
        "between epochs, as a mean over the seeds."
    ),
)
