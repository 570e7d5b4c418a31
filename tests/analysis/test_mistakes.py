"""What a newcomer passes by mistake is named, with what to do: never torch's own error."""

import pytest
import torch
import torchvision
from torch import nn

from cnnbook import analysis, data

X, Y = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
BYTES = (255 * X).byte()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, 2))


@pytest.mark.parametrize("given", [X.numpy(), [X]])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: analysis.activations(network(), x),
        lambda x: analysis.grad_cam(network(), x, "0"),
        lambda x: analysis.occlusion(network(), x),
        lambda x: analysis.gradient_norms(network(), x, Y),
        lambda x: analysis.effective_receptive_field(network(), x, "0"),
    ],
)
def test_images_are_tensors(call, given):
    with pytest.raises(TypeError, match="x must be a torch tensor, got a "):
        call(given)


def test_other_tensors_and_data():
    with pytest.raises(TypeError, match=r"x must be .* numpy array; use torch\.from_numpy\(x\)"):
        analysis.activation_statistics(network(), X.numpy())
    with pytest.raises(TypeError, match="y must be a torch tensor, got a numpy array"):
        analysis.gradient_norms(network(), X, Y.numpy())
    with pytest.raises(TypeError, match="predictions must be a torch tensor, got a list"):
        analysis.confusion_matrix(Y, [0, 1], 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: analysis.activations(network(), BYTES),
        lambda: analysis.activation_statistics(network(), BYTES),
        lambda: analysis.grad_cam(network(), BYTES, "0"),
        lambda: analysis.occlusion(network(), BYTES),
        lambda: analysis.gradient_norms(network(), BYTES, Y),
        lambda: analysis.effective_receptive_field(network(), BYTES, "0"),
    ],
)
def test_bytes_are_no_normalized_images(call):
    with pytest.raises(ValueError, match=r"uint8"):
        call()


def test_a_network_that_takes_bytes_may_have_them():
    class Normalizes(nn.Module):
        def forward(self, x):
            return x / 255

    net = nn.Sequential(Normalizes(), network())
    assert analysis.activations(net, BYTES, "1")["1"].shape == (2, 2)


def test_a_single_image_is_not_three_images():
    with pytest.raises(ValueError, match=r"\(3, 16, 16\); put \[None\] after"):
        analysis.activations(network(), X[0])


@pytest.mark.parametrize("name", ["0", "1"])
def test_one_name_is_one_layer(name):
    net = network()
    assert list(analysis.activations(net, X, name)) == [name]
    assert [row["layer"] for row in analysis.activation_statistics(net, X, name).rows] == [name]
    named = nn.Sequential()
    named.add_module("flat", nn.Flatten())
    named.add_module("linear", nn.Linear(64, 10))
    train, test = data.load("digits")
    probes = analysis.linear_probes(named, train[:200], test[:50], "linear")
    assert [row["layer"] for row in probes.rows] == ["input", "linear"]
    seen = analysis.activations(named, torch.zeros(1, 1, 8, 8), "linear")
    assert list(seen) == ["linear"]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (16, "shape of one image, .* got 16"),
        ((16, 16), r"try \(3, 16, 16\) or \(1, 16, 16\)"),
        ((16, 16, 3), r"begins with the channels: try \(3, 16, 16\)"),
        ("small", "shape of one image, .* got 'small'"),
    ],
)
def test_shapes_of_one_image(shape, message):
    for look in (
        lambda: analysis.summary(network(), shape),
        lambda: analysis.receptive_field(network(), shape, "0"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            look()
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 16), r"got \(1, 3, 16, 16\); try \(3, 16, 16\)"),
        ((16, 16), r"\(C, H, W\), got \(16, 16\)"),
        (16, "got 16"),
    ],
)
def test_shapes_of_the_images_to_make(shape, message):
    with pytest.raises(ValueError, match=message):
        analysis.maximize_activation(network(), "0", 0, shape=shape)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torchvision.models.resnet18, r"got resnet18, which makes one; call it: resnet18\(\)"),
        (nn.ReLU, r"got ReLU, which makes one; call it: ReLU\(\)"),
        ("resnet18", r"got 'resnet18'; models\.create\('resnet18'\)"),
        (3, "got int"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda model: analysis.summary(model, (3, 16, 16)),
        lambda model: analysis.receptive_field(model, (3, 16, 16), "0"),
        lambda model: analysis.activations(model, X),
        lambda model: analysis.grad_cam(model, X, "0"),
        lambda model: analysis.occlusion(model, X),
        lambda model: analysis.gradient_norms(model, X, Y),
        lambda model: analysis.activation_statistics(model, X),
    ],
)
def test_networks_are_modules(call, model, message):
    with pytest.raises(TypeError, match=message):
        call(model)


