"""Imagenette: photographs of ten classes of ImageNet that are easy to tell apart."""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from cnnbook.data.files import (
    Archive,
    DataError,
    cache_folder,
    cannot_write,
    check_archive,
    find,
    search_folders,
)
from cnnbook.data.folder import ImageFolder, load_image_folder

# SHA-256 as in the list of TensorFlow Datasets.
ARCHIVE = Archive(
    "imagenette2-160.tgz",
    "88daccb09b6fce93f45e6c09ddeb269cce705549e6bff322092a2a5a11489863",
    ("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",),
)
FOLDER = "imagenette2-160"
# WordNet's numbers name the folders; their order is that of ImageNet's classes.
CLASS_NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def load_imagenette(
    *, size: int = 224, channels: int = 3, download: bool = True
) -> tuple[ImageFolder, ImageFolder]:
    """Return both parts; unpack the archive first, and download it before that, if need be.

    Parameters
    ----------
    size, channels
        As for :func:`cnnbook.data.folder.load_image_folder`.
    download
        Whether the archive may be downloaded.

    Returns
    -------
    train, test : ImageFolder

    Raises
    ------
    DataError
        If the archive is missing, damaged, or not safe to unpack.
    """
    path = unpacked()
    if path is None:
        archive = find("imagenette", ARCHIVE, download=download)
        check_archive(archive, ARCHIVE)
        path = unpack(archive, cache_folder() / "imagenette", FOLDER)
    return load_image_folder(
        path, size=size, channels=channels, name="imagenette", class_names=CLASS_NAMES
    )


def unpacked() -> Path | None:
    """Return the first folder of the images, if there is one."""
    folders = (folder / FOLDER for folder in search_folders("imagenette"))
    return next((folder for folder in folders if os.path.isdir(folder)), None)


def unpack(archive: Path, folder: Path, top: str) -> Path:
    """Unpack an archive that consists of one folder, completely or not at all.

    Parameters
    ----------
    archive
        A ``.tar.gz`` file.
    folder
        Where to put it.
    top
        Name of the folder in the archive.

    Returns
    -------
    pathlib.Path
        ``folder/top``.

    Raises
    ------
    DataError
        If the archive is damaged, has links, devices or paths that lead outside, or the folder
        cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".{top}."))
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = tar.getmembers()
            for member in members:
                _check_member(archive, member, top)
            # Older releases of Python 3.10 and 3.11 lack filters.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(temporary, members, **safely)  # type: ignore[arg-type]
        if not (temporary / top).is_dir():
            raise DataError(f"{archive} contains no folder {top}")
        try:
            os.rename(temporary / top, folder / top)
        except OSError:
            if not (folder / top).is_dir():  # another process was faster
                raise
    except DataError:
        raise
    except Exception as error:  # tarfile raises many kinds, RecursionError for one
        if isinstance(error, OSError) and error.errno:
            raise cannot_write(folder, error) from None
        raise DataError(f"{archive} cannot be unpacked ({error}). Delete it, run again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / top


def _check_member(archive: Path, member: tarfile.TarInfo, top: str) -> None:
    parts = PurePosixPath(member.name).parts
    if parts[:1] != (top,) or ".." in parts or "\\" in member.name:
        raise DataError(f"{archive} is not unpacked: {member.name!r} lies outside of {top}")
    if not (member.isreg() or member.isdir()):
        raise DataError(f"{archive} is not unpacked: {member.name!r} is a link or a device")
