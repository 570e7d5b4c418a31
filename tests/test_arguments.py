"""Arguments that make no sense are refused by name, and numbers of NumPy and torch are numbers."""

import numpy as np
import pytest
import torch

import cnnbook
from cnnbook import data
from cnnbook.data import Augment, cluttered

AUGMENT = Augment(rotate=10, erase=0.5)


def few():
    return data.load("digits")[0][:20]


def placed(**options):
    given = {"count": 4, "size": 32, "scale": (0.8, 1.2), "fragment_size": 5}
    return cluttered(few(), **given | options)


REFUSED = {
    "scale that is infinite": (
        lambda: Augment(scale=(1, float("inf"))), ValueError, r"scale must be 0.01 ≤ .* ≤ 100"
    ),
    "number of images below 0": (
        lambda: AUGMENT.draw(-1, (8, 8)), ValueError, "n must be at least 1, got -1"
    ),
    "number of images as text": (
        lambda: AUGMENT.draw("a", (8, 8)), TypeError, "n must be an integer, got 'a'"
    ),
    "one side": (
        lambda: AUGMENT.draw(2, 8), TypeError, r"size must be height and width, such as .*, got 8"
    ),
    "side of 0": (
        lambda: AUGMENT.draw(2, (0, 8)), ValueError, "the height in size must be at least 1, got 0"
    ),
    "seed of a draw": (
        lambda: AUGMENT.draw(2, (8, 8), 1.5), TypeError, "seed must be an integer, got 1.5"
    ),
    "images without a pixel": (
        lambda: AUGMENT(torch.zeros(2, 1, 0, 8)), ValueError, "without a pixel, of shape"
    ),
    "strength as text": (
        lambda: AUGMENT.scaled("a"), ValueError, "strength must be a number of 0 or more, got 'a'"
    ),
    "strength that is no number": (
        lambda: AUGMENT.scaled(float("nan")), ValueError, "strength must be .* got nan"
    ),
    "seed of clutter": (
        lambda: placed(seed=None), TypeError, "seed must be an integer, got None"
    ),
    "device of clutter": (
        lambda: placed(device="nowhere"), ValueError, "this machine has no device 'nowhere'"
    ),
    "too many fragments": (
        lambda: placed(fragments=10**9), ValueError, "fragments must lie in 0 … 1000, got 10+$"
    ),
    "version that is a number": (
        lambda: cnnbook.require(3), TypeError, "a version is a text of three numbers, .* got 3"
    ),
    "version of many digits": (
        lambda: cnnbook.require("1" * 5000 + ".0.0"), ValueError, "a version is three numbers"
    ),
    "chapter that is a list": (
        lambda: cnnbook.start([]), ValueError, r"unknown chapter \[\]; use one of"
    ),
    "two seeds": (
        lambda: cnnbook.start(seed=torch.tensor([3, 4])), TypeError, "a seed is an integer, got"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_and_torch(number, capsys):
    cnnbook.start(seed=number(3))
    first = torch.rand(2)
    cnnbook.seed(3)
    assert torch.equal(first, torch.rand(2))
    assert torch.equal(AUGMENT(few().images, seed=number(3)), AUGMENT(few().images, seed=3))
    assert torch.equal(
        placed(seed=number(3), fragments=number(2)).images, placed(seed=3, fragments=2).images
    )


def test_any_strength_gives_transforms_that_are_allowed():
    scaled = Augment(scale=(0.8, 1.2), rotate=10).scaled(1e9)
    assert (scaled.scale, scaled.rotate) == ((0.01, 100), 180)
