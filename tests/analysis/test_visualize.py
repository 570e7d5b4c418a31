import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cnnbook import analysis, data
from cnnbook.analysis import visualize
from cnnbook.models import lenet5

STILL = {"jitter": 0.0, "scale": 0.0, "rotate": 0.0}


def linear_net(n_in=1, side=9):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(n_in, 4, side))


def cosine(a, b):
    return nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


@pytest.mark.slow
@pytest.mark.parametrize("fourier", [True, False])
def test_without_decay_the_best_of_all_images_is_approached(fourier):
    model = linear_net()
    found = analysis.maximize_activation(
        model, "0", [0, 3], shape=(1, 9, 9), fourier=fourier, power=1, decay=0, steps=300, **STILL
    )
    for image, unit in zip(found.images, (0, 3), strict=True):
        kernel, bias = model[0].weight[unit].detach(), model[0].bias[unit].item()
        # Among images between 0 and 1: 1 where the weight is positive, 0 elsewhere.
        best = kernel.clamp(min=0).sum().item()
        reached = model(image[None])[0, unit].item() - bias
        assert 0.99 * best < reached < 1.00001 * best


def test_the_image_for_a_linear_unit_is_its_kernel():
    model = linear_net(n_in=3)
    found = analysis.maximize_activation(
        model, "0", [1, 2], shape=(3, 9, 9), fourier=False, decorrelate=False, decay=1, **STILL
    )
    for image, unit in zip(found.images, (1, 2), strict=True):
        assert cosine(image - 0.5, model[0].weight[unit].detach()) > 0.98


def test_fourier_steps_find_a_wave_and_prefer_low_frequencies():
    model = linear_net(side=16)
    phase = 2 * torch.pi * torch.arange(16) / 16
    low, high = torch.cos(2 * phase).expand(16, 16), torch.cos(6 * phase).expand(16, 16)
    with torch.no_grad():
        model[0].weight[0, 0], model[0].weight[1, 0] = low, low + high
    found = analysis.maximize_activation(
        model, "0", [0, 1], shape=(1, 16, 16), power=1, decay=1, **STILL
    )
    assert cosine(found.images[0] - 0.5, low) > 0.97
    assert cosine(found.images[1] - 0.5, low) > 2 * cosine(found.images[1] - 0.5, high) > 0


@pytest.mark.slow
def test_activation_rises():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Softplus(), nn.Conv2d(8, 6, 3))
    options = {"shape": (3, 20, 20), "steps": 60}
    found = analysis.maximize_activation(model, "2", range(6), lr=0.02, decay=0, **options, **STILL)
    assert found.activation.shape == (60, 6)
    assert (found.activation.diff(dim=0) > 0).all()  # small steps on a smooth function
    robust = analysis.maximize_activation(model, "2", range(6), **options)
    assert (robust.activation[-10:].mean(0) > robust.activation[:10].mean(0)).all()


@pytest.mark.slow
def test_images_are_robust_against_the_changes_they_were_made_under():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Conv2d(8, 1, 20))
    options = {"shape": (1, 24, 24), "steps": 80}
    still = analysis.maximize_activation(model, "2", 0, **options, **STILL).images
    robust = analysis.maximize_activation(model, "2", 0, **options).images

    def share_kept(image):
        shifted = image.roll((1, 1), (2, 3))
        return (model(shifted) / model(image)).mean().item()

    assert share_kept(robust) > share_kept(still)


def test_units_are_worked_on_independently():
    model = linear_net(side=5)
    options = {"shape": (1, 8, 8), "steps": 5, **STILL}
    both = analysis.maximize_activation(model, "0", (1, 2), fourier=False, **options)
    seen = analysis.activations(model, both.images, ["0"])["0"].mean((2, 3))
    assert seen[0, 1] > seen[1, 1]
    assert seen[1, 2] > seen[0, 2]


