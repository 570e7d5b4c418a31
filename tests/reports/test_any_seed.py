"""Any integer is a seed, whatever its size; small ones give what they always gave."""

import numpy as np
import pytest
import torch

from cnnbook import data
from cnnbook.data.seeds import epoch_seed, generator

LARGE = [
    1764309600000000000,  # of time.time_ns()
    14695981039346656037,  # of torch.initial_seed()
    2**63 - 1,
    2**63,
    2**64 + 1,
    -(2**63),
    -1,
    10**40,
    -(10**40),
    np.int64(2**62),
    np.uint64(2**64 - 1),
]


@pytest.fixture(scope="module")
def train():
    return data.load("digits")[0][:40]


def labels(batches, epoch=3):
    return torch.cat([y for _, y in batches.epoch(epoch)])


@pytest.mark.parametrize("seed", LARGE)
def test_large_seeds(train, seed):
    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return len(train)

        def __getitem__(self, i):
            return train[i]

    augment = data.Augment(flip=0.5)
    loader = torch.utils.data.DataLoader(train, 8, shuffle=True)
    for given, options in ((train, {"augment": augment}), (Items(), {"augment": augment}),
                           (loader, {})):  # fmt: skip
        first, again = (
            data.make_batches(given, 8, seed=seed, device="cpu", **options) for _ in range(2)
        )
        assert torch.equal(labels(first), labels(again))
        assert sorted(labels(first).tolist()) == sorted(train.labels.tolist())
        assert not torch.equal(labels(first), labels(first, 4))
    assert len(train.split(0.25, seed=seed)[1]) == 10
    assert len(augment.draw(3, (8, 8), seed=seed)) == 3


def test_different_large_seeds_differ(train):
    orders = {tuple(labels(data.Batches(train, 8, seed=s, device="cpu")).tolist()) for s in LARGE}
    assert len(orders) == len(LARGE)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 7), (5, 2), (2**31, 4), (-3, 1)])
def test_small_seeds_give_the_orders_that_they_always_gave(seed, epoch):
    assert epoch_seed(seed, epoch) == seed * 100_003 + epoch
    expected = torch.randperm(50, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.randperm(50, generator=generator(seed)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2**62, 10**30])
def test_seeds_of_folders(tmp_path, seed):
    from PIL import Image

    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (30, 30), (i, 0, 0)).save(tmp_path / part / "a" / f"{i}.png")
    folder, _ = data.load(f"imagefolder:{tmp_path}", size=8)
    x, again = (
        torch.cat([x for x, _ in data.StreamingBatches(folder, 2, seed=seed, device="cpu",
                                                       workers=0).epoch(1)])
        for _ in range(2)
    )  # fmt: skip
    assert torch.equal(x, again)


@pytest.mark.parametrize("seed", [1.5, "1", None])
def test_what_is_no_integer_is_no_seed(train, seed):
    with pytest.raises(TypeError, match="integer"):
        list(data.Batches(train, 8, seed=seed, device="cpu").epoch(0))
