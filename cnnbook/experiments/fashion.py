"""Five networks from five papers, scaled down, on images of clothes."""

from collections.abc import Iterator, Sequence
from functools import partial

from cnnbook import models
from cnnbook.experiments.protocol import amount, load_images, train_and_test
from cnnbook.results import Row

NETWORKS = ("lenet5", "alexnet", "vgg11", "googlenet_bn", "resnet20")


def run(
    *,
    quick: bool = False,
    networks: Sequence[str] | None = None,
    data_set: str | None = None,
    seeds: int = 3,
) -> Iterator[Row]:
    """Test accuracy of the scaled-down models, all trained alike.

    Adam under a one-cycle schedule, ten epochs. One value for each seed.

    Parameters
    ----------
    quick
        Train on little data, to check that everything runs.
    networks
        Names of networks that have a scaled-down model; ``NETWORKS`` if not given.
    data_set
        What to train on; ``"fashion-mnist"`` if not given.
    seeds
        How many times each network is trained.

    Yields
    ------
    Row
        One for each network.

    Raises
    ------
    ValueError
        For an unknown data set or network, or one without a scaled-down model.
    """
    epochs = 1 if quick else 10
    for name in networks or ():
        models.create_scaled_down(name)  # a misspelled name is rejected before the first is trained
    source = data_set or ("fashion-mini" if quick else "fashion-mnist")
    train, test = load_images(source, quick=quick)
    classes, channels = len(train.classes), train.images.shape[1]
    task = f"scaled-down models, {amount(train, source, epochs)}"
    for name in networks or (["lenet5", "vgg11"] if quick else NETWORKS):
        build = partial(models.create_scaled_down, name, classes, channels)
        loss = models.model_spec(name).loss
        yield train_and_test(
            "fashion", task, name, build, train, test, epochs=epochs, seeds=seeds, loss=loss
        )
