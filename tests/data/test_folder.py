import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook import training
from cnnbook.data import DataError, ImageFolder, StreamingBatches, load, make_batches
from cnnbook.data.batches import share


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 training images of two classes; the gray level of each is its number times 8."""
    root = tmp_path_factory.mktemp("pictures")
    for part, count in (("train", 30), ("val", 7)):
        for i in range(count):
            path = root / part / ("ant", "bée")[i % 2] / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 50, 3), 8 * i, np.uint8)).save(path)
    return root


def levels(x, dataset):
    mean, std = torch.tensor(dataset.mean), torch.tensor(dataset.std)
    pixels = (x[:, :, 0, 0] * std + mean) * 255 / 8
    return pixels[:, 0].round().int().tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_once_with_its_label(folder, workers):
    train, test = load(f"imagefolder:{folder}", size=16)
    assert train.classes == test.classes == ("ant", "bée")
    assert (len(train), len(test)) == (30, 7)
    batches = StreamingBatches(train, 8, device="cpu", workers=workers, seed=1)
    assert len(batches) == 4
    for epoch in (0, 1):
        parts = list(batches.epoch(epoch))
        assert [len(y) for _, y in parts] == [8, 8, 8, 6]
        x = torch.cat([x for x, _ in parts])
        assert x.shape == (30, 3, 16, 16)
        seen = levels(x, train)
        assert sorted(seen) == list(range(30))
        assert [i % 2 for i in seen] == torch.cat([y for _, y in parts]).tolist()
    first = torch.cat([x for x, _ in batches.epoch(0)])
    again = torch.cat([x for x, _ in batches.epoch(0, start=2)])
    assert torch.equal(first[16:], again)


@pytest.mark.parametrize("side", [(60_000, 1), (1, 60_000)])
def test_a_thin_image_is_not_made_huge(tmp_path, side):
    for part in ("train", "val"):
        (tmp_path / part / "ant").mkdir(parents=True)
        Image.new("RGB", side).save(tmp_path / part / "ant" / "thin.png")
    train, test = load(f"imagefolder:{tmp_path}", size=224)
    assert train[0][0].shape == (3, 224, 224)  # a random crop is never larger than asked for
    with pytest.raises(DataError, match=r"thin.png cannot be used: .* resized to 256"):
        test[0]
    with pytest.raises(DataError, match=r"thin.png cannot be used"):
        list(StreamingBatches(test, 1, device="cpu", workers=0).epoch(0))


def test_one_image_and_its_label(folder):
    train, test = load(f"imagefolder:{folder}", size=16)
    for index in (1, np.int64(1), torch.tensor(1), -6):
        image, label = test[index]
        assert (image.shape, image.dtype) == ((3, 16, 16), torch.float32)
        assert (type(label), label) == (int, 0)
        assert levels(image[None], test) == [2]  # of 000.png, 002.png, …
    assert [y for _, y in test] == test.labels.tolist()
    with pytest.raises(IndexError, match="no image 7: the data set has 7 images"):
        test[7]
    # Random crops are drawn from torch's own generator.
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(train.transform()(Image.fromarray(picture)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    "index", [[4, 2], slice(2, 5, 2), np.array([4, 2]), torch.tensor([4, 2]), "a mask"]
)
def test_several_images_are_a_folder(folder, index):
    _, test = load(f"imagefolder:{folder}", size=16)
    wanted = [4, 2]
    if isinstance(index, str):
        index, wanted = test.labels == 1, [4, 5, 6]
    if isinstance(index, slice):
        wanted = [2, 4]
    part = test[index]
    assert isinstance(part, ImageFolder)
    assert part.paths.tolist() == [test.paths[i] for i in wanted]
    assert part.labels.tolist() == [int(test.labels[i]) for i in wanted]
    for wrong in ("a", None, (1, 2), 1.5):
        with pytest.raises(TypeError, match="a data set is indexed by an integer, which gives"):
            test[wrong]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torchs_loader_with_workers(folder, start):
    _, test = load(f"imagefolder:{folder}", size=16)
    loader = torch.utils.data.DataLoader(
        test, batch_size=3, num_workers=2, multiprocessing_context=start
    )
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    ours, labels = next(make_batches(test, 7, shuffle=False, device="cpu", workers=0).epoch(0))
    assert torch.equal(x, ours)
    assert torch.equal(y, labels)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_a_subset_of_a_folder_is_read_by_workers_too(folder):
    train, _ = load(f"imagefolder:{folder}", size=16)
    part = torch.utils.data.Subset(train, [5, 1, 7])
    batches = make_batches(part, 2, shuffle=False, device="cpu", workers=0)
    assert isinstance(batches, StreamingBatches)
    x = torch.cat([x for x, _ in batches.epoch(0)])
    assert levels(x, train) == [10, 2, 14]


def test_order_of_the_test_part_and_gray_images(folder):
    _, test = load(f"imagefolder:{folder}", size=8, channels=1)
    x, y = next(make_batches(test, 7, shuffle=False, device="cpu").epoch(0))
    assert x.shape == (7, 1, 8, 8)
    assert y.tolist() == sorted(y.tolist())


def test_the_same_crop_whichever_worker_reads_it(folder, tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        for i in range(6):
            noise = rng.integers(0, 256, (30, 30, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / part / "a" / f"{i}.jpg")
    train, _ = load(f"imagefolder:{tmp_path}", size=12)
    one, two = (
        torch.cat([x for x, _ in StreamingBatches(train, b, device="cpu", workers=w).epoch(3)])
        for b, w in ((6, 0), (2, 2))
    )
    assert torch.equal(one, two)


@pytest.mark.slow
def test_memory_stays_flat(folder):
    # In a process of its own: in this one, memory that other tests freed would be used again.
    code = """
