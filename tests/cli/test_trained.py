"""cnnbook evaluate and cnnbook predict."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook import data, models, training
from cnnbook._download import DownloadError


@pytest.mark.slow
def test_train_keeps_what_evaluate_needs(trained, said):
    path = trained.path
    code, out, _ = said("evaluate", path, "--json", "--device", "cpu")
    result = json.loads(out)
    assert code == 0
    assert result["images"] == 2000
    by_class = result["classes"]
    assert len(by_class) == 10
    mean = sum(row["accuracy"] * row["images"] for row in by_class) / 2000
    assert mean == pytest.approx(result["accuracy"])
    assert all(row["confused_with"] != row["class"] for row in by_class)
    assert "Ankle boot" in said("evaluate", path, "--device", "cpu")[1]


def test_pictures_are_named_as_the_test_images_are(trained, said, tmp_path):
    path = trained.path
    net = training.load(path).network
    _, test = data.load("fashion-mini", size=32)
    expected = training.evaluate(net, test[:3], device="cpu").scores.softmax(1)
    plain = data.load("fashion-mini")[1].images[:3, 0].numpy()
    files = []
    for i, image in enumerate(plain):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    code, out, _ = said("predict", path, *files, "--top", 2, "--json", "--device", "cpu")
    rows = json.loads(out)
    assert code == 0
    assert [(row["image"], row["rank"]) for row in rows] == [
        (str(file), rank) for file in files for rank in (1, 2)
    ]
    for row, chances in zip(rows[::2], expected, strict=True):
        assert row["class"] == test.classes[chances.argmax()]
        assert row["probability"] == pytest.approx(chances.max().item(), rel=1e-5)
    photo = tmp_path / "photo.jpg"  # color, another size, not square
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)).save(photo)
    assert said("predict", path, photo, "--device", "cpu")[0] == 0


def test_a_foreign_checkpoint_is_refused(said, tmp_path):
    path = training.save_checkpoint(tmp_path / "x", models.lenet5().state_dict(), {})
    code, _, err = said("evaluate", path)
    assert code == 1
    assert "does not say which network it holds" in err


def test_a_network_by_name_without_a_file_or_a_download(said, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("something was to be downloaded")

    monkeypatch.setattr("cnnbook.models.weights.download", no_network)
    picture = tmp_path / "cat.png"
    Image.fromarray(data.photo("cat").permute(1, 2, 0).numpy()).save(picture)
    code, out, _ = said("predict", "efficientnet_lite0", picture, "--device", "cpu")
    assert code == 0
    best = [line.removeprefix(str(picture)).split()[1:-2] for line in out.splitlines()[1:]]
    assert best == [["Egyptian", "cat"], ["tiger", "cat"], ["tabby"]]
    code, _, err = said("evaluate", "efficientnet_lite0")
    assert code == 2
    assert "not known which data set efficientnet_lite0 was trained on: name one with --data" in err


def test_weights_that_cannot_be_had_are_one_line(said, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise DownloadError("no network")

    monkeypatch.setattr("cnnbook.models.weights.download", offline)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    code, out, err = said("predict", "resnet18", "cat.png")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("cnnbook: could not download https://")
    for part in ("train", "val"):
        (tmp_path / "set" / part / "any").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "set" / part / "any" / "1.png")
    data_set = f"imagefolder:{tmp_path / 'set'}"
    words = ("--data", data_set, "--option", "weights=imagenet", "--no-checkpoint", "--size", 64)
    code, _, err = said("train", "alexnet_2014", *words[:-1], 224)
    assert code == 1
    assert err.splitlines()[-1].startswith("cnnbook: could not download https://")
    assert "Traceback" not in err
    code, _, err = said("train", "lenet5", "--option", "weights=imagenet", "--no-checkpoint")
    assert code == 2
    assert "there are no published weights for lenet5" in err


@pytest.mark.slow
def test_training_starts_from_published_weights(said, tmp_path):
    for part, color in (("train", "red"), ("train", "blue"), ("val", "red"), ("val", "blue")):
        folder = tmp_path / "set" / part / color
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (80, 80), color).save(folder / f"{number}.png")
    file = tmp_path / "net.safetensors"
    words = ("--data", f"imagefolder:{tmp_path / 'set'}", "--epochs", "1", "--device", "cpu")
    words += ("--option", "weights=imagenet", "--lr", "1e-12", "--checkpoint", file, "--quiet")
    assert said("train", "efficientnet_lite0", *words)[0] == 0
    trained = training.load(file)
    assert trained.classes == ("blue", "red")
    assert trained.info["mean"] == [127 / 255] * 3
    published = models.create("efficientnet_lite0", weights="imagenet")
    for name, value in published.named_parameters():
        if not name.startswith("fc."):
            torch.testing.assert_close(trained.network.get_parameter(name), value)
    assert said("predict", file, tmp_path / "set" / "val" / "red" / "0.png")[0] == 0
