"""Theory against the exact support of the gradient, and against published values."""

import math

import pytest
import torch
import torchvision
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

from cnnbook import analysis, models
from cnnbook.analysis import effective_receptive_field, effective_size, receptive_field


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def positive(model):
    """Give a network positive weights, and pooling that looks at all of its window.

    With positive images no two paths can cancel, so that the gradient is zero exactly where
    there is no path.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, pool)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.rand(parameter.shape, generator=generator) + 0.5
            parameter.copy_(values / max(1, parameter[0].numel()))
    return model.double().eval()


def support(model, shape, layer, unit):
    """Return first and last pixel on which a unit depends, for each dimension."""
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).double() + 0.5
    image.requires_grad_()
    outputs = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output[0, :, unit[0], unit[1]].sum())
    )
    model(image)
    handle.remove()
    (gradient,) = torch.autograd.grad(outputs[-1], image)
    seen = gradient[0].abs().sum(0) > 0
    return tuple(
        (int(line.nonzero().min()), int(line.nonzero().max()) + 1)
        for line in (seen.any(1), seen.any(0))
    )


def check(model, shape, layer):
    """Compare theory and gradient for the unit in the middle; the box must fit the height."""
    model = positive(model)
    field = receptive_field(model, shape, layer)
    rows, columns = field.box(clip=True)
    assert (rows,) == field.box()[:1], "the test's image is too small"
    assert support(model, shape, layer, field.center) == (rows, columns)
    return field


def ours(name, **options):
    return models.create(name, **{"width": 1 / 16, "num_classes": 4, **options})


# Araujo, Norris, Sim (Distill 2019), table of networks, where they have the network; the inputs
# are tall enough for the whole box, and narrow to be quick.
PUBLISHED = {
    "alexnet": (lambda: torchvision.models.alexnet(), "features", 195),
    "vgg16": (lambda: torchvision.models.vgg16(), "features", 212),
    "resnet50": (lambda: models.create("resnet50"), "conv5_x", 483),
    "resnet101": (lambda: models.create("resnet101"), "conv5_x", 1027),
    "resnet152": (lambda: models.create("resnet152"), "conv5_x", 1507),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    make, layer, size = PUBLISHED[name]
    with torch.device("meta"):
        model = make()
    field = receptive_field(model, (3, 224, 224), layer)
    assert field.size == (size, size)
    assert field.jump == (32, 32)


@pytest.mark.slow
def test_stride_in_the_second_convolution_sees_less():
    # The published 483 belongs to the paper's form; torchvision moved the stride.
    theirs = torchvision.models.resnet50()
    mine = models.create("resnet50", version="v1.5")
    assert receptive_field(theirs, (3, 224, 224), "layer4").size == (427, 427)
    assert receptive_field(mine, (3, 224, 224), "conv5_x").size == (427, 427)


NETWORKS = {
    "our resnet50": (lambda: ours("resnet50"), "conv5_x", 640),
    "our resnet18, option A": (lambda: ours("resnet18", shortcut="A"), "conv5_x", 576),
    "our resnet20": (lambda: ours("resnet20"), "conv4_x", 160),
    "our googlenet": (lambda: ours("googlenet", auxiliary=False), "inception5b", 800),
    "naive": (lambda: ours("googlenet", auxiliary=False, naive=True), "inception4e", 640),
    "resnet18": (lambda: torchvision.models.resnet18(), "layer4", 576),
    "googlenet": (lambda: torchvision.models.googlenet(init_weights=False), "inception4a", 192),
    "mnasnet": (lambda: torchvision.models.mnasnet0_5(), "layers", 960),
    "shufflenet_v2": (lambda: torchvision.models.shufflenet_v2_x0_5(), "stage3", 416),
    "densenet": (
        lambda: torchvision.models.DenseNet(8, (2, 3, 4), 8),
        "features.denseblock3",
        320,
    ),
    # It permutes its feature maps, normalizes and multiplies channels there, and permutes back.
    "convnext": (lambda: small_convnext(), "features.3", 256),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_against_the_gradient(name):
    make, layer, height = NETWORKS[name]
    field = check(make(), (3, height, 32), layer)
    assert field.size[0] == field.size[1] > 48


@pytest.mark.parametrize("layer", ["block5", "fc7"])
def test_vgg_against_the_gradient(layer):
    model = positive(ours("vgg16", input_size=256))
    if layer == "fc7":  # a vector sees what all positions of the last feature maps see together
        field = receptive_field(model, (3, 256, 256), layer)
        assert field.box(clip=True) == ((0, 256), (0, 256))
        assert (field.size, field.jump) == ((212 + 7 * 32,) * 2, (0, 0))
    else:
        field = check(model, (3, 256, 256), layer)
        assert field.size == (212, 212)


def small_convnext():
    config = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([config(8, 16, 1), config(16, None, 2)], num_classes=3)


def test_dimensions_have_their_own_kernels():
    field = check(
        nn.Sequential(nn.Conv2d(1, 1, (5, 2), (2, 3)), nn.Conv2d(1, 1, (2, 3))), (1, 31, 32), "1"
    )
    assert (field.size, field.jump) == ((7, 8), (2, 3))


# ---------------------------------------------------------------- random networks

SIDE = 128


class Branches(nn.Module):
    """Paths whose results are added, or joined and mixed."""

    def __init__(self, paths, how):
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.mix = None if how == "add" else nn.Conv2d(2 * len(paths), 2, 1)

    def forward(self, x):
        results = [path(x) for path in self.paths]
        return self.mix(torch.cat(results, 1)) if self.mix else sum(results)


class Gate(nn.Module):
    """Squeeze and excitation: every position sees everything."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.mix(x.mean((2, 3), keepdim=True)))


