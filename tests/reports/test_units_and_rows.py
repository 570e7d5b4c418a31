"""Statistics and probes: which values are a unit, and rows that cannot be mistaken."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis, data


class BothLayouts(nn.Module):
    """The same feature maps, channels last and channels first."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, padding=1)
        self.last, self.first = nn.Identity(), nn.Identity()
        self.head = nn.Linear(5, 10)

    def forward(self, x):
        y = self.last(F.relu(self.conv(x).permute(0, 2, 3, 1)))
        y = self.first(y.permute(0, 3, 1, 2) * 1)
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("shape", [(3, 12, 9), (3, 5, 7), (3, 5, 5), (3, 1, 1)])
def test_units_of_channels_last_maps_are_the_channels(shape):
    torch.manual_seed(0)
    net = BothLayouts()
    with torch.no_grad():
        net.conv.bias[3] = -100  # dead
    x = torch.randn(4, *shape)
    last, first = analysis.activation_statistics(net, x, ["last", "first"]).rows
    assert {**last, "layer": ""} == pytest.approx({**first, "layer": ""})
    assert last["units"] in (5, None)  # None where it cannot be told: one pixel
    if shape != (3, 1, 1):
        dead = (net.conv(x).relu().amax((0, 2, 3)) == 0).sum()
        assert (last["units"], last["dead"]) == (5, int(dead))


def test_probes_average_channels_last_maps_over_positions():
    train, test = (part[:60] for part in data.load("digits"))
    net = BothLayouts(1)
    table = analysis.linear_probes(net, train, test, ["last", "first"], max_features=64)
    _, last, first = table.to_dicts()
    assert last["pooled_to"] == first["pooled_to"] == "5×3×3"
    assert {**last, "layer": ""} == {**first, "layer": ""}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "units"),
    [("swin_t", "features.3", 192), ("convnext_tiny", "features.1.0.block.3", 384)],
)
def test_units_in_torchvisions_networks(name, layer, units):
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)()
    (row,) = analysis.activation_statistics(net, torch.randn(1, 3, 64, 64), layer).rows
    assert row["units"] == units


class Tokens(nn.Module):
    """Its image becomes a sequence, (N, T, C)."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu = nn.Linear(8, 6), nn.ReLU()
        self.encoder = nn.TransformerEncoderLayer(6, 2, 8, dropout=0, batch_first=True)

    def forward(self, x):
        return self.encoder(self.relu(self.linear(x[:, 0]))).mean(1)


def test_units_of_sequences_are_features_or_unknown():
    table = analysis.activation_statistics(Tokens(), torch.randn(2, 1, 8, 8))
    rows = {row["layer"]: row for row in table.rows}
    assert rows["linear"]["units"] == rows["encoder"]["units"] == 6
    assert rows["relu"]["units"] is rows["relu"]["dead"] is None
    assert 0.2 < rows["relu"]["zeros"] < 0.8
    assert "None" not in repr(table)


def test_a_layer_called_input_is_not_the_pixels():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(72, 10)

        def forward(self, x):
            return self.fc(self.input(x).flatten(1))

    train, test = (part[:60] for part in data.load("digits"))
    table = analysis.linear_probes(Net(), train, test)
    assert [(row["layer"], row["features"]) for row in table.rows] == [
        ("input (pixels)", 64),
        ("input", 72),
        ("fc", 10),
    ]
    assert "input (pixels)" in table.plot().alt
    assert list(analysis.activations(Net(), torch.zeros(1, 1, 8, 8))) == ["input", "fc"]
    statistics = analysis.activation_statistics(Net(), torch.zeros(1, 1, 8, 8))
    assert [row["layer"] for row in statistics.rows] == ["input", "fc"]
    rows = analysis.summary(Net(), (1, 8, 8)).rows
    assert [row["layer"] for row in rows] == ["input", "fc"]


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.on, self.off = nn.Flatten(), nn.Linear(4, 2)

    def forward(self, x):
        return (self.on(x), self.off(self.on(x))) if self.training else self.on(x)


@pytest.mark.parametrize("layers", ["off", ["on", "off"]])
def test_layers_that_do_not_run_are_refused(layers):
    x, labeled = torch.rand(2, 1, 2, 2), data.load("digits")[0][:20]
    net = Idle()
    for look in (
        lambda: analysis.activations(net, x, layers),
        lambda: analysis.activation_statistics(net, x, layers),
        lambda: analysis.linear_probes(net, labeled, labeled, layers),
    ):
        with pytest.raises(ValueError, match=r"layers \['off'\] do not run in evaluation mode"):
            look()
    # Of all layers, those that run.
    assert [row["layer"] for row in analysis.activation_statistics(net, x).rows] == ["on"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers(bad):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    x = torch.rand(3, 1, 2, 2)
    x[1, 0, 0, 0] = bad
    rows = analysis.activation_statistics(net, x, batch_size=1).rows
    assert not math.isfinite(rows[1]["mean"])
    assert rows[1]["dead"] is None
    if math.isnan(bad):  # of the first image alone, too
        assert rows[2]["dead"] is None
        assert "nan" in repr(analysis.activation_statistics(net, x))


def test_outputs_that_are_a_number_per_image_or_per_batch():
    class Norm(nn.Module):
        def forward(self, x):
            return x.norm()

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0), nn.ReLU(), Norm())
    with torch.no_grad():
        net[1].bias -= 100
    rows = analysis.activation_statistics(net, torch.rand(3, 1, 2, 2), batch_size=2).rows
    assert [row["units"] for row in rows] == [4, 1, 1, 1, 1]
    assert [row["dead"] for row in rows] == [0, None, None, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sums_do_not_overflow(dtype):
    net = nn.Sequential(nn.Identity())
    big = 3e4 if dtype == torch.float16 else 1e30 if dtype == torch.bfloat16 else 1e100
    (row,) = analysis.activation_statistics(net, torch.full((9, 1, 8, 8), big, dtype=dtype)).rows
    assert row["mean"] == pytest.approx(big, rel=0.01)
    if dtype != torch.bfloat16:
        assert row["standard_deviation"] == pytest.approx(0, abs=big * 1e-6)
