"""Which labels the accuracy counts, in training, in validation and in evaluation."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import training
from cnnbook.cli.trained import by_class

OPTIONS = {"device": "cpu", "progress": False}


class Same(nn.Module):
    """Its images are the scores, so that one knows what is right."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x


class Masked(nn.Module):
    """A loss of one's own that has an index of its own."""

    def __init__(self, ignore_index):
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, scores, labels):
        return F.cross_entropy(scores, labels, ignore_index=self.ignore_index)


class Sum(nn.Module):
    """A loss made of others."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, scores, labels):
        return sum(part(scores, labels) for part in self.parts)


def of_function(index):
    criterion = nn.CrossEntropyLoss(ignore_index=index)
    return lambda scores, labels: criterion(scores, labels)


def with_argument(scores, labels, ignore_index=255):
    return F.cross_entropy(scores, labels, ignore_index=ignore_index)


LOSSES = {
    "cross-entropy": lambda i: nn.CrossEntropyLoss(ignore_index=i),
    "negative log-likelihood": lambda i: nn.NLLLoss(ignore_index=i),
    "partial": lambda i: functools.partial(F.cross_entropy, ignore_index=i),
    "partial of another": lambda i: functools.partial(F.nll_loss, ignore_index=i),
    "its own": Masked,
    "its own, a method": lambda i: Masked(i).forward,
    "a sum": lambda i: Sum(Masked(i), nn.CrossEntropyLoss(ignore_index=i)),
    "a function of another": of_function,
    "an argument": lambda i: functools.partial(with_argument, ignore_index=i),
}


def everywhere(images, labels, loss, batch_size=8, net=None):
    """Return the accuracy of one epoch, in validation after it, and in an evaluation."""
    net = Same() if net is None else net
    pair = (images, labels)
    options = {"lr": 1e-9, "batch_size": batch_size, "epochs": 1, **OPTIONS}
    history = training.fit(net, pair, pair, loss=loss, **options)
    result = training.evaluate(net, pair, loss=loss, device="cpu")
    return [history.train_accuracy[0], history.val_accuracy[0], result.accuracy]


def positions(index, right):
    """Return scores of 5 classes at 4×4 positions, of which `right` of 640 are right, and labels.

    Of the labels, 100 more are `index`.
    """
    torch.manual_seed(0)
    labels = torch.randint(0, 5, (740,))
    if 0 <= index < 5:
        labels[labels == index] = (index + 1) % 5
    classes = labels.clone()
    classes[right:640] = (classes[right:640] + 1) % 5
    # Where a class is left out, the network is right about it: that does not count either.
    labels[640:] = index
    if 0 <= index < 5:
        classes[640:] = index
    order = torch.randperm(740)[:736]
    scores = 9 * F.one_hot(classes, 5).float()
    return scores, labels, order


@pytest.mark.parametrize("index", [255, -1, 2, -100])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_loss_ignores_does_not_count(loss, index):
    scores, labels, order = positions(index, right=480)
    scores, labels = scores[order], labels[order]
    truth = (scores.argmax(1) == labels)[labels != index].float().mean().item()
    images = scores.reshape(46, 4, 4, 5).permute(0, 3, 1, 2).contiguous()
    found = everywhere(images, labels.reshape(46, 4, 4), LOSSES[loss](index))
    assert found == pytest.approx([truth] * 3)
    assert 0.7 < truth < 0.8


def test_labels_that_only_a_part_of_the_loss_ignores_count():
    scores, labels, order = positions(2, right=480)
    images = scores[order][..., None, None]
    loss = Sum(nn.CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=2))
    truth = (scores.argmax(1) == labels)[order].float().mean().item()
    found = everywhere(images[..., 0, 0], labels[order], loss)
    assert found == pytest.approx([truth] * 3)


def test_which_labels_of_an_evaluation_count():
    scores = torch.eye(3)[[0, 1, 2, 2]]
    labels = torch.tensor([0, 255, 1, 2])
    loss = nn.CrossEntropyLoss(ignore_index=255)
    result = training.evaluate(Same(), (scores, labels), loss=loss, device="cpu")
    assert result.counted.tolist() == [True, False, True, True]
    assert result.accuracy == pytest.approx(2 / 3)


def test_rows_of_a_report_leave_out_what_the_loss_ignores():
    scores = torch.eye(3)[[0, 1, 2, 2, 1]]
    labels = torch.tensor([0, 1, 1, 2, 1])  # class 1 is left out
    result = training.Evaluation(scores, labels, 0.0, ignored_labels=(1,))
    rows = by_class(result, ("a", "b", "c")).to_dicts()
    assert [row["images"] for row in rows] == [1, 0, 1]
    assert [row["confused_with"] for row in rows] == ["", "", ""]


def several_labels():
    """Return labels of 96 images as probabilities; the last 24 of them have several classes."""
    torch.manual_seed(0)
    labels = F.one_hot(torch.randint(0, 5, (96,)), 5).float()
    labels[72:, :2] = 1
    return labels


NO_CLASSES = {
    "several classes": (several_labels, nn.BCEWithLogitsLoss()),
    "numbers that add up to one": (
        lambda: torch.cat([torch.eye(5).repeat(18, 1), torch.tensor([[2.0, -1, 0, 0, 0]] * 6)]),
        nn.MSELoss(),
    ),
    "a label that the loss ignores in its code": (
        lambda: torch.tensor([255, *[1] * 95]),
        lambda scores, y: F.cross_entropy(scores, y, ignore_index=255, reduction="sum"),
    ),
    "an unknown class": (
        lambda: torch.tensor([5, *[1] * 95]),
        lambda scores, y: F.cross_entropy(scores, y.clamp(max=4)),
    ),
}


@pytest.mark.parametrize("batch_size", [1, 8, 96])
@pytest.mark.parametrize("case", NO_CLASSES)
def test_one_label_without_a_class_makes_the_accuracy_no_number(case, batch_size):
    labels, loss = NO_CLASSES[case]
    found = everywhere(torch.randn(96, 5), labels(), loss, batch_size)
    assert found == pytest.approx([float("nan")] * 3, nan_ok=True)
    batches = list(
        zip(torch.randn(96, 5).split(batch_size), labels().split(batch_size), strict=True)
    )
    options = {"loss": loss, "epochs": 2, "lr": 1e-9, **OPTIONS}
    history = training.fit(Same(), batches, batches, **options)
    both = history.train_accuracy + history.val_accuracy
    assert both == pytest.approx([float("nan")] * 4, nan_ok=True)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_are_classes_in_any_precision(kind):
    torch.manual_seed(0)
    scores = torch.randn(64, 5)
    labels = (3 * torch.randn(64, 5)).softmax(1).to(kind)
    result = training.Evaluation(scores, labels, 0.0)
    assert result.accuracy == (scores.argmax(1) == labels.argmax(1)).float().mean().item()
    assert result.counted.all()


def test_an_interrupted_epoch_without_classes_has_no_accuracy(tmp_path):
    class Stop(training.Callback):
        def on_step(self, run):
            if run.step == 2:
                run.stop()

    labels = several_labels().flip(0)  # those with several are in the first steps
    batches = list(zip(torch.randn(96, 5).split(24), labels.split(24), strict=True))
    options = {"loss": nn.BCEWithLogitsLoss(), "epochs": 1, "lr": 1e-9, **OPTIONS}
    training.fit(Same(), batches, checkpoint=tmp_path / "run", callbacks=[Stop()], **options)
    history = training.fit(Same(), batches, checkpoint=tmp_path / "run", **options)
    assert history.train_accuracy == pytest.approx([float("nan")], nan_ok=True)
    history = training.fit(Same(), batches[1:], **options)
    assert 0 <= history.train_accuracy[0] <= 1
