import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam, Occlusion
from torch import nn

from cnnbook import analysis
from cnnbook.models import GoogLeNet


class PooledNet(nn.Module):
    """Feature maps, global average pooling, one linear layer: class activation maps need these."""

    def __init__(self, in_place=False):
        super().__init__()
        self.maps = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=in_place)
        self.unused = nn.Conv2d(1, 1, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.relu(self.maps(x)).mean((2, 3)))


def pooled_net(**options):
    torch.manual_seed(0)
    return PooledNet(**options)


def test_grad_cam_is_cam_where_that_is_defined():
    model, x = pooled_net(), torch.randn(3, 1, 8, 6)
    found = analysis.grad_cam(model, x, "relu", 2, upsample=False).maps
    maps = analysis.activations(model, x, ["relu"])["relu"]
    # Zhou et al. 2016, equation 2; the factor is the number of positions averaged over.
    cam = torch.einsum("m,nmhw->nhw", model.fc.weight[2].detach(), maps)
    torch.testing.assert_close(found, cam.clamp(min=0) / (8 * 6))


def test_grad_cam_against_finite_differences():
    torch.manual_seed(0)
    maps = nn.Conv2d(1, 2, 3)
    head = nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(2 * 4, 3))
    model, x = nn.Sequential(maps, head).double(), torch.randn(1, 1, 4, 4).double()
    values = maps(x).detach()
    total = torch.zeros(2, 2, dtype=torch.float64)
    for m in range(2):
        slopes = []
        for i in range(2):
            for j in range(2):
                scores = []
                for step in (1e-5, -1e-5):
                    shifted = values.clone()
                    shifted[0, m, i, j] += step
                    scores.append(head(shifted)[0, 1].item())
                slopes.append((scores[0] - scores[1]) / 2e-5)
        total += sum(slopes) / len(slopes) * values[0, m]
    found = analysis.grad_cam(model, x, "0", 1, upsample=False).maps[0]
    assert found.max() > 0
    torch.testing.assert_close(found, total.clamp(min=0), rtol=1e-6, atol=1e-9)


def test_target_is_the_likeliest_class_unless_given():
    model, x = pooled_net(), torch.randn(5, 1, 8, 8)
    likeliest = model(x).argmax(1)
    by_default = analysis.grad_cam(model, x, "relu")
    assert torch.equal(by_default.target, likeliest)
    assert torch.equal(by_default.maps, analysis.grad_cam(model, x, "relu", likeliest).maps)
    for i, image in enumerate(x):  # one image's result does not depend on the others
        alone = analysis.grad_cam(model, image[None], "relu", int(likeliest[i]))
        torch.testing.assert_close(alone.maps[0], by_default.maps[i])


def test_layers_followed_by_in_place_operations():
    x = torch.randn(2, 1, 8, 8)
    kept, overwritten = (
        analysis.grad_cam(pooled_net(in_place=flag), x, "maps", 0).maps for flag in (False, True)
    )
    assert torch.equal(kept, overwritten)


def test_frozen_networks_and_their_gradients():
    model, x = pooled_net(), torch.randn(2, 1, 8, 8)
    expected = analysis.grad_cam(model, x, "relu", 0).maps
    assert all(parameter.grad is None for parameter in model.parameters())
    frozen = analysis.grad_cam(model.requires_grad_(False), x, "relu", 0)
    assert torch.equal(frozen.maps, expected)
    with torch.no_grad():
        assert torch.equal(analysis.grad_cam(model, x, "relu", 0).maps, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("mobilenet_v3_small", "features"),
        ("efficientnet_b0", "features.8"),
        ("googlenet", "inception5b"),
    ],
)
def test_grad_cam_of_foreign_networks(name, layer):
    torch.manual_seed(0)
    options = {"init_weights": True} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(num_classes=10, **options).train()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    x = torch.rand(2, 3, 64, 96)
    found = analysis.grad_cam(model, x, layer).maps
    assert found.shape == (2, 64, 96)
    assert found.min() >= 0
    assert 0 < found.max() < torch.inf
    assert analysis.grad_cam(model, x, layer, upsample=False).maps.shape == (2, 2, 3)
    assert model.training
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0


@pytest.mark.parametrize(
    ("layer", "target", "message"),
    [
        ("relus", 0, "unknown layer 'relus'.*Did you mean 'relu'"),
        ("fc", 0, r"layer 'fc' outputs \(2, 3\), not feature maps"),
        ("unused", 0, "layer 'unused' has no influence"),
        ("relu", 3, "target must lie in 0 … 2, got 3"),
        ("relu", torch.tensor([0]), "one for each of 2 images, got shape"),
    ],
)
def test_grad_cam_errors(layer, target, message):
    model = pooled_net()
    with pytest.raises(ValueError, match=message):
        analysis.grad_cam(model, torch.zeros(2, 1, 8, 8), layer, target)
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0
    assert model.training