def test_gradient_flow_is_of_networks_by_name():
    with pytest.raises(TypeError, match=r"\{'my network': net\}; got Sequential"):
        analysis.gradient_flow(network(), X, Y)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cat", "class number, or one for each image, got 'cat'"),
        (torch.tensor([1.0, 0.0]), r"integers; got torch\.float32"),
        (torch.tensor([True, False]), r"integers; got torch\.bool"),
    ],
)
def test_targets_are_class_numbers(target, message):
    for look in (
        lambda: analysis.grad_cam(network(), X, "0", target),
        lambda: analysis.occlusion(network(), X, target),
    ):
        with pytest.raises(TypeError, match=message):
            look()


def test_small_integers_are_class_numbers():
    found = analysis.grad_cam(network(), X, "0", torch.tensor([1, 0], dtype=torch.int32))
    assert found.target.tolist() == [1, 0]


@pytest.mark.parametrize("options", [{"patch": (8, 8)}, {"patch": 8, "stride": 2.0}])
def test_a_patch_is_a_square(options):
    with pytest.raises(TypeError, match="is a number of pixels"):
        analysis.occlusion(network(), X, **options)


def test_one_output_has_no_probabilities_to_compare():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 1))
    with pytest.raises(ValueError, match="this network has one output"):
        analysis.occlusion(net, X)


def test_a_networks_first_output_may_be_its_scores():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, x):
            return self.net(x), x

    for look in (
        lambda net, layer: analysis.grad_cam(net, X, layer),
        lambda net, layer: analysis.occlusion(net, X),
    ):
        assert torch.equal(look(Pair(), "net.0").maps, look(network(), "0").maps)


@pytest.mark.parametrize(
    ("layer", "error", "match"),
    [
        (nn.ReLU(), ValueError, "this ReLU is not a layer of the network"),
        (3, TypeError, r"named_modules\(\), or as modules of the network; got int"),
        ("relu", ValueError, "unknown layer 'relu'"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda net, layer: analysis.receptive_field(net, (3, 16, 16), layer),
        lambda net, layer: analysis.activations(net, X, layer),
        lambda net, layer: analysis.activations(net, X, [layer]),
        lambda net, layer: analysis.grad_cam(net, X, layer),
    ],
)
def test_layers_are_names_or_modules_of_the_network(call, layer, error, match):
    with pytest.raises(error, match=match):
        call(network(), layer)


def test_a_network_is_not_one_of_its_layers():
    net = network()
    for whole in (net, nn.DataParallel(net)):
        with pytest.raises(ValueError, match="is the network itself, not one of its layers"):
            analysis.activations(net, X, whole)


def test_units_and_normalization_are_numbers():
    options = {"shape": (3, 16, 16), "steps": 1}
    with pytest.raises(TypeError, match="number of a unit, or several, got 'a'"):
        analysis.maximize_activation(network(), "0", "a", **options)
    with pytest.raises(ValueError, match=r"mean needs 1 or 3 values, got 2"):
        analysis.maximize_activation(network(), "0", 0, mean=(0.5, 0.4), **options)


def test_a_loss_surface_is_of_a_network():
    _, test = data.load("digits")
    with pytest.raises(TypeError, match="model must be a network"):
        analysis.loss_surface("resnet18", test)
