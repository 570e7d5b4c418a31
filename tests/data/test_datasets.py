import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbook import data
from cnnbook.data import Dataset

ROOT = Path(__file__).parents[2]

needs_original = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="the original Fashion-MNIST files are not on this machine",
)


@pytest.fixture(scope="module")
def mini():
    return data.load("fashion-mini")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_mini_has_the_promised_size(mini):
    train, test = mini
    assert train.images.shape == (10_000, 1, 28, 28)
    assert test.images.shape == (2_000, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert len(train.classes) == 10


def test_digits_have_the_promised_size(digits):
    train, test = digits
    assert train.images.shape == (1_000, 1, 8, 8)
    assert test.images.shape == (740, 1, 8, 8)
    assert train.classes == tuple("0123456789")
    assert train.images.unique().tolist() == [round(v * 255 / 16) for v in range(17)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion-mini", "digits"])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 2000))
def test_every_prefix_is_balanced(name, n):
    for part in data.load(name):
        counts = part[:n].labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 1


def test_mini_has_no_image_twice_and_none_in_both_parts(mini):
    train, test = (set(map(bytes, part.images.flatten(1).numpy())) for part in mini)
    assert len(train) == 10_000
    assert len(test) == 2_000
    assert not train & test


def test_digits_hold_no_image_twice_and_none_in_both_parts(digits):
    train, test = (set(map(bytes, part.images.flatten(1).numpy())) for part in digits)
    assert len(train) == 1_000
    assert len(test) == 740
    assert not train & test


def test_a_zero_is_round_and_a_one_is_a_stroke(digits):
    train, _ = digits
    nought, one = (train.images[train.labels == c].float().mean(0)[0] for c in (0, 1))
    assert nought[3:5, 3:5].mean() < 40 < 150 < one[3:5, 3:5].mean()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)
def test_digits_are_redrawn_from_the_original():
    package = Path(importlib.util.find_spec("sklearn").submodule_search_locations[0])
    script = ROOT / "tools" / "assets" / "make_digits.py"
    original = package / "datasets" / "data" / "digits.csv.gz"
    command = [sys.executable, str(script), str(original), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@needs_original
def test_mini_is_redrawn_from_the_original():
    script = ROOT / "tools" / "assets" / "make_fashion_mini.py"
    command = [sys.executable, str(script), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@needs_original
def test_whole_fashion_mnist():
    train, test = data.load("fashion-mnist", download=False)
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.labels.bincount().tolist() == [1000] * 10
    # Widely published figures of this set.
    assert (round(train.mean[0], 4), round(train.std[0], 4)) == (0.2860, 0.3530)


def test_mean_and_standard_deviation_are_those_of_the_training_pixels(mini):
    pixels = mini[0].images.double() / 255
    for part in mini:
        assert part.mean[0] == pytest.approx(pixels.mean().item(), rel=1e-10)
        assert part.std[0] == pytest.approx(pixels.std(correction=0).item(), rel=1e-10)


def test_padding_centers_on_black(mini):
    small, large = mini[1], mini[1].padded(33)
    assert torch.equal(large.images[:, :, 2:30, 2:30], small.images)
    assert large.images.long().sum() == small.images.long().sum()
    assert large.mean == small.mean
    assert torch.equal(data.load("fashion-mini", size=33)[1].images, large.images)


def test_unknown_name_and_size():
    with pytest.raises(ValueError, match=r"'fashion-min'.*Did you mean 'fashion-mini'"):
        data.load("fashion-min")
    with pytest.raises(ValueError, match="size=20 would crop images of 28×28"):
        data.load("fashion-mini", size=20)
    with pytest.raises(TypeError, match="size must be an integer, got '32'"):
        data.load("fashion-mini", size="32")
    with pytest.raises(ValueError, match="unknown data set 3"):
        data.load(3)


def test_a_folder_as_name_is_told_the_prefix(tmp_path):
    for name in (tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match=f"is a folder; .*load.'imagefolder:{tmp_path}'"):
            data.load(name)


def test_repr_names_size_and_shape(mini):
    assert repr(mini[0][:5]) == "<fashion-mini train: 5 images of 1×28×28, 10 classes>"
    assert repr(mini[0][:1]) == "<fashion-mini train: 1 image of 1×28×28, 10 classes>"


BYTES = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
GOOD = {
    "name": "t",
    "images": BYTES,
    "labels": torch.tensor([0, 1, 1]),
    "classes": ("a", "b"),
    "mean": (0.0,),
    "std": (1.0,),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(3, 1, 4, 4)}, r"must be uint8.*\(images \* 255\)"),
        ({"images": BYTES[:, 0]}, r"\(3, 4, 4\); add the channel axis: images\[:, None\]"),
        ({"images": BYTES.permute(0, 2, 3, 1)}, r"each of 4 .*\(N, H, W, C\).*permute\(0, 3, 1, 2"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, "one per image"),
        ({"labels": torch.zeros(3)}, r"got torch.float32 of shape \(3,\)$"),
        ({"labels": torch.zeros(3, dtype=torch.int32)}, r"int32.*use labels.long\(\)"),
        ({"labels": torch.tensor([[0], [1], [1]])}, r"use labels\[:, 0\].long\(\)"),
        ({"labels": torch.eye(2)[[0, 1, 1]]}, r"one-hot, use labels.argmax\(1\)"),
        ({"labels": torch.tensor([0, 1, 2])}, r"0 … 1 for 2 classes, got 0 … 2"),
        ({"labels": torch.tensor([0, -1, 1])}, "got -1 … 1"),
        ({"classes": ("a",)}, "0 … 0 for 1 class, got"),
        ({"mean": (0.0, 0.0)}, "one value for 1 channel, got 2 and 1"),
        ({"mean": (127,)}, r"mean must lie in 0 … 1.* got \(127.0,\).* divided by 255"),
        ({"mean": (-0.1,)}, "mean must lie in 0 … 1"),
        ({"std": (60,)}, "std above 0 and up to 1.* divided by 255"),
        ({"std": (0,)}, "std above 0"),
        ({"std": (float("nan"),)}, "std above 0"),
    ],
)
def test_inconsistent_data_is_refused(change, message):
    Dataset(**GOOD)
    with pytest.raises(ValueError, match=message):
        Dataset(**GOOD | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": BYTES.numpy()}, r"images must be .* numpy array; use torch.from_numpy\(images"),
        ({"labels": np.array([0, 1, 1])}, r"labels must be .* use torch.from_numpy\(labels\)"),
        ({"labels": [0, 1, 1]}, "labels must be a torch tensor, got a list; .*torch.tensor makes"),
        ({"classes": 4}, r"classes must be a tuple of names, such as .*, got 4"),
        ({"classes": "ab"}, "classes must be a tuple of names, .* got 'ab'"),
        ({"classes": [0, 1]}, "classes must be a tuple of names"),
        ({"mean": 0.5}, r"mean must be .* one number for each channel.*, got 0.5"),
        ({"mean": torch.tensor(0.5)}, "mean must be .* got 0.5"),
        ({"std": ("a",)}, "std must be"),
    ],
)
def test_data_of_the_wrong_kind_is_refused(change, message):
    with pytest.raises(TypeError, match=message):
        Dataset(**GOOD | change)