def test_layers_of_auxiliary_classifiers_have_no_influence():
    model = GoogLeNet(10, 1, stem="small", width=0.1)
    with pytest.raises(ValueError, match=r"auxiliary_4a.conv.*has no influence"):
        analysis.grad_cam(model, torch.zeros(1, 1, 32, 32), "auxiliary_4a.conv")


def test_a_network_without_class_scores_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    for look in (
        lambda x: analysis.grad_cam(model, x, "0"),
        lambda x: analysis.occlusion(model, x),
    ):
        with pytest.raises(TypeError, match=r"class scores \(N, K\), got a tensor of shape"):
            look(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(("patch", "stride"), [(3, 2), (4, 4), (2, 1), (6, 1)])
def test_occlusion_against_a_loop_over_pixels(patch, stride):
    model, x = pooled_net(), torch.randn(2, 1, 6, 9)
    options = {"patch": patch, "stride": stride, "fill": 0.3, "batch_size": 5}
    found = analysis.occlusion(model, x, 1, **options).maps

    def probability(image):
        with torch.no_grad():
            return model(image[None]).softmax(1)[0, 1]

    tops, lefts = (sorted({*range(0, n - patch, stride), n - patch}) for n in (6, 9))
    for i in range(2):
        for row in range(6):
            for column in range(9):
                falls = []
                for top in tops:
                    for left in lefts:
                        if top <= row < top + patch and left <= column < left + patch:
                            covered = x[i].clone()
                            covered[:, top : top + patch, left : left + patch] = 0.3
                            falls.append(probability(x[i]) - probability(covered))
                expected = torch.stack(falls).mean()
                torch.testing.assert_close(found[i, row, column], expected)


def test_occlusion_finds_the_only_pixels_that_count():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        weight = model[1].weight.view(2, 3, 8, 8)
        weight[1, :, 2:4, 4:6] = 1
    x = torch.rand(1, 3, 8, 8) + 0.5
    fall = analysis.occlusion(model, x, patch=2, stride=2).maps[0]
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:4, 4:6] = True
    assert (fall[inside] > 0.4).all()
    assert (fall[~inside].abs() < 1e-6).all()


def test_fill_may_be_a_color():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
    color = [0.1, 0.2, 0.3]
    x = torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert analysis.occlusion(model, x, 0, patch=2, fill=color).maps.abs().max() < 1e-6
    assert analysis.occlusion(model, x, 0, patch=2, fill=0.9).maps.abs().max() > 1e-4


@pytest.mark.slow
def test_occlusion_of_a_foreign_network():
    torch.manual_seed(0)
    model = torchvision.models.efficientnet_b0(num_classes=4).train()
    x = torch.rand(2, 3, 32, 32)
    assert analysis.occlusion(model, x).maps.shape == (2, 32, 32)
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 9}, "patch must be from 1 to 8 pixels, got 9"),
        ({"patch": 2, "stride": 3}, "stride must be from 1 to the patch's 2 pixels, got 3"),
        ({"fill": [0.0, 1.0]}, "one for each of 1 channels"),
        ({"target": 5}, "target must lie in 0 … 2, got 5"),
    ],
)
def test_occlusion_errors(options, message):
    with pytest.raises(ValueError, match=message):
        analysis.occlusion(pooled_net(), torch.zeros(2, 1, 8, 8), **options)


@pytest.mark.slow
def test_attributions_say_what_they_explain_and_draw_it():
    model, x = pooled_net(), torch.randn(2, 1, 8, 6)
    cam = analysis.grad_cam(model, x, "relu", torch.tensor([2, 0]))
    assert repr(cam) == "<Attribution of classes [2, 0]: Grad-CAM of relu, 8×6>"
    assert torch.equal(cam.images, x)
    figure = cam.plot()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["class 2", "class 0"]
    # Scores of two images cannot be compared, probabilities can.
    assert "share of each image's largest" in figure.axes[-1].get_xlabel()
    fall = analysis.occlusion(model, x, 1)
    assert fall.target.tolist() == [1, 1]
    assert fall.plot().axes[-1].get_xlabel() == "drop in probability"
    # Normalized inputs are shown from their lowest value to their highest.
    shown = figure.axes[0].images[0].get_array()
    assert (shown.min(), shown.max()) == (0, 1)
    pictures = torch.full((2, 1, 8, 6), 128, dtype=torch.uint8)
    own = cam.plot(pictures, ["a", "b"], label="evidence", common_scale=True)
    assert own.axes[0].images[0].get_array()[0, 0] == pytest.approx(128 / 255)
    assert own.axes[-1].get_xlabel() == "evidence"
    assert own.alt.startswith("2 images with a heat map of evidence. It is largest at: a: ")


