import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn

from cnnbook import analysis, data
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
    for look in (analysis.activations, analysis.activation_statistics):
        with pytest.raises(ValueError, match="got"):
            look(model, torch.zeros(1, 1, 8, 8))
    assert hooks(model) == 0
    assert model.training


class Pair(nn.Module):
    def forward(self, x):
        return {"images": x, "double": 2 * x}


@pytest.mark.parametrize("look", [analysis.activations, analysis.activation_statistics])
def test_a_layer_that_returns_no_tensor_is_named(look):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)["images"]

    model = Net()
    match = "layer 'pair' gives no tensor: it returned a dict with the entries 'images', 'double'; "
    with pytest.raises(TypeError, match=match):
        look(model, torch.zeros(1, 1, 2, 2))
    assert hooks(model) == 0


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 16, 5), nn.ReLU()
    )


def test_statistics_against_the_whole_output_at_once():
    model, x = network(), torch.randn(23, 1, 6, 6)
    with torch.no_grad():
        model[0].bias[2] = -100  # nowhere above zero
        model[3].bias[4] = -100
    table = analysis.activation_statistics(model, x, batch_size=5)
    outputs = analysis.activations(model, x)
    assert [row["layer"] for row in table.rows] == ["0", "1", "2", "3", "4"]
    for row in table.rows:
        output = outputs[row["layer"]].double()
        assert row["mean"] == pytest.approx(output.mean().item(), rel=1e-5)
        std = output.std(correction=0).item()
        assert row["standard_deviation"] == pytest.approx(std, rel=1e-5)
        assert row["zeros"] == (output == 0).double().mean().item()
    # Convolution and linear layer have negative outputs: there the word has no meaning.
    assert [row["dead"] for row in table.rows] == [None, 1, 16, None, 1]
    assert [row["units"] for row in table.rows] == [6, 6, 96, 5, 5]


def test_statistics_keep_their_precision_far_from_zero():
    x = 1e4 + torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    row = analysis.activation_statistics(nn.Sequential(nn.Identity()), x, batch_size=7)[0]
    expected = x.double().std(correction=0).item()
    assert row["standard_deviation"] == pytest.approx(expected, rel=1e-3)


def test_statistics_do_not_depend_on_the_batches():
    model, x = network(), torch.randn(20, 1, 6, 6)
    a, b = (analysis.activation_statistics(model, x, batch_size=n).to_dicts() for n in (3, 20))
    for one, other in zip(a, b, strict=True):
        assert one.pop("layer") == other.pop("layer")
        assert one.pop("dead") == other.pop("dead")
        assert one == pytest.approx(other, rel=1e-5)


def test_a_layer_that_runs_twice_counts_twice():
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Linear(2, 2, bias=False), relu)
    with torch.no_grad():
        model[1].weight.copy_(-torch.eye(2))
    x = torch.tensor([[[[1.0, 2.0]]]])
    row = analysis.activation_statistics(model, x, ["0"])[0]
    assert row["mean"] == pytest.approx((1 + 2 + 0 + 0) / 4)
    assert row["zeros"] == 0.5


def test_statistics_of_a_data_set_are_of_its_normalized_images():
    train, _ = data.load("fashion-mini")
    row = analysis.activation_statistics(nn.Sequential(nn.Identity()), train[:50])[0]
    x, _ = next(data.Batches(train[:50], 50, shuffle=False, device="cpu").epoch(0))
    assert row["mean"] == pytest.approx(x.mean().item(), rel=1e-4)


