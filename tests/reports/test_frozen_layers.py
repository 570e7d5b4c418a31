"""What is frozen stays frozen; where all is, nothing is trained, and it is said."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training

OPTIONS = {"epochs": 2, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:50]


def net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10)
    )


def test_running_statistics_of_a_frozen_layer(digits):
    model = net()
    model[2].requires_grad_(False).eval()
    before = {name: value.clone() for name, value in model[2].state_dict().items()}
    training.fit(model, *digits, ema_decay=0.9, **OPTIONS)
    assert all(torch.equal(before[name], value) for name, value in model[2].state_dict().items())
    assert [layer.training for layer in model] == [True, True, False, True, True]


def test_dropout_in_evaluation_mode_drops_nothing(digits):
    seen = []
    model = net()
    model[3].eval()
    model[3].register_forward_hook(lambda layer, x, y: seen.append(torch.equal(x[0], y)))
    training.fit(model, digits[0], **OPTIONS)
    assert seen == [True] * 4


def test_a_backbone_in_evaluation_mode(digits):
    model = nn.Sequential(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)), nn.Linear(64, 10))
    model[0].eval()
    training.fit(model, digits[0], **OPTIONS)
    assert model[0][1].num_batches_tracked == 0
    assert torch.equal(model[0][1].running_mean, torch.zeros(64))


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel])
def test_a_network_wholly_in_evaluation_mode_is_trained(digits, wrap):
    model = net().eval()
    training.fit(wrap(model), digits[0], **OPTIONS)
    assert model[2].num_batches_tracked == 4
    assert model.training


def test_a_callback_that_evaluates_does_not_end_training_mode(digits):
    class Looks(training.Callback):
        def on_epoch_end(self, run):
            run.model.eval()

    model = net()
    model[2].eval()
    training.fit(model, digits[0], callbacks=[Looks()], **{**OPTIONS, "epochs": 3})
    seen = []
    model[3].register_forward_hook(lambda layer, *_: seen.append(layer.training))
    training.fit(model.train(), digits[0], **OPTIONS)
    assert model[2].num_batches_tracked == 4  # of the second training alone
    assert all(seen)


def test_a_callback_freezes_and_thaws(digits):
    class Freeze(training.Callback):
        def on_epoch_end(self, run):
            run.in_evaluation ^= {run.model[2]}

    model = net()
    training.fit(model, digits[0], callbacks=[Freeze()], **{**OPTIONS, "epochs": 3})
    assert model[2].num_batches_tracked == 4  # in the first epoch and the third


def test_frozen_weights_do_not_move_by_decay(digits):
    model = net()
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    training.fit(model, digits[0], weight_decay=0.1, **OPTIONS)
    assert torch.equal(model[1].weight, before)


def test_all_frozen(digits):
    with pytest.raises(ValueError, match="all 6 parameters of Sequential are frozen"):
        training.fit(net().requires_grad_(False), digits[0], **OPTIONS)


def test_all_of_the_optimizers_are_frozen(digits):
    model = net()
    model[1].requires_grad_(False)
    sgd = torch.optim.SGD(model[1].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="model's parameters in optimizer= are frozen"):
        training.fit(model, digits[0], optimizer=sgd, **OPTIONS)


@pytest.mark.parametrize(
    "loss", [None, F.cross_entropy, lambda o, y: F.cross_entropy(o, y), nn.CrossEntropyLoss()]
)
def test_a_loss_that_no_parameter_reaches(digits, loss):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            return self.fc(x.flatten(1)).detach()

    with pytest.raises(ValueError, match="the loss depends on no parameter that is trained"):
        training.fit(Cut(), digits[0], loss=loss, **OPTIONS)
