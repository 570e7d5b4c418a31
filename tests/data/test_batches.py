import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbook.data import Batches, Dataset


def numbered(n: int) -> Dataset:
    """A set whose image i holds the bytes of i, so that every image can be recognized."""
    images = torch.zeros(n, 1, 1, 2, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(n) % 256, torch.arange(n) // 256
    return Dataset("t", images, torch.arange(n) % 3, ("a", "b", "c"), (0.0,), (1 / 255,))


def order(batches: Batches, epoch: int) -> list[int]:
    return [
        int(low + 256 * high)
        for x, _ in batches.epoch(epoch)
        for low, high in x.flatten(1).round().tolist()
    ]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 600),
    size=st.integers(1, 700),
    seed=st.integers(0, 10_000),
    epoch=st.integers(0, 100),
    shuffle=st.booleans(),
)
def test_every_image_once_with_its_label(n, size, seed, epoch, shuffle):
    dataset = numbered(n)
    batches = Batches(dataset, size, shuffle=shuffle, seed=seed, device="cpu")
    seen = order(batches, epoch)
    assert sorted(seen) == list(range(n))
    assert seen == list(range(n)) or shuffle
    parts = list(batches.epoch(epoch))
    assert len(parts) == len(batches)
    assert all(len(x) == len(y) <= size for x, y in parts)
    labels = torch.cat([y for _, y in parts])
    assert torch.equal(labels, dataset.labels[seen])


def test_order_depends_on_seed_and_epoch_alone():
    a, b = (Batches(numbered(300), 32, seed=1, device="cpu") for _ in range(2))
    list(a.epoch(5))
    torch.manual_seed(123)
    assert order(a, 2) == order(b, 2)
    orders = [order(Batches(numbered(300), 32, seed=s, device="cpu"), e) for s, e in
              [(0, 0), (0, 1), (1, 0), (1, 1)]]  # fmt: skip
    assert all(orders[i] != orders[j] for i in range(4) for j in range(i))


def test_order_does_not_depend_on_the_batch_size():
    assert order(Batches(numbered(300), 7, device="cpu"), 3) == order(
        Batches(numbered(300), 64, device="cpu"), 3
    )


def test_normalization_is_the_formula():
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.3, 0.9)
    dataset = Dataset("t", images, torch.zeros(5, dtype=torch.int64), ("a",), mean, std)
    ((x, _),) = Batches(dataset, 5, shuffle=False, device="cpu").epoch(0)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(x, expected)
    assert x.dtype == torch.float32


def test_the_images_themselves_are_not_changed():
    dataset = numbered(10)
    before = dataset.images.clone()
    list(Batches(dataset, 4, device="cpu").epoch(0))
    assert torch.equal(dataset.images, before)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Batches(numbered(3), 0)
    with pytest.raises(ValueError, match="no images"):
        Batches(numbered(3)[:0])
    with pytest.raises(TypeError, match=r"batch_size must be an integer, got 1.5"):
        Batches(numbered(3), 1.5)
    with pytest.raises(TypeError, match=r"dataset must be a data.Dataset, got Tensor"):
        Batches(numbered(3).images)
    with pytest.raises(TypeError, match=r"such as data.Augment\(flip=0.5\), got 'flip'"):
        Batches(numbered(3), augment="flip")
