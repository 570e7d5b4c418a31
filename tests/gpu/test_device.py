"""A GPU that is there is found, and chosen."""

import pytest
import torch

import cnnbook

pytestmark = pytest.mark.gpu


def test_a_gpu_is_found_and_its_preset_chosen(monkeypatch):
    monkeypatch.delenv("CNNBOOK_DEVICE", raising=False)
    monkeypatch.delenv("CNNBOOK_PRESET", raising=False)
    assert cnnbook.device() == torch.device("cuda")
    assert cnnbook.preset() == "gpu"
    assert cnnbook.choose(cpu=1, gpu=2) == 2