import sys, psutil
from cnnbook import data
train, _ = data.load("imagefolder:" + sys.argv[1], size=64)
batches = data.StreamingBatches(train, 10, device="cpu", workers=0)
memory = psutil.Process().memory_info

for epoch in range(5):
    images = sum(len(y) for _, y in batches.epoch(epoch))
before = memory().rss
for epoch in range(30):
    images = sum(len(y) for _, y in batches.epoch(epoch))
read = memory().rss - before
kept = [list(batches.epoch(epoch)) for epoch in range(30)]
print(images, read, memory().rss - before)
"""
    run = [sys.executable, "-c", code, str(folder)]
    images, read, kept = map(int, subprocess.check_output(run, timeout=120).split())
    assert images == 30
    # 30 epochs kept are 30 · 30 · 3 · 64 · 64 · 4 bytes = 44 MB.
    assert read < 10e6 < 30e6 < kept


def test_shares_are_disjoint_and_complete():
    for images, batch_size, world_size in ((103, 10, 3), (5, 8, 4), (64, 16, 2), (1, 4, 3)):
        order = torch.randperm(images)
        shares = [share(order, batch_size, r, world_size) for r in range(world_size)]
        for step in range(-(-images // batch_size)):
            parts = [s[step] for s in shares]
            whole = order[step * batch_size : (step + 1) * batch_size]
            assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
            sizes = list(map(len, parts))
            assert max(sizes) - min(sizes) <= 1


def test_deep_pictures_keep_their_grays_and_hidden_folders_are_no_classes(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        (tmp_path / part / ".ipynb_checkpoints").mkdir()
        ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
        Image.fromarray(ramp).save(tmp_path / part / "a" / "deep.png")
    train, test = load(f"imagefolder:{tmp_path}", size=64)
    assert train.classes == ("a",)
    picture = test.read(0, test.transform()).float()
    assert 120 < picture.mean() < 135
    assert picture.min() < 30
    assert picture.max() > 225


def denied(file, formats):
    raise PermissionError(errno.EACCES, "Permission denied", file.name)


def test_nobody_is_told_to_delete_a_folder_or_a_script(tmp_path):
    (tmp_path / "script.py").write_text("print()")
    given = ImageFolder(
        "given",
        tmp_path,
        np.array([b".", b"script.py"]),
        torch.zeros(2, dtype=torch.int64),
        ("a",),
        train=False,
    )
    with pytest.raises(DataError, match=r"is a folder; name the pictures in it \(.*/\*\.png\)$"):
        given.read(0, given.transform())
    with pytest.raises(
        DataError, match=r"script\.py is .* not an image.* Replace it or leave it out$"
    ):
        given.read(1, given.transform())


def test_pictures_that_are_gone_or_too_large_are_named(tmp_path, monkeypatch):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.new("L", (40, 40)).save(tmp_path / part / "a" / "x.png")
    train, _ = load(f"imagefolder:{tmp_path}", size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(DataError, match=r"x\.png is damaged or not an image"):
        train.read(0, train.transform())
    monkeypatch.setattr(Image, "open", denied)
    with pytest.raises(DataError, match=r"x\.png cannot be read: Permission denied$"):
        train.read(0, train.transform())
    monkeypatch.undo()
    (tmp_path / "train" / "a" / "x.png").unlink()
    with pytest.raises(DataError, match=r"there is no file .*x\.png"):
        train.read(0, train.transform())


@pytest.mark.slow
def test_a_signal_to_all_processes_lets_the_readers_finish(folder, tmp_path):
    code = """
