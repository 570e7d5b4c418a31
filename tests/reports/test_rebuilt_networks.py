"""A file never reopens as another network whose weights happen to have the same shapes."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cnnbook
from cnnbook import data, models, training
from cnnbook.models import registry
from cnnbook.training.trained import check_described


def gray(side):
    images = torch.randint(0, 256, (8, 1, side, side), dtype=torch.uint8)
    return data.Dataset("made up", images, torch.arange(8) % 4, tuple("abcd"), (0.5,), (0.25,))


def fit(net, train, info, folder, **options):
    return training.fit(
        net, train, epochs=1, batch_size=4, checkpoint=folder / "net.safetensors",
        checkpoint_info=info, device="cpu", progress=False, **options,
    )  # fmt: skip


# Name, side of the images, options that the network has, options that model_info is given.
HIDDEN = {
    "activation": ("lenet5", 32, {"activation": "relu"}, {}),
    "pooling": ("lenet5", 32, {"activation": "relu", "pool": "max"}, {"activation": "relu"}),
    "stride of bottlenecks": ("resnet50", 64, {"width": 0.125, "version": "v1.5"},
                              {"width": 0.125}),
    "behind weights of zero": ("resnet50", 64,
                               {"width": 0.125, "version": "v1.5", "zero_init": True},
                               {"width": 0.125}),
    "shortcuts": ("resnet20", 32, {"width": 0.25, "plain": True}, {"width": 0.25}),
    "local response normalization": ("alexnet", 32, {"width": 1 / 6, "lrn": False},
                                     {"width": 1 / 6}),
}  # fmt: skip


@pytest.mark.parametrize("case", HIDDEN)
def test_what_no_weight_shows_is_found_before_the_first_step(case, tmp_path):
    name, side, built, given = HIDDEN[case]
    train, net = gray(side), models.create_for(name, (1, side, side), 4, **built)
    info = training.model_info(name, train, given)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=f"not the {name} that load.*different scores.*itself"):
        fit(net, train, info, tmp_path)
    assert not (tmp_path / "net.safetensors").exists()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    # Both of the ways out that the message names.
    check_described(net, training.model_info(net, train))
    check_described(net, training.model_info(name, train, built))


def test_create_knows_what_it_built(tmp_path):
    """The default of create is not that of create_for, which chooses by the size of the images."""
    train = gray(64)
    net = models.create("efficientnet_lite0", 4, 1, width=0.125)
    fit(net, train, training.model_info(net, train), tmp_path)
    again = cnnbook.load(tmp_path / "net.safetensors").network
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(x), net.eval()(x))


@pytest.mark.parametrize(("side", "stem"), [(64, "imagenet"), (128, "small")])
def test_the_other_stem(side, stem, tmp_path):
    net = models.create("efficientnet_lite0", 4, 1, width=0.125, stem=stem)
    info = training.model_info("efficientnet_lite0", gray(side), {"width": 0.125})
    with pytest.raises(ValueError, match=r"stage1\.0\..*weight is .* here and .* there"):
        fit(net, gray(side), info, tmp_path)


def test_a_network_changed_by_hand(tmp_path):
    train = gray(32)
    net = models.create("resnet20", 4, 1, width=0.25)
    info = training.model_info(net, train)
    next(m for m in net.modules() if isinstance(m, nn.Conv2d)).stride = (2, 2)
    with pytest.raises(ValueError, match="different scores"):
        fit(net, train, info, tmp_path)
    with pytest.raises(
        ValueError, match=r"conv1.* is \(16, 1, 3, 3\) here and \(4, 1, 3, 3\) there, and \d+ more"
    ):
        fit(models.create("resnet20", 4, 1), train, info, tmp_path)


def test_a_network_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))

    class Own(nn.Module):
        def __init__(self, num_classes=4, in_channels=1, leak=0.0):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(in_channels, 3, 3), nn.Linear(3, num_classes)
            self.leak = leak
            self.register_buffer("offset", torch.ones(3), persistent=False)

        def forward(self, x):
            y = F.leaky_relu(self.conv(x), self.leak).mean((2, 3)) + self.offset
            return {"features": y, "logits": self.fc(y)}

    models.register_model(
        "own", models.ModelSpec(Own, "nobody 2026", (1, 32, 32), 4, small_images={})
    )
    train = gray(32)
    info = training.model_info("own", train)
    fit(Own(), train, info, tmp_path, output="logits")
    assert (tmp_path / "net.safetensors").exists()
    with pytest.raises(ValueError, match="different scores"):
        fit(Own(leak=0.2), train, info, tmp_path, output="logits", resume=False)


@pytest.mark.parametrize("info", [None, {"model": "mine"}, {"by": "me", "image": 3}, [1, 2]])
def test_other_information_is_stored_as_it_is(info, tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 4))
    fit(net, gray(32), info, tmp_path)
    assert training.load_checkpoint(tmp_path / "net.safetensors")[1]["info"] == info


def test_the_check_changes_no_random_number(tmp_path):
    train = gray(32)
    weights = []
    for info in (None, training.model_info("alexnet", train, {"width": 0.1})):
        torch.manual_seed(1)
        net = models.create_for("alexnet", (1, 32, 32), 4, width=0.1)  # with dropout
        state = torch.get_rng_state()
        fit(net, train, info, tmp_path, resume=False)
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(net.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_every_network_as_it_is_built_passes(name):
    spec = models.model_spec(name)
    channels, side, _ = spec.input_shape
    if spec.small_images is not None:
        side = 64 if name.startswith("efficientnet") else 32
    train = gray(side)
    if channels == 3:
        color = train.images.expand(-1, 3, -1, -1).clone()
        train = dataclasses.replace(train, images=color, mean=(0.5,) * 3, std=(0.25,) * 3)
    options = {"width": 0.125} if "width" in models.model_options(name) else {}
    if name == "lenet5_1998":
        options = {"codes": "random"}
    net = training.build_for(name, train, **options)
    check_described(net, training.model_info(net, train))
