"""Checkpoint files: bad ones are refused, good ones survive."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from cnnbook import training
from cnnbook.training import checkpoint


def test_a_tensor_that_is_a_weight_is_written_once(tmp_path):
    weight, other = torch.randn(1000), torch.randn(3)
    state = {"again": weight, "part": weight[:3], "other": other, "empty": torch.zeros(0)}
    path = training.save_checkpoint(tmp_path / "run", {"w": weight}, state)
    weights, back = training.load_checkpoint(path)
    assert list(weights) == ["w"]
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert path.stat().st_size < 6000


def test_bad_files_are_refused(small, tmp_path):
    net = small[0]
    good = training.save_checkpoint(tmp_path / "good", net.state_dict(), {"a": (1, None)})
    assert training.load_checkpoint(good)[1] == {"a": [1, None]}
    content = good.read_bytes()
    (tmp_path / "short").write_bytes(content[:-100])
    (tmp_path / "bits").write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    torch.save(net.state_dict(), tmp_path / "pickle")
    for name, message in {
        "short": "damaged or not a safetensors file",
        "bits": "checksum does not match",
        "pickle": "is a pickle",
        "none": "there is no file",
    }.items():
        with pytest.raises(training.CheckpointError, match=message) as error:
            training.load_checkpoint(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(training.CheckpointError, match=r"lacks: 0\.bias, 0\.weight"):
        training.load_weights(nn.Sequential(nn.Linear(2, 2)), good)
    with pytest.raises(TypeError, match="cannot hold"):
        training.save_checkpoint(tmp_path / "x", {}, {"a": object()})


def test_what_is_loaded_does_not_change_with_the_file(tmp_path):
    path = training.save_checkpoint(tmp_path / "run", {"w": torch.ones(100_000)}, {})
    weights, _ = training.load_checkpoint(path)
    with path.open("r+b") as file:  # in place, as no library should
        file.seek(-400_000, os.SEEK_END)
        file.write(bytes(400_000))
    assert torch.equal(weights["w"], torch.ones(100_000))
    path.write_bytes(b"")
    assert torch.equal(weights["w"], torch.ones(100_000))


def with_state(tmp_path, state):
    """Return a file with a right checksum whose state nobody saved."""
    path = training.save_checkpoint(tmp_path / "odd", {"w": torch.ones(2)}, {"x": "STATE"})
    tensors, metadata = checkpoint._read(path)
    text = metadata["cnnbook"].replace('{"items": [["x", "STATE"]]}', json.dumps(state))
    content = save(tensors, metadata={"cnnbook": text, "sha256": "0" * 64})
    digest = checkpoint._checksum(content)
    path.write_bytes(content.replace(checkpoint._NO_SHA256, b'"sha256":"%s"' % digest, 1))
    return path


@pytest.mark.parametrize(
    "state",
    [
        {"tensor": "none"},
        {"tensor": 3},
        {"tensor": ["w"]},
        {"items": 3},
        {"items": [1]},
        {"items": [["a", 1, 2]]},
        {"items": [[["a"], 1]]},
        {"other": 1},
    ],
)
def test_a_state_that_nobody_saved_is_refused(tmp_path, state):
    with pytest.raises(training.CheckpointError, match="does not hold what save_checkpoint"):
        training.load_checkpoint(with_state(tmp_path, state))


PARTS = ["same", "made of", "history", "optimizer", "counted", "sizes", "step"]


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, {"train_loss": 3}, {"val_accuracy": []}])
@pytest.mark.parametrize("part", PARTS)
def test_a_run_with_odd_parts_is_refused(fit, small, tmp_path, part, value):
    path = tmp_path / "run"
    fit(small, epochs=1, checkpoint=path)
    weights, state = training.load_checkpoint(path)
    before = {name: w.clone() for name, w in small[0].state_dict().items()}
    training.save_checkpoint(path, weights, {**state, part: value})
    with pytest.raises(training.CheckpointError, match="run"):
        fit(small, epochs=2, checkpoint=path)
    assert all(torch.equal(before[n], w) for n, w in small[0].state_dict().items())


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_file(small, tmp_path):
    code = """