import os, signal, sys, threading, time
from torch import nn
from cnnbook import data, training
os.setpgrp()
train, _ = data.load("imagefolder:" + sys.argv[1], size=16)

class Slowly(training.Callback):
    def on_step(self, run):
        if run.step == 2:
            threading.Timer(0.2, lambda: os.killpg(0, signal.SIGTERM)).start()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass

net = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
history = training.fit(
    net, train, epochs=9, batch_size=8, checkpoint=sys.argv[2], callbacks=[Slowly()],
    device="cpu", progress=False,
)
print(history.stopped)
"""
    checkpoint = tmp_path / "run"
    run = [sys.executable, "-c", code, str(folder), str(checkpoint)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("stopped at step ")
    assert done.stderr.count("stopping after this step") == 1
    assert training.load_checkpoint(checkpoint)[1]["step"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise RuntimeError('lost')", "raise KeyboardInterrupt"])
def test_python_ends_though_readers_are_alive(folder, end):
    code = f"""
import sys
from cnnbook import data
train, _ = data.load("imagefolder:" + sys.argv[1], size=16)
batches = data.StreamingBatches(train, 8, device="cpu", workers=2)
list(batches.epoch(0))
{end}
"""
    run = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode == 0) == (not end), done.stderr
    assert end.partition("(")[0].removeprefix("raise ") in done.stderr


def test_bad_folders(tmp_path, folder):
    with pytest.raises(DataError, match="there is no folder"):
        load(f"imagefolder:{tmp_path}/nowhere")
    for part in ("train", "val"):
        (tmp_path / "empty" / part).mkdir(parents=True)
    with pytest.raises(DataError, match="train contains no folder of a class"):
        load(f"imagefolder:{tmp_path}/empty")
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "val" / "b").mkdir(parents=True)
    with pytest.raises(DataError, match=r"val has classes that .*train does not have.*\['b'\]"):
        load(f"imagefolder:{tmp_path}")
    (tmp_path / "val" / "b").rmdir()
    with pytest.raises(DataError, match="contains no images"):
        load(f"imagefolder:{tmp_path}")
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        load(f"imagefolder:{folder}", size=0)
    with pytest.raises(TypeError, match=r"dataset must be a data.ImageFolder, got str"):
        StreamingBatches("pictures")
    with pytest.raises(ValueError, match="1 or 3 channels, got channels=2"):
        load(f"imagefolder:{folder}", channels=2)
    for part in ("train", "val"):
        os.makedirs(tmp_path / part / "a", exist_ok=True)
        (tmp_path / part / "a" / "x.jpg").write_bytes(b"no picture")
    train, _ = load(f"imagefolder:{tmp_path}")
    with pytest.raises(DataError, match=r"x\.jpg is damaged or not an image"):
        next(StreamingBatches(train, 1, device="cpu", workers=0).epoch(0))
    with pytest.raises(TypeError, match="got str"):
        make_batches("fashion-mini")
