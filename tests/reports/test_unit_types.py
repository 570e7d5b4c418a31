"""Numbers that come from numpy or torch are the numbers they are; errors are ours."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnbook import analysis


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))


ONE = [1, np.int64(1), np.uint8(1), torch.tensor(1), torch.tensor(1, dtype=torch.uint8)]
TWO = [
    [1, 2],
    (1, 2),
    range(1, 3),
    np.array([1, 2]),
    torch.tensor([1, 2]),
    [np.int64(1), torch.tensor(2)],
    {1: "a", 2: "b"}.keys(),
]


@pytest.mark.parametrize(
    ("units", "expected"), [*((u, (1,)) for u in ONE), *((u, (1, 2)) for u in TWO)]
)
def test_units(units, expected):
    made = analysis.maximize_activation(net(), "0", units, shape=(1, 8, 8), steps=1)
    assert made.units == expected
    found = analysis.top_patches(net(), torch.randn(5, 1, 8, 8), "0", units, k=2)
    assert found.units == expected
    for result in (made, found):
        assert all(type(unit) is int for unit in result.units)
        assert "tensor" not in repr(result)
        assert "int64" not in repr(result)


@pytest.mark.parametrize(
    "units", [1.0, "1", [1.5], torch.tensor(1.0), np.array([0.5]), True, [False], None, ["a"]]
)
def test_what_is_no_unit(units):
    with pytest.raises(TypeError, match="units must be the number of a unit, or several, got"):
        analysis.maximize_activation(net(), "0", units, shape=(1, 8, 8), steps=1)
    with pytest.raises(TypeError, match="units must be the number of a unit, or several, got"):
        analysis.top_patches(net(), torch.randn(5, 1, 8, 8), "0", units, k=2)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.5, 0.25),
        (np.float32(0.5), 0.25),
        ([0.5], (0.25,)),
        (np.array([0.5]), torch.tensor([0.25])),
        (torch.tensor(0.5), torch.tensor(0.25)),
    ],
)
def test_one_mean_for_all_channels(mean, std):
    three = nn.Sequential(nn.Conv2d(3, 2, 3))
    options = {"shape": (3, 8, 8), "steps": 2}
    expected = analysis.maximize_activation(
        three, "0", 1, mean=[0.5] * 3, std=[0.25] * 3, **options
    )
    found = analysis.maximize_activation(three, "0", 1, mean=mean, std=std, **options)
    assert torch.equal(found.images, expected.images)


@pytest.mark.parametrize("mean", [(0.1, 0.2), np.zeros(4), torch.zeros(1, 3)])
def test_a_mean_for_other_channels(mean):
    three = nn.Sequential(nn.Conv2d(3, 2, 3))
    with pytest.raises(ValueError, match="mean needs 1 or 3 values"):
        analysis.maximize_activation(three, "0", 1, mean=mean, shape=(3, 8, 8), steps=1)


@pytest.mark.parametrize(
    "target", [torch.tensor(1.0), 1.0, np.float64(1), [0.5], torch.tensor([True]), "1", [None]]
)
def test_targets_that_are_no_classes(target):
    x = torch.randn(1, 1, 8, 8)
    for explain in (
        lambda: analysis.grad_cam(net(), x, "0", target),
        lambda: analysis.occlusion(net(), x, target),
    ):
        with pytest.raises(TypeError, match="target must be"):
            explain()


@pytest.mark.parametrize("target", [[1], np.array([1]), torch.tensor([1]), np.int32(1)])
def test_targets_that_are_classes(target):
    x = torch.randn(1, 1, 8, 8)
    expected = analysis.grad_cam(net(), x, "0", 1).maps
    assert torch.equal(analysis.grad_cam(net(), x, "0", target).maps, expected)
    assert analysis.occlusion(net(), x, target).target.tolist() == [1]


def test_patches_in_numpy_integers():
    x = torch.randn(1, 1, 8, 8)
    expected = analysis.occlusion(net(), x, 1, patch=4, stride=2).maps
    found = analysis.occlusion(net(), x, 1, patch=np.int64(4), stride=torch.tensor(2).numpy()[()])
    assert torch.equal(found.maps, expected)
    with pytest.raises(TypeError, match="patch is a number of pixels"):
        analysis.occlusion(net(), x, 1, patch=(4, 4))


class Independent(nn.Module):
    """A layer that runs on something else than the image."""

    def __init__(self, frozen=False):
        super().__init__()
        self.constant = nn.Linear(2, 2).requires_grad_(not frozen)
        self.before = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        with torch.no_grad():
            self.before(x)
        return x.mean((2, 3)) + self.constant(torch.ones(len(x), 2))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("layer", ["constant", "before"])
def test_layers_whose_gradient_does_not_reach_the_image(layer, frozen):
    with pytest.raises(ValueError, match=f"layer '{layer}' does not depend on the image, or"):
        analysis.maximize_activation(Independent(frozen), layer, 0, shape=(1, 8, 8), steps=1)
