"""What is known of a network by name, and networks from outside the package."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import models
from cnnbook.models import registry


@pytest.fixture
def empty_shelf(monkeypatch):
    """Let a test register what it likes: afterwards everything is as before."""
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))


def linear(num_classes=10, in_channels=1, *, bias=True):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes, bias=bias))


LINEAR = models.ModelSpec(
    linear, "after nobody", (1, 8, 8), 10, scaled_down={"bias": False}, loss=F.multi_margin_loss
)


def test_a_network_from_outside_is_one_like_the_others(empty_shelf):
    models.register_model("linear", LINEAR)
    assert models.list_models()[-1] == "linear"
    assert models.model_spec("linear") is LINEAR
    assert models.create("linear")[1].weight.shape == (10, 64)
    assert models.create_for("linear", (3, 8, 8), 5)[1].weight.shape == (5, 192)
    assert models.create_scaled_down("linear")[1].bias is None
    with pytest.raises(ValueError, match="takes images of 8×8 pixels, these have 9×9"):
        models.create_for("linear", (1, 9, 9), 10)


def test_a_name_is_given_once(empty_shelf):
    models.register_model("linear", LINEAR)
    for name, whose in (("linear", "after nobody"), ("vgg16", "Simonyan")):
        with pytest.raises(ValueError, match=rf"{name!r} is registered already \({whose}"):
            models.register_model(name, LINEAR)
    assert models.model_spec("vgg16").num_classes == 1000


def takes_other_things(width, height):
    return nn.Linear(width, height)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (nn.Linear, r"takes a ModelSpec, got Linear; for .*ModelSpec\(build=Linear, paper="),
        (nn.Linear(2, 2), r"takes a ModelSpec, got an object of type Linear"),
        (
            dataclasses.replace(LINEAR, build=takes_other_things),
            r"\(width, height\) cannot be called",
        ),
        (dataclasses.replace(LINEAR, build=nn.Linear), "Linear.*cannot be called like that"),
    ],
)
def test_what_cannot_be_built_is_not_registered(spec, message, empty_shelf):
    with pytest.raises(TypeError, match=message):
        models.register_model("mine", spec)
    assert "mine" not in models.list_models()


def test_a_name_is_a_text(empty_shelf):
    with pytest.raises(TypeError, match="name is a text, got 3"):
        models.register_model(3, LINEAR)


@pytest.mark.parametrize("shape", [(32, 32), 32, (3, 32, 0), (3, 32.0, 32), torch.zeros(3)])
def test_a_shape_is_channels_height_width(shape, empty_shelf):
    spec = dataclasses.replace(LINEAR, input_shape=shape)
    with pytest.raises(ValueError, match=r"input_shape is \(channels, height, width\)"):
        models.register_model("mine", spec)
    with pytest.raises(ValueError, match=r"image_shape is \(channels, height, width\)"):
        models.create_for("resnet18", shape, 4)


def test_images_are_square():
    for name, shape in (("resnet18", (3, 32, 48)), ("vgg16", (3, 224, 300))):
        with pytest.raises(ValueError, match=rf"for square images.*{shape[1]}×{shape[2]} pixels"):
            models.create_for(name, shape, 4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"widht": 0.5}, "unknown option of resnet18 'widht'.*Did you mean 'width'"),
        ("lenet5", {"activaton": "relu"}, "Did you mean 'activation'"),
        ("resnet18", {"pretrained": True}, 'weights="imagenet" loads trained weights'),
        ("resnet18", {"width": "abc"}, "width must be a number, got width='abc'"),
        ("vgg11", {"num_classes": 0}, "num_classes must be a positive whole number, got num_cl"),
        ("vgg11", {"num_classes": "10"}, "num_classes must be a positive .*, got num_classes='10'"),
        ("vgg11", {"in_channels": 1.5}, r"in_channels must be a positive .*in_channels=1\.5"),
        ("vgg11", {"width": True}, "width must be a number, got width=True"),
        ("vgg11", {"batch_norm": "yes"}, "batch_norm must be True or False, got batch_norm='yes'"),
        ("alexnet", {"input_size": 3.5}, "must be a whole number or None, got input_size=3.5"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **options)


@pytest.mark.parametrize("name", models.list_models())
def test_options_and_their_defaults_are_known(name):
    options = models.model_options(name)
    assert options
    assert not {"num_classes", "in_channels"} & set(options)
    with torch.device("meta"):
        default, same = models.create(name), models.create(name, **options)
    assert str(default) == str(same)


def test_a_network_without_a_function_of_its_name():
    with pytest.raises(
        AttributeError, match=r"no attribute 'resnet18'; models.create\('resnet18'\)"
    ):
        models.resnet18  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        models.nothing  # noqa: B018
    assert not hasattr(models, "vgg16")


def test_a_spec_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        models.model_spec("vgg16").num_classes = 3


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_losses_take_what_the_network_returns_in_either_mode(name):
    spec = models.model_spec(name)
    options = {"codes": "random"} if name == "lenet5_1998" else {}
    with torch.device("meta"):
        net = models.create(name, 7, **options)
        x, y = torch.zeros(2, *spec.input_shape), torch.zeros(2, dtype=torch.int64)
        for training in (True, False):
            assert spec.loss(net.train(training)(x), y).shape == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in models.list_models() if models.model_spec(n).torchvision]
)
def test_twins_have_the_same_parameters_in_the_same_order(name):
    options = models.model_spec(name).torchvision.options
    with torch.device("meta"):
        ours, theirs = models.create(name, **options), models.torchvision_model(name)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    assert [b.shape for b in ours.buffers()] == [b.shape for b in theirs.buffers()]


@pytest.mark.parametrize(
    "name", [n for n in models.list_models() if models.model_spec(n).scaled_down is not None]
)
def test_scaled_down_models_take_the_same_images(name):
    with torch.device("meta"):
        net = models.create_scaled_down(name, 4, 3)
        scores = net(torch.zeros(2, 3, 32, 32))
        assert scores.shape == (2, 4)
        assert sum(p.numel() for p in net.parameters()) < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_every_network_fits_images_or_says_which_it_takes(name):
    spec = models.model_spec(name)
    side = 32 if spec.input_shape[1] == 32 else 28
    if spec.small_images is None and spec.input_shape[1] != side:
        with pytest.raises(ValueError, match="takes images of"):
            models.create_for(name, (1, side, side), 10)
        return
    with torch.device("meta"):
        net = models.create_for(name, (1, side, side), 10).eval()
        assert net(torch.zeros(1, 1, side, side)).shape == (1, 10)
        full = models.create_for(name, spec.input_shape, 10).eval()
        assert full(torch.zeros(1, *spec.input_shape)).shape == (1, 10)


def test_what_a_network_does_not_have_is_refused_with_those_that_have_it():
    with pytest.raises(ValueError, match=r"scaled-down model 'vgg19'.*Did you mean 'vgg11'"):
        models.create_scaled_down("vgg19")
    with pytest.raises(ValueError, match="Did you mean 'resnet20'"):
        models.create_scaled_down("resnet2")
    with pytest.raises(ValueError, match=r"torchvision has too 'googlenet'.*'googlenet_bn'"):
        models.torchvision_model("googlenet")
    with pytest.raises(ValueError, match="Did you mean 'vgg1"):
        models.torchvision_model("vgg17")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[31m", "tab\t", "\x00", " space", "space ", "\u202e"]
)
def test_a_name_can_be_printed_on_a_line(empty_shelf, name):
    with pytest.raises(ValueError, match=r"control characters, or space around it, .* got"):
        models.register_model(name, LINEAR)
    assert name not in models.list_models()


WRONG = [float("nan"), float("inf"), -0.5, "text", None]


@pytest.mark.parametrize("given", WRONG, ids=repr)
@pytest.mark.parametrize("option", ["dropout", "width"])
def test_options_that_are_numbers_take_nothing_else(option, given):
    having = [name for name in models.list_models() if option in models.model_options(name)]
    assert len(having) > 10
    for name in having:
        with pytest.raises(ValueError, match=f"{option} must be "), torch.device("meta"):
            models.create(name, **{option: given})


@pytest.mark.parametrize("given", WRONG, ids=repr)
def test_dropout_is_checked_by_the_constructors_as_well(given):
    for build in (models.AlexNet, models.AlexNet2014, models.GoogLeNet, models.VGG):
        words = "dropout must be a number from 0 to 1, got dropout="
        with pytest.raises(ValueError, match=words), torch.device("meta"):
            build(dropout=given)


@pytest.mark.parametrize("given", ["text", None, 7, [1.0]], ids=repr)
@pytest.mark.parametrize("loss", [models.map_loss, models.googlenet_loss])
def test_losses_take_tensors(loss, given):
    with pytest.raises(TypeError, match=r"^(scores|output) must be a torch tensor, got "):
        loss(given, torch.tensor([0]))
    with pytest.raises(TypeError, match=r"^target must be a torch tensor, got "):
        loss(torch.zeros(1, 3), given)


@pytest.mark.parametrize("j", [0, float("nan"), float("inf"), "text", None], ids=repr)
def test_the_penalty_of_the_rubbish_class_is_positive(j):
    with pytest.raises(ValueError, match="j must be positive and finite, got"):
        models.map_loss(torch.zeros(1, 3), torch.tensor([0]), j=j)
