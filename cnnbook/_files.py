"""Writing files so that an interruption never leaves an incomplete one, nor two runs one file."""

import contextlib
import errno
import hashlib
import os
import platform
import stat
import sys
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
        If the file cannot be written; it names `path`, not the temporary file.
    """
    wanted, part = path, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
        _refuse_other_things(path)
        handle, part = tempfile.mkstemp(
            dir=path.parent, prefix=temporary_prefix(path), suffix=".part"
        )
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, permissions(path))
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(wanted), None
        raise
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
        If it cannot be written, in a sentence.
    """
    try:
        if "\0" in str(path):
            raise OSError(None, "a name cannot have the character with the number 0")
        path.parent.mkdir(parents=True, exist_ok=True)
        real = path.resolve()
        _refuse_other_things(real)
        prefix = temporary_prefix(real)
        handle, part = tempfile.mkstemp(dir=real.parent, prefix=prefix, suffix=".part")
        os.close(handle)
        os.unlink(part)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write {path} ({reason}); choose another name or folder") from None
    remove_abandoned(real)


def _refuse_other_things(path: Path) -> None:
    """Raise OSError if there is something that is not a file, such as a device or a pipe."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):  # a name that is too long raises here
            raise OSError(None, "it is there already, and is not a file")


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes left of a file that they were writing."""
    for left in path.parent.glob(f"{temporary_prefix(path)}*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


class InUse(Exception):
    """Somebody else is going to write a file; the message says who."""


class Claim:
    """The right to write a file, which only one run at a time has.

    It is a lock of the operating system's on a small file beside it. The system takes the lock back
    when a process ends, however it ends; what a killed one leaves is an empty claim, which the next
    run takes over. Where the file system has no locks, every run gets its claim.

    Parameters
    ----------
    path
        File that is to be written, in a folder that exists.

    Raises
    ------
    InUse
        If another run has the claim.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        self._lock = path.with_name(f"{temporary_prefix(path)}{digest}.lock")
        self._handle: int | None = None
        # The system gives a process a lock that it has already, and takes it back from all at once.
        # So the file is not even opened: closing it would end the lock, too.
        if self._lock in _claimed:
            raise InUse(f"process {os.getpid()}, which is this one")
        try:
            while self._handle is None:
                self._try_to_lock()
        except (OSError, ImportError):  # no locks here, or no permission to use that of another
            return
        _claimed.add(self._lock)

    def _try_to_lock(self) -> None:
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock_without_waiting(handle)
            if os.path.samestat(os.fstat(handle), os.stat(self._lock)):
                text = f"process {os.getpid()} on {platform.node()}, since {time.ctime()}"
                with contextlib.suppress(OSError):  # a full disk does not matter here
                    os.ftruncate(handle, 0)
                    os.write(handle, text.encode())
                self._handle = handle
        except FileNotFoundError:
            pass  # its owner has just removed it
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise InUse(self._owner()) from None
            raise
        finally:
            if self._handle is None:
                os.close(handle)

    def _owner(self) -> str:
        with contextlib.suppress(OSError):
            return self._lock.read_text(errors="replace") or "another process"
        return "another process"

    def release(self) -> None:
        """Let others have it."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        _claimed.discard(self._lock)
        if sys.platform == "win32":  # where an open file cannot be removed
            os.close(handle)
        with contextlib.suppress(OSError):
            self._lock.unlink()
        if sys.platform != "win32":
            os.close(handle)


_claimed: set[Path] = set()  # by this process


def _lock_without_waiting(handle: int) -> None:
    """Lock an open file; raise OSError if it is locked."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 30, os.SEEK_SET)  # what is locked cannot be read, so not the text
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl  # not everywhere where Python runs: a browser has none

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def temporary_prefix(path: Path) -> str:
    """Return how temporary names of a file begin, short enough for any file system."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in path.name[:40])
    return f".{name}."


def permissions(path: Path) -> int:
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


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` expanded, or as it is where there is no home directory."""
    return Path(os.path.expanduser(path))
