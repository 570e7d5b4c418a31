"""Several processes train as one does, and stop together."""

import json
import re
import subprocess
import sys

import pytest
import torch

from cnnbook import training

SCRIPT = """
import json, sys, torch
from torch import nn
from cnnbook import data, training

class Stop(training.Callback):
    def on_step(self, run):
        if run.step == 3 and training.processes.rank() == 1:  # in the other process only
            run.stop("enough")

with training.join_processes():
    torch.manual_seed(0)
    train, test = data.load("fashion-mini")
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Dropout(float(sys.argv[2])),
        nn.Linear(676, 10),
    )
    history = training.fit(
        net, train[:129], test[:51], epochs=3, batch_size=32, device="cpu", progress=False,
        ema_decay=0.5, checkpoint=sys.argv[1], callbacks=[Stop()] if "stop" in sys.argv else [],
    )
    if training.processes.rank() == 0:
        print("RESULT", json.dumps(history.to_dict()))
"""


def run(*arguments, processes=1):
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    launcher = [*launcher, "--standalone"] if processes > 1 else []  # it finds a free port
    said = subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)], capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    return json.loads(said.stdout.split("RESULT")[1].strip().splitlines()[0])


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.slow
def test_two_processes_equal_one(script, tmp_path):
    one = run(script, tmp_path / "one", 0)
    two = run(script, tmp_path / "two", 0, processes=2)
    assert two["step_loss"] == pytest.approx(one["step_loss"], rel=1e-4)
    assert two["val_accuracy"] == one["val_accuracy"]
    assert two["train_accuracy"] == one["train_accuracy"]
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_to_the_bit(script, tmp_path):
    whole = run(script, tmp_path / "whole", 0.5, processes=2)
    begun = run(script, tmp_path / "parts", 0.5, "stop", processes=2)
    # They ask one another at the end of an epoch; the reason is known to one of them only.
    assert begun["stopped"] == "stopped at step 5 of 15"
    assert len(begun["step_loss"]) == 5
    rest = run(script, tmp_path / "parts", 0.5, processes=2)
    for name in ("step_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert rest[name] == whole[name], name
    weights = [training.load_checkpoint(tmp_path / name)[0] for name in ("whole", "parts")]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("processes", "gpus", "said"),
    [
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, 1, "2 processes on 1 GPU: "),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, 1, "--nproc-per-node=1"),
        ({"LOCAL_RANK": "1"}, 1, "2 processes on 1 GPU: "),  # another launcher
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}, 4, "8 processes on 4 GPUs: "),
    ],
)
def test_more_processes_than_gpus_are_refused_in_words(processes, gpus, said, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in processes.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=re.escape(said)), training.join_processes():
        raise AssertionError("joined")


def test_an_error_about_a_file_is_not_taken_for_a_lost_process(monkeypatch):
    for name, value in {"is_initialized": True, "get_rank": 0, "get_world_size": 2}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    said = "could not write /gloo/socket (timed out)"
    raised = pytest.raises(training.CheckpointError, match=re.escape(said))
    with raised, training.processes.losses_explained():
        raise training.CheckpointError(said)


def test_as_many_processes_as_gpus_are_joined(monkeypatch):
    joined = []
    for name, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", joined.append)
    monkeypatch.setattr(
        torch.distributed,
        "init_process_group",
        lambda backend, timeout: joined.extend([backend, timeout.total_seconds()]),
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with training.join_processes(timeout=90) as device:
        assert device == torch.device("cuda:1")
    assert joined == [device, "nccl", 90.0]