def test_normalization_is_that_of_the_network():
    """A network of normalized images, and one that normalizes by itself, see the same."""

    class Normalizing(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x - 0.4) / 0.2)

    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh())
    options = {"shape": (1, 8, 8), "steps": 6}
    a = analysis.maximize_activation(net, "1", 2, mean=(0.4,), std=(0.2,), **options)
    b = analysis.maximize_activation(Normalizing(net), "net.1", 2, **options)
    torch.testing.assert_close(a.images, b.images)


@pytest.mark.slow
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


def test_networks_in_double_precision():
    a, b = linear_net(), linear_net().double()
    options = {"shape": (1, 9, 9), "steps": 3}
    single, double = (analysis.maximize_activation(m, "0", 1, **options).images for m in (a, b))
    torch.testing.assert_close(single, double)


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
        ("0", 0, {"steps": 0}, "steps must be at least 1, got 0"),
        ("0", 0, {"decay": 10}, "decay must be from 0 to less than 1/lr = 10, got 10"),
        ("0", 0, {"jitter": 2}, "jitter is a fraction from 0 to 1, got 2"),
        ("0", 0, {"std": (1.0, 2.0)}, "std needs 1 or 1 values, got 2"),
    ],
)
def test_errors(layer, units, options, message):
    model = linear_net()
    with pytest.raises(ValueError, match=message):
        analysis.maximize_activation(model, layer, units, shape=(1, 9, 9), **options)
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0


def brute_force(model, images, layer, unit, k):
    """Return activation, image and position of the k images that excite a unit most."""
    found = []
    for number, image in enumerate(images):
        maps = analysis.activations(model, image[None], [layer])[layer][0, unit]
        best = maps.max()
        row, column = (maps == best).nonzero()[0].tolist()
        found.append((-best.item(), number, (row, column)))
    return sorted(found)[:k]


@pytest.mark.parametrize("layer", ["0", "2", "3"])
def test_top_patches_against_a_loop(layer):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3)
    )
    images = torch.rand(30, 2, 10, 12) + 0.1  # no black pixels of their own
    found = analysis.top_patches(model, images, layer, [2, 0], 5, batch_size=7)
    field = analysis.receptive_field(model, (2, 10, 12), layer)
    assert found.patches.shape == (2, 5, 2, *field.size)
    for u, unit in enumerate((2, 0)):
        expected = brute_force(model, images, layer, unit, 5)
        assert found.images[u].tolist() == [number for _, number, _ in expected]
        assert found.positions[u].tolist() == [list(at) for _, _, at in expected]
        assert found.activation[u].tolist() == pytest.approx([-v for v, _, _ in expected], abs=1e-6)
        for patch, (_, number, at) in zip(found.patches[u], expected, strict=True):
            (top, bottom), (left, right) = field.box(*at)
            for i, row in enumerate(range(top, bottom)):
                for j, column in enumerate(range(left, right)):
                    inside = 0 <= row < 10 and 0 <= column < 12
                    pixel = images[number, :, row, column] if inside else torch.zeros(2)
                    assert torch.equal(patch[:, i, j], pixel)


def test_a_patch_alone_excites_the_unit_as_much():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Conv2d(6, 4, 3))
    found = analysis.top_patches(model, torch.rand(10, 1, 16, 16), "2", 1, 4)
    torch.testing.assert_close(model(found.patches[0])[:, 1, 0, 0], found.activation[0])


@pytest.mark.slow
def test_patches_of_a_data_set_are_its_raw_pixels():
    train, _ = data.load("fashion-mini", size=32)
    model = lenet5()
    found = analysis.top_patches(model, train[:40], "f6", 3, 2)
    assert torch.equal(found.patches[0], train.images[found.images[0]])
    assert found.positions.tolist() == [[[0, 0], [0, 0]]]
    x, _ = next(data.Batches(train[:40], 40, shuffle=False, device="cpu").epoch(0))
    values = analysis.activations(model, x, ["f6"])["f6"][:, 3]
    assert found.images[0].tolist() == values.topk(2).indices.tolist()


