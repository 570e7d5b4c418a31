"""Photographs that a phone stores lying on their side are read upright."""

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook import data
from cnnbook.data import ImageFolder

ORIENTATION = 0x0112
# What a viewer does for each value of the tag (Exif 2.32, tag 274); storing undoes it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upright(mode: str = "RGB") -> Image.Image:
    """Four quarters that differ: 200 and 120 above, 60 and 0 below."""
    quarters = np.kron([[200, 120], [60, 0]], np.ones((16, 16))).astype(np.uint8)
    return Image.fromarray(quarters).convert(mode)


def folder(path, channels=3):
    options = {"size": 32, "channels": channels, "margin": 1.0}
    if channels == 1:
        options |= {"mean": (0.0,), "std": (1.0,)}
    return ImageFolder(
        "f",
        path.parent,
        np.array([path.name.encode()]),
        torch.tensor([0]),
        ("z",),
        False,
        **options,
    )


def corners(pixels):
    return [int(pixels[0, y, x]) for y in (8, 24) for x in (8, 24)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("tag", STORED)
def test_every_orientation(tmp_path, tag, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    picture = upright()
    if STORED[tag] is not None:
        picture = picture.transpose(STORED[tag])
    path = tmp_path / f"x.{suffix}"
    picture.save(path, exif=exif, quality=95)
    for channels in (3, 1):
        read = folder(path, channels)
        expected = pytest.approx([200, 120, 60, 0], abs=6)
        assert corners(read.read(0, read.transform())) == expected
        image, _ = read[0]
        assert corners((image * read.std[0] + read.mean[0]) * 255 + 0.5) == expected


def test_width_and_height_are_exchanged_before_the_crop(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    tall = Image.new("RGB", (20, 60), "blue")
    tall.paste("red", (0, 0, 20, 20))
    tall.transpose(STORED[6]).save(tmp_path / "x.png", exif=exif)
    read = folder(tmp_path / "x.png")
    assert read.read(0, lambda image: image.size) == (20, 60)


def test_without_exif_nothing_is_turned(tmp_path):
    upright().save(tmp_path / "x.png")
    read = folder(tmp_path / "x.png")
    assert corners(read.read(0, read.transform())) == [200, 120, 60, 0]


@pytest.mark.parametrize("tag", [0, 9, 200])
def test_orientations_that_do_not_exist(tmp_path, tag):
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    upright().save(tmp_path / "x.png", exif=exif)
    read = folder(tmp_path / "x.png")
    assert corners(read.read(0, read.transform())) == [200, 120, 60, 0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01", b"Exif\0\0", b"\xff" * 40]
)
def test_a_picture_with_damaged_exif_data_is_still_a_picture(tmp_path, exif):
    upright().save(tmp_path / "x.jpg", exif=exif, quality=95)
    read = folder(tmp_path / "x.jpg")
    pixels = read.read(0, read.transform())
    assert corners(pixels) == pytest.approx([200, 120, 60, 0], abs=6)


def test_whole_folders(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    for part in ("train", "val"):
        (tmp_path / part / "z").mkdir(parents=True)
        path = tmp_path / part / "z" / "x.jpg"
        upright().transpose(STORED[3]).save(path, exif=exif, quality=95)
    _, test = data.load(f"imagefolder:{tmp_path}", size=32)
    ((x, _),) = data.make_batches(test, 1, shuffle=False, device="cpu", workers=0).epoch(0)
    assert (x[0, :, 4, 4] > x[0, :, 28, 28]).all()
