import random

import numpy as np
import pytest
import torch

import cnnbook


@pytest.mark.parametrize("name", ["cpu", "gpu", " GPU "])
def test_environment_decides_the_preset(monkeypatch, name):
    monkeypatch.setenv("CNNBOOK_PRESET", name)
    chosen = cnnbook.preset()
    assert chosen == name.strip().lower()
    assert cnnbook.choose(cpu=1, gpu=2) == {"cpu": 1, "gpu": 2}[chosen]


def test_without_environment_the_preset_follows_the_machine(monkeypatch):
    monkeypatch.delenv("CNNBOOK_PRESET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cnnbook.preset() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cnnbook.preset() == "gpu"


def test_unknown_preset_is_named_with_the_nearest(monkeypatch):
    monkeypatch.setenv("CNNBOOK_PRESET", "gpuu")
    with pytest.raises(ValueError, match=r"'gpuu'\. Did you mean 'gpu'.*cpu, gpu"):
        cnnbook.preset()


def test_seed_repeats_all_three_generators():
    def draw():
        cnnbook.seed(7)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draw() == draw()


@pytest.mark.parametrize("value", [-1, 2**32])
def test_seed_out_of_range(value):
    with pytest.raises(ValueError, match=str(value)):
        cnnbook.seed(value)


@pytest.mark.parametrize("value", ["3", 1.5, None])
def test_seed_of_the_wrong_kind(value):
    with pytest.raises(TypeError, match=f"a seed is an integer, got {value!r}"):
        cnnbook.seed(value)


def test_device_of_the_wrong_kind():
    with pytest.raises(TypeError, match=r"a device is a name, such as 'cpu' or 'cuda:1', got 1.5"):
        cnnbook.device(1.5)


def test_start_says_what_runs(capsys, monkeypatch):
    monkeypatch.setenv("CNNBOOK_PRESET", "cpu")
    cnnbook.start(seed=3)
    first = torch.rand(3)
    out = capsys.readouterr().out
    for part in (cnnbook.__version__, torch.__version__, cnnbook.device().type, "preset  cpu"):
        assert part in out
    cnnbook.seed(3)
    assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize("name", ["nodev", "cuda:99", "cpux"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"this machine has no device '{name}'"):
        cnnbook.device(name)


def test_a_device_that_is_there_is_returned():
    assert cnnbook.device("cpu") == torch.device("cpu")
    assert cnnbook.device(torch.device("meta")).type == "meta"
