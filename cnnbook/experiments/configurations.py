"""VGG, from its shallowest configuration to its deepest."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from cnnbook import models
from cnnbook.experiments.protocol import amount, load_images, train_and_test
from cnnbook.results import Row


def run(*, quick: bool = False, data_set: str | None = None, seeds: int = 3) -> Iterator[Row]:
    """Test accuracy of VGG's configurations A to E, alike in everything but depth.

    Narrow networks with He initialization, Adam under a one-cycle schedule, six epochs: the
    experiment of the chapter on VGG, on more images and for longer. One value for each seed.

    Parameters
    ----------
    quick
        Train on little data, to check that everything runs.
    data_set
        What to train on; ``"fashion-mini"`` if not given.
    seeds
        How many times each network is trained.

    Yields
    ------
    Row
        One for each configuration.

    Raises
    ------
    ValueError
        For an unknown data set.
    """
    epochs = 1 if quick else 6
    source = data_set or "fashion-mini"
    train, test = load_images(source, quick=quick)
    classes, channels = len(train.classes), train.images.shape[1]
    task = f"VGG, width 1/16, {amount(train, source, epochs)}"
    options: dict[str, Any] = {"width": 1 / 16, "input_size": 32, "dropout": 0}
    for column in "ABCDE":
        build = partial(models.VGG, column, classes, channels, **options)
        yield train_and_test(
            "configurations", task, column, build, train, test, epochs=epochs, seeds=seeds
        )
