"""Sources of batches of one's own: what they lack or yield wrongly is said in a sentence."""

import pytest
import torch
from torch import nn

from cnnbook import data, training


class Source:
    """The same batches in every epoch."""

    batch_size = 8

    def __init__(self, *batches):
        self.batches, self.images_per_epoch = batches, 8 * len(batches)

    def __len__(self):
        return len(self.batches)

    def epoch(self, number, start=0):
        return iter(self.batches[start:])


X, Y = torch.rand(8, 3, 4, 4), torch.arange(8) % 3


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


def test_what_is_right_is_trained_on(fit, net):
    history = fit((net, Source((X, Y), (X, Y)), Source((X, Y))), epochs=2)
    assert len(history.step_loss) == 4
    assert training.evaluate(net, Source((X, Y)), device="cpu").loss == history.val_loss[-1]


def test_bytes_are_labels_too(fit, net):
    assert len(fit((net, Source((X, Y.byte()))), epochs=1).step_loss) == 1


# For each mistake: the batch, and what the message says.
MISTAKES = {
    "int32": (X, Y.int(), r"torch\.int32 of shape \(8,\); torch\.int64 .*: labels\.long\(\)"),
    "float": (X, Y.float(), r"torch\.float32 of shape \(8,\).*: labels\.long\(\)"),
    "one-hot": (X, nn.functional.one_hot(Y).float(), r"shape \(8, 3\).*: labels\.argmax\(1\)"),
    "column": (X, Y[:, None], r"shape \(8, 1\).*: labels\.squeeze\(1\)$"),
    "int32 column": (X, Y.int()[:, None], r"labels\.squeeze\(1\)\.long\(\)"),
    "too many classes": (
        X,
        Y + 1,
        "a label is 3, but the network has 3 outputs, for classes 0 to 2",
    ),
    "negative": (X, Y - 1, "a label is -1"),
    "fewer labels": (X, Y[:5], r"8 images with labels of shape \(5,\)"),
    "bytes": (X.byte(), Y, r"images that are torch\.uint8 .* images\.float\(\) / 255, then norm"),
    "vectors": (X.flatten(1), Y, r"images of shape \(8, 48\); \(N, C, H, W\) is needed"),
}


@pytest.mark.parametrize(("x", "y", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_wrong_batches_are_explained(fit, net, x, y, message):
    with pytest.raises(ValueError, match=message):
        fit((net, Source((x, y))), epochs=1, channels_last=True)
    net.to(memory_format=torch.contiguous_format)
    if message != MISTAKES["vectors"][2]:  # without channels_last, this network takes them
        with pytest.raises(ValueError, match=message):
            training.evaluate(net, Source((x, y)), device="cpu")
        with pytest.raises(ValueError, match=message):
            fit((net, Source((X, Y)), Source((x, y))), epochs=1)


def test_a_label_out_of_range_in_a_later_batch(fit, net):
    with pytest.raises(ValueError, match="a label is 5"):
        fit((net, Source((X, Y), (X, Y + 5))), epochs=1)


def test_an_error_of_the_networks_own_stays_as_it_is(fit):
    other = nn.Sequential(nn.Flatten(), nn.Linear(5, 3))
    for call in (
        lambda: fit((other, Source((X, Y))), epochs=1),
        lambda: training.evaluate(other, Source((X, Y)), device="cpu"),
    ):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            call()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (X, r"yields pairs \(images, labels\), this one a Tensor"),
        (
            (X.numpy(), Y),
            r"images must be a torch tensor, got a numpy array; use torch\.from_numpy\(images\)",
        ),
        ((X, Y.tolist()), "labels must be a torch tensor, got a list"),
    ],
)
def test_what_is_no_pair_of_tensors(fit, net, batch, message):
    with pytest.raises(TypeError, match=message):
        fit((net, Source(batch)), epochs=1)
    with pytest.raises(TypeError, match=message):
        training.evaluate(net, Source(batch), device="cpu")


def test_a_source_without_images(fit, net):
    for call in (
        lambda: fit((net, Source()), epochs=1),
        lambda: fit((net, Source((X, Y)), Source()), epochs=1),
        lambda: training.evaluate(net, Source(), device="cpu"),
    ):
        with pytest.raises(ValueError, match="has no images: its length is 0 batches"):
            call()
    silent = Source((X, Y))
    silent.epoch = lambda number, start=0: iter(())
    with pytest.raises(ValueError, match="announces 1 batches in an epoch, but yields none"):
        training.evaluate(net, silent, device="cpu")
    with pytest.raises(ValueError, match="yields none"):
        fit((net, Source((X, Y)), silent), epochs=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Source, "got the class Source: create one"),
        (data.Dataset, "got the class Dataset: create one"),
        (
            type("Half", (), {"epoch": iter, "batch_size": 3})(),
            "lacks images_per_epoch and __len__",
        ),
    ],
)
def test_what_is_no_data_is_refused_before_its_options(fit, net, given, message):
    for call in (
        lambda: fit((net, given), batch_size=64),
        lambda: fit((net, Source((X, Y)), given)),
        lambda: training.evaluate(net, given),
        lambda: data.make_batches(given),
    ):
        with pytest.raises(
            TypeError, match=f"source of batches, {message}" if message[:3] == "got" else message
        ):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": nn.CrossEntropyLoss}, "the class CrossEntropyLoss"),
        ({"loss": "mse"}, "got 'mse'"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
    ],
)
def test_options_of_evaluate_of_the_wrong_type(net, options, message):
    with pytest.raises(TypeError, match=message):
        training.evaluate(net, Source((X, Y)), **options)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            nn.CrossEntropyLoss(reduction="none"),
            r"returned a tensor of shape \(8,\); the batch's mean",
        ),
        (lambda output, labels: 1.0, "returned float, not a tensor"),
    ],
)
def test_a_loss_that_is_not_one_number(fit, net, loss, message):
    with pytest.raises(ValueError, match=message):
        fit((net, Source((X, Y))), epochs=1, loss=loss)
    with pytest.raises(ValueError, match=message):
        training.evaluate(net, Source((X, Y)), loss=loss, device="cpu")