def test_equal_activations_come_in_order():
    model = nn.Sequential(nn.Identity())
    assert analysis.top_patches(model, torch.ones(5, 1, 2, 2), "0", 0, 3).images.tolist() == [
        [0, 1, 2]
    ]


@pytest.mark.slow
def test_top_patches_of_a_foreign_network():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).train()
    images = torch.rand(5, 3, 64, 64)
    early = analysis.top_patches(model, images, "maxpool", [0, 1], 3)
    assert early.patches.shape == (2, 3, 3, 11, 11)
    # Larger than the image: all of it.
    late = analysis.top_patches(model, images, "layer4", 7, 3)
    assert torch.equal(late.patches[0], images[late.images[0]])
    assert model.training
    assert repr(early) == "<top 3 patches of 11×11 pixels for units [0, 1] of 'maxpool'>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1", 0, 1), "unknown layer '1'"),
        (("0", 4, 1), r"layer '0' has units 0 … 3, got \(4,\)"),
        (("0", [], 1), "at least one unit"),
        (("0", 0, 3), "k must be from 1 to the number of images, 2; got 3"),
    ],
)
def test_top_patches_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        analysis.top_patches(linear_net(), torch.zeros(2, 1, 9, 9), *arguments)


def test_what_holds_no_images_is_refused():
    with pytest.raises(TypeError, match=r"pairs \(images, labels\) are needed"):
        analysis.top_patches(linear_net(), [1], "0", 0)


def test_a_unit_that_stays_silent_is_named():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([1.0, -1.0, -1.0]))
        net[0].weight[0] = 0.1
    with pytest.warns(UserWarning, match=r"units \[1, 2\] of layer '1' was zero .* layer before"):
        analysis.maximize_activation(net, "1", range(3), shape=(1, 8, 8), steps=3)


def test_patches_beside_the_image_are_black():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, padding=2))
    with torch.no_grad():
        net[0].weight.fill_(-1)
        net[0].bias.fill_(1)
    # Every pixel lowers the unit, so it is most excited where it sees none.
    found = analysis.top_patches(net, torch.rand(4, 1, 8, 8) + 0.5, "0", [0], k=2)
    assert found.patches[0][0].shape[-2:] == (1, 1)
    assert all(patch.eq(0).all() for patch in found.patches[0])


def test_colors_are_those_of_photographs():
    """The published components are orthogonal, and near those of our own photographs."""
    directions = torch.tensor(visualize.COLOR_DIRECTIONS)
    torch.testing.assert_close(directions.T @ directions, torch.eye(3), atol=2e-3, rtol=0)
    colors = visualize._colors()
    published = torch.tensor(visualize.COLOR_VARIANCES)
    covariance = directions @ torch.diag(published) @ directions.T
    torch.testing.assert_close(colors @ colors.T, covariance / published[0], atol=1e-6, rtol=0)
    assert colors.norm(dim=0).tolist() == pytest.approx([1, 0.294, 0.144], abs=2e-3)

    for name in data.list_photos():
        pixels = data.photo(name).flatten(1) / 255
        variances, own = torch.linalg.eigh(torch.cov(pixels))  # from the least to the largest
        # Along gray, colors vary most; along the other directions, by a similar share.
        assert abs(own[:, 2] @ directions[:, 0]) > 0.97
        shares = (variances / variances[2]).sqrt()
        assert 0.25 < shares[1] < 0.5
        assert 0.05 < shares[0] < 0.15


