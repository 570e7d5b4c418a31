"""Pictures in whatever form they are at hand, and errors in words where they are none."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import cnnbook
from cnnbook import data, models, training


@pytest.fixture(scope="module")
def trained():
    return cnnbook.load("efficientnet_lite0")


CAT = data.photo("cat")
SQUARE = data.photo("cat", size=224)


def best(trained, pictures):
    return [row["class"] for row in training.predict(trained, pictures, top=1, device="cpu")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pictures", "count"),
    [
        (DataLoader([(SQUARE, 3)] * 3, batch_size=2), 3),
        (DataLoader([SQUARE / 255] * 3, batch_size=2), 3),
        ((torch.stack([SQUARE] * 2), torch.tensor([0, 1])), 2),
        ([(torch.stack([SQUARE] * 2), torch.tensor([0, 1])), CAT], 3),
        ((SQUARE, CAT), 2),
        (CAT.float().div(255).requires_grad_(), 1),
        (CAT.div(255).half(), 1),
        (Image.fromarray(CAT.permute(1, 2, 0).numpy()).convert("RGBA"), 1),
    ],
)
def test_every_form_shows_the_cat(trained, pictures, count):
    assert best(trained, pictures) == ["Egyptian cat"] * count


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (CAT.permute(1, 2, 0), r"got \(300, 451, 3\); if channels come last.*permute\(2, 0, 1\)"),
        (CAT.permute(1, 2, 0)[None], r"channels come last"),
        (torch.rand(4, 50, 50), r"1 or 3 channels, got \(4, 50, 50\)$"),
        (torch.rand(3, 0, 5), r"without a pixel, of shape \(3, 0, 5\)"),
        (torch.zeros(0, 3, 5, 5), "no pictures to read"),
        (torch.full((3, 9, 9), float("nan")), "fractions from 0 to 1, these reach from nan"),
    ],
)
def test_what_is_no_picture_is_said(trained, pictures, message):
    with pytest.raises(ValueError, match=message):
        best(trained, pictures)


def test_how_many_classes(trained):
    assert len(training.predict(trained, CAT, top=np.int64(2), device="cpu")) == 2
    for top in (True, 2.0, "3"):
        with pytest.raises(TypeError, match=r"top (is a whole|must be a) number"):
            training.predict(trained, CAT, top=top, device="cpu")


@pytest.mark.parametrize("count", [True, 0, 2.5, "10"])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "lenet5"])
def test_counts_are_whole_numbers(name, count):
    with pytest.raises(ValueError, match="num_classes must be a positive whole number"):
        models.create(name, count)
    with pytest.raises(ValueError, match="in_channels must be a positive whole number"):
        models.create(name, in_channels=count)


def test_weights_of_the_other_stem():
    """Both stems have weights of the same shapes; the published ones were trained with one."""
    with pytest.raises(ValueError, match="efficientnet_lite0 belong to stem='imagenet', got"):
        models.create("efficientnet_lite0", weights="imagenet", stem="small")


@pytest.mark.parametrize(
    "name", [name for name in models.list_models() if models.model_spec(name).weights]
)
def test_no_option_hides_behind_published_weights(name, monkeypatch):
    """Options that change no weight's shape, but the scores, must be refused with weights."""
    spec = models.model_spec(name)
    published = spec.weights["imagenet"]
    harmless = {"dropout", "zero_init", "init", "width"}  # width changes shapes
    hidden = set(models.model_options(name)) - harmless
    changes = {
        "stem": "small",
        "plain": True,
        "shortcut": "A",
        "input_size": 32,
        "batch_norm": None,
    }
    for option in hidden:
        if option in published.options:
            continue
        value = {"version": "v1.5"}.get(option, changes.get(option))
        if option == "batch_norm":
            value = not models.model_options(name)[option]
        assert value is not None, option
        with torch.device("meta"):
            ours = models.create(name, **published.options)
            other = models.create(name, **{**published.options, option: value})
        shapes = [[tuple(v.shape) for v in net.state_dict().values()] for net in (ours, other)]
        if name in ("resnet18", "resnet34") and option == "version":
            assert str(ours) == str(other)  # basic blocks have one place for the stride
        else:
            assert shapes[0] != shapes[1], option
