"""Whatever holds images and labels becomes batches: pairs, torch's data sets, loaders, and more."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)
from torch.utils.data.distributed import DistributedSampler
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from cnnbook import data
from cnnbook.data import Augment, Batches, make_batches
from cnnbook.data.sources import has_own_batches

N = 23
X, Y = torch.rand(N, 3, 6, 5), torch.arange(N) % 4
BYTES = torch.randint(0, 256, (N, 3, 6, 5), dtype=torch.uint8)


def gathered(batches, number=0, start=0):
    return [torch.cat(part) for part in zip(*batches.epoch(number, start), strict=True)]


def random_state():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state(legacy=False)),  # noqa: NPY002
        np.random.get_state()[1].tolist(),  # noqa: NPY002
    )


class Items(torch.utils.data.Dataset):
    """Items as they are given."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Noise(torch.utils.data.Dataset):
    """Images that hold their number and what three random generators drew."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        drawn = [torch.rand(()).item(), random.random(), np.random.rand()]  # noqa: NPY002
        return torch.tensor([i, *drawn]).view(1, 2, 2), i % 4


class Stream(IterableDataset):
    """An iterable data set without a length."""

    def __iter__(self):
        return ((X[i], int(Y[i])) for i in range(N))


# -------------------------------------------------------------------------------- pairs of tensors


@pytest.mark.parametrize("give", [lambda x, y: (x, y), lambda x, y: [x, y], TensorDataset])
def test_pairs_of_tensors(give):
    x, y = gathered(make_batches(give(X, Y), 5, shuffle=False, device="cpu"))
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    x, _ = gathered(make_batches(give(BYTES, Y), 5, shuffle=False, device="cpu"))
    torch.testing.assert_close(x, BYTES / 255)
    batches = make_batches(give(BYTES, Y), 5, device="cpu", seed=3)
    x, y = gathered(batches)
    # The order is that of a Dataset with the same seed.
    same = data.Dataset("t", BYTES, Y, tuple("abcd"), (0,) * 3, (1,) * 3)
    ours = gathered(Batches(same, 5, device="cpu", seed=3))
    assert torch.equal(x, ours[0])
    assert torch.equal(y, ours[1])
    assert not has_own_batches(give(X, Y))
    assert (batches.images_per_epoch, batches.batch_size, len(batches)) == (N, 5, 5)


def test_pairs_are_augmented():
    augment = Augment(flip=1)
    for images in (X, BYTES):
        x, _ = gathered(make_batches((images, Y), 5, shuffle=False, augment=augment, device="cpu"))
        expected = images.flip(3) / (255 if images is BYTES else 1)
        torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integers(kind):
    for given in ((X, Y.to(kind)), DataLoader(TensorDataset(X, Y.to(kind)), 5), [(X, Y.to(kind))]):
        _, y = gathered(make_batches(given, shuffle=False, device="cpu"))
        assert y.dtype == torch.int64
        assert torch.equal(y, Y)


def test_labels_of_a_custom_loss_stay():
    target = torch.rand(N, 2)
    for given in (
        (X, target),
        DataLoader(TensorDataset(X, target), 5),
        Items(*zip(X, target, strict=True)),
    ):
        _, y = gathered(make_batches(given, shuffle=False, device="cpu"))
        assert torch.equal(y, target)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_keep_their_type(kind):
    for given in (
        (X.to(kind), Y),
        [(X.to(kind), Y)],
        Items(*zip(X.to(kind), Y.tolist(), strict=True)),
    ):
        x, _ = gathered(make_batches(given, shuffle=False, device="cpu"))
        assert x.dtype == kind


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((X, Y[:5]), ValueError, r"one label per image, .* \(23, 3, 6, 5\) and \(5,\)"),
        ((X.long(), Y), ValueError, "uint8, 0 to 255, or floats, got torch.int64"),
        ((BYTES[:, 0], Y), ValueError, "add the channel axis"),
        ((X[:0], Y[:0]), ValueError, "has no images"),
        ((X.numpy(), Y), TypeError, r"images must be .* use torch.from_numpy\(images\)"),
        ((X, Y.numpy()), TypeError, r"labels must be .* use torch.from_numpy\(labels\)"),
        ((X, Y.tolist()), TypeError, "labels must be a torch tensor, got a list"),
        (X.numpy(), TypeError, r"use torch.from_numpy\(images\)"),
        (X, TypeError, r"a tensor without labels: pass a pair \(images, labels\)"),
        ({"x": X, "y": Y}, TypeError, "a dictionary with the keys 'x', 'y'"),
        ("digits", TypeError, r"got str 'digits'. data.load\('digits'\) loads"),
        (3, TypeError, "expected a Dataset, an ImageFolder, a torch data set, .* got int"),
        (None, TypeError, "got NoneType"),
        (data.Dataset, TypeError, "the class Dataset: create one"),
        (lambda: [(X, Y)], TypeError, "callable: call it"),
        ([], ValueError, "no batches: its length is 0"),
    ],
)
def test_what_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        make_batches(given, device="cpu")


# ----------------------------------------------------------------------- torch's data sets, by item


def test_torchvisions_data_sets():
    transform = v2.Compose([v2.PILToTensor()])
    plain = FakeData(12, (3, 8, 9), 3)
    for fake in (plain, FakeData(12, (3, 8, 9), 3, transform=transform)):
        x, y = gathered(make_batches(fake, 5, shuffle=False, device="cpu"))
        expected = torch.stack([v2.functional.pil_to_tensor(image) for image, _ in plain]) / 255
        torch.testing.assert_close(x, expected)
        assert y.tolist() == [int(label) for _, label in plain]
        assert y.dtype == torch.int64


def test_every_item_once_in_the_order_of_the_seed():
    batches = make_batches(Noise(), 5, seed=2, device="cpu")
    numbers = gathered(batches)[0][:, 0, 0, 0].long()
    assert sorted(numbers.tolist()) == list(range(N))
    # The order is that of tensors with the same seed.
    pair = gathered(make_batches((X, torch.arange(N)), 5, seed=2, device="cpu"))
    assert torch.equal(numbers, pair[1])
    assert not torch.equal(numbers, gathered(batches, 1)[0][:, 0, 0, 0].long())


def test_what_transforms_draw_depends_on_seed_epoch_and_item_alone():
    whole = gathered(make_batches(Noise(), 23, seed=1, device="cpu"), 2)[0]
    small = make_batches(Noise(), 4, seed=1, device="cpu")
    before = random_state()
    torch.testing.assert_close(gathered(small, 2)[0], whole, atol=0, rtol=0)
    torch.testing.assert_close(gathered(small, 2, start=3)[0], whole[12:], atol=0, rtol=0)
    assert random_state() == before
    other = gathered(small, 3)[0]
    by_number = [{int(row[0]): row[1:] for row in x.flatten(1)} for x in (whole, other)]
    for i in range(N):
        assert not (by_number[0][i] == by_number[1][i]).any()
    assert whole[:, 0].flatten(1)[:, 1:].unique().numel() > N  # items differ from each other


@pytest.mark.parametrize("number", range(3))
def test_processes_divide_the_items(number):
    whole = list(make_batches(Noise(), 5, device="cpu").epoch(number))
    parts = [
        list(make_batches(Noise(), 5, device="cpu", rank=r, world_size=4).epoch(number))
        for r in range(4)
    ]
    for step, (x, y) in enumerate(whole):
        for rank in range(4):
            assert torch.equal(parts[rank][step][0], x[rank::4])
            assert torch.equal(parts[rank][step][1], y[rank::4])
    assert parts[3][4][0].shape == (0, 1, 2, 2)  # three images for four processes


def test_items_are_augmented_as_a_pair_is():
    augment = Augment(rotate=20, flip=0.5, brightness=0.2)
    how = {"augment": augment, "seed": 4, "device": "cpu"}
    by_item = make_batches(Items(*zip(BYTES, Y.tolist(), strict=True)), 5, **how)
    x, _ = gathered(by_item, 1)
    torch.testing.assert_close(x, gathered(make_batches((BYTES, Y), 5, **how), 1)[0])
    with pytest.raises(ValueError, match="pixels of 0 … 1, these images hold"):
        gathered(make_batches(Items(*zip(X * 9 - 4, Y.tolist(), strict=True)), 5, **how))


def picture(mode, value, size=(4, 3)):
    return Image.new(mode, size, value)


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (picture("L", 51), [0.2]),
        (picture("1", 1), [1.0]),
        (picture("RGB", (255, 0, 51)), [1.0, 0.0, 0.2]),
        (picture("RGBA", (255, 0, 51, 255)), [1.0, 0.0, 0.2, 1.0]),
        (picture("RGB", (255, 0, 51)).convert("P", palette=Image.Palette.ADAPTIVE), [1, 0, 0.2]),
        (Image.fromarray(np.full((3, 4), 13107, np.uint16)), [0.2]),
        (np.full((3, 4), 51, np.uint8), [0.2]),
        (np.full((5, 4, 1), 51, np.uint8), [0.2]),
        (np.full((1, 3, 4), 51, np.uint8)[:, :, [0, 1, 2, 3, 0]], [0.2]),
        (np.full((3, 5, 4), 0.2, np.float32)[..., [0, 0, 0, 0, 0]], [0.2] * 3),
        (torch.full((2, 3, 4), 51, dtype=torch.uint8), [0.2] * 2),
        (torch.full((2, 3, 4), -7.5), [-7.5] * 2),
    ],
)
def test_images_of_many_kinds(image, pixel):
    x, _ = gathered(make_batches(Items((image, 0)), device="cpu"))
    assert x.is_floating_point()
    assert x[0, :, 1, 1].tolist() == pytest.approx(pixel, abs=1e-6)
    assert len(x[0]) == len(pixel)
    if isinstance(image, Image.Image):
        assert x.shape[2:] == (3, 4)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (2, 2),
        (True, True),
        (np.int32(2), 2),
        (np.array(2), 2),
        (torch.tensor(2, dtype=torch.uint8), 2),
        (0.5, 0.5),
        (np.float64(0.5), 0.5),
    ],
)
def test_labels_of_many_kinds(label, expected):
    _, y = gathered(make_batches(Items((X[0], label), (X[1], label)), device="cpu"))
    assert y.tolist() == [expected] * 2
    assert y.dtype in (torch.int64, torch.float32, torch.bool)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (
            [(torch.rand(3, 8, 8), 0), (torch.rand(3, 9, 7), 0)],
            ValueError,
            r"item 0 is torch.float32 of shape \(3, 8, 8\), that of item 1 .* \(3, 9, 7\)\. .*Resi",
        ),
        ([(torch.rand(3, 8, 8), 0), (torch.rand(1, 8, 8), 0)], ValueError, "one mode, such as v2"),
        ([(X[0], 0), (X[1].double(), 0)], ValueError, "images differ"),
        ([(X[0], torch.rand(2)), (X[1], torch.rand(3))], ValueError, "labels differ"),
        ([{"image": X[0], "label": 0}], TypeError, "a dictionary with the keys 'image', 'label'"),
        ([X[0]], TypeError, r"of type Tensor; a pair \(image, label\)"),
        ([(X[0], 0, 1)], TypeError, "a tuple of 3"),
        ([(X[0], "cat")], TypeError, "label of item 0 is 'cat'; an integer"),
        ([("cat.jpg", 0)], TypeError, "image of item 0 is of type str"),
        ([(picture("F", 0.5), 0)], ValueError, "mode 'F', whose range is unknown"),
        ([(np.zeros((3, 5, 3)), 0)], ValueError, "which axis holds the channels"),
        ([(np.zeros((5, 5, 5)), 0)], ValueError, "which axis holds the channels"),
        ([], ValueError, "the Items has no images"),
    ],
)
def test_items_that_are_refused(items, error, message):
    with pytest.raises(error, match=message):
        list(make_batches(Items(*items), 8, shuffle=False, device="cpu").epoch(0))


def test_parts_and_sums_of_our_data_sets_stay_on_the_device():
    train, test = data.load("digits")
    small = Subset(Subset(train, range(100)), [5, 3, 99])
    batches = make_batches(small, shuffle=False, device="cpu")
    assert type(batches) is Batches
    assert torch.equal(batches.images, train.images[[5, 3, 99]])
    left, right = random_split(train, [900, 100], torch.Generator().manual_seed(0))
    assert type(make_batches(left, device="cpu")) is Batches
    both = make_batches(ConcatDataset([left, right, test]), shuffle=False, device="cpu")
    assert type(both) is Batches
    assert both.images_per_epoch == 1740
    assert both.labels.tolist() == [int(y) for part in (left, right, test) for _, y in part]
    pair = make_batches(Subset(TensorDataset(X, Y), [2, 0]), shuffle=False, device="cpu")
    assert type(pair) is Batches
    assert torch.equal(gathered(pair)[0], X[[2, 0]])


def test_parts_and_sums_of_others_data_sets():
    mixed = ConcatDataset(
        [Subset(Items(*zip(X, Y.tolist(), strict=True)), [1, 4]), TensorDataset(X, Y)]
    )
    x, y = gathered(make_batches(mixed, 4, shuffle=False, device="cpu"))
    assert torch.equal(x, torch.cat([X[[1, 4]], X]))
    assert torch.equal(y, torch.cat([Y[[1, 4]], Y]))
    # Parts normalized differently are not one data set in memory, but items of it they are.
    train, mini = data.load("digits")[0][:3], data.load("digits")[1][:2]
    other = data.Dataset("t", mini.images, mini.labels, mini.classes, (0.5,), (0.5,))
    x, _ = gathered(make_batches(ConcatDataset([train, other]), shuffle=False, device="cpu"))
    assert torch.equal(
        x, torch.stack([train[0][0], train[1][0], train[2][0], *(i for i, _ in other)])
    )


def test_a_data_set_whose_class_is_not_torchs():
    class Plain:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return X[i], i

    assert gathered(make_batches(Plain(), shuffle=False, device="cpu"))[1].tolist() == [0, 1, 2]


def test_a_transforming_subclass_of_a_tensor_data_set_is_asked_for_its_items():
    class Doubled(TensorDataset):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return 2 * x, y

    x, _ = gathered(make_batches(Doubled(X, Y), shuffle=False, device="cpu"))
    assert torch.equal(x, 2 * X)


# ---------------------------------------------------------------------------- loaders and iterables


def loader(**options):
    return DataLoader(TensorDataset(X, Y), **{"batch_size": 5, **options})


def test_loaders_give_what_they_give():
    x, y = gathered(make_batches(loader(), device="cpu"))
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert has_own_batches(loader())
    x, _ = gathered(make_batches(DataLoader(TensorDataset(BYTES, Y), 5), device="cpu"))
    torch.testing.assert_close(x, BYTES / 255)


@pytest.mark.parametrize(
    ("options", "images", "batches"),
    [
        ({}, 23, 5),
        ({"drop_last": True}, 20, 4),
        ({"sampler": SubsetRandomSampler(range(7))}, 7, 2),
        ({"sampler": RandomSampler(range(N), replacement=True, num_samples=31)}, 31, 7),
        ({"sampler": WeightedRandomSampler([1.0] * N, 12), "drop_last": True}, 10, 2),
        ({"batch_size": 1, "batch_sampler": BatchSampler(range(9), 4, False)}, 9, 3),
    ],
)
def test_images_of_a_loader_are_those_of_its_sampler(options, images, batches):
    source = make_batches(loader(**options), device="cpu")
    assert (source.images_per_epoch, len(source)) == (images, batches)
    assert sum(len(y) for _, y in source.epoch(0)) == images


def test_images_of_what_does_not_tell():
    sizes = [slice(0, 4), slice(4, 7), slice(7, 9)]
    source = make_batches([(X[s], Y[s]) for s in sizes], device="cpu")
    assert (source.images_per_epoch, source.batch_size, len(source)) == (9, 4, 3)
    source = make_batches(((X[s], Y[s]) for s in sizes), steps_per_epoch=3, device="cpu")
    assert (source.images_per_epoch, source.batch_size) == (12, 4)  # as the first batch says
    assert [len(y) for _, y in source.epoch(0)] == [4, 3, 2]  # which is not lost
    whole = DataLoader(Items((X, Y), (X[:3], Y[:3])), batch_size=None)
    source = make_batches(whole, device="cpu")
    assert [len(y) for _, y in source.epoch(0)] == [N, 3]
    assert (len(source), source.batch_size) == (2, N)


def test_a_seed_gives_a_loader_one_order_and_the_callers_random_state_stays():
    before, state = random_state(), torch.get_rng_state()
    one, two, other = (make_batches(loader(shuffle=True), seed=s, device="cpu") for s in (1, 1, 2))
    torch.rand(3)
    first = [gathered(one, e)[1] for e in range(3)]
    torch.rand(5)
    assert all(torch.equal(a, gathered(two, e)[1]) for e, a in enumerate(first))
    assert not torch.equal(gathered(other)[1], first[0])
    assert not torch.equal(first[0], first[1])
    torch.set_rng_state(state)
    list(one.epoch(5))
    assert random_state() == before


@pytest.mark.parametrize("start", [0, 1, 3])
def test_resuming_within_an_epoch(start):
    through = make_batches(DataLoader(Noise(), 5, shuffle=True), seed=1, device="cpu")
    whole = [gathered(through, e)[0] for e in range(3)]
    resumed = make_batches(DataLoader(Noise(), 5, shuffle=True), seed=1, device="cpu")
    assert torch.equal(gathered(resumed, 2, start)[0], whole[2][5 * start :])
    assert torch.equal(gathered(resumed, 1)[0], whole[1])


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_resuming_with_workers(persistent):
    def source():
        options = {"num_workers": 2, "persistent_workers": persistent, "shuffle": True}
        return make_batches(DataLoader(Noise(), 5, **options), seed=1, device="cpu")

    through = source()
    whole = [gathered(through, e)[0] for e in range(2)]
    again = gathered(source(), 1, 2)[0]
    assert torch.equal(again[:, 0, 0, 0], whole[1][10:, 0, 0, 0])
    # Workers that persist do not start their random numbers afresh.
    assert torch.equal(again, whole[1][10:]) == (not persistent)


def test_a_loader_with_its_own_generator_keeps_its_order():
    own = loader(shuffle=True, generator=torch.Generator().manual_seed(5))
    same = loader(shuffle=True, generator=torch.Generator().manual_seed(5))
    source = make_batches(own, seed=1, device="cpu")
    for epoch in range(2):
        assert torch.equal(gathered(source, epoch)[1], torch.cat([y for _, y in same]))


def endless(seen):
    for i in range(10_000):
        seen.append(i)
        yield torch.full((2, 1, 1, 1), float(i)), torch.zeros(2, dtype=torch.int64)


def numbers(source, epoch, start=0):
    return [int(x[0, 0, 0, 0]) for x, _ in source.epoch(epoch, start)]


def test_a_generator_is_drawn_on_across_epochs():
    seen = []
    source = make_batches(endless(seen), steps_per_epoch=3, device="cpu")
    assert (len(source), source.images_per_epoch) == (3, 6)
    assert [numbers(source, e) for e in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert seen == list(range(9))  # and no more than needed
    # A new one, where training resumes: what was seen before is dropped.
    resumed = make_batches(endless([]), steps_per_epoch=3, device="cpu")
    assert numbers(resumed, 1, start=2) == [5]
    with pytest.raises(ValueError, match="yields its batches once, and 6 of them have been read"):
        numbers(resumed, 0)


def test_a_loader_is_drawn_on_across_epochs_and_starts_again():
    source = make_batches(loader(), steps_per_epoch=3, device="cpu")
    labels = [[int(y[0]) for _, y in source.epoch(e)] for e in range(4)]
    firsts = [int(Y[5 * b]) for b in range(5)]
    assert labels == [firsts[:3], firsts[3:] + firsts[:1], firsts[1:4], firsts[4:] + firsts[:2]]
    again = make_batches(loader(shuffle=True), steps_per_epoch=7, seed=1, device="cpu")
    whole = [y for e in range(3) for _, y in again.epoch(e)]
    fresh = make_batches(loader(shuffle=True), steps_per_epoch=7, seed=1, device="cpu")
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole[9:14], (y for _, y in fresh.epoch(1, 2)), strict=True)
    )
    once = torch.cat(whole[:5])
    assert torch.equal(once.sort()[0], Y.sort()[0])


def test_an_iterable_data_set_without_length():
    source = make_batches(DataLoader(Stream(), 5), steps_per_epoch=4, device="cpu")
    labels = [torch.cat([y for _, y in source.epoch(e)]) for e in range(2)]
    assert torch.equal(labels[0], Y[:20])
    assert torch.equal(labels[1], torch.cat([Y[20:], Y[:15]]))
    fresh = make_batches(DataLoader(Stream(), 5), steps_per_epoch=4, device="cpu")
    assert torch.equal(torch.cat([y for _, y in fresh.epoch(1)]), labels[1])


def test_a_generator_that_ends_early_says_so():
    batches = ((X[:4], Y[:4]) for _ in range(5))
    source = make_batches(batches, steps_per_epoch=4, device="cpu")
    assert len(list(source.epoch(0))) == 4
    with pytest.raises(ValueError, match="the generator ended after 5 batches, though more are n"):
        list(source.epoch(1))
    with pytest.raises(ValueError, match="the generator ended after 0 batches"):
        make_batches((b for b in ()), steps_per_epoch=1, device="cpu")


def test_an_iterator_with_a_length_is_still_read_once():
    class Counted:
        def __init__(self):
            self.left = 3

        def __len__(self):
            return 3

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            self.left -= 1
            return X, Y

    source = make_batches(Counted(), device="cpu")
    assert len(list(source.epoch(0))) == 3
    with pytest.raises(ValueError, match="the Counted ended after 3 batches"):
        list(source.epoch(1))


def test_a_loader_with_fewer_batches_than_its_length():
    class Boasting(IterableDataset):
        def __iter__(self):
            return iter(Stream())

        def __len__(self):
            return 100

    source = make_batches(DataLoader(Boasting(), 5), device="cpu")
    assert len(source) == 20
    with pytest.raises(ValueError, match="ended after 5 of 20 batches in pass 1"):
        list(source.epoch(0))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (((x, y) for x, y in [(X, Y)]), ValueError, r"generator has no length.*steps_per_epoch="),
        (DataLoader(Stream(), 5), ValueError, "DataLoader has no length"),
        ([{"x": X, "y": Y}], TypeError, r"dictionary with the keys 'x', 'y'; pairs .*collate_fn"),
        ([(X, Y, Y)], TypeError, "batch 0 of the list is a tuple of 3"),
        ([(X.numpy(), Y)], TypeError, r"images of batch 0 must be a torch tensor, got a numpy"),
        ([(X, Y.tolist())], TypeError, "labels of batch 0 must be a torch tensor, got a list"),
        ([(X, Y[:3])], ValueError, "has 23 images, but 3 labels"),
        ([(X[0], 1), (X[1], 2)], ValueError, "yields single images .*DataLoader"),
        ([(X[0], Y[0])], ValueError, "yields single images .*DataLoader"),
    ],
)
def test_iterables_that_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        list(make_batches(given, device="cpu").epoch(0))


def test_single_images_of_an_iterable_data_set():
    with pytest.raises(ValueError, match=r"the Stream yields single images .*DataLoader"):
        make_batches(Stream(), steps_per_epoch=2, device="cpu")


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (loader(), {"augment": Augment(flip=0.5)}, r"augment=Augment.* to a DataLoader, which"),
        ((X, Y), {"steps_per_epoch": 3}, "steps_per_epoch=3 is for what yields batches"),
        (Noise(), {"steps_per_epoch": 3}, "an epoch of a Noise is one pass over it"),
        (loader(), {"workers": 3}, "workers=3 is for image folders"),
        (loader(), {"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
    ],
)
def test_options_that_contradict_the_data(given, options, message):
    with pytest.raises(ValueError, match=message):
        make_batches(given, device="cpu", **options)


def test_processes_divide_the_batches_of_a_loader():
    parts = [
        gathered(make_batches(loader(), device="cpu", rank=r, world_size=2))[1] for r in range(2)
    ]
    expected = [torch.cat([y[r::2] for y in Y.split(5)]) for r in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(parts, expected, strict=True))


def test_a_distributed_sampler_has_divided_the_images_already():
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(range(N), num_replicas=2, rank=rank, shuffle=True, seed=4)
        divided = loader(sampler=sampler)
        source = make_batches(divided, device="cpu", rank=rank, world_size=2)
        assert (source.images_per_epoch, source.batch_size, len(source)) == (24, 10, 3)
        epochs = [gathered(source, e)[1] for e in range(2)]
        for epoch, labels in enumerate(epochs):
            sampler.set_epoch(epoch)
            assert torch.equal(labels, Y[list(sampler)])
        assert not torch.equal(*epochs)
        seen.append(epochs[0])
    assert len(torch.cat(seen)) == 24


@pytest.mark.parametrize(
    "source",
    [
        data.load("digits")[0][:6],
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), 4),
    ],
    ids=["our data set", "torch data set", "loader"],
)
@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ((-1,), ValueError, "number must be an integer from 0, got -1"),
        (("x",), TypeError, "number must be an integer from 0, got 'x'"),
        ((0, -1), ValueError, "start must be an integer from 0, got -1"),
        ((0, 0.5), TypeError, "start must be an integer from 0, got 0.5"),
    ],
)
def test_the_number_of_an_epoch_and_of_a_batch_is_checked(source, given, kind, words):
    with pytest.raises(kind, match=words):
        next(make_batches(source, device="cpu").epoch(*given))
