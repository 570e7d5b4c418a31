"""cnnbook evaluate and cnnbook predict."""

import json

import numpy as np
import pytest
from PIL import Image

from cnnbook import data, models, training


@pytest.mark.slow
def test_train_keeps_what_evaluate_needs(trained, said):
    path = trained.path
    _, state = training.load_checkpoint(path)
    code, out, _ = said("evaluate", path, "--json", "--device", "cpu")
    result = json.loads(out)
    assert code == 0
    assert result["accuracy"] == state["history"]["val_accuracy"][-1]
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