def test_lists_and_tensors_become_plain_tuples():
    mine = Dataset(
        "t", BYTES, GOOD["labels"], ["a", "b"], torch.tensor([0.5]), np.array([0.25], np.float32)
    )
    assert (mine.classes, mine.mean, mine.std) == (("a", "b"), (0.5,), (0.25,))
    assert type(mine.std[0]) is float


@pytest.mark.parametrize("index", [(0, 1), "a", 1.0, True, None, torch.tensor(1.0)])
def test_what_is_no_index(mini, index):
    with pytest.raises(TypeError, match=r"an integer, which gives \(image, label\), or by a slice"):
        mini[0][index]


@pytest.mark.parametrize("index", [3, np.int64(3), torch.tensor(3), np.uint8(3), -9_997])
def test_one_image_is_normalized_and_has_an_integer_as_label(mini, index):
    train, _ = mini
    image, label = train[index]
    expected = (train.images[3] / 255 - train.mean[0]) / train.std[0]
    torch.testing.assert_close(image, expected)
    assert (image.dtype, image.shape) == (torch.float32, (1, 28, 28))
    assert type(label) is int
    assert label == train.labels[3]
    (batch, labels) = next(data.Batches(train, 4, shuffle=False, device="cpu").epoch(0))
    assert torch.equal(batch[3], image)
    assert labels[3] == label


@pytest.mark.parametrize("index", [5, -6, torch.tensor(5)])
def test_beyond_the_end(mini, index):
    with pytest.raises(IndexError, match=f"no image {int(index)}: the data set has 5 images"):
        mini[0][:5][index]


def test_iterating_ends(mini):
    assert [label for _, label in mini[0][:5]] == mini[0].labels[:5].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, "fork", "spawn"])
def test_torchs_loader(mini, workers):
    part = mini[0][:10]
    how = {"num_workers": 2, "multiprocessing_context": workers} if workers else {}
    loader = torch.utils.data.DataLoader(part, batch_size=4, **how)
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    ((ours, labels),) = data.Batches(part, 10, shuffle=False, device="cpu").epoch(0)
    assert torch.equal(x, ours)
    assert torch.equal(y, labels)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_lists_and_arrays_are_indices_too(mini):
    expected = mini[0].images[torch.tensor([4, 2])]
    for index in ([4, 2], np.array([4, 2])):
        assert torch.equal(mini[0][index].images, expected)


def test_replacing_checks_again(mini):
    with pytest.raises(ValueError, match="must be uint8"):
        dataclasses.replace(mini[0], images=mini[0].images.float())


def test_gray_images_as_color(mini):
    color = data.load("fashion-mini", size=32, channels=3)
    for part, gray in zip(color, mini, strict=True):
        assert part.images.shape == (len(gray), 3, 32, 32)
        assert torch.equal(part.images[:, 1, 2:-2, 2:-2], gray.images[:, 0])
        assert part.mean == gray.mean * 3
        # Normalized, each channel is what the gray image is.
        assert torch.equal(part[5][0][2], gray.padded(32)[5][0][0])
    assert torch.equal(data.load("fashion-mini", channels=1)[0].images, mini[0].images)
    with pytest.raises(ValueError, match="1 or 3 channels, got channels=4"):
        data.load("digits", channels=4)


def test_color_images_as_gray():
    from PIL import Image

    from cnnbook.data.datasets import in_channels, two_parts

    images = torch.randint(0, 256, (6, 3, 9, 7), dtype=torch.uint8)
    labels = torch.arange(6) % 2
    color = two_parts("any", images[:4], labels[:4], images[4:], labels[4:], ("a", "b"))
    train, test = in_channels(*color, 1)
    for gray, whole in zip((*train.images, *test.images), images, strict=True):
        picture = Image.fromarray(whole.permute(1, 2, 0).numpy()).convert("L")
        assert torch.equal(gray[0], torch.from_numpy(np.array(picture)))
    pixels = train.images.double() / 255
    assert train.mean == test.mean == pytest.approx((pixels.mean().item(),))
    assert train.std == pytest.approx((pixels.std(correction=0).item(),))
