"""Counting training, and cutting it short, in a process of its own as in a kernel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_budget
import pytest

ROOT = Path(__file__).parents[2]

BEGIN = """
import sys
from pathlib import Path
import cut_training
cut_training.install(Path(sys.argv[1]))
import torch
from torch import nn
from cnnbook import bench, data, training
"""


def counted(tmp_path, code):
    """Run code in a process that counts; return its lines."""
    file = tmp_path / "counted"
    file.touch()
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    environment = os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"}
    command = [sys.executable, "-W", "error", "-c", BEGIN + code, str(file)]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_planned_steps_of_fit_are_counted_and_few_are_taken(tmp_path):
    (line,) = counted(
        tmp_path,
        """
train, test = data.load("fashion-mnist")
assert (len(train), len(test)) == (60_000, 1_000)
net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 28 * 28, 10))
history = training.fit(net, train, test, epochs=3, batch_size=500, device="cpu")
assert len(history.step_loss) == len(history.val_accuracy) == 3
result = training.evaluate(net, test, device="cpu")
assert len(result.scores) == len(result.labels) == 1_000
""",
    )
    macs = 28 * 28 * 4 * 9 + 4 * 28 * 28 * 10
    assert line["steps"] == 3 * 120
    assert line["operations"] == 6 * macs * 3 * 60_000
    # The convolution's output and the input are kept; weights, gradients and momentum; images.
    parameters = 4 * (4 * 9 + 4 + 4 * 28 * 28 * 10 + 10)
    activations = 1.25 * 500 * 4 * (28 * 28 + 4 * 28 * 28)
    assert line["memory"] == pytest.approx(
        3 * parameters + activations + 61_000 * 28 * 28, rel=0.02
    )


@pytest.mark.slow
def test_steps_of_a_loop_are_counted_one_by_one(tmp_path):
    lines = counted(
        tmp_path,
        """
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
adam = torch.optim.Adam(net.parameters())
for _ in range(5):
    loss = net(torch.rand(32, 1, 8, 8)).square().mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
""",
    )
    assert [line["steps"] for line in lines] == [1] * 5
    assert sum(line["operations"] for line in lines) == 5 * 6 * 32 * 64 * 10


@pytest.mark.slow
def test_rounds_of_a_race_count_though_one_is_run(tmp_path):
    (line,) = counted(
        tmp_path,
        """
net = nn.Linear(64, 10)
sgd = torch.optim.SGD(net.parameters())
def step():
    net(torch.rand(32, 64)).sum().backward()
    sgd.step()
seconds = bench.race({"step": step}, 20)
assert len(seconds["step"]) == 20
""",
    )
    assert line["steps"] == 21
    assert line["operations"] == 21 * 6 * 32 * 64 * 10


def test_limits_name_the_notebook_and_the_number():
    fits = {"steps": 2_000, "operations": 1e14, "memory_gb": 3.0}
    totals = {"08-resnet": fits | {"steps": 4_001}, "solutions/08-resnet": fits}
    assert gpu_budget.beyond(totals) == ["08-resnet: 4,001 steps, and at most 4,000 are allowed"]
    totals = {"solutions/08-resnet": fits | {"steps": 2_001, "operations": 3e14}}
    assert len(gpu_budget.beyond(totals)) == 2
