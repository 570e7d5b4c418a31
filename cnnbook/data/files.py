"""Finding, checking, downloading and reading data files."""

import gzip
import hashlib
import http.client
import lzma
import os
import struct
import tempfile
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnbook._progress import progress_bar


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
    """

    name: str
    sha256: str
    urls: Sequence[str] = ()


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
    """

    name: str
    sha256: str
    urls: Sequence[str] = ()


def cache_folder() -> Path:
    """Return the folder for downloads: ``$CNNBOOK_DATA``, else the user's cache folder."""
    if chosen := os.environ.get("CNNBOOK_DATA"):
        return Path(chosen).expanduser()
    return _user_cache()


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnbook"


def is_file(path: Path) -> bool:
    """Whether a file is there; in a folder that may not be looked into, none is."""
    try:
        return path.is_file()
    except OSError:
        return False


def search_folders(name: str) -> list[Path]:
    """Return the folders to search for data set `name`, in order."""
    folders = [cache_folder() / name, _user_cache() / name, Path("/usr/share/datasets") / name]
    return list(dict.fromkeys(folders))


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
        if is_file(folder / file.name):
            return folder / file.name
    looked = ", ".join(map(str, folders))
    if not download:
        raise DataError(f"{dataset}: no {file.name} in {looked}, and download=False")
    return fetch(file, cache_folder() / dataset, hint=f"It was not in {looked} either.")


def fetch(file: IdxFile | Archive, folder: Path, *, hint: str = "", timeout: float = 30) -> Path:
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
        Seconds to wait for the server on each attempt.

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
    for url in file.urls:
        part = _new_file(folder, file.name)
        try:
            with part.open("wb") as out, urllib.request.urlopen(url, timeout=timeout) as r:
                total = int(r.headers.get("Content-Length") or 0) or None
                with progress_bar(total, unit="B", unit_scale=True, desc=file.name) as bar:
                    while chunk := r.read(1 << 16):
                        out.write(chunk)
                        bar.update(len(chunk))
            if isinstance(file, Archive):
                check_archive(part, file)
            else:
                read_checked(part, file)
            part.chmod(0o644)
            part.replace(folder / file.name)
            return folder / file.name
        # A server that breaks HTTP's rules makes http.client raise its own errors, or ValueError.
        except (OSError, ValueError, http.client.HTTPException, DataError) as error:
            failures.append(f"{url}: {error or type(error).__name__}")
        finally:
            part.unlink(missing_ok=True)
    raise DataError(
        f"could not download {file.name}. Tried: {'; '.join(failures) or 'no address known'}. "
        f"{hint} Without internet, put the file into {folder} yourself, or use 'fashion-mini', "
        "which comes with the package."
    )


def _new_file(folder: Path, name: str) -> Path:
    """Create an empty file to download into, under a temporary name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".part")
    except OSError as error:
        raise cannot_write(folder, error) from None
    os.close(handle)
    return Path(part)


def cannot_write(folder: Path, error: OSError) -> DataError:
    """Build the error for a folder of data that is none or may not be written to."""
    return DataError(
        f"nothing can be written to {folder}: {error.strerror or error}. Set CNNBOOK_DATA to a "
        "folder of your own"
    )


def check_archive(path: Path, file: Archive) -> None:
    """Raise DataError unless a file has the checksum of the archive."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if digest.hexdigest() != file.sha256:
        raise DataError(
            f"{path} is incomplete, altered or another file: its SHA-256 is {digest.hexdigest()}, "
            f"expected {file.sha256}. Delete {path} and run again to get a fresh copy."
        )


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
        If the file is truncated, damaged, or holds other data.
    """
    remedy = f"Delete {path} and run again to get a fresh copy."
    try:
        with lzma.open(path) if file.name.endswith(".xz") else gzip.open(path) as stream:
            content: bytes = stream.read()
    except EOFError:
        size = path.stat().st_size
        raise DataError(f"{path} is truncated: it ends after {size:,} bytes. {remedy}") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, OSError) as error:
        raise DataError(f"{path} cannot be decompressed ({error}). {remedy}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{path} has been altered or is another file: SHA-256 of its content is {found}, "
            f"expected {file.sha256}. {remedy}"
        )
    return content


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
