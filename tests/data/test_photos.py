import hashlib
import re

import pytest
import torch

from cnnbook import data
from cnnbook.data.datasets import ASSETS


def test_files_are_the_credited_ones():
    credits_text = (ASSETS / "photos" / "CREDITS").read_text()
    credited = re.findall(r"^(\w+)\.(png|jpg) .*?sha256 (\w+)$", credits_text, flags=re.M | re.S)
    assert [name for name, _, _ in credited] == data.list_photos()
    for name, suffix, sha256 in credited:
        content = (ASSETS / "photos" / f"{name}.{suffix}").read_bytes()
        assert hashlib.sha256(content).hexdigest() == sha256


@pytest.mark.parametrize(
    ("name", "shape"),
    [("cat", (3, 300, 451)), ("coffee", (3, 400, 600)), ("rocket", (3, 427, 640))],
)
def test_whole_photographs(name, shape):
    picture = data.photo(name)
    assert picture.shape == shape
    assert picture.dtype == torch.uint8
    assert picture.float().std() > 20  # there is something on it


def test_square_comes_from_the_middle():
    whole, square = data.photo("cat").float(), data.photo("cat", size=300)
    assert torch.equal(square, whole[:, :, 75:375].byte())  # nothing to shrink
    small = data.photo("cat", size=30).float()
    means = whole[:, :, 75:375].unflatten(1, (30, 10)).unflatten(3, (30, 10)).mean((2, 4))
    assert (small - means).abs().mean() < 4


def test_errors():
    with pytest.raises(ValueError, match=r"unknown photograph 'cats'.*Did you mean 'cat'"):
        data.photo("cats")
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        data.photo("cat", size=0)
    with pytest.raises(TypeError, match="size must be an integer, got '224'"):
        data.photo("cat", size="224")
