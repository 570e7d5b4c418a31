"""What depends on what in a network's run."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis, models, plots
from cnnbook.models import lenet5


def edges(model, shape, depth=1):
    """Return what each block of a graph reads, by names."""
    blocks = analysis.trace(model, shape).blocks(depth)
    names = [block.name or block.kind for block in blocks]
    return {
        name: {names[i] if i >= 0 else "image" for i in block.inputs}
        for name, block in zip(names, blocks, strict=True)
    }


def test_graph_of_an_inception_module():
    net = models.create("googlenet", width=0.25)
    assert edges(net.inception3a, (48, 28, 28)) == {
        "branch1": {"image"},
        "branch3": {"image"},
        "branch5": {"image"},
        "branch_pool": {"image"},
        "cat": {"branch1", "branch3", "branch5", "branch_pool"},
    }


def test_graph_of_residual_blocks():
    net = torchvision.models.resnet18()
    plain = edges(net.layer1[0], (64, 8, 8))
    assert plain["add"] == {"bn2", "image"}
    assert plain["conv1"] == {"image"}
    projected = edges(net.layer2[0], (64, 8, 8))
    assert projected["add"] == {"bn2", "downsample"}
    assert projected["downsample"] == {"image"}


def test_graph_of_a_whole_network_is_a_chain():
    assert edges(lenet5(), (1, 32, 32)) == {
        "c1": {"image"},
        "s2": {"c1"},
        "c3": {"s2"},
        "s4": {"c3"},
        "c5": {"s4"},
        "f6": {"c5"},
        "output": {"f6"},
    }


class WritesIntoABuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, x):
        buffer = torch.zeros(x.shape[0], 4, 6, 6)
        buffer[:, :2] = self.a(x)
        buffer[:, 2:] = self.b(x)
        return F.relu(buffer)


def test_writing_through_a_view_is_noticed():
    net = nn.Sequential(WritesIntoABuffer(), nn.Conv2d(4, 1, 3))
    with pytest.raises(ValueError, match="written to in place through a view"):
        analysis.receptive_field(net, (1, 8, 8), "1")
    assert edges(net, (1, 8, 8)) == {"0": {"image"}, "1": {"0"}}


class Overwrites(nn.Module):
    def forward(self, x):
        x = x * 2
        x[:, :1] = torch.zeros(1)
        return x


def test_overwriting_with_constants_is_noticed():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Overwrites(), nn.ReLU())
    with pytest.raises(ValueError, match=r"written to in place|overwritten with constants"):
        analysis.receptive_field(net, (1, 8, 8), "2")
    assert [row["output"] for row in analysis.summary(net, (1, 8, 8)).rows] == ["2×6×6"] * 3


def test_operations_know_their_roles():
    found = analysis.trace(lenet5(), (1, 32, 32))
    roles = {
        call.name: found.roles(call) - {None}
        for call in found.calls
        if call.name in ("c1", "s2", "f6", "output")
    }
    assert roles == {
        "c1": {"convolution"},
        "s2": {"pooling"},
        "f6": {"fully connected"},
        "output": {"fully connected"},
    }


@pytest.mark.slow
def test_a_trace_draws_itself():
    net = models.create("googlenet", width=0.25).inception3a
    found = analysis.trace(net, (48, 28, 28))
    assert found.plot(depth=2).svg() == plots.architecture(net, (48, 28, 28), depth=2).svg()
    assert found.plot(alt="Four branches.").alt == "Four branches."


class NeedsArrays(nn.Module):
    """Runs without gradients only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        return y * float(y.numpy().std() + 1)


def test_a_run_with_values_has_no_gradients_either():
    net, seen = NeedsArrays(), []
    net.conv.register_forward_hook(
        lambda _module, _x, y: seen.append((y.device.type, torch.is_grad_enabled()))
    )
    assert analysis.summary(net, (1, 8, 8)).total_macs == 2 * 9 * 36
    assert seen[-1] == ("cpu", False)
    assert torch.is_grad_enabled()


class SparseWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.eye(64).to_sparse())
        self.after = nn.Linear(64, 3)

    def forward(self, x):
        return self.after(torch.sparse.mm(self.weight, x.flatten(1).T).T)


def test_sparse_weights():
    found = analysis.trace(SparseWeights(), (1, 8, 8))
    assert found.calls[0].shape == (3,)
    assert [(block.name, block.inputs) for block in found.blocks()] == [("after", (-1,))]
    assert found.calls[1].macs == 64 * 3


class OwnGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.score, self.after = nn.Linear(64, 1), nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.after(torch.func.grad(lambda a: self.score(a.flatten(1)).sum())(x))


def test_a_gradient_inside_a_network():
    found = analysis.trace(OwnGradient(), (1, 8, 8))
    calls = {call.name: call for call in found.calls}
    assert (calls["score"].shape, calls["after"].shape) == ((1,), (2, 6, 6))
    assert calls["score"].reach.box(0, 0)[0] == (0, 7)
