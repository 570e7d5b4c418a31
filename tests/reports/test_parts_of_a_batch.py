"""Processes that share a batch train as one does, also if images do not count alike in the loss."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import functools, json, torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from cnnbook import data, training

weight = torch.tensor([0.0] + [0.1] * 4 + [10.0] * 5)  # a part of a batch may weigh nothing
losses = {
    "plain": None,
    "module": nn.CrossEntropyLoss(weight=weight),
    "smooth": nn.CrossEntropyLoss(weight=weight + 0.1, label_smoothing=0.1),
    "function": functools.partial(F.cross_entropy, weight=weight),
    "first ignored": nn.CrossEntropyLoss(ignore_index=0),
}
with training.join_processes():
    few = data.load("digits")[0][:67]
    images, classes = few.images / 255, few.labels
    some = classes.clone()
    some[::3] = -100  # of the last two, one process has the one that does not count
    for name, loss in losses.items():
        pair = images, some if loss is None else classes
        loader = DataLoader(TensorDataset(*pair), batch_size=5)
        for kind, given, options in (("pair", pair, {"batch_size": 5}), ("loader", loader, {})):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            history = training.fit(
                net, given, epochs=2, lr=0.1, loss=loss, device="cpu", progress=False, **options
            )
            if training.processes.rank() == 0:
                # The other process is not asked.
                after = training.evaluate(net, (images, classes), device="cpu").loss
                size = sum(p.abs().sum().item() for p in net.parameters())
                values = [*history.step_loss, *history.train_accuracy, after, size]
                print("RESULT", json.dumps([name + ", " + kind, values]), flush=True)
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)

    def run(*launcher):
        said = subprocess.run(
            [sys.executable, *launcher, str(path)],
            capture_output=True, text=True, check=True, timeout=300,
        ).stdout  # fmt: skip
        lines = (line.removeprefix("RESULT") for line in said.splitlines())
        return dict(json.loads(line) for line in lines if line.startswith(" ["))

    one = run()
    two = run("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    assert len(one) == 10
    assert two.keys() == one.keys()
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=1e-3), name
