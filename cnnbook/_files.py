"""Writing files so that an interruption never leaves an incomplete one."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, and rename it when it is complete.

    Parameters
    ----------
    path
        File to write. Missing folders are created; an existing file is replaced only at the end.
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
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        if part is not None and os.path.exists(part):
            os.unlink(part)
