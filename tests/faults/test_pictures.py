"""Damaged and hostile images, folders and archives.

Nothing is started, nothing unpickled, memory is bounded, and every error names the file.
"""

import io
import os
import pickle
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook._pictures import SUFFIXES
from cnnbook.data import DataError, ImageFolder, load
from cnnbook.data.cifar import CIFAR10, _members
from cnnbook.data.imagenette import unpack

KIND = "damaged or hostile images, folders, archives"
MOST = 1_200_000_000  # bytes: the largest image that is read, in color, takes half of it


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def samples():
    """Small images of every format that is read, in the ways it can be written."""
    values = np.random.default_rng(0).integers(0, 256, (17, 23, 4), np.uint8)
    values[:8] = values[0, 0]  # something to compress
    alpha = Image.fromarray(values)
    color, gray = alpha.convert("RGB"), alpha.convert("L")
    deep = Image.fromarray(values[..., 0].astype(np.uint16) * 256)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 50
    return {
        "png": encoded(color, "PNG"),
        "png gray 16": encoded(deep, "PNG"),
        "png palette": encoded(color.convert("P"), "PNG", transparency=3),
        "png alpha": encoded(alpha, "PNG", exif=exif),
        "png bits": encoded(gray.convert("1"), "PNG"),
        "jpg": encoded(color, "JPEG", exif=exif),
        "jpg progressive": encoded(color, "JPEG", progressive=True),
        "jpg gray": encoded(gray, "JPEG"),
        "jpg cmyk": encoded(color.convert("CMYK"), "JPEG"),
        "webp": encoded(color, "WEBP", exif=exif),
        "webp lossless": encoded(alpha, "WEBP", lossless=True),
        "gif": encoded(gray, "GIF", save_all=True, append_images=[color.convert("P")] * 2),
        "pgm": encoded(gray, "PPM"),
        "ppm": encoded(color, "PPM"),
        "pbm": encoded(gray.convert("1"), "PPM"),
        "pgm plain": b"P2\n3 2\n255\n1 2 3\n4 5 6\n",
        "tiff": encoded(color, "TIFF"),
        "tiff lzw": encoded(color, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encoded(gray, "TIFF", compression="tiff_adobe_deflate", exif=exif),
        "tiff jpeg": encoded(color, "TIFF", compression="jpeg"),
        "tiff group4": encoded(gray.convert("1"), "TIFF", compression="group4"),
        "bmp": encoded(color, "BMP"),
        "bmp palette": encoded(gray.convert("P"), "BMP"),
    }


def flip(content, rng):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content, rng):
    return content[: rng.randrange(len(content))]


def enlarge(content, rng):
    """Put a large number somewhere, as a size, a length or an offset may be."""
    number = rng.choice((2**32 - 1, 2**31 - 1, 2**31, 2**16 - 1, 13_000, 100_000, 2**24))
    words = [struct.pack(f"{order}I", number) for order in "<>"]
    words += [struct.pack(f"{order}H", number & 0xFFFF) for order in "<>"]
    word = rng.choice(words)
    at = rng.randrange(min(len(content), 200))
    return content[:at] + word + content[at + len(word) :]


def shuffle(content, rng):
    """Exchange, repeat or erase a piece."""
    a, b = sorted(rng.randrange(len(content)) for _ in range(2))
    piece = rng.choice((content[b:], content[a:b] * 3, bytes(b - a), b"\xff" * (b - a)))
    return content[:a] + piece + content[b:]


DAMAGES = (flip, flip, cut, enlarge, shuffle)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, data=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def tiff(width, height, compression=1, offset=8, count=100):
    tags = [(256, width), (257, height), (258, 8), (259, compression), (262, 1), (273, offset)]
    tags += [(277, 1), (278, height), (279, count)]
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + packed + bytes(4)


