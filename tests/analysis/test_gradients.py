import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis, data, training
from cnnbook.models import GoogLeNet, ResNet, googlenet_loss, lenet5


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


def test_the_model_is_left_as_found():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=4).train()
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    F.cross_entropy(model(x), y).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    first = analysis.gradient_norms(model, x, y)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert analysis.gradient_norms(model, x, y) == first
    assert analysis.gradient_norms(model, x, y, seed=1) != first  # another dropout
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_buffers_are_restored_after_an_error():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.Flatten())
    with pytest.raises(RuntimeError, match="no scores"):
        analysis.gradient_norms(model, torch.randn(2, 1, 3, 3), torch.zeros(2).long(), loss=fail)
    assert model[0].num_batches_tracked == 0
    assert torch.equal(model[0].running_mean, torch.zeros(1))


def fail(output, labels):
    raise RuntimeError("no scores")


def test_frozen_and_unused_weights_are_left_out():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    model[1].requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.zeros(2, 2)))
    x, y = torch.randn(2, 1, 2, 2), torch.tensor([0, 1])
    assert list(analysis.gradient_norms(model, x, y)) == ["2.weight"]
    with pytest.raises(ValueError, match="unfreeze"):
        analysis.gradient_norms(model.requires_grad_(False), x, y)


def test_flow_lists_every_network_layer_by_layer():
    torch.manual_seed(0)
    x, y = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 3])
    nets = {
        "plain": ResNet(8, 4, 1, plain=True, width=0.25),
        "residual": ResNet(8, 4, 1, width=0.25),
    }
    table = analysis.gradient_flow(nets, x, y)
    assert len(table) == 2 * 8
    for label, net in nets.items():
        rows = [row for row in table.rows if row["network"] == label]
        assert [row["number"] for row in rows] == list(range(1, 9))
        found = {row["layer"]: row["gradient"] for row in rows}
        assert found == analysis.gradient_norms(net, x, y)
    assert "e-" in repr(table)


def test_auxiliary_classifiers_add_to_the_gradient_of_the_layers_below_them_only():
    torch.manual_seed(0)
    net = GoogLeNet(10, 1, stem="small", width=0.25, dropout=0)
    for classifier in (net.auxiliary_4a, net.auxiliary_4d):
        classifier.fc[2].p = 0.0
    x, y = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])
    with_them = analysis.gradient_norms(net, x, y, loss=googlenet_loss)
    without = analysis.gradient_norms(
        net, x, y, loss=lambda output, labels: F.cross_entropy(output.scores, labels)
    )
    assert set(with_them) - set(without) == {n for n in with_them if n.startswith("auxiliary")}
    for name, norm in without.items():
        above = name.startswith(("inception4e", "inception5", "output"))
        assert (with_them[name] == pytest.approx(norm, rel=1e-6)) == above, name
    assert with_them["conv1.0.weight"] > 2 * without["conv1.0.weight"]


@pytest.mark.slow
def test_recorder_measures_the_network_after_each_due_step():
    train, _ = data.load("fashion-mini", size=32)
    x, y = next(data.Batches(train, 16, device="cpu").epoch(0))
    recorder = analysis.GradientRecorder(x, y, every=3)
    torch.manual_seed(0)
    model = lenet5()
    expected = {}

    class Expected(training.Callback):
        def on_step(self, run):
            if run.step in (1, 3, 6):
                expected[run.step] = analysis.gradient_norms(run.model, x, y)

    options = {"epochs": 1, "batch_size": 16, "device": "cpu", "progress": False}
    training.fit(model, train[:112], callbacks=[recorder, Expected()], **options)
    assert recorder.norms == expected
    table = recorder.table()
    assert [row["step"] for row in table.rows] == [1] * 5 + [3] * 5 + [6] * 5
    assert table[6]["gradient"] == expected[3]["c3.0.weight"]
    assert repr(recorder) == "<GradientRecorder: 3 steps of 5 layers>"

    torch.manual_seed(0)
    alone = lenet5()
    training.fit(alone, train[:112], **options)
    for watched, free in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(watched, free)


def test_recorder_needs_a_positive_interval():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        analysis.GradientRecorder(torch.zeros(1, 1, 32, 32), torch.zeros(1).long(), every=0)
