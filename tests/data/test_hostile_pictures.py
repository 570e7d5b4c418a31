"""Pictures from strangers: nothing is started, memory is bounded, errors name the file."""

import errno
import io
import os
import shutil
import socket
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook._pictures import FORMATS, MAX_PIXELS, _size_of_webp
from cnnbook.data import DataError, StreamingBatches, load


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GRAY = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
EPS = encoded(GRAY, "EPS")


@pytest.fixture
def pictures(tmp_path):
    """A folder of one class, whose only training image a test replaces."""
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        GRAY.save(tmp_path / part / "a" / "1.png")
    return tmp_path


def read(root, content, name="1.png"):
    (root / "train" / "a" / "1.png").unlink(missing_ok=True)
    (root / "train" / "a" / name).write_bytes(content)
    train, _ = load(f"imagefolder:{root}", size=4, channels=1)
    return train.read(0, lambda image: image)


def test_a_picture_starts_no_program(pictures, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gs", "gswin32c", "djpeg"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("gs") == str(programs / "gs")
    for name in ("photo.jpg", "photo.png", "photo.tif"):
        with pytest.raises(DataError, match=rf"{name} is damaged or not an image"):
            read(pictures, EPS, name)
        (pictures / "train" / "a" / name).unlink()
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_content_decides_the_format(pictures, kind):
    lossy = kind in ("JPEG", "WEBP")
    image = read(pictures, encoded(GRAY, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert image.mode == "L"
    assert np.allclose(np.array(image), np.array(GRAY), atol=6 if lossy else 0)


def webp(kind, width, height):
    """Return the 34 bytes that begin a WebP file of that size, and nothing more."""
    if kind == "VP8X":
        body = bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    elif kind == "VP8L":
        body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(5)
    else:
        body = bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    content = b"WEBP" + kind.ljust(4).encode() + struct.pack("<I", len(body)) + body + bytes(4)
    return b"RIFF" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize("kind", ["VP8X", "VP8L", "VP8"])
def test_a_small_file_that_asks_for_gigabytes_is_refused(pictures, kind):
    assert _size_of_webp(webp(kind, 16383, 16383)[:30]) == (16383, 16383)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"1\.png .*too large: 16383×16383 pixels"):
        read(pictures, webp(kind, 16383, 16383))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("lossless", [True, False])
def test_the_announced_size_is_the_size(lossless):
    image = Image.new("RGB", (301, 7))
    for extra in ({}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}):
        content = encoded(image, "WEBP", lossless=lossless, **extra)
        assert _size_of_webp(content[:30]) == (301, 7)


def test_a_bomb_of_another_format_is_refused(pictures):
    side = int(MAX_PIXELS**0.5) + 100
    content = bytearray(encoded(Image.new("1", (1, 1)), "BMP"))
    content[18:26] = struct.pack("<ii", side, side)
    with pytest.raises(DataError, match=r"1\.png .*exceeds limit"):
        read(pictures, bytes(content))


@pytest.mark.parametrize(
    ("mode", "kind", "match"),
    [("I", "TIFF", "32-bit integers"), ("F", "TIFF", "floating-point numbers")],
)
def test_values_of_no_known_range_are_refused(pictures, mode, kind, match):
    with pytest.raises(DataError, match=rf"1\.png .*{match}"):
        read(pictures, encoded(GRAY.convert(mode), kind))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_16_bits_the_upper_eight_are_kept(pictures, kind):
    deep = Image.fromarray((np.array(GRAY).astype(np.uint16) << 8) + 77)
    assert np.array_equal(np.array(read(pictures, encoded(deep, kind))), np.array(GRAY))


def test_palettes_are_resolved_and_transparency_is_dropped(pictures):
    palette = GRAY.convert("P")
    content = encoded(palette, "PNG", transparency=3)
    assert np.array_equal(np.array(read(pictures, content)), np.array(GRAY))


def test_what_is_no_file_is_never_opened(pictures):
    folder = pictures / "train" / "a"
    (folder / "2.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "3.png"))  # these names must be short
    os.mkfifo(folder / "4.png")
    (folder / "5.png").symlink_to(folder / "gone.png")
    (folder / "6.png").symlink_to(folder / "6.png")
    with pytest.warns(UserWarning, match=r"a: 2 dangling links, 3 special files$"):
        train, _ = load(f"imagefolder:{pictures}", size=4)
    assert [os.path.basename(path) for path in train.paths.tolist()] == [b"1.png"]
    os.unlink(folder / "1.png")
    os.mkfifo(folder / "1.png")
    with pytest.raises(DataError, match=r"1\.png .*not a file but a pipe"):
        train[0]


def test_links_are_followed_but_to_each_folder_once(pictures, tmp_path_factory):
    folder, other = pictures / "train" / "a", tmp_path_factory.mktemp("other")
    GRAY.save(other / "2.png")
    for name in ("one", "two"):
        (folder / name).symlink_to(other)
    (other / "round").symlink_to(other)
    (other / "back").symlink_to(folder)
    (folder / "up").symlink_to(pictures)
    (pictures / "train" / "b").symlink_to(pictures / "train")
    train, _ = load(f"imagefolder:{pictures}", size=4)
    assert train.classes == ("a",)
    assert train.paths.tolist() == [b"a/1.png", b"a/one/2.png"]


def test_names_that_are_no_text(pictures):
    folder = os.fsencode(pictures / "train" / "a")
    os.rename(os.path.join(folder, b"1.png"), os.path.join(folder, b"\xff\xe9.png"))
    train, _ = load(f"imagefolder:{pictures}", size=4)
    assert train[0][1] == 0
    os.truncate(os.path.join(folder, b"\xff\xe9.png"), 20)
    with pytest.raises(DataError, match="png is damaged"):
        train[0]


def test_a_folder_that_cannot_be_listed_is_named(pictures, monkeypatch):
    scandir = os.scandir

    def denied(folder):
        if os.fspath(folder).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    (pictures / "train" / "a" / "deep").mkdir()
    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"train/a/deep cannot be listed: Permission denied$"):
        load(f"imagefolder:{pictures}", size=4)


def test_images_that_cannot_be_read_are_counted_and_other_files_are_not(pictures):
    for name in ("2.heic", "3.HEIC", "4.svg", "notes.txt", "labels.json", "Thumbs.db", ".5.heic"):
        (pictures / "train" / "a" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"train: left out.*: a: 2 \.heic, 1 \.svg$"):
        load(f"imagefolder:{pictures}", size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("2.heic", "3.HEIC", "4.svg"):
            (pictures / "train" / "a" / name).unlink()
        load(f"imagefolder:{pictures}", size=4)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_named_without_a_workers_traceback(pictures, workers):
    (pictures / "train" / "a" / "2.png").write_bytes(b"no image")
    train, _ = load(f"imagefolder:{pictures}", size=4)
    batches = StreamingBatches(train, 2, device="cpu", workers=workers)
    with pytest.raises(DataError) as caught:
        list(batches.epoch(0))
    assert str(caught.value).startswith(str(pictures / "train" / "a" / "2.png"))
    assert "Traceback" not in str(caught.value)
    if workers:
        with pytest.raises(DataError) as torchs:
            list(torch.utils.data.DataLoader(train, batch_size=2, num_workers=1))
        assert str(torchs.value) == str(caught.value)


def test_no_damage_escapes_as_another_error(pictures):
    generator = torch.Generator().manual_seed(0)
    kinds = {k: encoded(GRAY, k) for k in FORMATS}
    for content in kinds.values():
        for _ in range(40):
            damaged = bytearray(content)
            for at in torch.randint(len(content), (3,), generator=generator).tolist():
                damaged[at] = int(torch.randint(256, (), generator=generator))
            cut = int(torch.randint(1, len(content) + 1, (), generator=generator))
            for found in (bytes(damaged), content[:cut]):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        read(pictures, found)
                    except DataError as error:
                        assert "1.png" in str(error)  # noqa: PT017
