"""What share of a GPU's speed the training loop of ``fit`` reaches."""

import itertools
import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from cnnbook import data, models, settings, training
from cnnbook._stderr import say
from cnnbook.bench.race import CNNBOOK, race, rows_of_race
from cnnbook.bench.steps import (
    CaptureError,
    capture,
    prepared,
    random_batch,
    repeated,
    sgd,
    training_step,
)
from cnnbook.results import Row
from cnnbook.training.device import choose_precision, suits_channels_last

# Small networks, for which launching a step's operations takes longer than computing them.
SIZES = (("lenet5", 256), ("resnet20", 128), ("resnet20", 512), ("resnet56", 128))
EAGER, GRAPH = "the same step, eager", "the same step, one CUDA graph"


def ceiling(
    *,
    quick: bool,
    repeats: int,
    networks: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Iterator[Row]:
    """Images per second of ``fit``, beside bare steps of the same network, eager and as a graph.

    A bare step is the forward pass, the loss, the backward pass and the optimizer's update, always
    on the same batch; as one CUDA graph it leaves the GPU no time to wait, so its rate is the
    ceiling, and the column ``ratio`` of its row is the share of it that ``fit`` reaches. ``fit``
    also shuffles and normalizes the images, follows a schedule, and counts losses and accuracy. Its
    first epoch, in which it may record a CUDA graph, does not count; its note says how many steps
    were replayed, or why none was. All with the optimizer, the precision and the memory layout of
    ``fit`` on this device.
    """
    if networks:
        sizes = [(n, b) for n, b in SIZES if n in networks]
        sizes += [(n, 128) for n in networks if n not in dict(SIZES)]
    else:
        sizes = [("lenet5", 16)] if quick else list(SIZES)
    if batch_size:
        sizes = list(dict.fromkeys((name, batch_size) for name, _ in sizes))
    for name, _ in sizes:
        models.model_spec(name)  # a misspelled name is rejected before the first is timed
    steps = 4 if quick else 200
    for name, size in sizes:
        yield from _rows(name, size, steps, repeats)


def _rows(name: str, batch_size: int, steps: int, repeats: int) -> list[Row]:
    spec, device = models.model_spec(name), settings.device()
    epochs, first, graph = _epochs_of_fit(name, batch_size, steps, repeats)
    seconds = {CNNBOOK: epochs}
    notes = {
        CNNBOOK: f"its first epoch took {first - statistics.median(epochs):.1f} s longer; {graph}"
    }

    torch.manual_seed(0)
    net = models.create(name)
    precision = choose_precision("auto", device)
    last = suits_channels_last(net, device)
    layout = torch.channels_last if last else torch.contiguous_format
    prepared(net, device, layout)
    x, y = random_batch(batch_size, spec.input_shape, spec.num_classes, device, layout)
    step = training_step(net, nn.functional.cross_entropy, sgd(net, 1e-4), x, y, precision)
    contenders = {EAGER: repeated(step, steps)}
    if device.type == "cuda":
        try:
            contenders[GRAPH] = repeated(capture(step), steps)
        except CaptureError as error:
            notes[EAGER] = str(error)
            say(f"{name}: {error}")
    else:
        notes[EAGER] = f"no CUDA graph on {device.type}"
    seconds |= race(contenders, repeats)

    chosen = str(precision).removeprefix("torch.")
    layout_name = "channels_last" if last else "contiguous"
    task = f"{name}, batch {batch_size}, {chosen}, {layout_name}"
    more = {
        "network": name,
        "batch_size": batch_size,
        "precision": chosen,
        "layout": layout_name,
    }
    return rows_of_race("ceiling", task, seconds, batch_size * steps, notes, more)


def _epochs_of_fit(
    name: str, batch_size: int, steps: int, repeats: int
) -> tuple[list[float], float, str]:
    """Return the seconds of ``fit``'s later epochs and of its first, and what was replayed."""
    spec = models.model_spec(name)
    count = batch_size * steps
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(
        0, 256, (count, *spec.input_shape), dtype=torch.uint8, generator=generator
    )
    classes = tuple(str(n) for n in range(spec.num_classes))
    labels = torch.arange(count) % spec.num_classes
    gray = (0.5,) * spec.input_shape[0]
    noise = data.Dataset("noise", pixels, labels, classes, gray, gray)
    torch.manual_seed(0)
    net = models.create(name)
    seen = Replayed()
    options = {"epochs": repeats + 1, "batch_size": batch_size, "lr": 1e-3, "progress": False}
    history = training.fit(net, noise, callbacks=[seen], **options)
    ends = [0.0, *history.seconds]
    first, *others = (end - begin for begin, end in itertools.pairwise(ends))
    return others, first, seen.said


class Replayed(training.Callback):
    """Says how many steps of a run were replayed from a CUDA graph, or why none was."""

    said = ""

    def on_fit_end(self, run: training.Run) -> None:
        """Look at the run."""
        count = f"{run.replayed:,} of {run.step:,} steps replayed"
        self.said = f"{count}: {run.not_recorded}" if run.not_recorded else count
