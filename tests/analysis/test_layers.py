import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbook import analysis, models, plots
from cnnbook.models import lenet5
from cnnbook.tables import Table


def test_summary_of_lenet():
    table = analysis.summary(lenet5(), (1, 32, 32))
    columns = ("layer", "output", "parameters", "macs", "receptive_field", "jump")
    assert [tuple(row[c] for c in columns) for row in table.rows] == [
        ("c1", "6×28×28", 156, 25 * 6 * 28 * 28, 5, 1),
        ("s2", "6×14×14", 0, 0, 6, 2),
        ("c3", "16×10×10", 2416, 6 * 25 * 16 * 100, 14, 2),
        ("s4", "16×5×5", 0, 0, 16, 4),
        ("c5", "120×1×1", 48_120, 400 * 120, 32, 4),
        ("f6", "84", 10_164, 120 * 84, 32, None),
        ("output", "10", 850, 840, 32, None),
    ]
    assert table.columns == [*columns[:1], "kind", *columns[1:], "activation_kib"]


def test_activations_count_new_tensors_only():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),  # 4×8×8 floats
        nn.ReLU(),  # as many
        nn.ReLU(inplace=True),  # none
        nn.MaxPool2d(2),  # 4×4×4; its indices are no activations
        nn.Flatten(),  # a view
        nn.Linear(64, 5),
    )
    for dtype, size in ((torch.float32, 4), (torch.float64, 8)):
        table = analysis.summary(net.to(dtype), (1, 8, 8))
        kept = [row["activation_kib"] * 1024 / size for row in table.rows]
        assert kept == [256, 256, 0, 64, 0, 5]
    whole = analysis.summary(nn.Sequential(net), (1, 8, 8)).rows
    assert [row["activation_kib"] * 1024 / 8 for row in whole] == [581]


def test_a_linear_layer_in_channels_last_form_makes_its_output_only():
    # It runs as a view, a matrix product and another view.
    row = analysis.summary(nn.Sequential(nn.Linear(6, 7)), (4, 5, 6)).rows[0]
    assert row["activation_kib"] * 1024 == 4 * 4 * 5 * 7
    assert row["macs"] == 4 * 5 * 6 * 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "shufflenet_v2_x0_5", "densenet121"])
def test_sums_at_any_depth_against_torchs_counter(name):
    model = getattr(torchvision.models, name)()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 64, 64))
    for depth in (1, 2, 9):
        rows = analysis.summary(model, (3, 64, 64), depth=depth).rows
        assert 2 * sum(row["macs"] for row in rows) == counter.get_total_flops()
        assert sum(r["parameters"] for r in rows) == sum(p.numel() for p in model.parameters())
    assert not any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
def test_totals_and_drawing():
    table = analysis.summary(lenet5(), (1, 32, 32))
    assert isinstance(table, Table)
    assert table.total_parameters == sum(row["parameters"] for row in table.rows) == 61_706
    assert table.total_macs == sum(row["macs"] for row in table.rows) == 416_520
    assert table.plot().svg() == plots.layer_costs(table).svg()
    assert table.plot(alt="Costs.").alt == "Costs."


def test_a_shape_may_have_a_batch():
    net = nn.Conv2d(1, 2, 3)
    assert analysis.summary(net, (7, 1, 32, 32)).rows == analysis.summary(net, (1, 32, 32)).rows
    assert len(analysis.summary(nn.Conv3d(1, 2, 3), (1, 4, 8, 8))) == 1  # a volume is no batch


def test_published_counts():
    rows = analysis.summary(torchvision.models.resnet18(), (3, 224, 224)).rows
    assert sum(row["parameters"] for row in rows) == 11_689_512
    # He et al. 2016, Table 1: 1.8 × 10^9 multiply-adds
    assert round(sum(row["macs"] for row in rows) / 1e9, 1) == 1.8


