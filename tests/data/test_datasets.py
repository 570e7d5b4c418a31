import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

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


def test_repr_names_size_and_shape(mini):
    assert repr(mini[0][:5]) == "<fashion-mini train: 5 images of 1×28×28, 10 classes>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(3, 1, 4, 4)}, "must be uint8"),
        ({"images": torch.zeros(3, 4, 4, dtype=torch.uint8)}, r"\(3, 4, 4\)"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, "one per image"),
        ({"labels": torch.zeros(3)}, "int64"),
        ({"labels": torch.tensor([0, 1, 2])}, r"0 … 1 for 2 classes, got 0 … 2"),
        ({"labels": torch.tensor([0, -1, 1])}, "got -1 … 1"),
        ({"mean": (0.0, 0.0)}, "each of 1 channels, got 2 and 1"),
    ],
)
def test_inconsistent_data_is_refused(change, message):
    good = {
        "name": "t",
        "images": torch.zeros(3, 1, 4, 4, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 1]),
        "classes": ("a", "b"),
        "mean": (0.0,),
        "std": (1.0,),
    }
    Dataset(**good)
    with pytest.raises(ValueError, match=message):
        Dataset(**good | change)


def test_replacing_checks_again(mini):
    with pytest.raises(ValueError, match="must be uint8"):
        dataclasses.replace(mini[0], images=mini[0].images.float())
