"""What a checkpoint cannot hold is said before the first step, wherever it is."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cnnbook import data, training


class Extra(nn.Module):
    """A network that wants to keep something other than tensors."""

    def __init__(self, state):
        super().__init__()
        self.fc, self.state = nn.Linear(64, 10), state

    def forward(self, x):
        return self.fc(x.flatten(1))

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


def attempt(tmp_path, net=None, *, info=None, **options):
    net = net or nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    steps = []
    watch = SimpleNamespace(on_step=steps.append)
    options = {key: make(net) for key, make in options.items()}
    error = None
    try:
        training.fit(
            net, data.load("digits")[0][:128], epochs=1, device="cpu", progress=False,
            checkpoint=tmp_path / "run", checkpoint_info=info, callbacks=[watch], **options,
        )  # fmt: skip
    except TypeError as found:
        error = str(found)
    return error, len(steps)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"data": Path("x")}, "checkpoint_info['data']"),
        ({"lr": np.float32(0.1)}, "use float(...)"),
        ({"deep": [{"er": (1, {2, 3})}]}, "checkpoint_info['deep'][0]['er'][1]"),
        ({(1, 2): 3}, "a key of checkpoint_info"),
        (b"bytes", "checkpoint_info"),
        ({"device": torch.device("cpu")}, "use str(...)"),
        ({"type": torch.float32}, "use str(...)"),
        (lambda: 1, "checkpoint_info"),
        (1j, "checkpoint_info"),
    ],
)
def test_info(tmp_path, info, message):
    error, steps = attempt(tmp_path, info=info)
    assert message in error
    assert steps == 0
    assert not (tmp_path / "run").exists()


def test_options_of_the_optimizer(tmp_path):
    error, steps = attempt(
        tmp_path, optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=np.float32(0.1))
    )
    assert "run's 'optimizer'['param_groups'][0]['lr']" in error
    assert steps == 0


def test_extra_state_of_the_network(tmp_path):
    error, steps = attempt(tmp_path, Extra({"a": 1}))
    assert "cannot hold '_extra_state' of the network's state_dict(), which is dict" in error
    assert steps == 0
    error, steps = attempt(tmp_path, Extra(torch.ones(2)))
    assert (error, steps) == (None, 2)


@pytest.mark.parametrize("info", [None, {"a": [1, 2.5, "x", None, True]}, {"t": torch.ones(2)}])
def test_what_can_be_held_is(tmp_path, info):
    assert attempt(tmp_path, info=info) == (None, 2)
    kept = training.load_checkpoint(tmp_path / "run")[1]["info"]
    assert str(kept) == str(info)