@st.composite
def same_size_paths(draw):
    """Draw a path of layers that keep height and width."""
    layers = []
    for _ in range(draw(st.integers(0, 2))):
        kernel, dilation = draw(st.sampled_from([(1, 1), (3, 1), (5, 1), (3, 2), (3, 3)]))
        padding = dilation * (kernel - 1) // 2
        groups = draw(st.sampled_from([1, 2]))
        layers.append(nn.Conv2d(2, 2, kernel, 1, padding, dilation, groups=groups))
    if draw(st.booleans()):
        layers.append(nn.AvgPool2d(3, 1, 1))
    return nn.Sequential(*layers)


@st.composite
def layers(draw):
    kind = draw(st.sampled_from(["conv", "pool", "branches", "pad", "crop", "norm"]))
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    if kind == "conv":
        padding, dilation = draw(st.integers(0, kernel // 2)), draw(st.integers(1, 3))
        return nn.Conv2d(2, 2, kernel, stride, padding, dilation)
    if kind == "pool":
        padding = draw(st.integers(0, kernel // 2))
        return nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw(st.booleans()))
    if kind == "branches":
        paths = draw(st.lists(same_size_paths(), min_size=2, max_size=3))
        return Branches(paths, draw(st.sampled_from(["add", "cat"])))
    if kind == "pad":
        return nn.ZeroPad2d(draw(st.integers(0, 2)))
    if kind == "crop":
        return Crop(draw(st.integers(0, 2)), stride)
    return nn.Sequential(nn.BatchNorm2d(2), nn.ReLU())


class Crop(nn.Module):
    def __init__(self, first, step):
        super().__init__()
        self.first, self.step = first, step

    def forward(self, x):
        return x[:, :, self.first :: self.step, self.first :: self.step]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=5))
def test_random_networks_against_the_gradient(members):
    model = positive(nn.Sequential(nn.Conv2d(1, 2, 1), *members))
    last = str(len(members))
    try:
        model(torch.zeros(1, 1, SIDE, SIDE).double())
    except RuntimeError:  # nothing is left of the image
        reject()
    field = receptive_field(model, (1, SIDE, SIDE), last)
    unit = field.center
    found, clipped = support(model, (1, SIDE, SIDE), last, unit), field.box(*unit, clip=True)
    for (first, stop), (low, high) in zip(found, clipped, strict=True):
        assert low <= first < stop <= high
    # Padding on the way can hide pixels behind it. There is none on the way if the units
    # of every layer see all of the box.
    for name, module in model.named_modules():
        if name and type(module) is not nn.ModuleList:
            maps = receptive_field(model, (1, SIDE, SIDE), name)
            corners = maps.box(0, 0), maps.box(*(count - 1 for count in maps.positions))
            for (low, high), (first, _), (_, stop) in zip(field.box(*unit), *corners, strict=True):
                if low < first or high > stop:
                    return
    assert found == clipped


def test_gate_makes_every_unit_see_everything():
    model = positive(nn.Sequential(nn.Conv2d(1, 2, 3), Gate(), nn.Conv2d(2, 2, 3)))
    field = receptive_field(model, (1, 12, 12), "2")
    assert (field.size, field.jump) == ((12, 12), (0, 0))
    assert support(model, (1, 12, 12), "2", (0, 0)) == ((0, 12), (0, 12))


@pytest.mark.parametrize(
    ("member", "size", "jump"),
    [
        (nn.AdaptiveAvgPool2d(1), 12, 0),
        (nn.AdaptiveMaxPool2d(5), 4, 2),  # from ten positions to five
        (nn.InstanceNorm2d(2), 12, 0),
        (nn.GroupNorm(1, 2), 12, 0),
        (nn.Softmax2d(), 3, 1),
        (nn.Hardswish(), 3, 1),
        (nn.PReLU(), 3, 1),
        (nn.LocalResponseNorm(2), 3, 1),
        (nn.Dropout2d(), 3, 1),
        (nn.Flatten(2), 3, 1),
    ],
)
def test_members(member, size, jump):
    field = receptive_field(nn.Sequential(nn.Conv2d(1, 2, 3), member), (1, 12, 12), "1")
    assert (field.size, field.jump) == ((size, size), (jump, jump))


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (Function(lambda x: torch.fft.rfft(x).abs()), "_fft_r2c"),
        (Function(lambda x: x[:, :, x[0, 0, 0] > -9]), "index|nothing is known"),
        (Function(lambda x: x.transpose(2, 3)), "rows and columns are not those of the image"),
        (Function(lambda x: x.unflatten(2, (5, 2))), "split into windows"),
        (Function(lambda x: torch.cat([x, torch.zeros(1, 2, 3, 10)], 2)), "see nothing"),
    ],
)
def test_what_cannot_be_followed_is_not_guessed(member, reason):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), member, nn.ReLU())
    with pytest.raises(ValueError, match=rf"layer '2' cannot be followed: .*({reason})"):
        receptive_field(model, (1, 12, 12), "2")
    row = analysis.summary(model, (1, 12, 12)).rows[-1]
    assert (row["receptive_field"], row["jump"]) == (None, None)
    assert receptive_field(model, (1, 12, 12), "0").size == (3, 3)


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ReLU()

    def forward(self, x):
        return x + self.inner(torch.ones(1))


