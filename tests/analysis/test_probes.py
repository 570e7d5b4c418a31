import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis, data
from cnnbook.analysis.probes import ridge_classifier
from cnnbook.models import lenet5


@pytest.fixture(scope="module")
def sets():
    train, test = data.load("fashion-mini", size=32)
    return train[:300], test[:100]


def noisy_features(n=60, d=8, classes=3):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    centers = torch.randn(classes, d, generator=generator)
    x = centers[y] + 0.8 * torch.randn(n, d, generator=generator)
    return x * torch.arange(1, d + 1) + 3, y


def fit_by_descent(x, y, penalty, classes):
    """The same objective, minimized step by step."""
    x = x.double()
    z = (x - x.mean(0)) / x.std(0, correction=0)
    target = F.one_hot(y, classes).double()
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):
        error = (z @ weight.T + bias - target).square().sum(1).mean()
        loss = error + penalty * weight.square().sum()
        gradients = torch.autograd.grad(loss, (weight, bias))
        with torch.no_grad():
            weight -= 0.1 * gradients[0]
            bias -= 0.1 * gradients[1]
    return (z @ weight.T + bias).detach()


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_classifier_against_gradient_descent(penalty):
    x, y = noisy_features()
    found = ridge_classifier(x, y, 3, [penalty])
    torch.testing.assert_close(found(x), fit_by_descent(x, y, penalty, 3), rtol=1e-6, atol=1e-6)


def test_penalty_is_the_best_of_leaving_each_image_out():
    x, y = noisy_features(n=20)
    z = ((x - x.mean(0)) / x.std(0, correction=0)).double()
    target = F.one_hot(y, 3).double()
    errors = {}
    for penalty in (1e-3, 1e-1, 1.0, 100.0):
        errors[penalty] = 0.0
        for out in range(20):
            rest = torch.arange(20) != out
            a = torch.cat([z[rest], torch.ones(19, 1)], 1).double()
            # The penalty counts against the sum over all 20 images.
            ridge = torch.diag(torch.tensor([20 * penalty] * 8 + [0.0], dtype=torch.float64))
            weight = torch.linalg.solve(a.T @ a + ridge, a.T @ target[rest])
            predicted = torch.cat([z[out], torch.ones(1)]).double() @ weight
            errors[penalty] += (predicted - target[out]).square().sum().item()
    assert ridge_classifier(x, y, 3, list(errors)).penalty == min(errors, key=errors.get)


def test_separable_classes_are_separated_and_shuffled_ones_are_not():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2
    x = torch.randn(400, 5, generator=generator)
    x[:, 0] += 20 * y
    x[:, 3] = 7.0  # says nothing
    found = ridge_classifier(x[:200], y[:200], 2, [1e-3])
    assert (found(x).argmax(1) == y).all()
    assert (found.weight[:, 3] == 0).all()
    shuffled = y[torch.randperm(400, generator=generator)]
    found = ridge_classifier(x[:200], shuffled[:200], 2, [1e-3])
    assert (found(x[200:]).argmax(1) == shuffled[200:]).double().mean() < 0.6


@pytest.mark.slow
def test_probe_of_the_input_is_a_ridge_classifier_of_the_pixels(sets):
    train, test = sets
    table = analysis.linear_probes(lenet5(), train, test, ["c1"], penalties=[0.1])
    row = table[0]
    assert (row["layer"], row["pooled_to"], row["features"]) == ("input", "1×32×32", 1024)
    pixels, test_pixels = (s.images.flatten(1).double() for s in (train, test))
    mean, std = pixels.mean(0), pixels.std(0, correction=0)
    z, z_test = (torch.nan_to_num((p - mean) / std, 0, 0, 0) for p in (pixels, test_pixels))
    target = F.one_hot(train.labels, 10).double()
    share = target.mean(0)
    # The dual form: a system of as many equations as images.
    dual = torch.linalg.solve(
        z @ z.T + 0.1 * len(z) * torch.eye(len(z), dtype=torch.float64), target - share
    )
    for part, features, labels in (("train", z, train.labels), ("test", z_test, test.labels)):
        predicted = (features @ z.T @ dual + share).argmax(1)
        assert row[f"{part}_accuracy"] == (predicted == labels).double().mean().item()


def test_features_are_pooled_to_the_budget(sets):
    train, test = sets
    net = lenet5()
    table = analysis.linear_probes(net, train[:40], test[:20], max_features=100)
    assert [row["pooled_to"] for row in table.rows] == [
        "1×10×10", "6×4×4", "6×4×4", "16×2×2", "16×2×2", "120×1×1", "84", "10",
    ]  # fmt: skip
    assert [row["features"] for row in table.rows] == [100, 96, 96, 64, 64, 120, 84, 10]
    assert all(0 <= row["test_accuracy"] <= 1 for row in table.rows)


def test_pooled_features_are_means_over_windows(sets):
    train, _ = sets
    model = nn.Sequential(nn.Identity())
    table = analysis.linear_probes(model, train, train, max_features=64, penalties=[0.1])
    x, y = next(data.Batches(train, 300, shuffle=False, device="cpu").epoch(0))
    means = x.view(-1, 8, 4, 8, 4).mean((2, 4)).flatten(1)
    expected = (ridge_classifier(means, y, 10, [0.1])(means).argmax(1) == y).double().mean().item()
    assert table[0]["train_accuracy"] == table[1]["train_accuracy"] == expected


def test_probes_of_a_foreign_network():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=10).train()
    averages = model.features[0][1].running_mean.clone()
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    images[::2, 0, :4] = 255  # what tells the classes apart
    labels = (torch.arange(40) + 1) % 2
    half = (0.5, 0.5, 0.5)
    noise = data.Dataset("noise", images, labels, ("a", "b"), half, half)
    table = analysis.linear_probes(
        model, noise[:30], noise[30:], ["features.3", "features.12", "avgpool"], max_features=64
    )
    assert [row["layer"] for row in table.rows] == [
        "input", "features.3", "features.12", "avgpool",
    ]  # fmt: skip
    assert table[2]["pooled_to"] == "576×1×1"
    assert table[0]["test_accuracy"] == 1
    assert model.training
    assert torch.equal(model.features[0][1].running_mean, averages)
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["c9"]}, "unknown layer 'c9'"),
        ({"max_features": 0}, "max_features must be at least 1, got 0"),
        ({"penalties": [0.0]}, r"penalties must be positive.*got \(0.0,\)"),
        ({"penalties": []}, r"penalties must be positive, at least one"),
    ],
)
def test_errors(sets, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.linear_probes(lenet5(), *sets, **options)
