"""Checkpoint files: bad ones are refused, good ones survive."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from cnnbook import training


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
