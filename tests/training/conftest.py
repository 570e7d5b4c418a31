"""Small networks and data for the tests of training."""

import pytest
import torch
from torch import nn

from cnnbook import data, training


@pytest.fixture(scope="session")
def sets():
    train, test = data.load("fashion-mini", size=32)
    return train[:300], test[:100]


@pytest.fixture(scope="session")
def tiny():
    """A function that makes a network with dropout, the same each time."""

    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, 10))

    return make


@pytest.fixture
def small(sets):
    """A linear network, training images for four steps of 64, and validation images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), sets[0][:256], sets[1][:50]


@pytest.fixture(scope="session")
def fit():
    """``training.fit`` of such a triple, on the CPU and without a bar."""

    def train(small, **options):
        return training.fit(*small, **{"device": "cpu", "progress": False, **options})

    return train
