"""Networks built for a data set, read from a file, and used on pictures."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import cnnbook
from cnnbook import data, models, training
from cnnbook.data import DataError
from cnnbook.models import registry
from cnnbook.training import CheckpointError


@pytest.fixture(scope="module")
def sets():
    train, test = data.load("fashion-mini", size=32)
    return train[:200], test[:40]


@pytest.fixture(scope="module")
def file(sets, tmp_path_factory):
    """The file of a LeNet-5 that saw a few clothes."""
    train, _ = sets
    path = tmp_path_factory.mktemp("trained") / "net.safetensors"
    options = {"activation": "relu", "pool": "max"}
    torch.manual_seed(0)
    training.fit(
        training.build_for("lenet5", train, **options),
        train,
        epochs=1,
        checkpoint=path,
        checkpoint_info=training.model_info(
            "lenet5", train, options, source="fashion-mini", side=28
        ),
        device="cpu",
        progress=False,
    )
    return path


def picture_of(image, path):
    Image.fromarray(image.numpy()).save(path)
    return path


def test_a_network_is_built_for_the_data():
    gray, _ = data.load("fashion-mini")
    color = dataclasses.replace(
        gray[:5], images=gray.images[:5].repeat(1, 3, 1, 1), mean=(0.5,) * 3, std=(0.25,) * 3
    )
    with torch.device("meta"):
        net = training.build_for("vgg11", color, width=0.1)
        assert net(torch.zeros(2, 3, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"unknown option of vgg11 'depth'"):
        training.build_for("vgg11", color, depth=3)
    with pytest.raises(
        ValueError, match="data set determines num_classes; leave out num_classes=3"
    ):
        training.build_for("vgg11", color, num_classes=3)
    with pytest.raises(ValueError, match="lenet5 takes images of 32×32 pixels"):
        training.build_for("lenet5", gray)
    with pytest.raises(ValueError, match="Did you mean 'vgg11'"):
        training.build_for("vgg111", gray)


def test_a_network_comes_back_as_it_was_trained(file, sets):
    trained = training.load(file)
    assert isinstance(trained.network, models.LeNet5)
    assert isinstance(trained.network.s2, torch.nn.MaxPool2d)
    assert not trained.network.training
    assert trained.classes == sets[0].classes
    assert repr(trained) == "<TrainedModel: lenet5, images of 1×32×32, 10 classes>"
    weights, _ = training.load_checkpoint(file)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_network_brings_its_data(file, sets):
    train, test = training.load(file).load_data()
    assert (len(train), len(test)) == (10_000, 2_000)
    assert torch.equal(test.images[:40], sets[1].images)
    with pytest.raises(ValueError, match=r"trained on the classes \['T-shirt/top'.*digits has"):
        training.load(file).load_data("digits")
    info = training.model_info("lenet5", sets[0])
    nowhere = training.TrainedModel(models.lenet5(), sets[0].classes, info)
    with pytest.raises(ValueError, match="not known which data set the network was trained on"):
        nowhere.load_data()


@pytest.mark.slow
def test_pictures_are_read_as_the_test_images_were(file, sets, tmp_path):
    trained, (_, test) = training.load(file), sets
    plain = data.load("fashion-mini")[1].images[:3, 0]
    pictures = [picture_of(image, tmp_path / f"{i}.png") for i, image in enumerate(plain)]
    x, _ = next(data.Batches(test[:3], 3, shuffle=False, device="cpu").epoch(0))
    assert torch.equal(trained.prepare(pictures), x)

    expected = training.evaluate(trained.network, test[:3], device="cpu").scores.softmax(1)
    rows = training.predict(trained, pictures, top=10, device="cpu").to_dicts()
    assert [(row["image"], row["rank"]) for row in rows] == [
        (str(picture), rank) for picture in pictures for rank in range(1, 11)
    ]
    for number, chances in enumerate(expected):
        of_one = rows[10 * number : 10 * number + 10]
        named = {row["class"]: row["probability"] for row in of_one}
        assert named == dict(zip(test.classes, chances.tolist(), strict=True))
        assert [row["probability"] for row in of_one] == sorted(named.values(), reverse=True)


def test_pictures_of_any_kind(file, tmp_path):
    trained = training.load(file)
    photo = tmp_path / "photo.jpg"  # color, another size, not square
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)).save(photo)
    assert trained.prepare([photo]).shape == (1, 1, 32, 32)
    assert len(training.predict(trained, [photo, str(photo)], top=99, device="cpu")) == 20
    with pytest.raises(ValueError, match="at least one class must be named, got top=0"):
        training.predict(trained, [photo], top=0)
    with pytest.raises(ValueError, match="there are no pictures"):
        training.predict(trained, [])
    with pytest.raises(DataError, match="there is no file"):
        training.predict(trained, [tmp_path / "none.png"])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png is damaged or not an image") as caught:
        trained.prepare([text])
    assert "elete" not in str(caught.value)  # it is the user's file


def test_one_picture_needs_no_list(file, tmp_path):
    trained = training.load(file)
    photo = tmp_path / "photo.png"
    Image.new("L", (40, 40)).save(photo)
    for one in (photo, str(photo)):
        assert torch.equal(trained.prepare(one), trained.prepare([photo]))
        (row,) = training.predict(trained, one, top=1, device="cpu")
        assert row["image"] == str(photo)


def test_what_is_not_a_picture_or_a_trained_network_is_named(file, tmp_path):
    trained = training.load(file)
    with pytest.raises(ValueError, match=r"is a folder; name the pictures in it \(.*/\*\.png\)"):
        training.predict(trained, tmp_path)
    x = np.zeros((2, 1, 32, 32))
    for given, shown in (
        (x, r"ndarray of shape \(2, 1, 32, 32\); Image.fromarray"),
        ([x], "ndarray"),
        (3, "int"),
        ([3], "int"),
        ({"a.png": 1}, "dict"),
        (b"a.png", "bytes"),
        (None, "NoneType"),
    ):
        for call in (trained.prepare, lambda given: training.predict(trained, given)):
            with pytest.raises(TypeError, match=f"pictures are image files, .*, got {shown}"):
                call(given)
    with pytest.raises(TypeError, match=r"takes a TrainedModel.*got LeNet5; load\(FILE or NAME\)"):
        training.predict(trained.network, ["a.png"])


def test_pictures_in_memory_are_read_like_files(file, tmp_path):
    trained = training.load(file)
    pixels = torch.randint(0, 256, (3, 90, 60), dtype=torch.uint8)
    pil = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    pil.save(tmp_path / "a.png")
    x = trained.prepare(tmp_path / "a.png")
    assert torch.equal(trained.prepare(pil), x)
    # Pillow resizes before tensors become gray, and rounds: a few gray levels of difference
    for given in (pixels, pixels[None], pixels / 255, [pixels], (p for p in [pil])):
        torch.testing.assert_close(trained.prepare(given), x, rtol=0, atol=3 / 255 / 0.25)
    several = [tmp_path / "a.png", pil, pixels, torch.stack([pixels, pixels])]
    rows = training.predict(trained, several, top=1, device="cpu").to_dicts()
    assert [row["image"] for row in rows] == [str(tmp_path / "a.png"), 1, 2, 3, 4]
    with pytest.raises(ValueError, match="these reach from -"):
        trained.prepare(torch.randn(3, 50, 50))


def test_images_of_the_right_size_are_only_normalized(file, sets):
    trained, (_, test) = training.load(file), sets
    x, _ = next(data.Batches(test[:5], 5, shuffle=False, device="cpu").epoch(0))
    images = test[:5].images
    assert torch.equal(trained.prepare(images), x)
    assert torch.equal(trained.prepare(test[:5]), x)
    torch.testing.assert_close(trained.prepare(images / 255), x)
    small = data.load("fashion-mini")[1][:5]  # 28×28, as the files: a border is added
    assert torch.equal(trained.prepare(small), x)


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.slow
def test_a_data_set_is_classified_as_evaluate_does(file, sets, tmp_path):
    trained, (_, test) = training.load(file), sets
    expected = training.evaluate(trained.network, test, device="cpu").predictions
    pils = [Image.fromarray(image[0].numpy()) for image in data.load("fashion-mini")[1].images[:40]]
    for name, pil in enumerate(pils):
        for part in ("train", "val"):
            (tmp_path / part / "any").mkdir(parents=True, exist_ok=True)
            pil.save(tmp_path / part / "any" / f"{name:03}.png")
    _, folder = data.load(f"imagefolder:{tmp_path}", size=32, channels=1)
    for given in (test, MapStyle(pils), MapStyle([(pil, 3) for pil in pils]), folder):
        rows = training.predict(trained, given, top=1, device="cpu")
        assert [row["class_index"] for row in rows] == expected.tolist()
        assert [row["class"] for row in rows] == [test.classes[i] for i in expected]


def test_predict_restores_what_it_changes(file):
    trained = training.load(file)
    trained.network.train()
    trained.network.s2.eval()
    training.predict(trained, torch.rand(1, 32, 32), device="cpu")
    assert trained.network.training
    assert not trained.network.s2.training
    half = training.TrainedModel(trained.network.double(), trained.classes, trained.info)
    assert len(training.predict(half, torch.rand(70, 1, 32, 32), top=1, device="cpu")) == 70


# ---- by name


@pytest.fixture(scope="module")
def photographs():
    return training.load("efficientnet_lite0")


def test_published_weights_by_name(photographs, tmp_path, monkeypatch):
    assert repr(photographs) == (
        "<TrainedModel: efficientnet_lite0, images of 3×224×224, 1000 classes>"
    )
    assert not photographs.network.training
    published = models.model_spec("efficientnet_lite0").weights["imagenet"].preprocessing
    cat = data.photo("cat")
    assert torch.equal(photographs.prepare(cat), published(cat)[None])
    picture_of(cat.permute(1, 2, 0), tmp_path / "cat.png")
    for given in (tmp_path / "cat.png", cat, cat / 255, data.photo("cat", 224)):
        rows = training.predict(photographs, given, device="cpu")
        assert [row["class_index"] for row in rows] == [285, 282, 281]
        assert rows[0]["class"] == "Egyptian cat"


def test_a_file_named_like_a_network_is_the_file(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cnnbook.load("efficientnet_lite0").info["model"] == "efficientnet_lite0"
    (tmp_path / "efficientnet_lite0").write_bytes(file.read_bytes())
    assert cnnbook.load("efficientnet_lite0").info["model"] == "lenet5"
    assert len(training.predict("efficientnet_lite0", torch.rand(1, 32, 32), device="cpu")) == 3


def test_what_is_neither_a_file_nor_has_weights():
    with pytest.raises(ValueError, match="no published weights for lenet5; there are for alexnet_"):
        training.load("lenet5")
    with pytest.raises(
        CheckpointError, match=r"no file efficientnet_lit0.*Did you mean 'efficient"
    ):
        training.load("efficientnet_lit0")
    with pytest.raises(CheckpointError, match=r"there is no file .*none\.safetensors"):
        training.load("none.safetensors")
    with pytest.raises(TypeError, match="takes a file or the name of a network, got LeNet5"):
        training.load(models.lenet5())


def test_a_network_trained_on_imagenet_and_its_folders(photographs, tmp_path):
    with pytest.raises(ValueError, match=r"'ostrich', … \(1000 in all\)\], fashion-mini has"):
        photographs.load_data("fashion-mini")
    for part in ("train", "val"):
        for number in range(1000):
            folder = tmp_path / part / f"n{number:08}"
            folder.mkdir(parents=True)
            if number == 0 or part == "train":
                Image.new("RGB", (4, 4)).save(folder / "1.png")
    _, val = photographs.load_data(f"imagefolder:{tmp_path}")
    assert (val.size, val.margin) == (224, 1.0)
    assert (val.mean, val.std) == ((127 / 255,) * 3, (128 / 255,) * 3)


# ---- what a network knows of itself


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (lambda train: training.build_for("resnet20", train, width=0.25), {"width": 0.25}),
        (lambda train: training.build_for("resnet18", train, width=0.125), {"stem": "small"}),
        (lambda _: models.create("resnet18", 10, 1, width=0.125), {"stem": None}),
        (
            lambda train: models.create("efficientnet_lite0", 10, 1, width=0.25),
            {"stem": "imagenet"},
        ),
    ],
)
def test_a_network_is_rebuilt_as_it_was_built(sets, tmp_path, build, options):
    torch.manual_seed(0)
    net = build(sets[0]).eval()
    info = training.model_info(net, sets[0])
    assert options.items() <= info["options"].items()
    path = training.save_checkpoint(tmp_path / "net", net.state_dict(), {"info": info})
    again = training.load(path).network
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x), again(x))


def test_a_network_that_does_not_know_its_name(sets):
    with pytest.raises(TypeError, match=r"LeNet5 was not built by models.create.*register_model"):
        training.model_info(models.lenet5(), sets[0])
    with pytest.raises(TypeError, match="knows the options that it was built with: leave out"):
        training.model_info(models.create("lenet5"), sets[0], {"pool": "max"})


def test_a_file_that_does_not_say_what_it_holds(tmp_path):
    path = training.save_checkpoint(tmp_path / "x", models.lenet5().state_dict(), {})
    with pytest.raises(CheckpointError, match=r"does not say which network.*load_weights\(\)"):
        training.load(path)
    with pytest.raises(CheckpointError, match="there is no file"):
        training.load(tmp_path / "y")


def test_a_network_that_is_not_known_or_another_here(file, sets, tmp_path, monkeypatch):
    weights, _ = training.load_checkpoint(file)
    with pytest.raises(ValueError, match=r"unknown model 'lenet-5'.*Did you mean 'lenet5'"):
        training.model_info("lenet-5", sets[0])
    info = training.model_info("lenet5", sets[0]) | {"model": "mine"}
    path = training.save_checkpoint(tmp_path / "mine", weights, {"info": info})
    with pytest.raises(CheckpointError, match=r"'mine', which is not registered.*--import"):
        training.load(path)
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    spec = models.model_spec("lenet5")
    models.register_model("mine", spec)
    assert training.load(path).info["model"] == "mine"
    monkeypatch.setitem(registry._MODELS, "mine", models.model_spec("resnet20"))
    with pytest.raises(CheckpointError, match="does not fit mine as it is built here"):
        training.load(path)


def test_options_that_model_info_was_not_given(sets, tmp_path):
    weights = training.build_for("resnet20", sets[0], width=0.25).state_dict()
    info = training.model_info("resnet20", sets[0])
    path = training.save_checkpoint(tmp_path / "narrow", weights, {"info": info})
    with pytest.raises(CheckpointError, match=r"was not given \(options=\{\}\)\?$") as caught:
        training.load(path)
    message = str(caught.value)
    assert "(4, 1, 3, 3) in the file, (16, 1, 3, 3) in the network" in message
    assert message.count("in the file") == 5
    assert len(message) < 800


def test_what_is_told_of_a_network_is_checked(sets):
    train, _ = sets
    for call in (training.build_for, training.model_info):
        with pytest.raises(TypeError, match=r"got Tensor; make one of your tensors: data\.Dataset"):
            call("lenet5", train.images)
    with pytest.raises(TypeError, match=r"options are a dict such as .*, got 'relu'"):
        training.model_info("lenet5", train, "relu")
    with pytest.raises(ValueError, match="Did you mean 'width'"):
        training.model_info("resnet18", train, {"widht": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", [0.0, 0.0]),
        ("mean", [1e300]),
        ("mean", [10**400]),
        ("std", [0.0]),
        ("std", [-1.0]),
        ("std", [1e-320]),
        ("std", [1.0, 1.0]),
        ("image", [1, 100_000, 100_000]),
        ("side", 100_000),
        ("margin", 99.9),
    ],
)
def test_a_file_cannot_ask_for_absurd_preprocessing(tmp_path, name, value):
    train, _ = data.load("digits")
    net = training.build_for("lenet5", train.padded(32))
    info = training.model_info(net, train.padded(32))
    path = tmp_path / "net.safetensors"
    training.save_checkpoint(path, net.state_dict(), {"info": info})
    training.load(path)
    training.save_checkpoint(path, net.state_dict(), {"info": {**info, name: value}})
    with pytest.raises(training.CheckpointError, match=f"its '{name}' is"):
        training.load(path)
