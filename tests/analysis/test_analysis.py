import pytest
import torchvision

from cnnbook import analysis
from cnnbook.models import lenet5


def hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


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


def test_hooks_of_the_table_are_removed_after_an_error():
    model = lenet5()
    with pytest.raises(ValueError, match="got"):
        analysis.layer_table(model, (1, 8, 8))
    assert hooks(model) == 0
    assert model.training
