"""Finding, checking, downloading and reading data files."""

import contextlib
import gzip
import hashlib
import lzma
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnbook._download import DownloadError, download
from cnnbook._files import expanded

_MOST = 1 << 30  # bytes of a file whose size is not known


class DataError(RuntimeError):
    """A data file is missing, damaged, or could not be downloaded.

    Examples
    --------
    >>> from cnnbook import data
    >>> data.load("imagefolder:no-such-folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    cnnbook.data.files.DataError: there is no folder no-such-folder/train; an image folder has ...
    """

    def __init__(self, message: str):
        # A DataLoader raises a worker's error again, with the worker's whole traceback as message.
        if message.startswith("Caught DataError in "):
            message = message.rpartition(f"{__name__}.DataError: ")[2].strip()
        super().__init__(message)


@dataclass(frozen=True)
class IdxFile:
    """One published IDX file (the format of MNIST).

    Parameters
    ----------
    name
        File name, ending in ``.gz`` or ``.xz``.
    sha256
        Checksum of the *uncompressed* content: distributors compress the same data differently.
    urls
        Where to download it from, in order of preference.
    size
        Bytes of the uncompressed content, if known: no more are read.
    """

    name: str
    sha256: str
    urls: Sequence[str] = ()
    size: int | None = None


@dataclass(frozen=True)
class Archive:
    """A published ``.tar.gz`` file.

    Parameters
    ----------
    name
        File name.
    sha256
        Checksum of the file as it is.
    urls
        Where to download it from, in order of preference.
    size
        Bytes, if known: no more are downloaded.
    """

    name: str
    sha256: str
    urls: Sequence[str] = ()
    size: int | None = None


def cache_folder() -> Path:
    """Return the folder for downloads: ``$CNNBOOK_DATA``, else the user's cache folder.

    Raises
    ------
    DataError
        If there is neither.
    """
    for folder in _caches():
        return folder
    raise DataError(
        "there is no home directory to keep data in. Set CNNBOOK_DATA to a folder of your own"
    )


def _caches() -> list[Path]:
    """Return the folders that downloads may be in; a process need not have a home directory."""
    folders = []
    if chosen := os.environ.get("CNNBOOK_DATA"):
        folders.append(expanded(chosen))
    if cache := os.environ.get("XDG_CACHE_HOME"):
        folders.append(Path(cache, "cnnbook"))
    else:
        with contextlib.suppress(RuntimeError):
            folders.append(Path.home() / ".cache" / "cnnbook")
    return folders


def search_folders(name: str) -> list[Path]:
    """Return the folders to search for data set `name`, in order."""
    folders = [*_caches(), Path("/usr/share/datasets")]
    return [folder / name for folder in dict.fromkeys(folders)]


def find(dataset: str, file: IdxFile | Archive, *, download: bool = True) -> Path:
    """Return the path of a data file; download it if it is not on this machine.

    Parameters
    ----------
    dataset
        Name of the data set; in every location searched, its folder has this name.
    file
        The file wanted.
    download
        Whether to download a file that was not found.

    Returns
    -------
    pathlib.Path
        An existing file. Its content is checked when it is read.

    Raises
    ------
    DataError
        If the file is missing and cannot be downloaded.
    """
    folders = search_folders(dataset)
    for folder in folders:
        if os.path.isfile(folder / file.name):
            return folder / file.name
    looked = ", ".join(map(str, folders))
    if not download:
        raise DataError(f"{dataset}: no {file.name} in {looked}, and download=False")
    return fetch(file, cache_folder() / dataset, hint=f"It was not in {looked} either.")


def fetch(
    file: IdxFile | Archive,
    folder: Path,
    *,
    hint: str = "",
    timeout: float = 30,
    limit: float = 4 * 3600,
) -> Path:
    """Download a file, verify it, and only then give it its final name.

    Parameters
    ----------
    file
        What to download.
    folder
        Where to put it. Created if missing.
    hint
        Sentence added to the error when nothing could be downloaded.
    timeout
        Seconds to wait for a server's next bytes.
    limit
        Seconds that one address may take.

    Returns
    -------
    pathlib.Path
        The finished file.

    Raises
    ------
    DataError
        If every address failed or delivered a different file, or nothing can be written to the
        folder.
    """
    failures = []
    most = _MOST if file.size is None else file.size
    if isinstance(file, IdxFile):
        most += most // 100 + (1 << 16)  # what cannot be compressed becomes a little longer
    path = folder / file.name
    for url in file.urls:
        try:
            options: dict[str, Any] = {"most": most, "stall": timeout, "limit": limit}
            download(url, path, lambda part: _verify(part, file), **options)
            return path
        except (DownloadError, _WrongContent) as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            raise cannot_write(folder, error) from None
    tried = "; ".join(failures) or "no address known"
    cure = (
        f"Without internet, put the file into {folder} yourself, or use 'fashion-mini', which "
        "comes with the package."
    )
    said = [f"could not download {file.name}. Tried: {tried}.", hint, cure]
    raise DataError(" ".join(filter(None, said)))


