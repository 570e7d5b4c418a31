"""Mistakes in calls of fit and evaluate are explained in the package's own words."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training

OPTIONS = {"epochs": 1, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[torch.argsort(test.labels, stable=True)]


def linear(outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, nn.CrossEntropyLoss(), lambda o, y: F.cross_entropy(o, y)]
)
@pytest.mark.parametrize("size", [10, 1000])  # the first batch of ten has the first class only
def test_fewer_outputs_than_classes(digits, loss, size):
    with pytest.raises(ValueError, match="a label is 5, but the network has 5 outputs"):
        training.evaluate(linear(5), digits[1], loss=loss, batch_size=size, device="cpu")
    with pytest.raises(ValueError, match="the network has 5 outputs"):
        training.fit(linear(5), digits[0], loss=loss, **OPTIONS)


@pytest.mark.parametrize("reduction", ["none"])
@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss])
def test_a_loss_for_each_image(digits, kind, reduction):
    for call in (
        lambda: training.evaluate(
            linear(), digits[1], loss=kind(reduction=reduction), device="cpu"
        ),
        lambda: training.fit(linear(), digits[0], loss=kind(reduction=reduction), **OPTIONS),
    ):
        with pytest.raises(
            ValueError, match=r"loss= returned a tensor of shape .* the batch's mean"
        ):
            call()


def test_a_checkpoint_that_is_a_folder(digits, tmp_path):
    with pytest.raises(training.CheckpointError, match="is a folder; give the name of a file"):
        training.fit(linear(), digits[0], checkpoint=tmp_path, **OPTIONS)


def other_kind(train, **changes):
    parts = {
        name: getattr(train, name)
        for name in ("name", "images", "labels", "classes", "mean", "std")
    }
    return data.Dataset(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (0.5,)}, r"train has mean .*, val has \(0\.5,\): normalize both"),
        ({"std": (0.9,)}, r"train has std .*, val has \(0\.9,\): normalize both"),
        ({"classes": tuple("abcdefghij")}, r"train has classes .*, val has \('a', 'b'.*one list"),
    ],
)
def test_validation_images_of_another_kind(digits, changes, message):
    train = digits[0]
    with pytest.raises(ValueError, match=message):
        training.fit(linear(), train, other_kind(train, **changes), **OPTIONS)
    # Within what wraps them, too.
    source = data.Batches(other_kind(train, **{**changes, "classes": train.classes}), 64)
    if "classes" not in changes:
        with pytest.raises(ValueError, match=message):
            training.fit(linear(), train, source, **OPTIONS)


def test_validation_images_with_other_channels(digits):
    train = digits[0]
    images = train.images.expand(-1, 3, -1, -1)
    color = other_kind(train, images=images, mean=train.mean * 3, std=train.std * 3)
    with pytest.raises(ValueError, match=r"train has mean|train has channels"):
        training.fit(linear(), train, color, **OPTIONS)


@pytest.mark.parametrize("seed", [2**63, 1764309600000000000, 14695981039346656037, -(2**70)])
def test_any_integer_seeds_the_steps(seed):
    """With a source whose order is its own: the seed is for dropout."""

    class Source:
        batch_size = images_per_epoch = 8

        def __len__(self):
            return 1

        def epoch(self, number, start=0):
            yield torch.ones(8, 1, 8, 8), torch.arange(8)

    def run(seed):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
        return training.fit(net, Source(), seed=seed, **{**OPTIONS, "epochs": 3}).step_loss

    assert run(seed) == run(seed)
    assert run(seed) != run(seed + 1)


@pytest.mark.parametrize("wrap", [lambda x, y: (x, y), torch.utils.data.TensorDataset])
def test_bytes_beside_normalized_images(digits, wrap):
    train, test = digits
    plain = wrap(test.images, test.labels)
    part = torch.utils.data.Subset(plain, range(60)) if not isinstance(plain, tuple) else plain
    for sets in ((train, plain), (plain, train), (train, part)):
        with pytest.raises(ValueError, match=r"only scaled to 0…1: make a data.Dataset"):
            training.fit(linear(), *sets, **OPTIONS)
    training.fit(linear(), plain, plain, **OPTIONS)
    same = other_kind(train, mean=(0.0,), std=(1.0,))  # says that it is only scaled
    training.fit(linear(), same, plain, **OPTIONS)
    with pytest.raises(ValueError, match=r"train has channels 1, val has 3"):
        training.fit(linear(), plain, (test.images.repeat(1, 3, 1, 1), test.labels), **OPTIONS)


@pytest.mark.parametrize("last", [nn.Linear(4 * 36, 10), nn.LazyLinear(10)])
def test_another_number_of_channels(digits, last):
    train, _ = digits
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), last)
    color = train.images.repeat(1, 3, 1, 1), train.labels
    with pytest.raises(ValueError, match="takes images of 1 channels, got 3 in images of shape"):
        training.fit(net, color, **OPTIONS)
    innermost = train.images.permute(0, 2, 3, 1), train.labels
    with pytest.raises(ValueError, match=r"images.permute\(0, 3, 1, 2\)"):
        training.fit(net, innermost, **OPTIONS)
    if not isinstance(net[2], nn.LazyLinear):
        with pytest.raises(ValueError, match="takes images of 1 channels, got 3"):
            training.evaluate(net, color, device="cpu")


def test_a_layer_further_inside_is_not_blamed_on_the_images(digits):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(RuntimeError, match="to have 5 channels, but got 4 channels"):
        training.fit(net, digits[0], **OPTIONS)


def test_probabilities_as_labels(digits):
    train, _ = digits
    soft = train.images, F.one_hot(train.labels, 10) * 0.9 + 0.01
    with pytest.raises(ValueError, match=r"probabilities of the classes, loss=nn.CrossEntropyLoss"):
        training.fit(linear(), soft, **OPTIONS)
    history = training.fit(linear(), soft, loss=nn.CrossEntropyLoss(), **OPTIONS)
    assert 0 < history.train_accuracy[0] < 1
