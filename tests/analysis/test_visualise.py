import pytest
import torch
import torchvision
from torch import nn

from cnnbook import analysis

STILL = {"jitter": 0.0, "scale": 0.0, "rotate": 0.0}


def linear_net(n_in=1, side=9):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(n_in, 4, side))


@pytest.mark.parametrize("fourier", [True, False])
def test_the_best_image_of_a_linear_unit_is_its_kernel(fourier):
    model = linear_net()
    found = analysis.maximize_activation(
        model, "0", [0, 3], shape=(1, 9, 9), fourier=fourier, lr=0.1, **STILL
    )
    for image, unit in zip(found.images, (0, 3), strict=True):
        kernel, bias = model[0].weight[unit].detach(), model[0].bias[unit].item()
        # Among images between 0 and 1 the best is 1 where the weight is positive, 0 elsewhere.
        best = kernel.clamp(min=0).sum().item()
        reached = model(image[None])[0, unit].item() - bias
        assert 0.95 * best < reached <= best


@pytest.mark.parametrize("fourier", [True, False])
def test_a_kernel_of_two_values_is_found_again(fourier):
    model = linear_net(n_in=3, side=6)
    with torch.no_grad():
        model[0].weight.sign_()
    found = analysis.maximize_activation(
        model, "0", 1, shape=(3, 6, 6), fourier=fourier, lr=0.1, **STILL
    )
    image, kernel = found.images[0] - 0.5, model[0].weight[1].detach()
    cosine = nn.functional.cosine_similarity(image.flatten(), kernel.flatten(), dim=0)
    assert cosine > 0.98


def test_activation_rises():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 6, 3))
    found = analysis.maximize_activation(model, "2", range(6), shape=(3, 20, 20), steps=60, **STILL)
    assert found.activation.shape == (60, 6)
    steps = found.activation.diff(dim=0)
    assert (steps > -0.02 * (found.activation[-1] - found.activation[0])).all()
    assert (found.activation[-1] > found.activation[0]).all()
    robust = analysis.maximize_activation(model, "2", range(6), shape=(3, 20, 20), steps=60)
    assert (robust.activation[-10:].mean(0) > robust.activation[:10].mean(0)).all()


def test_units_are_worked_on_independently():
    model = linear_net(side=5)
    options = {"shape": (1, 8, 8), "steps": 5, **STILL}
    both = analysis.maximize_activation(model, "0", (1, 2), fourier=False, **options)
    seen = analysis.activations(model, both.images, ["0"])["0"].mean((2, 3))
    assert seen[0, 1] > seen[1, 1]
    assert seen[1, 2] > seen[0, 2]


def test_normalisation_is_that_of_the_network():
    """A network of normalised images, and one that normalises by itself, see the same."""

    class Normalising(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x - 0.4) / 0.2)

    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh())
    options = {"shape": (1, 8, 8), "steps": 6}
    a = analysis.maximize_activation(net, "1", 2, mean=(0.4,), std=(0.2,), **options)
    b = analysis.maximize_activation(Normalising(net), "net.1", 2, **options)
    torch.testing.assert_close(a.images, b.images)


def test_same_seed_same_image_and_the_network_is_left_alone():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    runs = [
        analysis.maximize_activation(
            model, "layer2.0.conv1", [5, 7], shape=(3, 32, 32), steps=3, seed=seed
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0].images, runs[1].images)
    assert not torch.equal(runs[0].images, runs[2].images)
    assert runs[0].images.shape == (2, 3, 32, 32)
    assert 0 <= runs[0].images.min() <= runs[0].images.max() <= 1
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0
    assert repr(runs[0]) == "<2 images for units [5, 7] of 'layer2.0.conv1'>"


def test_entries_of_an_output_vector():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=4)
    found = analysis.maximize_activation(model, "classifier.3", 2, shape=(3, 32, 32), steps=15)
    assert found.activation[-3:].mean() > found.activation[:3].mean()


@pytest.mark.parametrize(
    ("layer", "units", "options", "message"),
    [
        ("1", 0, {}, "unknown layer '1'"),
        ("0", 4, {}, r"layer '0' has units 0 … 3, got \(4,\)"),
        ("0", [], {}, "at least one unit"),
        ("0", 0, {"steps": 0}, "steps and lr must be positive, got steps=0"),
        ("0", 0, {"jitter": 2}, "jitter is a share from 0 to 1, got 2"),
        ("0", 0, {"std": (1.0, 2.0)}, "std needs 1 or 1 values, got 2"),
    ],
)
def test_errors(layer, units, options, message):
    model = linear_net()
    with pytest.raises(ValueError, match=message):
        analysis.maximize_activation(model, layer, units, shape=(1, 9, 9), **options)
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0