def test_statistics_of_a_foreign_network():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).train()
    averages = model.bn1.running_mean.clone()
    table = analysis.activation_statistics(
        model, torch.randn(3, 3, 64, 64), ["relu", "layer2.0.conv1", "layer4"], batch_size=2
    )
    relu, convolution, last = table.rows
    assert 0.3 < relu["zeros"] < 0.7  # symmetric before the ReLU
    assert convolution["dead"] is None
    assert last["units"] == 512
    assert torch.equal(model.bn1.running_mean, averages)
    assert model.training
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(1, 6, 6), {}, r"\(N, C, H, W\), at least one, got \(1, 6, 6\)"),
        (torch.zeros(0, 1, 6, 6), {}, "at least one"),
        (torch.zeros(1, 1, 6, 6), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (torch.zeros(1, 1, 6, 6), {"layers": ["9"]}, "unknown layer '9'"),
    ],
)
def test_statistics_errors(x, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.activation_statistics(network(), x, **options)


@pytest.mark.slow
def test_a_compiled_network_is_looked_into():
    model, x = lenet5().eval(), torch.randn(2, 1, 32, 32)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(x)
        compiled(x)
    found = analysis.activations(compiled, x, ["_orig_mod.c1"])
    assert torch.equal(found["c1"], model.c1(x))
    assert torch.equal(compiled(x), model(x))


def test_a_misspelled_layer_leaves_compiling_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="unknown layer 'nope'"):
        analysis.activations(model, torch.zeros(1, 1, 2, 2), ["nope"])
    compiled = []

    def backend(graph, _inputs):
        compiled.append(graph)
        return graph.forward

    torch.compile(model, backend=backend)(torch.zeros(1, 1, 2, 2))
    assert len(compiled) == 1


def test_a_layer_that_does_not_run_is_named():
    class Idle(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    model = Idle(nn.Flatten(), nn.ReLU())
    with pytest.raises(ValueError, match=r"layers \['1'\] do not run in evaluation mode"):
        analysis.activations(model, torch.zeros(1, 2), ["0", "1"])


def test_activations_are_a_dict_that_draws_itself():
    torch.manual_seed(0)
    model, x = lenet5(), torch.randn(3, 1, 32, 32)
    seen = analysis.activations(model, x, ["c1", "s2", "f6"])
    assert isinstance(seen, dict)
    assert torch.equal(seen.inputs, x)
    assert repr(seen) == "<Activations of 3 inputs: c1 6×28×28, s2 6×14×14, f6 84>"
    assert seen.plot("s2", index=2).alt.startswith("6 feature maps of 14×14")
    figure = seen.plot(["f6", "c1"], index=1, titles={"f6": "F6"})
    assert [text.get_text() for text in figure.axes[0].texts] == ["input", "F6", "c1"]
    # Without an image the network's input is shown, from its lowest to its highest value.
    picture = figure.axes[0].images[0].get_array()
    assert (picture.min(), picture.max()) == (0, 1)
    stretched = (x[1, 0] - x[1].min()) / (x[1].max() - x[1].min())
    assert torch.equal(torch.tensor(picture.filled()), stretched)
    maps = figure.axes[0].images[2].get_array()
    assert torch.equal(torch.tensor(maps[:28, :28].filled()), seen["c1"][1, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda seen: seen.plot("C1"), "unknown layer 'C1'.*Did you mean 'c1'"),
        (lambda seen: seen.plot(["c1", "c9"]), "unknown layer 'c9'"),
        (lambda seen: seen.plot(index=1), "index must be from 0 to 0, got 1"),
        (lambda seen: seen.plot("f6"), r"must be \(C, H, W\) of one image, got \(84,\)"),
    ],
)
def test_what_cannot_be_drawn_is_named(call, message):
    seen = analysis.activations(lenet5(), torch.zeros(1, 1, 32, 32), ["c1", "f6"])
    with pytest.raises(ValueError, match=message):
        call(seen)


def test_copies_and_files_of_activations_leave_the_network_out():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4))
    seen = analysis.activations(net, torch.rand(2, 1, 8, 8))
    for other in (copy.deepcopy(seen), pickle.loads(pickle.dumps(seen))):
        assert list(other) == list(seen)
        assert torch.equal(other["2"], seen["2"])
        assert torch.equal(other.inputs, seen.inputs)
        assert not any(isinstance(value, nn.Module) for value in vars(other).values())
