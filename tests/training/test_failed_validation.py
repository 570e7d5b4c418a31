"""Validation that fails: noticed before the first step if possible, and no epoch is lost."""

import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnbook import training


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 5))


def images(count=32):
    drawn = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 4, 4, generator=drawn), torch.arange(count) % 5


class Fails:
    """Validation batches that cannot be read in one epoch, when `before` has been done."""

    batch_size = images_per_epoch = 32

    def __init__(self, epoch=None, before=lambda: None):
        self.failing, self.before, self.epochs = epoch, before, 0

    def __len__(self):
        return 1

    def epoch(self, number, start=0):
        self.epochs += 1
        if self.epochs == self.failing:
            self.before()
            raise OSError("the disk is gone")
        yield images()


@pytest.mark.parametrize(
    ("val", "said"),
    [
        ((images()[0], images()[1] + 3), "the labels of val do not fit: a label is 5"),
        ((images()[0], torch.eye(5, dtype=torch.int64)[images()[1]]), "labels of val .*argmax"),
        ((torch.randn(32, 1, 5, 5), images()[1]), r"cannot be evaluated on val.*\(32, 1, 5, 5\)"),
    ],
)
def test_validation_images_that_do_not_fit_are_refused_before_the_first_step(fit, val, said):
    steps = []
    see = SimpleNamespace(on_step=steps.append)
    net = network()
    before = net[2].weight.clone()
    with pytest.raises(ValueError, match=said):
        fit((net, images(), val), epochs=1, callbacks=[see])
    assert steps == []
    assert torch.equal(net[2].weight, before)


def test_looking_at_validation_images_leaves_no_trace(fit):
    class Counts(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x

    net, val = nn.Sequential(Counts(), *network()), images()
    fit((net, images(), val), epochs=2, batch_size=16)
    assert net[0].calls == 2 * (2 + 1)  # steps and validations
    alone, validated = (
        fit((network(), images(), val), epochs=2, batch_size=16).step_loss for val in (None, val)
    )
    assert alone == validated


def test_a_network_that_takes_whole_batches_only_is_not_refused(fit):
    class Whole(nn.Module):
        def forward(self, x):
            return x.view(16, -1)

    net = nn.Sequential(Whole(), nn.Linear(16, 5))
    assert fit((net, images(), images(16)), epochs=1, batch_size=16).val_loss != []


@pytest.mark.parametrize("every", [None, 3])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_epoch_that_cannot_be_validated_is_not_lost(fit, tmp_path, epoch, every):
    def train(val, **options):
        net = network()
        sgd = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, patience=0, threshold=1)
        stopping = training.EarlyStopping("val_loss", patience=5)
        options |= {"epochs": 3, "batch_size": 16, "ema_decay": 0.9, "callbacks": [stopping]}
        history = fit((net, images(), val), optimizer=sgd, scheduler=plateau, **options)
        return net, history, sgd.param_groups[0]["lr"]

    kept = {"checkpoint": tmp_path / "run", "checkpoint_every": every}
    for _ in range(2):  # the second one fails where it begins
        with pytest.raises(OSError, match="the disk is gone"):
            train(Fails(epoch), **kept)
        epoch = 1
        _, state = training.load_checkpoint(tmp_path / "run")
        assert len(state["history"]["train_loss"]) == len(state["history"]["val_loss"]) + 1
    net, history, rate = train(Fails(), **kept)
    whole, unbroken, same = train(Fails())
    assert len(history.val_loss) == len(history.train_loss) == 3
    for name in ("step_loss", "train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert getattr(history, name) == getattr(unbroken, name)
    assert torch.equal(net[2].weight, whole[2].weight)
    assert rate == same < 0.5
    # It is finished now, and what is in the file is all of it.
    val = Fails()
    assert train(val, **kept)[1].val_loss == history.val_loss
    assert val.epochs == 0


def test_a_run_that_awaits_its_validation_needs_validation_images(fit, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(OSError, match="the disk is gone"):
        fit((network(), images(), Fails(1)), epochs=1, checkpoint=run)
    with pytest.raises(training.CheckpointError, match="validation images were given to only one"):
        fit((network(), images(), None), epochs=1, checkpoint=run)


def test_a_signal_that_ends_a_validation_ends_the_training_cleanly(fit, tmp_path):
    def interrupt():
        signal.raise_signal(signal.SIGTERM)

    options = {"epochs": 3, "batch_size": 16, "checkpoint": tmp_path / "run"}
    history = fit((network(), images(), Fails(2, interrupt)), **options)
    assert history.stopped == "stopped at step 4 of 6"
    assert (len(history.train_loss), len(history.val_loss)) == (2, 1)
    history = fit((network(), images(), Fails()), **options)
    unbroken = fit((network(), images(), Fails()), epochs=3, batch_size=16)
    assert history.val_loss == unbroken.val_loss
    assert history.step_loss == unbroken.step_loss