def promises():
    """Small files that announce huge images, some of which hold as many zeros."""
    color = encoded(Image.new("RGB", (8, 8)), "JPEG")
    at = color.index(b"\xff\xc0") + 5
    gif = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    gif[6:10] = b"\xff" * 4
    inner = gif.index(b",", 13)
    frame = bytearray(gif)
    frame[inner + 5 : inner + 9] = b"\xff" * 4
    bmp = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    text = b"tEXt", b"x\0" + b"y" * 3_000_000
    exact = png(13_377, 13_377, zlib.compress(bytes(5_000_000)))
    return {
        "png": png(2**31 - 1, 2**31 - 1),
        "png in one row": png(2**31 - 1, 1, zlib.compress(bytes(1000))),
        "png just allowed": exact,
        "png bomb": png(60_000, 60_000, zlib.compress(bytes(30_000_000))),
        "png text": exact[:33] + chunk(*text) * 3 + exact[33:],
        "png compressed text": exact[:33]
        + chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(90_000_000)))
        + exact[33:],
        "jpg": color[:at] + b"\xff" * 4 + color[at + 4 :],
        "gif": bytes(gif),
        "gif frame": bytes(frame),
        "bmp": bytes(bmp),
        "ppm": b"P6 999999 999999 255\n",
        "ppm of digits": b"P6 " + b"9" * 100_000,
        "pgm of comments": b"P5 " + b"#\n" * 200_000,
        "tiff": tiff(2**31 - 1, 2**31 - 1),
        "tiff deflate": tiff(100_000, 100_000, 8),
        "tiff of a strip far away": tiff(100, 100, 1, 2**32 - 1),
        "tiff of a long strip": tiff(100, 100, 5, 8, 2**32 - 1),
        "webp": b"RIFF\x1e\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + b"\xff" * 4 + bytes(9),
        "webp lossy": b"RIFF\x1e\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f"
        + bytes(9),
        "webp extended": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6 + bytes(9),
    }


class Harmful:
    def __reduce__(self):
        return os.system, ("exit 3",)


def strangers():
    """Files of other kinds, under the suffix of an image."""
    image = Image.new("RGB", (9, 9), "red")
    kinds = ("EPS", "PDF", "ICO", "ICNS", "JPEG2000", "PCX", "TGA", "SGI", "DDS", "BLP")
    found = {}
    for kind in kinds:
        try:
            found[kind] = encoded(image.convert("P") if kind == "BLP" else image, kind)
        except (KeyError, OSError):  # this Pillow cannot write it
            continue
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.png", encoded(image, "PNG"))
    ghost = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch x) (w) file\n%%EOF\n"
    return found | {
        "EPS that writes": ghost,
        "EPS in an envelope": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(ghost)) + ghost,
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "SVG that asks a server": b'<svg><image href="http://127.0.0.1:9/x.png"/></svg>',
        "HTML": b"<html><script>alert(1)</script>",
        "a pickle": pickle.dumps(Harmful()),
        "a network": b"PK\x03\x04" + pickle.dumps(Harmful()),
        "a numpy array": b"\x93NUMPY\x01\0v\0"
        + b"{'descr': '|O', 'shape': (1,)}".ljust(117)
        + b"\n",
        "ZIP": packed.getvalue(),
        "ELF": b"\x7fELF" + bytes(100),
        "script": b"#!/bin/sh\ntouch x\n",
        "ImageMagick": b"push graphic-context\nimage over 0,0 0,0 '|touch x'\n",
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "EMF": struct.pack("<II", 1, 88) + bytes(32) + b" EMF" + bytes(60),
        "GRIB": b"GRIB" + bytes(60),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
        "FITS": b"SIMPLE  =                    T".ljust(80) * 40,
        "PSD": b"8BPS\0\x01" + bytes(60),
        "MPEG": b"\0\0\x01\xb3" + bytes(60),
        "XBM": b"#define x_width 9\n#define x_height 9\nstatic char x_bits[] = {0};\n",
        "nothing": b"",
        "zeros": bytes(10_000),
        "text": "Schönes Bild".encode("latin-1"),
    }


class Folder:
    """A folder of one image, which is another one for each fault."""

    def __init__(self, path):
        self.path = path
        self.seen = None

    def harm_of(self, content, suffix, channels=3):
        """Return what reading an image did that it must not do."""
        path = self.path / f"x{suffix}"
        path.write_bytes(content)
        folder = ImageFolder(
            "x",
            self.path,
            np.array([os.fsencode(path.name)]),
            torch.zeros(1, dtype=torch.int64),
            ("any",),
            train=False,
            size=8,
            channels=channels,
        )
        self.seen = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.seen = folder.read(0, lambda image: image)
            except DataError as error:
                said = str(error)
                if str(path) not in said or not said.isprintable() or len(said) > 400:
                    return f"an unclear error: {said!r}"
            except Exception as error:
                return repr(error)
        path.unlink()
        return None


@pytest.mark.slow
def test_damaged_images(faults, started, peak, tmp_path):
    rng, folder = random.Random(0), Folder(tmp_path)
    kinds = list(samples().items())
    for kind, content in kinds:
        assert folder.harm_of(content, ".png") is None
        assert folder.seen is not None, f"{kind}: refused"
    suffixes = sorted(SUFFIXES)
    for i in range(faults.number(KIND, quick=460, full=10_000)):
        kind, content = kinds[i % len(kinds)]
        damage = rng.choice(DAMAGES)
        name = f"{kind}, {damage.__name__}"
        harm = folder.harm_of(damage(content, rng), rng.choice(suffixes), rng.choice((1, 3)))
        if started:
            harm = f"started {started.pop()}"
        faults.tried(harm and f"{name}: {harm}")
    assert peak() < MOST