import resource, signal, sys, torch
from cnnbook import training
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # writing more fails, as on a full disk
try:
    training.save_checkpoint(sys.argv[1], {"w": torch.zeros(5000)}, {})
except training.CheckpointError as error:
    print(error)
"""
    path = training.save_checkpoint(tmp_path / "run", {"w": torch.ones(3)}, {})
    run = [sys.executable, "-c", code, str(path)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "The file there before is unchanged" in said
    assert torch.equal(training.load_checkpoint(path)[0]["w"], torch.ones(3))
    assert os.listdir(tmp_path) == ["run"]


class Counts(training.Callback):
    """A callback whose state a checkpoint cannot hold, from its first step on."""

    def __init__(self):
        self.state = {"steps": 0}

    def on_step(self, run):
        self.state["steps"] = np.int64(run.step)

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float32(1), r"\['a'\]: .*1\.0.* of type float32; use float\(\.\.\.\)"),
        ([1, np.int64(2)], r"\['a'\]\[1\]: .* use int\("),
        ({np.int64(2): 1}, r"a key of checkpoint_info\['a'\]: .* use int\("),
        (np.zeros(2), r"use torch\.from_numpy\("),
        (Path("x"), r"use str\("),
        ({1}, r"use sorted\("),
        (object(), "use numbers, strings"),
    ],
)
def test_info_that_cannot_be_stored_is_noticed_before_training(
    fit, small, tmp_path, value, message
):
    steps = []
    options = {"checkpoint": tmp_path / "run", "checkpoint_info": {"a": value}, "epochs": 1}
    with pytest.raises(TypeError, match=r"cannot hold .*checkpoint_info") as error:
        fit(small, callbacks=[SimpleNamespace(on_step=steps.append)], **options)
    assert re.search(message, str(error.value))
    assert not steps


def test_a_state_that_cannot_be_stored_is_noticed_after_a_step(fit, small, tmp_path):
    counts = Counts()
    message = r"state_dict\(\) of the callback Counts\['steps'\]: .* use int\("
    with pytest.raises(TypeError, match=message):
        fit(small, epochs=1, callbacks=[counts], checkpoint=tmp_path / "run")
    assert counts.state["steps"] == 1
    sgd = torch.optim.SGD(small[0].parameters(), lr=np.float32(0.1))
    with pytest.raises(TypeError, match=r"run's 'optimizer'.*\['lr'\]: .* use float\("):
        fit(small, epochs=1, optimizer=sgd, checkpoint=tmp_path / "run")


def test_a_folder_is_no_checkpoint(fit, small, tmp_path):
    net = small[0]
    for call in (
        lambda: fit(small, epochs=1, checkpoint=tmp_path),
        lambda: fit(small, epochs=1, checkpoint=tmp_path, resume=False),
        lambda: fit(small, epochs=1, callbacks=[training.Checkpoint(tmp_path)]),
        lambda: training.load_weights(net, tmp_path),
        lambda: training.load_checkpoint(tmp_path),
        lambda: training.save_checkpoint(tmp_path, net.state_dict(), {}),
    ):
        with pytest.raises(training.CheckpointError, match="is a folder; give the name of a file"):
            call()


def test_swapped_arguments_of_checkpoints(small, tmp_path):
    net, path = small[0], tmp_path / "run"
    with pytest.raises(TypeError, match=r"load_weights\(model, path\) needs a network"):
        training.load_weights(path, net)
    with pytest.raises(TypeError, match="path is the name of a file, got Sequential"):
        training.load_weights(net, net)
    with pytest.raises(TypeError, match=r"what model\.state_dict\(\) returns, got Sequential"):
        training.save_checkpoint(path, net, {})
    with pytest.raises(TypeError, match=r"what model\.state_dict\(\) returns, got dict of"):
        training.save_checkpoint(path, {"w": 1}, {})
