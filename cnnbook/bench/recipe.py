"""94 % of Fashion-MNIST in seconds: a small network, and the recipe that trains it fast.

In the spirit of airbench94 (Keller Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
arXiv:2404.00498), whose ideas these are; sizes and settings are our own, for gray 28×28 images.
"""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import analysis, data, settings, training
from cnnbook._stderr import say
from cnnbook.bench.ceiling import Replayed
from cnnbook.bench.throughput import possible_modes
from cnnbook.results import Row

EPOCHS = 12
BATCH_SIZE = 512
LR = 1.6  # largest learning rate, after WARMUP of the steps
WARMUP = 0.2
MOMENTUM = 0.85
WEIGHT_DECAY = 1e-3
BIAS_LR = 64  # times the others' learning rate, for the biases of batch normalization
LABEL_SMOOTHING = 0.2
EMA_DECAY = 0.98
AUGMENT = data.Augment(flip=0.5, translate=1.5 / 28, interpolation="nearest")  # −1, 0 or 1 pixel
WHITENING_IMAGES = 2000  # of which the patches' covariance is computed


class WhitenedNet(nn.Module):
    """A convolutional network whose first layer is computed from the images, and not learned.

    The first layer's kernels are the principal components of all 3×3 patches, each divided by its
    standard deviation, so that its outputs are uncorrelated and of equal variance; their negatives
    are the other half. Three blocks follow, each of which halves height and width, then the
    maximum over all positions, and a linear layer. Batch normalization has biases only.

    Parameters
    ----------
    num_classes
        Number of outputs.
    in_channels
        Channels of the images.
    widths
        Channels of the blocks.

    Examples
    --------
    >>> from cnnbook import data
    >>> train, _ = data.load("fashion-mini")
    >>> x, _ = next(data.Batches(train, 500, device="cpu").epoch(0))
    >>> net = WhitenedNet().init_whitening(x)
    >>> outputs = net.whiten(x)[:, :9].transpose(0, 1).flatten(1)  # 9 components, then negatives
    >>> torch.allclose(torch.corrcoef(outputs), torch.eye(9), atol=1e-3)
    True
    >>> net(x[:2]).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        *,
        widths: tuple[int, ...] = (48, 96, 192),
    ):
        super().__init__()
        # Comments: channels and size of the feature maps for images of 28×28.
        self.whiten = nn.Conv2d(in_channels, 2 * 9 * in_channels, 3)  # 18@26×26
        self.whiten.weight.requires_grad_(False)
        before = [self.whiten.out_channels, *widths]
        self.blocks = nn.Sequential(  # 48@13×13, 96@6×6, 192@3×3
            *(_block(n_in, n_out) for n_in, n_out in zip(before, widths, strict=False))
        )
        self.fc = nn.Linear(widths[-1], num_classes, bias=False)

    @torch.no_grad()
    def init_whitening(self, images: Tensor, eps: float = 5e-4) -> "WhitenedNet":
        """Compute the first layer's kernels.

        Parameters
        ----------
        images
            Normalized training images, ``(N, in_channels, H, W)``, a few thousand.
        eps
            Added to the variances, so that components that hardly vary are not blown up.

        Returns
        -------
        WhitenedNet
            The network itself.
        """
        patches = (
            F.unfold(images.cpu(), 3).transpose(0, 1).flatten(1)
        )  # (9 * channels, all of them)
        # In 64 bits: the smallest variances are thousands of times smaller than the largest.
        variances, components = torch.linalg.eigh(torch.cov(patches.double()))
        kernels = (components / (variances + eps).sqrt()).T.flip(0)  # largest variance first
        self.whiten.weight.copy_(torch.cat([kernels, -kernels]).view_as(self.whiten.weight))
        if self.whiten.bias is not None:
            self.whiten.bias.zero_()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Score images.

        Parameters
        ----------
        x
            Images, ``(N, in_channels, H, W)``, with H and W at least 10.

        Returns
        -------
        Tensor
            Class scores (logits), ``(N, num_classes)``.
        """
        x = self.blocks(F.gelu(self.whiten(x)))
        # Divided by 9, as in airbench94: small scores at the start, and high learning rates.
        return self.fc(x.amax((2, 3))) / 9


