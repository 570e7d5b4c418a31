"""CIFAR and Imagenette by name: small archives of the same format, from a local server."""

import dataclasses
import functools
import hashlib
import http.server
import io
import re
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook import data
from cnnbook.cli.listings import data_table, verify_data
from cnnbook.data import DataError, cifar, imagenette
from cnnbook.data.files import Archive
from cnnbook.data.imagenette import CLASS_NAMES, unpack


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def records(spec, images: int, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    labels = random.integers(0, spec.classes, (images, spec.labels), np.uint8)
    pixels = random.integers(0, 256, (images, 3 * 32 * 32), np.uint8)
    return np.hstack([labels, pixels]).tobytes()


def cifar_files(spec, images: tuple[int, int]) -> dict[str, bytes]:
    names = "\n".join(f"class_{i}" for i in range(spec.classes)) + "\n\n"
    files = {"readme.html": b"<html>", spec.names: names.encode()}
    for i, name in enumerate(spec.train):
        files[name] = records(spec, images[0], i)
    files[spec.test[0]] = records(spec, images[1], 99)
    return {f"{spec.folder}/{name}": content for name, content in files.items()}


def pictures() -> dict[str, bytes]:
    files = {}
    for part, count in (("train", 2), ("val", 1)):
        for number, wnid in enumerate(CLASS_NAMES):
            for i in range(count):
                image = io.BytesIO()
                Image.new("RGB", (20, 16), (20 * number, 0, 100 * i)).save(image, "PNG")
                files[f"imagenette2-160/{part}/{wnid}/{wnid}_{i}.png"] = image.getvalue()
    return files


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder, its address, and how many files were fetched from there."""
    www = tmp_path / "www"
    www.mkdir()
    handler = functools.partial(Handler, directory=www)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield www, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def offer(server, monkeypatch, spec, packed: bytes, images=(3, 4)) -> None:
    """Let data.load find a small archive under the first address that works."""
    www, address = server
    name = spec.archive.name
    (www / name).write_bytes(packed)
    urls = (f"{address}/gone/{name}", f"{address}/{name}")
    small = Archive(name, hashlib.sha256(packed).hexdigest(), urls)
    changed = dataclasses.replace(spec, archive=small, images=images)
    monkeypatch.setattr(cifar, spec.name.upper(), changed)


CIFARS = [cifar.CIFAR10, cifar.CIFAR100]


@pytest.mark.parametrize("spec", CIFARS, ids=lambda spec: spec.name)
def test_cifar(server, monkeypatch, tmp_path, spec):
    files = cifar_files(spec, (3, 4))
    offer(server, monkeypatch, spec, archive(files))
    with pytest.raises(DataError, match=r"no cifar-10+-binary.tar.gz in .*download=False"):
        data.load(spec.name, download=False)
    train, test = data.load(spec.name)
    assert (len(train), len(test)) == (3 * len(spec.train), 4)
    assert (train.name, test.name) == (f"{spec.name} train", f"{spec.name} test")
    assert train.classes == tuple(f"class {i}" for i in range(spec.classes))

    # The second image of the first training file, by the published layout: labels, then red,
    # green and blue, row by row.
    content = files[f"{spec.folder}/{spec.train[0]}"]
    record = content[spec.labels + 3072 :][: spec.labels + 3072]
    assert train.labels[1] == record[spec.labels - 1]
    assert train.images[1, 2, 31, 30] == record[spec.labels + 2 * 1024 + 31 * 32 + 30]
    assert train.images[1, 0, 4, 7] == record[spec.labels + 4 * 32 + 7]
    last = files[f"{spec.folder}/{spec.test[0]}"][-3072:]
    assert bytes(test.images[-1].flatten().tolist()) == last

    pixels = train.images.double() / 255
    for part in (train, test):
        assert part.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
        assert part.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    # From now on without a server, and padded if so wished.
    server[0].joinpath(spec.archive.name).unlink()
    assert torch.equal(data.load(spec.name, download=False, size=36)[1].images[:, :, 2:34, 2:34],
                       test.images)  # fmt: skip
    assert [f.name for f in (tmp_path / "chosen" / spec.name).iterdir()] == [spec.archive.name]


@pytest.mark.parametrize("spec", CIFARS, ids=lambda spec: spec.name)
def test_the_published_archives(spec):
    # 60,000 images; sizes as on the page of the data set.
    train, test = (
        images * len(files)
        for images, files in zip(spec.images, (spec.train, spec.test), strict=True)
    )
    assert (train, test) == (50_000, 10_000)
    assert spec.archive.urls[0] == f"https://www.cs.toronto.edu/~kriz/{spec.archive.name}"
    assert all(url.startswith("https://") for url in spec.archive.urls)
    assert re.fullmatch("[0-9a-f]{64}", spec.archive.sha256)


def test_the_published_imagenette_is_the_one_that_torchvision_loads():
    from torchvision.datasets import Imagenette

    assert imagenette.ARCHIVE.urls[0] == Imagenette._ARCHIVES["160px"][0]
    assert {w: names[0] for w, names in Imagenette._WNID_TO_CLASS.items()} == CLASS_NAMES


MISTAKES = {
    "truncated file": (lambda spec, f: f.update({spec.train[0]: f[spec.train[0]][:-1]}), "9,218 b"),
    "another length": (lambda spec, f: f.update({spec.test[0]: b""}), "test_batch.bin holds 0 byt"),
    "missing file": (lambda spec, f: f.pop(spec.train[4]), "contains no cifar-10-.*data_batch_5"),
    "class names": (lambda spec, f: f.update({spec.names: b"cat\ndog"}), "lists 2 classes, not 10"),
    "label": (
        lambda spec, f: f.update({spec.test[0]: b"\x0a" + f[spec.test[0]][1:]}),
        "label 10 among 10 classes",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_archives_that_hold_something_else(server, monkeypatch, change, message):
    spec = cifar.CIFAR10
    files = {n.rpartition("/")[2]: c for n, c in cifar_files(spec, (3, 4)).items()}
    change(spec, files)
    packed = archive({f"{spec.folder}/{name}": content for name, content in files.items()})
    offer(server, monkeypatch, spec, packed)
    with pytest.raises(DataError, match=message):
        data.load("cifar10")


def test_an_altered_archive_is_not_read(server, monkeypatch, tmp_path):
    spec = cifar.CIFAR10
    packed = archive(cifar_files(spec, (3, 4)))
    offer(server, monkeypatch, spec, packed)
    (server[0] / spec.archive.name).write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"could not download .*404.*; .*incomplete, altered"):
        data.load("cifar10")
    assert list((tmp_path / "chosen" / "cifar10").iterdir()) == []
    (tmp_path / "chosen" / "cifar10" / spec.archive.name).write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"SHA-256 of its content is .*Delete .* and run"):
        data.load("cifar10")


def test_a_file_with_the_right_checksum_that_is_no_archive(server, monkeypatch):
    offer(server, monkeypatch, cifar.CIFAR10, b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        data.load("cifar10")


def offer_imagenette(server, monkeypatch, packed: bytes) -> None:
    www, address = server
    (www / "imagenette2-160.tgz").write_bytes(packed)
    small = Archive(
        "imagenette2-160.tgz",
        hashlib.sha256(packed).hexdigest(),
        (f"{address}/gone.tgz", f"{address}/imagenette2-160.tgz"),
    )
    monkeypatch.setattr(imagenette, "ARCHIVE", small)


def where(name: str) -> str:
    (row,) = (row for row in data_table().to_dicts() if row["name"] == name)
    return row["where"]


def test_imagenette(server, monkeypatch, tmp_path):
    offer_imagenette(server, monkeypatch, archive(pictures()))
    assert where("imagenette") == ("1 of 1 files missing")
    with pytest.raises(DataError, match=r"no imagenette2-160.tgz in .*download=False"):
        data.load("imagenette", download=False)
    train, test = data.load("imagenette", size=8)
    assert (len(train), len(test)) == (20, 10)
    assert (train.name, test.name) == ("imagenette train", "imagenette test")
    assert (train.train, test.train) == (True, False)
    assert train.classes[:2] == ("tench", "English springer")
    assert train.classes[-1] == "parachute"
    assert test.labels.tolist() == list(range(10))
    image, label = test[3]
    assert label == 3
    red = image[0, 4, 4] * test.std[0] + test.mean[0]
    assert red.item() == pytest.approx(60 / 255, abs=1e-5)
    folder = tmp_path / "chosen" / "imagenette"
    assert {f.name for f in folder.iterdir()} == {"imagenette2-160", "imagenette2-160.tgz"}
    # Neither server nor archive are needed again.
    (folder / "imagenette2-160.tgz").unlink()
    (server[0] / "imagenette2-160.tgz").unlink()
    assert data.load("imagenette")[0].size == 224
    assert data.load("imagenette", size=8, channels=1)[1][0][0].shape == (1, 8, 8)
    assert where("imagenette") == (str(folder / "imagenette2-160"))
    assert [row["images"] for row in verify_data("imagenette", download=False).to_dicts()] == [
        20,
        10,
    ]


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (member("../evil", tarfile.REGTYPE), "'../evil' lies outside of imagenette2-160"),
        (member("imagenette2-160/../../evil", tarfile.REGTYPE), "lies outside"),
        (member("/evil", tarfile.REGTYPE), "'/evil' lies outside"),
        (member("evil", tarfile.REGTYPE), "'evil' lies outside"),
        (member("imagenette2-160/x", tarfile.SYMTYPE, "/etc"), "'imagenette2-160/x' is a link"),
        (member("imagenette2-160/x", tarfile.LNKTYPE, "imagenette2-160/y"), "is a link or a dev"),
        (member("imagenette2-160/x", tarfile.FIFOTYPE), "is a link or a device"),
    ],
)
def test_archives_that_are_not_safe_are_not_unpacked(tmp_path, made, message):
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        for name in ("train", "val"):
            tar.addfile(member(f"imagenette2-160/{name}", tarfile.DIRTYPE))
        tar.addfile(made)
    with pytest.raises(DataError, match=message):
        unpack(tmp_path / "x.tgz", tmp_path / "to", "imagenette2-160")
    assert list((tmp_path / "to").iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("cut", [0, 10, 700])
def test_damaged_archives_are_not_unpacked(tmp_path, cut):
    (tmp_path / "x.tgz").write_bytes(archive(pictures())[:cut])
    with pytest.raises(DataError, match=r"x\.tgz cannot be unpacked"):
        unpack(tmp_path / "x.tgz", tmp_path / "to", "imagenette2-160")
    assert list((tmp_path / "to").iterdir()) == []


def test_unpacked_twice_at_once(tmp_path):
    (tmp_path / "x.tgz").write_bytes(archive(pictures()))
    first = unpack(tmp_path / "x.tgz", tmp_path / "to", "imagenette2-160")
    kept = first / "train" / "n01440764" / "mine.txt"
    kept.touch()
    assert unpack(tmp_path / "x.tgz", tmp_path / "to", "imagenette2-160") == first
    assert kept.exists()
    assert list((tmp_path / "to").iterdir()) == [first]


def test_names_are_listed_and_offered():
    assert data.list_datasets()[-3:] == ["cifar10", "cifar100", "imagenette"]
    assert [row["name"] for row in data_table().to_dicts()][:-1] == data.list_datasets()
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        data.load("cifar-10")