def test_errors():
    net = ours("googlenet")
    with pytest.raises(ValueError, match=r"unknown layer 'inception4'.*Did you mean 'inception4"):
        receptive_field(net, (3, 224, 224), "inception4")
    with pytest.raises(ValueError, match="'auxiliary_4a' does not run in evaluation mode"):
        receptive_field(net, (3, 224, 224), "auxiliary_4a")
    with pytest.raises(ValueError, match="'inner' does not depend on the image"):
        receptive_field(Constant(), (3, 8, 8), "inner")
    field = receptive_field(models.lenet5(), (1, 32, 32), "s4")
    for position in ((5, 0), (0, -1), (0,)):
        with pytest.raises(ValueError, match="has units at 5×5 positions, none at"):
            field.box(*position)


def test_one_and_three_dimensions():
    line = receptive_field(nn.Sequential(nn.Conv1d(1, 1, 3), nn.AvgPool1d(2)), (1, 20), "1")
    assert (line.size, line.jump, line.box(3)) == ((4,), (2,), ((6, 10),))
    block = receptive_field(nn.Sequential(nn.Conv3d(1, 1, (1, 3, 5))), (1, 7, 7, 7), "0")
    assert block.size == (1, 3, 5)


def test_box_is_clipped_to_the_image():
    field = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2)), (1, 8, 10), "0")
    assert field.box(0, 9) == ((-2, 3), (7, 12))
    assert field.box(0, 9, clip=True) == ((0, 3), (7, 10))
    assert field.center == (4, 5)


# ---------------------------------------------------------------- effective field


def test_effective_field_of_one_convolution_is_its_kernel():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False)).double()
    x = torch.randn(4, 2, 9, 9)
    found = effective_receptive_field(net, x.double(), "0", unit=(2, 4))
    assert (found.layer, found.unit) == ("0", (2, 4))
    expected = torch.zeros(9, 9).double()
    expected[2:5, 4:7] = net[0].weight.detach().sum(0).abs().mean(0)
    assert torch.allclose(found.effect, expected)