def _block(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        *(_conv(n_in, n_out), nn.MaxPool2d(2), _norm(n_out), nn.GELU()),
        *(_conv(n_out, n_out), _norm(n_out), nn.GELU()),
    )


def _conv(n_in: int, n_out: int) -> nn.Conv2d:
    """Return a convolution whose first channels pass its input on at the start."""
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:n_in])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Mirrored(nn.Module):
    """The mean of a network's scores for each image and for its mirror image.

    Parameters
    ----------
    network
        Maps ``(N, C, H, W)`` to scores.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> x = torch.rand(3, 1, 2, 2)
    >>> torch.allclose(Mirrored(net)(x), Mirrored(net)(x.flip(3)))
    True
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Score images, ``(N, C, H, W)``."""
        return (self.network(x) + self.network(x.flip(3))) / 2


def fast_sgd(
    net: nn.Module, steps: int, lr: float = LR
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LambdaLR]:
    """Return optimizer and schedule: biases learn faster; the rate climbs, then falls to nearly 0.

    Parameters
    ----------
    net
        The network.
    steps
        Steps of the whole run.
    lr
        Largest learning rate.

    Returns
    -------
    torch.optim.SGD
        Stochastic gradient descent with Nesterov momentum, for what is not frozen. On a CUDA GPU,
        where the network should be already, it can be recorded as a part of a CUDA graph.
    torch.optim.lr_scheduler.LambdaLR
        Its schedule, stepped after every batch.

    Examples
    --------
    >>> sgd, schedule = fast_sgd(WhitenedNet(), steps=100)
    >>> [round(group["lr"] / LR, 2) for group in sgd.param_groups]  # a fifth of the largest
    [0.2, 12.8]
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    device = trained[0].device
    # In the GPU's memory, where a CUDA graph reads it.
    fused = device.type == "cuda"

    def rate(value: float) -> float | Tensor:
        return torch.tensor(value, device=device) if fused else value

    groups = [
        {"params": [p for p in trained if p.ndim > 1]},
        {
            "params": [p for p in trained if p.ndim == 1],
            "lr": rate(lr * BIAS_LR),
            "weight_decay": WEIGHT_DECAY / BIAS_LR,  # the decay of a step is their product
        },
    ]
    settings_of_all = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "nesterov": True}
    sgd = torch.optim.SGD(groups, lr=rate(lr), fused=fused or None, **settings_of_all)
    top = max(1, WARMUP * steps)

    def share(step: int) -> float:
        return min(0.2 + 0.8 * step / top, max(0.02, 1 - (step - top) / max(1, steps - top)))

    return sgd, torch.optim.lr_scheduler.LambdaLR(sgd, share)


def recipe(
    *, quick: bool, data_set: str | None, seeds: int, modes: Sequence[str] | None = None
) -> Iterator[Row]:
    """94 % of Fashion-MNIST: airbench's ideas in a network for 28×28 pixels.

    A first layer that whitens the images, convolutions that begin as the identity, batch
    normalization with fast biases, label smoothing, mirrored and shifted images, a learning rate
    that climbs and falls, and scores averaged over each image and its mirror image. On a GPU in
    bfloat16, as a CUDA graph (mode ``"graph"``) unless another mode is chosen; what is compiled
    (mode ``"compile"``) is compiled before the clock starts, and timed apart. The test images are
    looked at once, at the end.
    """
    device = settings.device()
    modes = modes or ["graph" if device.type == "cuda" else "eager"]
    modes = possible_modes(modes, device)
    source = data_set or ("fashion-mini" if quick else "fashion-mnist")
    train, test = data.load(source)
    epochs, widths = EPOCHS, (48, 96, 192)
    if quick:
        train, test, epochs, widths = train[:1100], test[:500], 2, (8, 16, 16)
    for mode in modes:
        runs = [_train(train, test, epochs, widths, seed, mode) for seed in range(seeds)]
        name = f"{len(train):,} images of {source}, {epochs} epochs, {mode}"
        yield from _rows(name, mode, runs)


def _rows(task: str, mode: str, runs: list[dict[str, Any]]) -> Iterator[Row]:
    means = {name: statistics.mean(run[name] for run in runs) for name in ("accuracy", "seconds")}
    more = {
        "mode": mode,
        "lowest": min(run["accuracy"] for run in runs),
        "highest": max(run["accuracy"] for run in runs),
        "accuracies": [run["accuracy"] for run in runs],
        "accuracies_not_mirrored": [run["not_mirrored"] for run in runs],
        "training_losses": [run["train_loss"] for run in runs],
        "training_seconds": [run["seconds"] for run in runs],
        "preparation_seconds": [run["preparation"] for run in runs],
        "operations": runs[0]["operations"],
        "parameters": runs[0]["parameters"],
        "steps": runs[0]["steps"],
    }
    for contender, value, unit, note in (
        ("test accuracy", means["accuracy"], "test accuracy", ""),
        ("training", means["seconds"], "seconds", runs[0]["replayed"]),
    ):
        yield Row("recipe", task, contender, value, unit, None, note, more=more)


def _train(
    train: data.Dataset,
    test: data.Dataset,
    epochs: int,
    widths: tuple[int, ...],
    seed: int,
    mode: str,
) -> dict[str, Any]:
    device = settings.device()
    channels, size = train.images.shape[1], train.images.shape[2:]
    torch.manual_seed(seed)
    images, _ = next(data.Batches(train, WHITENING_IMAGES, device="cpu").epoch(0))
    net = WhitenedNet(len(train.classes), channels, widths=widths).init_whitening(images)
    net.to(device)
    macs = analysis.summary(net, (channels, *size)).total_macs
    options: dict[str, Any] = {
        "batch_size": BATCH_SIZE,
        "label_smoothing": LABEL_SMOOTHING,
        "ema_decay": EMA_DECAY,
        "augment": AUGMENT,
        "compile": mode == "compile",
        "cuda_graph": None if mode == "graph" else False,
        "seed": seed,
        "progress": False,
    }

    # One step with a full batch and one with the last, smaller one: what is compiled, or chosen
    # for the device at the first steps, is in place before the clock starts.
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    sgd, _ = fast_sgd(net, 2)
    few = train[: BATCH_SIZE + len(train) % BATCH_SIZE]
    preparation = training.fit(net, few, epochs=1, optimizer=sgd, **options).seconds[-1]
    net.load_state_dict(weights)

    steps = epochs * -(-len(train) // BATCH_SIZE)
    sgd, schedule = fast_sgd(net, steps)
    seen = Replayed()
    history = training.fit(
        net,
        train,
        epochs=epochs,
        optimizer=sgd,
        scheduler=schedule,
        callbacks=[training.EpochLines(), seen],
        **options,
    )
    if history.stopped:  # fit() returns after Ctrl-C: an incomplete run must not be recorded
        raise KeyboardInterrupt
    accuracy = training.evaluate(Mirrored(net), test).accuracy
    say(f"seed {seed}: {accuracy:.2%} of the test images")
    return {
        "accuracy": accuracy,
        "not_mirrored": training.evaluate(net, test).accuracy,
        "train_loss": history.train_loss[-1],
        "seconds": history.seconds[-1],
        "preparation": preparation,
        "replayed": seen.said,
        # Forward once and backward twice, a multiplication and an addition each.
        "operations": 6 * macs * epochs * len(train),
        "parameters": sum(p.numel() for p in net.parameters()),
        "steps": steps,
    }
