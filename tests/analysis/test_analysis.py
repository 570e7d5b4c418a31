import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cnnbook import analysis
from cnnbook.models import lenet5


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def test_activations_are_the_layers_outputs():
    model, x = lenet5(), torch.randn(2, 1, 32, 32)
    found = analysis.activations(model, x)
    assert list(found) == ["c1", "s2", "c3", "s4", "c5", "f6", "output"]
    assert torch.equal(found["c1"], model.c1(x))
    assert torch.equal(found["c3"], model.c3(model.s2(model.c1(x))))
    assert torch.equal(found["output"], model(x))
    assert hooks(model) == 0


def test_activations_of_a_foreign_network_in_evaluation_mode():
    model = torchvision.models.resnet18(num_classes=10).train()
    statistics = model.bn1.running_mean.clone()
    found = analysis.activations(model, torch.randn(1, 3, 64, 64), ["layer4.1", "conv1"])
    assert list(found) == ["conv1", "layer4.1"]
    assert found["layer4.1"].shape == (1, 512, 2, 2)
    assert torch.equal(model.bn1.running_mean, statistics)
    assert model.training


def test_activations_survive_in_place_layers():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    found = analysis.activations(model, torch.randn(1, 1, 5, 5))
    assert found["1"].min() >= 0
    assert found["0"].min() < 0


def test_unknown_layer_names_the_nearest_and_leaves_no_hook():
    model = lenet5()
    with pytest.raises(ValueError, match=r"unknown layer 'otput'.*Did you mean 'output'"):
        analysis.activations(model, torch.zeros(1, 1, 32, 32), ["c1", "otput"])
    assert hooks(model) == 0


def test_hooks_are_removed_after_an_error():
    model = lenet5()
    with pytest.raises(ValueError, match="got"):
        analysis.activations(model, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="got"):
        analysis.layer_table(model, (1, 8, 8))
    assert hooks(model) == 0
    assert model.training


def test_layer_table_of_lenet():
    table = analysis.layer_table(lenet5(), (1, 32, 32))
    columns = ("layer", "output", "parameters", "multiply–adds")
    assert [tuple(row[c] for c in columns) for row in table.rows] == [
        ("c1", "6×28×28", 156, 25 * 6 * 28 * 28),
        ("s2", "6×14×14", 0, 0),
        ("c3", "16×10×10", 2416, 6 * 25 * 16 * 100),
        ("s4", "16×5×5", 0, 0),
        ("c5", "120×1×1", 48_120, 400 * 120),
        ("f6", "84", 10_164, 120 * 84),
        ("output", "10", 850, 840),
    ]


def test_layer_table_of_a_foreign_network():
    model = torchvision.models.resnet18()
    for depth in (1, 2, 9):
        table = analysis.layer_table(model, (3, 224, 224), depth=depth)
        assert sum(row["parameters"] for row in table.rows) == 11_689_512
        # He et al. 2016, Table 1: 1.8 × 10^9 multiply-adds
        assert round(sum(row["multiply–adds"] for row in table.rows) / 1e9, 1) == 1.8
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_layer_table_depth():
    names = [r["layer"] for r in analysis.layer_table(lenet5(), (1, 32, 32), depth=2).rows]
    assert names[:4] == ["c1.0", "c1.1", "s2", "c3.0"]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        analysis.layer_table(lenet5(), (1, 32, 32), depth=0)


def test_gradient_norms_against_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, y = torch.randn(5, 1, 2, 2).double(), torch.tensor([0, 1, 1, 0, 1])
    norms = analysis.gradient_norms(model, x, y)
    assert list(norms) == ["1.weight", "3.weight"]
    for name, norm in norms.items():
        weight, step = model.get_parameter(name), 1e-6
        squares = 0.0
        for i in range(weight.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[i] += sign * step
                    values.append(F.cross_entropy(model(x), y).item())
                    weight.view(-1)[i] -= sign * step
            squares += ((values[0] - values[1]) / (2 * step)) ** 2
        assert norm == pytest.approx((squares / weight.numel()) ** 0.5, rel=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_confusion_matrix_against_a_loop(pairs):
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for label, prediction in pairs:
        expected[label, prediction] += 1
    labels, predictions = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    assert torch.equal(analysis.confusion_matrix(labels, predictions, 4), expected)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1], [0], "one shape"),
        ([0, 4], [0, 1], r"labels must lie in 0 … 3, got 0 … 4"),
        ([0, 1], [-1, 1], r"predictions must lie in 0 … 3, got -1"),
    ],
)
def test_confusion_matrix_errors(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        analysis.confusion_matrix(torch.tensor(labels), torch.tensor(predictions), 4)
