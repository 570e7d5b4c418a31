"""Whatever an image library says about a damaged file, the error names the file."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from cnnbook.data import DataError, ImageFolder, make_batches

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def wrong_length(content: bytes) -> bytes:
    at = content.index(b"IDAT") - 4
    length = int.from_bytes(content[at : at + 4], "big") // 2
    return content[:at] + length.to_bytes(4, "big") + content[at + 4 :]


PNG, JPEG = encoded("PNG"), encoded("JPEG")
BROKEN = {
    "wrong-chunk-length.png": wrong_length(PNG),
    "wrong-checksum.png": PNG[:40] + bytes([PNG[40] ^ 255]) + PNG[41:],
    "cut.png": PNG[: len(PNG) // 2],
    "only-header.png": PNG[:33],
    "short-header.png": PNG[:8] + chunk(b"IHDR", b"\0\0\0\x18") + PNG[33:],
    "bad-data.png": PNG[:33] + chunk(b"IDAT", b"no zlib") + chunk(b"IEND", b""),
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "only-start.jpg": JPEG[:4],
    "cut.webp": encoded("WEBP")[:60],
    "cut.bmp": encoded("BMP")[:60],
    "short-header.bmp": encoded("BMP")[:20],
    "cut.tif": encoded("TIFF", compression="tiff_lzw")[:-60],
    "header.tif": b"II*\0\x08\0\0\0\xff\xff",
    "cut.ppm": encoded("PPM")[:-50],
    "words.ppm": b"P6 24 x 255 ",
    "empty.png": b"",
    "text.jpg": b"<html>404</html>",
}


def folder(path):
    return ImageFolder(
        "f", path.parent, np.array([path.name.encode()]), torch.tensor([0]), ("z",), False, size=16
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_damaged_files(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    given = folder(tmp_path / name)
    for read in (
        lambda: given.read(0, given.transform()),
        lambda: given[0],
        lambda: next(make_batches(given, 1, device="cpu", workers=0).epoch(0)),
    ):
        with pytest.raises(DataError, match=rf"{name} .*(damaged or not an image|cannot be read)"):
            read()


@pytest.mark.parametrize(
    "error",
    [SyntaxError, struct.error, TypeError, IndexError, KeyError, EOFError, zlib.error, RuntimeError,
     OverflowError, AssertionError, NotImplementedError, UnicodeDecodeError],
)  # fmt: skip
def test_whatever_pillow_raises(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error(*(("utf-8", b"", 0, 1, "why") if error is UnicodeDecodeError else ("why",)))

    (tmp_path / "x.png").write_bytes(PNG)
    given = folder(tmp_path / "x.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(DataError, match=r"x\.png is damaged or not an image \(.*why"):
        given.read(0, given.transform())


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_not_the_files_fault(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    (tmp_path / "x.png").write_bytes(PNG)
    given = folder(tmp_path / "x.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(error):
        given[0]


def test_an_error_of_ones_own_transform_stays_as_it_is(tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)

    def mine(image):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        folder(tmp_path / "x.png").read(0, mine)