def captums_grad_cam(model, x, layer, target):
    module = model.get_submodule(layer)
    found = LayerGradCam(model.eval(), module).attribute(x, target=target, relu_attributions=True)
    return found.detach()[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (torchvision.models.resnet18, "layer4"),
        (torchvision.models.resnet18, "layer2.0.conv1"),
        (torchvision.models.densenet121, "features.denseblock4"),
        (torchvision.models.mobilenet_v3_small, "features.12"),
        (torchvision.models.convnext_tiny, "features.7"),
        ("regnety_002", "s4"),
        ("convnext_atto", "stages.3"),
        ("efficientnet_b0", "conv_head"),
    ],
)
def test_grad_cam_is_captums(build, layer):
    torch.manual_seed(0)
    make = (lambda: timm.create_model(build)) if isinstance(build, str) else build
    model = make().eval()
    x = torch.randn(2, 3, 64, 96)
    targets = torch.tensor([3, 7])
    found = analysis.grad_cam(model, x, layer, targets, upsample=False)
    expected = captums_grad_cam(model, x, layer, targets)
    assert expected.max() > 0
    torch.testing.assert_close(found.maps, expected, rtol=1e-5, atol=1e-5 * expected.max().item())


def captums_grad_cam_of_the_permuted(model, x, layer, target):
    """Captum takes dimension 1 for the channels, so a layer is put where they are."""
    kept = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda _m, _i, out: kept.append(out) or None)
    scores = model.eval()(x)
    handle.remove()
    maps = kept[-1]
    (gradient,) = torch.autograd.grad(scores[:, target].sum(), maps)
    maps, gradient = maps.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    return torch.einsum("nm,nmhw->nhw", gradient.mean((2, 3)), maps).clamp(min=0).detach()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (torchvision.models.swin_t, "features.7"),
        (torchvision.models.swin_t, "features.1.0.norm1"),
        (torchvision.models.convnext_tiny, "features.7.2.block.2"),
        ("swin_tiny_patch4_window7_224", "layers.3"),
        ("convnext_tiny", "stages.3.blocks.0.mlp"),
    ],
)
def test_grad_cam_of_layers_with_channels_last(build, layer):
    torch.manual_seed(0)
    model = timm.create_model(build) if isinstance(build, str) else build()
    x = torch.randn(1, 3, 224, 224)
    found = analysis.grad_cam(model, x, layer, 5, upsample=False)
    expected = captums_grad_cam_of_the_permuted(model, x, layer, 5)
    torch.testing.assert_close(found.maps, expected, rtol=1e-5, atol=1e-5 * expected.max().item())


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [torchvision.models.resnet18, torchvision.models.squeezenet1_1, "mobilenetv3_small_050"],
)
def test_occlusion_is_captums(build):
    torch.manual_seed(0)
    model = timm.create_model(build) if isinstance(build, str) else build(num_classes=3)
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    target = torch.tensor([0, 2])
    found = analysis.occlusion(model, x, target, patch=16, stride=8, fill=0.2)
    expected = Occlusion(nn.Sequential(model, nn.Softmax(1))).attribute(
        x, (3, 16, 16), strides=(3, 8, 8), baselines=0.2, target=target
    )
    assert expected.abs().max() > 0
    torch.testing.assert_close(found.maps, expected[:, 0].float(), rtol=1e-5, atol=1e-5)


class Answering(nn.Module):
    """The same scores, packed in another way."""

    def __init__(self, pack):
        super().__init__()
        self.net = pooled_net()
        self.pack = pack

    def forward(self, x):
        return self.pack(self.net(x))


@pytest.mark.parametrize(
    ("pack", "output"),
    [
        (lambda s: {"logits": s}, None),
        (lambda s: {"features": s * 0, "logits": s}, None),
        (lambda s: {"a": s * 0, "b": s}, "b"),
        (lambda s: (s, s * 0), None),
        (lambda s: [s * 0, s], 1),
        (lambda s: (s * 0, {"x": s}), lambda found: found[1]["x"]),
    ],
)
def test_scores_in_a_tuple_or_dict(pack, output):
    x = torch.randn(2, 1, 8, 8)
    model = Answering(pack)
    expected = analysis.grad_cam(model.net, x, "relu", 1).maps
    assert torch.equal(analysis.grad_cam(model, x, "net.relu", 1, output=output).maps, expected)
    covered = analysis.occlusion(model.net, x, 1).maps
    assert torch.equal(analysis.occlusion(model, x, 1, output=output).maps, covered)


def test_scores_that_are_not_found_are_asked_for():
    model = Answering(lambda s: {"a": s, "b": s})
    with pytest.raises(TypeError, match=r"entries 'a', 'b'.*output= says which"):
        analysis.grad_cam(model, torch.zeros(1, 1, 8, 8), "net.relu")


@pytest.mark.parametrize(
    "target", [[2, 0], (2, 0), np.array([2, 0]), torch.tensor([2, 0], dtype=torch.uint8)]
)
def test_targets_of_all_kinds(target):
    model, x = pooled_net(), torch.randn(2, 1, 8, 8)
    expected = analysis.grad_cam(model, x, "relu", torch.tensor([2, 0])).maps
    assert torch.equal(analysis.grad_cam(model, x, "relu", target).maps, expected)
    for one in (2, np.int64(2), torch.tensor(2)):
        found = analysis.grad_cam(model, x, model.relu, one)
        assert found.target.tolist() == [2, 2]
        assert torch.equal(found.maps[0], expected[0])
