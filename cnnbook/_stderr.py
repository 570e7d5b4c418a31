"""Messages to stderr, which may be closed, broken, full or missing."""

import contextlib
import sys
from typing import Any

# ValueError: of a closed file. RuntimeError: of a signal while the same file is written to.
_HARMLESS = (OSError, ValueError, RuntimeError)


class Forgiving:
    """A file for output that nobody needs: if it cannot be written to, nothing happens.

    The terminal may be closed, the pipe's reader gone, the disk full; a training goes on.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write a text, with question marks for characters that the file does not have."""
        with contextlib.suppress(*_HARMLESS):
            try:
                self._file.write(text)
            except UnicodeEncodeError:
                code = self._file.encoding or "ascii"
                self._file.write(text.encode(code, "replace").decode(code))

    def flush(self) -> None:
        """Write out what is waiting."""
        with contextlib.suppress(*_HARMLESS):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def say(text: str) -> None:
    """Print a line to stderr, if there is one that can be written to."""
    if sys.stderr is not None:
        file = Forgiving(sys.stderr)
        file.write(f"{text}\n")
        file.flush()