def test_a_step_moves_along_principal_colors():
    """A unit of one color: its image takes the color that photographs would rather have."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
    options = {"shape": (3, 8, 8), "steps": 1, "fourier": False, "decay": 0, "lr": 0.01, **STILL}
    red = analysis.maximize_activation(net, "0", 0, decorrelate=False, **options).images
    start = analysis.maximize_activation(
        nn.Sequential(nn.Conv2d(3, 1, 1)), "0", 0, decorrelate=False, **(options | {"lr": 1e-9})
    ).images
    moved = (red - start).mean((0, 2, 3))
    assert moved[0] > 0
    assert moved[1:].abs().max() < 1e-6
    # With colors C, ascent on free numbers p, pixels Cp, moves pixels by C Cᵀ gradient.
    colors = visualize._colors()
    decorrelated = analysis.maximize_activation(net, "0", 0, **options).images
    begun = analysis.maximize_activation(net, "0", 0, **(options | {"lr": 1e-9})).images
    moved = (decorrelated - begun).mean((0, 2, 3))
    expected = colors @ colors.T @ torch.tensor([1.0, 0.0, 0.0])
    assert cosine(moved, expected) > 0.999
    assert moved.min() > 0.5 * moved.max()  # nearly gray


def test_gray_images_have_no_colors_to_decorrelate():
    options = {"shape": (1, 9, 9), "steps": 3}
    with_colors, without = (
        analysis.maximize_activation(linear_net(), "0", 1, decorrelate=flag, **options).images
        for flag in (True, False)
    )
    assert torch.equal(with_colors, without)


def test_a_neuron_is_the_unit_in_the_middle():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Identity())
    options = {"shape": (1, 12, 16), "steps": 20, "fourier": False, **STILL}
    found = analysis.maximize_activation(net, "1", 1, objective="neuron", **options)
    field = analysis.receptive_field(net, (1, 12, 16), "1")
    (top, bottom), (left, right) = field.box(6, 8)
    away = found.images[0, 0].clone()
    away[top:bottom, left:right] = 0.5
    assert (away - 0.5).abs().max() < 0.01  # what it does not see stays gray
    kernel = net[0].weight[1, 0].detach()
    assert torch.equal(found.images[0, 0, top:bottom, left:right] > 0.5, kernel > 0)
    with pytest.raises(ValueError, match="unknown objective 'unit'"):
        analysis.maximize_activation(net, "1", 1, objective="unit", shape=(1, 12, 16))


class Batches:
    """Batches of another kind: two at a time, once."""

    def __init__(self, images):
        self.images = images

    batch_size = 2
    images_per_epoch = property(lambda self: len(self.images))

    def __len__(self):
        return (len(self.images) + 1) // 2

    def epoch(self, number=0):
        for start in range(0, len(self.images), 2):
            x = self.images[start : start + 2]
            yield x, torch.zeros(len(x), dtype=torch.long)


def test_patches_of_batches_are_those_of_their_images():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    images = torch.randn(9, 1, 8, 8)
    expected = analysis.top_patches(net, images, "1", [2, 0], 4)
    found = analysis.top_patches(net, Batches(images), net[1], np.array([2, 0]), 4)
    for name in ("patches", "images", "positions"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    # a convolution of two images need not add in the order of one of nine
    torch.testing.assert_close(found.activation, expected.activation)
    assert found.units == (2, 0)
    with pytest.raises(ValueError, match="number of images, 9; got 10"):
        analysis.top_patches(net, Batches(images), "1", 0, 10)


FINISHED = []


class Recurrent(nn.Module):
    """A layer that runs twice; what follows fails on some images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.after = nn.Identity()

    def forward(self, x):
        try:
            x = self.conv(torch.tanh(self.conv(x)))
        except Exception:  # what a network catches
            raise AssertionError("the network noticed") from None
        FINISHED.append(x)
        return self.after(x)


def test_the_last_run_of_a_layer_counts_and_nothing_after_it_runs():
    torch.manual_seed(0)
    net = Recurrent()
    FINISHED.clear()
    options = {"shape": (1, 8, 8), "steps": 5}
    found = analysis.maximize_activation(net, "conv", 0, **options)
    assert len(FINISHED) == 1
    expected = analysis.maximize_activation(net, "after", 0, **options)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.activation, expected.activation)
