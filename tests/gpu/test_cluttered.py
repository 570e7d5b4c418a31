"""Cluttered images made on a GPU."""

import pytest
import torch

from cnnbook import data

pytestmark = pytest.mark.gpu


def test_a_gpu_makes_the_same_bytes():
    train, _ = data.load("fashion-mini")
    ours = data.cluttered(train, 12_000, seed=3)
    theirs = data.cluttered(train, 12_000, seed=3, device="cuda")
    assert theirs.images.is_cuda
    assert theirs.labels.is_cuda
    assert torch.equal(theirs.images.cpu(), ours.images)
    assert torch.equal(theirs.labels.cpu(), ours.labels)
    assert (theirs.mean, theirs.std) == (ours.mean, ours.std)
    x, y = next(data.Batches(theirs, 100, shuffle=False, device="cuda").epoch(0))
    assert torch.equal(y.cpu(), ours.labels[:100])
    assert x.shape == (100, 1, 64, 64)