def test_effective_field_against_finite_differences():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3)).double()
    x = torch.randn(2, 1, 6, 6).double()
    found = effective_receptive_field(net, x, "2")
    assert found.unit == (2, 2)
    step, expected = 1e-6, torch.zeros(6, 6).double()
    with torch.no_grad():
        for n in range(2):
            for pixel in range(36):
                change = torch.zeros(36).double()
                change[pixel] = step
                change = change.view(1, 1, 6, 6)
                up, down = (net(x[n : n + 1] + s * change)[0, :, 2, 2].sum() for s in (1, -1))
                expected.view(-1)[pixel] += (up - down).abs() / (2 * step) / 2
    assert torch.allclose(found.effect, expected, atol=1e-7)


def test_effective_field_lies_within_the_theoretical():
    net = torchvision.models.resnet18(num_classes=3).train()
    net.layer1[0].weight = nn.Parameter(torch.ones(1))
    net.layer1[0].weight.grad = torch.ones(1)
    found = effective_receptive_field(net, torch.randn(2, 3, 128, 128), "layer2")
    (top, bottom), (left, right) = receptive_field(net, (3, 128, 128), "layer2").box(clip=True)
    assert found.effect.shape == (128, 128)
    inside = found.effect[top:bottom, left:right]
    assert inside.count_nonzero() == found.effect.count_nonzero() > 0
    assert 1 < found.size < 99
    assert found.size == effective_size(found.effect)
    assert net.training
    assert [p.grad is None for p in net.parameters()].count(False) == 1


def test_effective_field_sees_a_layer_before_it_is_changed_in_place():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True))
    with torch.no_grad():
        net[0].weight.fill_(-1)
    found = effective_receptive_field(net, torch.ones(1, 1, 3, 3), "0")
    assert found.effect[1, 1] == 1
    assert effective_receptive_field(net, torch.ones(1, 1, 3, 3), "1").effect[1, 1] == 0


def test_effective_field_errors():
    net = models.lenet5()
    x = torch.zeros(1, 1, 32, 32)
    with pytest.raises(ValueError, match=r"unknown layer 'outputs'.*Did you mean 'output'"):
        effective_receptive_field(net, x, "outputs")
    with pytest.raises(TypeError, match=r"layer 'f6' returns \(1, 84\), not feature maps"):
        effective_receptive_field(net, x, "f6")
    with pytest.raises(ValueError, match=r"'c1' has 28×28 units, none at \(28, 0\)"):
        effective_receptive_field(net, x, "c1", unit=(28, 0))
    with pytest.raises(ValueError, match="'auxiliary_4a' does not run"):
        effective_receptive_field(ours("googlenet"), torch.zeros(1, 3, 224, 224), "auxiliary_4a")
    assert not any(m._forward_hooks for m in net.modules())


def test_effective_size():
    assert effective_size(torch.ones(10, 10), share=1) == 10
    assert effective_size(torch.ones(10, 10), share=0.25) == 5
    assert effective_size(torch.zeros(4, 4)) == 0
    one = torch.zeros(5, 5)
    one[2, 2] = 1
    assert effective_size(one) == 1
    # A normal distribution with standard deviation s has 95.45 % inside a circle of radius
    # s·√(-2 ln 0.0455).
    grid = torch.arange(-100, 101).double()
    bell = torch.exp(-(grid**2) / 2 / 20**2)
    side = 20 * math.sqrt(-2 * math.log(1 - 0.9545) * math.pi)
    assert effective_size(bell[:, None] * bell) == pytest.approx(side, rel=1e-3)
    with pytest.raises(ValueError, match="share must be more than 0 and at most 1, got 0"):
        effective_size(bell[:, None] * bell, share=0)
    with pytest.raises(ValueError, match="is not negative, got -1"):
        effective_size(-torch.ones(2, 2))


def test_units_that_all_see_the_same_are_said_to():
    class Gate(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    net = nn.Sequential(nn.Conv2d(1, 4, 3), Gate(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    fields = {layer: receptive_field(net, (1, 14, 14), layer) for layer in "0123"}
    assert str(fields["1"]) == "1: all units see the same 14×14 pixels"
    assert [field.shared for field in fields.values()] == [False, True, False, False]
    assert str(fields["2"]).startswith("2: all units see the same ")


def test_positions_are_integers():
    net = nn.Sequential(nn.Conv2d(1, 4, 3))
    with pytest.raises(ValueError, match=r"none at \(0.5, 1\)"):
        receptive_field(net, (1, 8, 8), "0").box(0.5, 1)
    for unit in [(0.5, 0.5), (1,), (1, 2, 3)]:
        with pytest.raises(ValueError, match="unit must be a row and a column, two integers"):
            effective_receptive_field(net, torch.rand(1, 1, 8, 8), "0", unit=unit)
