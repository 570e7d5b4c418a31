"""What the README, and the page on data and networks of one's own, tell a reader to type works."""

import re
import shlex
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import cnnbook
from cnnbook import data, models, training
from cnnbook._download import DownloadError
from cnnbook.cli import build_parser, main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
OWN = (ROOT / "chapters/reference/package/own.md").read_text()


def write_idx(path: Path, values: Tensor) -> None:
    """Write bytes in the format of MNIST's files."""
    shape = values.shape
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    path.write_bytes(header + values.byte().numpy().tobytes())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, but for a few images of Fashion-MNIST, where torchvision looks for them."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for kind, part in zip(("train", "t10k"), data.load("fashion-mini"), strict=True):
        write_idx(raw / f"{kind}-images-idx3-ubyte", part.images[:200, 0])
        write_idx(raw / f"{kind}-labels-idx1-ubyte", part.labels[:200])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(text: str) -> dict:
    """Run a page's blocks of Python in one go; return their names."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(block, names)
    return names


@pytest.mark.slow
def test_python_examples_run_as_printed(folder, capsys):
    names = run_blocks(TEXT)
    out = capsys.readouterr().out
    assert "validation accuracy" in out
    assert (folder / "c1.png").read_bytes().startswith(b"\x89PNG")
    # A DataLoader of torchvision's data set: 200 images, 64 in a batch.
    assert len(names["history"].step_loss) == 4
    # timm's ConvNeXt, 7×7 in each of two blocks per stage: 4 + 12·4 pixels after the first stage,
    # 4 more for the 2×2 convolution that halves the maps, 12·8 more for the second.
    assert "152" in out
    assert "Egyptian cat" in out
    assert names["tuned"](torch.zeros(1, 3, 224, 224)).shape == (1, 3)


@pytest.mark.slow
def test_the_page_on_ones_own_runs_as_printed(folder, capsys):
    names = run_blocks(OWN)
    out = capsys.readouterr().out
    assert "<200 images: loss " in out  # torchvision's data set, evaluated
    assert "Apache-2.0" in out
    assert "Egyptian cat" in out
    assert names["image"].shape == (1, 28, 28)
    assert type(names["label"]) is int
    assert names["x"].dtype == torch.float32
    assert names["y"].dtype == torch.int64
    assert names["cam"].maps.shape == (4, 28, 28)


def no_connection(*args, **kwargs):
    raise DownloadError("no route to host")


def test_without_a_connection_weights_say_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr("cnnbook.models.weights.download", no_connection)
    message = r"could not download \S+resnet50-\S+.*put the file into"
    for attempt in (
        lambda: cnnbook.load("resnet50"),
        lambda: models.create("resnet50", weights="imagenet"),
        lambda: training.predict("resnet50", data.photo("cat")),
    ):
        with pytest.raises(RuntimeError, match=message):
            attempt()
    picture = tmp_path / "cat.png"
    Image.new("RGB", (64, 64)).save(picture)
    assert main(["predict", "resnet50", str(picture)]) != 0
    said = capsys.readouterr().err
    assert "could not download" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_commands_run_as_printed(tmp_path, monkeypatch, capsys):
    lines = re.findall(r"^(?:torchrun .* -m )?cnnbook (.*)$", TEXT, flags=re.M)
    commands = [shlex.split(line, comments=True) for line in lines]
    for command in commands:
        build_parser().parse_args(command)
    monkeypatch.chdir(tmp_path)
    _, test = data.load("fashion-mini")
    Image.fromarray(test.images[0, 0].numpy()).save("boot.png")
    Image.fromarray(data.photo("cat").permute(1, 2, 0).numpy()).save("cat.png")
    names = ("resnet18-fashion-mini.safetensors", "efficientnet_lite0")
    on_a_laptop = [c for c in commands if len(c) > 1 and c[1] in names]
    train = next(c for c in commands if c[0] == "train")
    for command in [train, *on_a_laptop]:
        assert main(command) == 0
    out = capsys.readouterr().out
    assert "after 1 epoch and" in out
    assert "Egyptian cat" in out
    assert [c[0] for c in on_a_laptop] == ["evaluate", "predict", "predict"]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake (\w+)", re.sub(r"`make`", "", TEXT))
    assert "book" in targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_linked_files_exist():
    # Whole addresses: PyPI shows this file too.
    assert re.findall(r"\]\((?!http)[^)]+\)", TEXT) == []
    paths = re.findall(r"github(?:\.com)?/[\w-]+/[\w.-]+/blob/main/(\S+?)\)", TEXT)
    assert "LICENSE" in paths
    for path in paths:
        assert (ROOT / path).exists(), path