@pytest.mark.slow
def test_small_files_that_announce_huge_images(faults, started, peak, tmp_path):
    folder = Folder(tmp_path)
    kinds = promises()
    faults.number(KIND, quick=len(kinds), full=len(kinds))
    for name, content in kinds.items():
        harm = folder.harm_of(content, f".{name.split()[0]}")
        if harm is None and peak() > MOST:
            harm = f"{peak():,} bytes"
        faults.tried(harm and f"{name}: {harm}")
    assert not started


def test_other_files_under_an_images_suffix(faults, started, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("gs", "gswin32c", "djpeg", "convert", "magick", "inkscape"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    folder = Folder(tmp_path)
    suffixes = sorted(SUFFIXES)
    kinds = strangers()
    faults.number(KIND, quick=len(kinds), full=len(kinds) * len(suffixes))
    for number, (name, content) in enumerate(kinds.items()):
        few = [suffixes[number % len(suffixes)]]
        for suffix in suffixes if faults.full else few:
            harm = folder.harm_of(content, suffix)
            if folder.seen is not None:
                harm = "read as an image"
            if started or os.listdir(tmp_path) != ["bin"]:
                harm = f"started {started}, made {os.listdir(tmp_path)}"
            faults.tried(harm and f"{name}{suffix}: {harm}")


# ---- folders

DOT = encoded(Image.new("L", (1, 1)), "PNG")


def grow(root, rng):
    """Make a folder of images at random, with links that lead anywhere, and return its classes."""
    folders = [root]
    for name in ("train", "val"):
        (root / name / "a").mkdir(parents=True)
        (root / name / "a" / "1.png").write_bytes(DOT)
        folders += [root / name, root / name / "a"]
    names = ("b", "c", ".hidden", "._x", "@eaDir", "x.png", "d\n\x1b[2J", "é", os.fsdecode(b"\xff"))
    for _ in range(rng.randrange(1, 25)):
        path = rng.choice(folders) / rng.choice(names)
        what = rng.randrange(7)
        if os.path.lexists(path) or not path.parent.is_dir():
            continue
        if what < 2:
            path.mkdir()
            folders.append(path)
        elif what < 4:
            target = rng.choice([*folders, path, root / "gone", Path("/dev/zero")])
            path.symlink_to(target if rng.random() < 0.7 else os.path.relpath(target, path.parent))
        elif what == 4:
            os.mkfifo(path)
        else:
            path.with_name(f"{path.name}.png").write_bytes(rng.choice((DOT, DOT[:20], b"")))
    return root


def harm_of_folder(root, rng):
    """Return what loading and reading a folder did that it must not do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parts = load(f"imagefolder:{root}", size=4)
        except DataError as error:
            return None if str(root) in str(error) else f"an unclear error: {error}"
        except Exception as error:
            return f"load: {error!r}"
        for part in parts:
            files = [part.folder / os.fsdecode(path) for path in part.paths.tolist()]
            for label in range(len(part.classes)):
                own = [f for f, y in zip(files, part.labels.tolist(), strict=True) if y == label]
                if len({os.path.realpath(f.parent) + f"/{f.name}" for f in own}) < len(own):
                    return "an image twice in a class"
            if any(_skipped(path) for f in files for path in f.relative_to(root).parts):
                return "something hidden was taken"
            for i, file in enumerate(files):
                change = rng.randrange(8)  # what may happen to a file until it is read
                if os.path.isfile(file) and not os.path.islink(file):
                    if change == 0:
                        file.unlink()
                    elif change == 1:
                        file.unlink()
                        os.mkfifo(file)
                    elif change == 2:
                        file.unlink()
                        file.mkdir()
                    elif change == 3:
                        os.truncate(file, 30)
                try:
                    part[i]
                except DataError as error:
                    if str(file) not in str(error):
                        return f"an unclear error: {error}"
                except Exception as error:
                    return f"read: {error!r}"
    return None


def _skipped(name):
    return name.startswith(".") or name == "@eaDir"


@pytest.mark.slow
def test_hostile_folders(faults, started, tmp_path):
    rng = random.Random(1)
    for i in range(faults.number(KIND, quick=20, full=1000)):
        faults.tried(harm_of_folder(grow(tmp_path / str(i), rng), rng))
    assert not started


@pytest.mark.slow
def test_a_deep_folder(faults, tmp_path):
    """As deep as a path can name, and deeper."""
    kinds = {"many": ("d", 700, True), "long": ("d" * 200, 25, False)}
    faults.number(KIND, quick=len(kinds), full=len(kinds))
    for kind, (name, depth, readable) in kinds.items():
        root, harm = tmp_path / kind, None
        for part in ("train", "val"):
            (root / part / "a").mkdir(parents=True)
            inner = os.open(root / part / "a", os.O_RDONLY)
            for _ in range(depth):
                os.mkdir(name, dir_fd=inner)
                below = os.open(name, os.O_RDONLY, dir_fd=inner)
                os.close(inner)
                inner = below
            file = os.open("1.png", os.O_WRONLY | os.O_CREAT, dir_fd=inner)
            os.write(file, DOT)
            os.close(file)
            os.close(inner)
        try:
            train, _ = load(f"imagefolder:{root}", size=4)
            harm = None if readable and train[0][1] == 0 else "loaded"
        except DataError as error:
            harm = None if not readable and "cannot be listed" in str(error) else f"{error!r:.99}"
        faults.tried(harm and f"{kind} folders: {harm}")


# ---- archives


def packed(*members, mode="w:gz"):
    """Return a .tar.gz of pairs of a name and content, or of a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def odd(name, kind=tarfile.REGTYPE, target="", **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for key, value in more.items():
        setattr(info, key, value)
    return info


HOSTILE = [
    [odd("../x")],
    [odd("/tmp/x")],
    [odd("top/../../x")],
    [odd("top/x", tarfile.SYMTYPE, "/etc/passwd")],
    [odd("top/x", tarfile.SYMTYPE, ".."), odd("top/x/y")],
    [odd("top/x", tarfile.LNKTYPE, "../../x")],
    [odd("top/x", tarfile.FIFOTYPE)],
    [odd("top/x", tarfile.CHRTYPE, devmajor=1, devminor=5)],
    [odd("top/x", tarfile.BLKTYPE, devmajor=8)],
    [odd("top", tarfile.SYMTYPE, "/")],
    [odd("top\\..\\x")],
    [odd("top/x\ny\x1b[2J")],
    [odd("top/" + "x" * 300)],
    [odd("top/" + "x/" * 3000)],
    [odd("top", tarfile.DIRTYPE, mode=0), odd("top/x")],
    [odd("top/x"), odd("top/x/y")],
    [odd("top/x", pax_headers={"size": "-5"})],
    [odd("top/x", pax_headers={"path": "../../y"})],
    [odd("top/x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})],
    [odd("other/x")],
    [],
]


def harm_of_archive(path, content, harmless=()):
    """Return what two readers of archives did that they must not do."""
    path.write_bytes(content)
    folder = path.parent / "inside"
    before = set(os.listdir(path.parent)) | {"inside"}
    for read in (lambda: unpack(path, folder, "top"), lambda: _members(path, CIFAR10)):
        try:
            read()
        except DataError as error:
            said = str(error)
            if str(path.parent) not in said or not said.isprintable():
                return f"an unclear error: {said!r}"
        except Exception as error:
            return repr(error)
    if set(os.listdir(path.parent)) - before:
        return f"made {set(os.listdir(path.parent)) - before}"
    made = [Path(parent, f) for parent, _, names in os.walk(folder) for f in names]
    if os.path.isdir(folder) and not set(os.listdir(folder)) <= {"top"}:
        return f"left {os.listdir(folder)}"
    if any(f.is_symlink() or not f.is_file() for f in made):
        return "made a link or a device"
    return None


@pytest.mark.slow
def test_hostile_archives(faults, started, tmp_path):
    rng = random.Random(2)
    pictures = [(f"top/{i}.png", DOT) for i in range(3)]
    records = [(f"{CIFAR10.folder}/{name}", b"x" * 300) for name in CIFAR10.train]
    good = packed(*pictures, *records, odd("top/empty", tarfile.DIRTYPE))
    plain = packed(*pictures, *records, mode="w")
    number = faults.number(KIND, quick=60, full=1000)
    for i in range(number):
        where = tmp_path / str(i)
        where.mkdir()
        name = "hostile"
        if i < len(HOSTILE):
            content = packed(*HOSTILE[i])
        else:
            damage = rng.choice(DAMAGES)
            name = damage.__name__
            inner = i % 2  # within the compressed file, or the file itself
            content = _gz(damage(plain, rng)) if inner else damage(good, rng)
        harm = harm_of_archive(where / "set.tgz", content)
        if started:
            harm = f"started {started.pop()}"
        faults.tried(harm and f"{name} archive {i}: {harm}")


def _gz(content):
    compress = zlib.compressobj(1, wbits=31)
    return compress.compress(content) + compress.flush()