def cannot_write(folder: Path, error: OSError) -> DataError:
    """Build the error for a folder of data that is none or may not be written to."""
    return DataError(
        f"nothing can be written to {folder}: {error.strerror or error}. Set CNNBOOK_DATA to a "
        "folder of your own"
    )


class _WrongContent(Exception):
    """What is wrong with a file, as the rest of a sentence about it."""


def _verify(path: Path, file: IdxFile | Archive) -> bytes:
    """Return the uncompressed content of an IDX file with the right checksum; of an archive, b"".

    Raises
    ------
    _WrongContent
        If the file is truncated, damaged or another one.
    OSError
        If it cannot be read.
    """
    digest, content = hashlib.sha256(), b""
    if isinstance(file, Archive):
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    else:
        content = _uncompressed(path, file)
        digest.update(content)
    if digest.hexdigest() != file.sha256:
        raise _WrongContent(
            "is incomplete, altered or another file: "
            f"SHA-256 of its content is {digest.hexdigest()}, expected {file.sha256}"
        )
    return content


def _uncompressed(path: Path, file: IdxFile) -> bytes:
    most = _MOST if file.size is None else file.size
    try:
        with lzma.open(path) if file.name.endswith(".xz") else gzip.open(path) as stream:
            content: bytes = stream.read(most + 1)  # a few bytes can become gigabytes
    except EOFError:
        size = path.stat().st_size
        raise _WrongContent(f"is truncated: it ends after {size:,} bytes") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise _WrongContent(f"cannot be decompressed ({error})") from None
    if len(content) > most:
        raise _WrongContent(f"is altered or another file: it holds more than {most:,} bytes")
    return content


def _checked(path: Path, file: IdxFile | Archive) -> bytes:
    try:
        return _verify(path, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except _WrongContent as error:
        again = f"Delete {path} and run again to get a fresh copy."
        cure = again if file.urls else "Install cnnbook again."
        raise DataError(f"{path} {error}. {cure}") from None


def check_archive(path: Path, file: Archive) -> None:
    """Raise DataError unless a file has the checksum of the archive."""
    _checked(path, file)


def read_checked(path: Path, file: IdxFile) -> bytes:
    """Return the uncompressed content of `path` after verifying its checksum.

    Parameters
    ----------
    path
        File to read.
    file
        What it should contain.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    DataError
        If the file is missing, truncated, damaged, or holds other data.
    """
    return _checked(path, file)


def parse_idx(content: bytes) -> Tensor:
    """Read an IDX file of unsigned bytes.

    Parameters
    ----------
    content
        The whole uncompressed file: two zero bytes, type 8, number of dimensions, each dimension
        as four bytes (most significant first), then the values.

    Returns
    -------
    Tensor
        uint8, of the shape the header states.

    Raises
    ------
    DataError
        If the header or the length is not that of such a file.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"not an IDX file of unsigned bytes: it starts with {content[:4].hex()!r}")
    dims = content[3]
    if len(content) < 4 + 4 * dims:
        raise DataError(f"IDX header announces {dims} dimensions, but the file ends inside it")
    shape = struct.unpack(f">{dims}I", content[4 : 4 + 4 * dims])
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)[4 + 4 * dims :]
    expected = torch.Size(shape).numel()
    if len(values) != expected:
        raise DataError(
            f"IDX header announces shape {shape} ({expected:,} values), but {len(values):,} follow"
        )
    return values.reshape(shape)


def idx_bytes(array: Tensor) -> bytes:
    """Return a uint8 tensor as the content of an IDX file, the inverse of :func:`parse_idx`."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.contiguous().numpy().tobytes()
