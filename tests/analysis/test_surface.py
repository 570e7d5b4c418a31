import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis, data, training
from cnnbook.models import ResNet, lenet5


@pytest.fixture(scope="module")
def images():
    return data.load("fashion-mini", size=32)[1][:30]


def norms_of_filters(tensors):
    return {name: tensor.flatten(1).norm(dim=1) for name, tensor in tensors.items()}


def test_directions_have_the_norms_of_the_filters():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    state = torch.get_rng_state()
    direction = analysis.filter_directions(model, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    weights = {n: p.detach() for n, p in model.named_parameters() if p.ndim > 1}
    assert list(direction) == list(weights)
    own, drawn = norms_of_filters(weights), norms_of_filters(direction)
    for name in own:
        torch.testing.assert_close(drawn[name], own[name])
    other = analysis.filter_directions(model, seed=4)["conv1.weight"]
    cosine = F.cosine_similarity(direction["conv1.weight"].flatten(), other.flatten(), dim=0)
    assert abs(cosine) < 0.1


def test_a_filter_of_zeros_does_not_move():
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    nn.init.zeros_(model[0].weight[1])
    direction = analysis.filter_directions(model)["0.weight"]
    assert direction[0].norm() > 0
    assert (direction[1] == 0).all()


@pytest.mark.slow
def test_the_middle_is_the_networks_loss_and_every_point_that_of_displaced_weights(images):
    torch.manual_seed(0)
    model = lenet5()
    surface = analysis.loss_surface(model, images, steps=3, span=0.5, seed=1, batch_size=8)
    assert surface.a.tolist() == surface.b.tolist() == [-0.5, 0, 0.5]
    expected = training.evaluate(model, images, device="cpu").loss
    assert surface.loss[1, 1].item() == pytest.approx(expected, rel=1e-5)
    directions = [analysis.filter_directions(model, seed=seed) for seed in (2, 3)]
    for i, a in enumerate(surface.a):
        for j, b in enumerate(surface.b):
            displaced = lenet5()
            displaced.load_state_dict(model.state_dict())
            with torch.no_grad():
                for name, weight in displaced.named_parameters():
                    if name in directions[0]:
                        weight += a * directions[0][name] + b * directions[1][name]
            loss = training.evaluate(displaced, images, device="cpu").loss
            assert surface.loss[i, j].item() == pytest.approx(loss, rel=1e-5)


def test_the_network_is_left_as_found(images):
    torch.manual_seed(0)
    model = ResNet(8, 10, 1, width=0.25).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    surface = analysis.loss_surface(model, images, steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(analysis.loss_surface(model, images, steps=3).loss, surface.loss)
    assert repr(surface).startswith("<LossSurface: 3×3 points, loss ")


def test_it_is_left_as_found_after_an_error(images):
    model = lenet5()
    weight = model.c1[0].weight.clone()

    def fail(scores, labels):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        analysis.loss_surface(model, images, steps=3, loss=fail)
    assert torch.equal(model.c1[0].weight, weight)
    assert model.training


@pytest.mark.slow
def test_surface_of_a_foreign_network():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=2)
    half = (0.5, 0.5, 0.5)
    noise = data.Dataset(
        "noise",
        torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8),
        torch.tensor([0, 1, 0, 1]),
        ("a", "b"),
        half,
        half,
    )
    surface = analysis.loss_surface(model, noise, steps=3, span=0.1)
    assert surface.loss.isfinite().all()
    assert surface.loss[1, 1].item() == pytest.approx(training.evaluate(model, noise).loss)
    assert surface.loss.unique().numel() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 4}, "steps must be odd.*got 4"),
        ({"steps": -1}, "steps must be at least 1, got -1"),
        ({"span": 0}, "span must be positive and finite, got span=0"),
    ],
)
def test_errors(images, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.loss_surface(lenet5(), images, **options)
