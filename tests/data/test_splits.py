"""Validation images: every class has its share, and nothing is lost or doubled."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnbook import data
from cnnbook.data import Dataset
from cnnbook.data.splits import stratified


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda c: max(c) > 1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(-(10**30), 10**30),
)
def test_shares_of_any_classes(counts, fraction, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    left, drawn = stratified(labels, fraction, seed)
    assert sorted([*left.tolist(), *drawn.tolist()]) == list(range(len(labels)))
    assert left.tolist() == sorted(left.tolist())
    assert drawn.tolist() == sorted(drawn.tolist())
    for count, got in zip(
        counts, labels[drawn].bincount(minlength=len(counts)).tolist(), strict=True
    ):
        if count > 1:
            assert 1 <= got <= count - 1
        else:
            assert got == 0


@given(
    counts=st.lists(st.integers(20, 60), min_size=1, max_size=8),
    fraction=st.floats(0.1, 0.9),
)
def test_total_and_classes_are_exact_where_there_are_enough_images(counts, fraction):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    _, drawn = stratified(labels, fraction, 3)
    assert len(drawn) == round(sum(counts) * fraction)
    got = labels[drawn].bincount(minlength=len(counts)).tolist()
    assert all(abs(g - c * fraction) < 1 + 1e-6 for g, c in zip(got, counts, strict=True))


def test_largest_remainders_by_hand():
    # 0.25 of 5, 6, 7 images: 1.25, 1.5, 1.75; 4.5 in all, rounded to 4: the third gets one more.
    labels = torch.tensor([0] * 5 + [1] * 6 + [2] * 7)
    _, drawn = stratified(labels, 0.25, 0)
    assert labels[drawn].bincount().tolist() == [1, 1, 2]


def test_a_seed_gives_the_same_part_and_another_one_another():
    train, _ = data.load("digits")
    first, again, other = (train.split(0.1, seed=s)[1].images for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    small, large = train.split()
    assert (len(small), len(large)) == (900, 100)
    assert small.labels.bincount().tolist() == [90] * 10
    assert (small.name, large.name) == ("digits train", "digits val")
    assert (large.mean, large.std, large.classes) == (train.mean, train.std, train.classes)


def test_names_of_parts():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    mine = Dataset("mine", images, torch.tensor([0, 0, 1, 1]), ("a", "b"), (0.5,), (0.5,))
    assert [part.name for part in mine.split(0.5)] == ["mine train", "mine val"]


@pytest.mark.parametrize(
    ("fraction", "error", "message"),
    [
        (0, ValueError, "between 0 and 1, such as 0.1, got 0"),
        (1.0, ValueError, "got 1.0"),
        (float("nan"), ValueError, "got nan"),
        ("a tenth", TypeError, "number between 0 and 1, got 'a tenth'"),
        (True, TypeError, "got True"),
    ],
)
def test_fractions_that_are_none(fraction, error, message):
    with pytest.raises(error, match=message):
        data.load("digits")[0].split(fraction)


@pytest.mark.parametrize("n", [0, 1])
def test_what_cannot_be_split(n):
    with pytest.raises(ValueError, match="cannot be split"):
        data.load("digits")[0][:n].split(0.5)


def test_validation_images_of_a_folder_are_not_cropped_at_random(tmp_path):
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(4):
                gray = np.full((20, 20, 3), 10 * i, np.uint8)
                Image.fromarray(gray).save(tmp_path / part / name / f"{i}.png")
    train, _ = data.load(f"imagefolder:{tmp_path}", size=8)
    train, val = train.split(0.25, seed=1)
    assert (len(train), len(val)) == (6, 2)
    assert (train.train, val.train) == (True, False)
    assert val.labels.tolist() == [0, 1]
    assert not {*train.paths.tolist()} & {*val.paths.tolist()}
    assert train.name == f"{tmp_path.name} train"
    assert val.name == f"{tmp_path.name} val"
