"""Steps from a recording are the steps that a plain loop takes, to the bit."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, models, training
from cnnbook.training import graphs, loop
from cnnbook.training.fitting import fit
from tests.training.oplog import OpLog, Waiting



@pytest.fixture
def recording(monkeypatch):
    """Let runs on the CPU record their steps in an operation log; return those of each run."""
    runs = []

    class Noted(graphs.Steps):
        def __init__(self, *args):
            super().__init__(*args)
            runs.append(self)

    monkeypatch.setitem(graphs.RECORDERS, "cpu", OpLog)
    monkeypatch.setattr(loop, "Steps", Noted)
    return runs


@pytest.fixture(scope="session")
def images():
    return data.load("digits")[0][:150]  # in batches of 20, the last one of an epoch has 10


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


def sgd(model):
    return {"optimizer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)}


def adam(model):
    return {"optimizer": torch.optim.Adam(model.parameters(), lr=0.003)}


def adamw(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    return {"optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)}


def fused(model):
    rate = torch.tensor(0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, fused=True)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return {"optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)}


def frozen(model):
    model[0].requires_grad_(False)
    model[1].eval()
    return {}


def stopping(model):
    return {
        "val": data.load("digits")[1][:50],
        "callbacks": [training.EarlyStopping("val_loss", patience=1)],
        "lr": 1.0,
        "epochs": 8,
    }


def plateau(model):
    optimizer = sgd(model)["optimizer"]
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    return {"optimizer": optimizer, "scheduler": scheduler, "val": data.load("digits")[1][:50]}


def loader(model):
    set_ = data.load("digits")[0][:150]
    pairs = torch.utils.data.TensorDataset((set_.images / 255 - 0.3) / 0.3, set_.labels)
    return {"train": torch.utils.data.DataLoader(pairs, 20), "batch_size": None}


CASES = {
    "one cycle": lambda model: {},
    "weight decay": lambda model: {"weight_decay": 5e-4},
    "sgd": sgd,
    "adam": adam,
    "adamw, halved": adamw,
    "fused sgd, halved": fused,
    "average": lambda model: {"ema_decay": 0.9},
    "label smoothing": lambda model: {"label_smoothing": 0.1},
    "weights of classes": lambda model: {
        "loss": nn.CrossEntropyLoss(torch.linspace(0.5, 2, 10), ignore_index=3)
    },
    "augmentation": lambda model: {"augment": data.Augment(rotate=10, translate=0.1)},
    "bfloat16": lambda model: {"precision": "bfloat16"},
    "float16": lambda model: {"precision": "float16"},
    "frozen": frozen,
    "stopping": stopping,
    "plateau": plateau,
    "loader": loader,
}


def run(images, options, **more):
    model = network()
    given = {"train": images, "epochs": 5, "batch_size": 20, "lr": None, **options(model), **more}
    train = given.pop("train")
    history = fit(model, train, device="cpu", progress=False, **given)
    return history, model.state_dict()


def assert_same(one, other):
    (a, weights), (b, others) = one, other
    for name in ("step_loss", "train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.stopped == b.stopped
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_run_is_a_plain_one_to_the_bit(recording, images, case):
    plain = run(images, CASES[case], cuda_graph=False)
    assert_same(plain, run(images, CASES[case], cuda_graph=True))
    none, some = recording
    assert none.replays == 0
    # All but three of warming up, and the last one of each epoch, which is smaller.
    assert some.replays == len(plain[0].step_loss) - 3 - len(plain[0].train_loss)