def test_depth():
    names = [r["layer"] for r in analysis.summary(lenet5(), (1, 32, 32), depth=2).rows]
    assert names[:4] == ["c1.0", "c1.1", "s2", "c3.0"]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        analysis.summary(lenet5(), (1, 32, 32), depth=0)


def test_a_layer_alone_is_its_only_row():
    rows = analysis.summary(nn.Conv2d(3, 8, 3), (3, 9, 9)).rows
    assert [(r["layer"], r["output"], r["parameters"]) for r in rows] == [
        ("Conv2d", "8×7×7", 3 * 8 * 9 + 8)
    ]


class Weighted(nn.Module):
    """Has a parameter and a product of its own, between two layers in a list."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 4)])
        self.weight = nn.Parameter(torch.ones(6, 6))

    def forward(self, x):
        return self.layers[1](F.relu(self.layers[0](x)) @ self.weight)


def test_what_a_network_computes_itself_has_a_row():
    rows = analysis.summary(Weighted(), (4,)).rows
    counts = {row["layer"]: (row["parameters"], row["macs"]) for row in rows}
    assert counts == {"layers.0": (30, 24), "layers.1": (28, 24), "Weighted*": (36, 36)}


def test_shared_parameters_count_once():
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    shared = second.weight = first.weight
    rows = analysis.summary(nn.Sequential(first, second, first), (5,)).rows
    assert first.weight is shared
    assert second.weight is shared
    assert [(r["layer"], r["parameters"], r["macs"]) for r in rows] == [
        ("0", 30, 50),  # runs twice
        ("1", 5, 25),
    ]


def test_kind_shortens_repetitions():
    conv = [nn.Conv2d(1, 1, 1), nn.ReLU()]
    net = nn.Sequential(nn.Sequential(*conv, *conv, nn.MaxPool2d(2), nn.Tanh(), nn.Tanh()))
    (row,) = analysis.summary(net, (1, 4, 4)).rows
    assert row["kind"] == "2×(Conv2d + ReLU) + MaxPool2d + 2×Tanh"


@pytest.mark.slow
def test_the_largest_networks_take_no_memory():
    with torch.device("meta"):
        net = models.create("resnet152")
    rows = analysis.summary(net, (3, 224, 224)).rows
    assert sum(row["parameters"] for row in rows) == 60_192_808
    assert all(p.device.type == "meta" for p in net.parameters())


class NeedsValues(nn.Module):
    """Cannot run without values: it looks at them, and draws a random number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        x = self.conv(x)
        return x if x.sum().item() > 1e9 else F.dropout(x, 0.5, training=True)


def test_networks_that_need_values_are_run_on_some():
    net = NeedsValues()
    state = torch.get_rng_state()
    (row,) = analysis.summary(net, (1, 6, 6)).rows
    assert (row["output"], row["macs"]) == ("2×4×4", 2 * 9 * 16)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_network_is_left_as_it_was():
    net = torchvision.models.resnet18().train()
    net.layer1.eval()
    modes = [m.training for m in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    parameters = list(map(id, net.parameters()))
    analysis.summary(net, (3, 64, 64))
    assert [m.training for m in net.modules()] == modes
    assert list(map(id, net.parameters())) == parameters
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_errors_are_the_networks_own_and_hooks_go():
    net = lenet5()
    with pytest.raises(ValueError, match=r"32, 32\), got \(1, 1, 8, 8\)"):
        analysis.summary(net, (1, 8, 8))
    assert net.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("shape", [(), (3, 0, 8), (3, 8.0, 8)])
def test_impossible_shapes(shape):
    with pytest.raises(ValueError, match="input_shape must be the shape of one image"):
        analysis.summary(lenet5(), shape)


def test_a_block_that_runs_twice_counts_twice():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(F.conv2d(x, self.weight, padding=1))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return self.block(self.block(x))

    for depth in (1, 2):
        table = analysis.summary(Twice(), (4, 8, 8), depth=depth)
        sums = [sum(row[c] for row in table.rows) for c in ("parameters", "macs")]
        assert sums == [144, 2 * 9 * 4 * 4 * 64]
