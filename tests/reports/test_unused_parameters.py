"""Parameters that the loss does not reach are no obstacle to several processes."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, torch
from torch import nn
from cnnbook import data, training

class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.l, self.extra = nn.Linear(64, 10), nn.Linear(64, 10)
    def forward(self, x):
        return self.l(x.flatten(1))

class Auxiliary(Unused):  # the second head is used in training alone, and no loss is made of it
    def forward(self, x):
        x = x.flatten(1)
        return (self.l(x), self.extra(x).mean(1)) if self.training else self.l(x)

class Now(Unused):  # in some steps only
    calls = 0
    def forward(self, x):
        x, self.calls = x.flatten(1), self.calls + 1
        return self.l(x) + self.extra(x) if self.calls % 2 else self.l(x)

class Half(Unused):
    def __init__(self):
        super().__init__()
        self.half()

with training.join_processes() as device:
    train, test = data.load("digits")
    train, test = train[:129], test[:50]
    wrapped = lambda: nn.parallel.DistributedDataParallel(Now(), find_unused_parameters=True)
    cases = {"unused": Unused, "auxiliary": Auxiliary, "half": Half, "now": Now}
    if training.processes.world_size() > 1:
        cases["wrapped"] = wrapped
    for name, make in cases.items():
        net = make()
        before = net.module.extra.weight.clone() if name == "wrapped" else net.extra.weight.clone()
        try:
            history = training.fit(
                net, train, test, epochs=2, batch_size=32, ema_decay=0.5, lr=0.01,
                device=device or "cpu", progress=False,
            )
            result = [history.step_loss, history.val_loss]
        except RuntimeError as error:
            result = str(error)
        if training.processes.rank() == 0:
            print("RESULT", name, json.dumps(result))
"""


def run(path, processes):
    launch = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    said = subprocess.run(
        [sys.executable, *(launch if processes > 1 else []), str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    lines = [line.split(maxsplit=2)[1:] for line in said.splitlines() if "RESULT" in line]
    return {name: json.loads(result) for name, result in lines}


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)
    one, two = run(path, 1), run(path, 2)
    for name in ("unused", "auxiliary"):
        for a, b in zip(one[name], two[name], strict=True):
            assert a == pytest.approx(b, rel=1e-4), name
    assert one["half"][0] == pytest.approx(two["half"][0], rel=0.02)
    # What changes from step to step cannot be known from the first one.
    assert "Wrap the network yourself" in two["now"]
    assert "find_unused_parameters=True" in two["now"]
    assert len(two["wrapped"][0]) == 10
