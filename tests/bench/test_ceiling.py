"""What the share of the ceiling compares. How fast it is is not tested."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import bench, results, settings
from cnnbook.bench import ceiling, steps
from cnnbook.results import schema

ON_CPU = torch.device("cpu")


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(settings, "device", lambda wanted=None: ON_CPU)


def test_on_a_cpu_the_graph_is_absent_and_that_is_said(here):
    result = bench.run(["ceiling"], quick=True, repeats=2)
    assert [row.contender for row in result.rows] == ["cnnbook", "the same step, eager"]
    fit, eager = result.rows
    assert fit.task == eager.task == "lenet5, batch 16, float32, channels_last"
    assert fit.ratio == 1
    assert eager.note == "no CUDA graph on cpu"
    assert "first epoch took" in fit.note
    assert fit.note.endswith(
        "0 of 12 steps replayed: CUDA graphs need a CUDA GPU, and the device is cpu"
    )
    assert all(row.value > 0 and row.unit == "images/s" for row in result.rows)
    assert result.command == "python -m cnnbook bench ceiling --quick --repeats=2"
    schema.check(result.to_dict())


def test_the_ratio_is_the_share_of_the_graph(here, monkeypatch):
    monkeypatch.setattr(ceiling, "_epochs_of_fit", lambda *_: ([2.0, 2.0, 4.0], 5.0, "all"))
    monkeypatch.setattr(
        ceiling, "race", lambda who, repeats: dict(zip(who, ([3.0] * 3, [0.5] * 3), strict=False))
    )
    monkeypatch.setattr(ceiling, "capture", lambda step: step)
    cuda = type("Device", (), {"type": "cuda"})()
    monkeypatch.setattr(settings, "device", lambda wanted=None: cuda)
    monkeypatch.setattr(ceiling, "choose_precision", lambda precision, device: torch.bfloat16)
    monkeypatch.setattr(ceiling, "sgd", lambda net, lr: torch.optim.SGD(net.parameters(), lr))
    monkeypatch.setattr(ceiling, "prepared", lambda net, device, layout: net)
    monkeypatch.setattr(ceiling, "random_batch", lambda *_: (torch.zeros(1), torch.zeros(1)))
    fit, eager, graph = ceiling._rows("lenet5", 10, 4, 3)
    assert (fit.value, eager.value, graph.value) == (20.0, 40 / 3, 80.0)
    assert graph.contender == ceiling.GRAPH
    assert graph.ratio == 0.25
    assert fit.note == "its first epoch took 3.0 s longer; all"
    assert graph.task == "lenet5, batch 10, bfloat16, channels_last"


def test_networks_and_batch_are_chosen(here, monkeypatch):
    sizes = []
    row = results.Row("ceiling", "noting", "nobody", 1.0, "images/s", None)
    monkeypatch.setattr(
        ceiling, "_rows", lambda name, size, *_: sizes.append((name, size)) or [row]
    )
    bench.run(["ceiling"])
    assert tuple(sizes) == ceiling.SIZES
    del sizes[:]
    bench.run(["ceiling"], networks=["resnet20", "resnet18"])
    assert sizes == [("resnet20", 128), ("resnet20", 512), ("resnet18", 128)]
    del sizes[:]
    bench.run(["ceiling"], networks=["resnet20"], batch_size=32)
    assert sizes == [("resnet20", 32)]
    with pytest.raises(ValueError, match="Did you mean 'resnet20'"):
        bench.run(["ceiling"], networks=["resnte20"])


def test_a_bare_step_is_one_of_stochastic_gradient_descent():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    gradients = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    before = [p.detach().clone() for p in net.parameters()]
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    steps.training_step(net, F.cross_entropy, sgd, x, y, torch.float32)()
    for p, old, gradient in zip(net.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * gradient)
