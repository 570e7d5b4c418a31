"""Writing files so that an interruption never leaves an incomplete one."""

import contextlib
import os
import stat
import tempfile
import time
from pathlib import Path

_ABANDONED = 3600.0  # seconds after which an unfinished file is taken to be of a killed process


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, and rename it when it is complete.

    Parameters
    ----------
    path
        File to write. Missing folders are created; an existing file is replaced only at the end,
        and one that is a link stays a link.
    content
        Bytes to write.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, _mode(path))
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        if part is not None and os.path.exists(part):
            os.unlink(part)


def check_writable(path: Path) -> None:
    """Find out whether :func:`write_whole` can write a file, and remove what killed runs left.

    Parameters
    ----------
    path
        File that is to be written later. Missing folders are created.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.resolve()
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):  # a name that is too long raises here
            raise OSError(None, "it is there already, and is not a file")
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=".part")
    os.close(handle)
    os.unlink(part)
    for left in path.parent.glob(f"{_prefix(path)}*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def _prefix(path: Path) -> str:
    """Return how temporary names of a file begin, short enough for any file system."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in path.name[:40])
    return f".{name}."


def _mode(path: Path) -> int:
    """Return the permissions of a file that is there, or those that a new one gets."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make a renaming last; not every system can."""
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
