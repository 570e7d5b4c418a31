"""Which version of the package a notebook needs."""

import re
import sys


def require(version: str) -> None:
    """Raise ImportError if this package is older than a notebook needs.

    The first cell of every chapter catches it, installs the chapter's version, and imports that.

    Parameters
    ----------
    version
        Oldest version that will do, for example ``"0.1.0"``.

    Raises
    ------
    ImportError
        If the package is older. It is forgotten then, so that the next import finds the new one.
    RuntimeError
        If the package is older, and parts of it are in use already: only a restart of the kernel
        replaces them.
    ValueError
        If `version` is not three numbers.
    TypeError
        If it is not a text.

    Examples
    --------
    >>> require("0.1.0")
    """
    import cnnbook

    if _numbers(cnnbook.__version__) >= _numbers(version):
        return
    found = f"this notebook needs cnnbook {version}, and found {cnnbook.__version__}"
    loaded = [name for name in sys.modules if name.partition(".")[0] == "cnnbook"]
    if set(loaded) - {"cnnbook", __name__}:
        raise RuntimeError(
            f"{found}, which is in use already. Restart the kernel (in Colab: Runtime, Restart "
            "session), and run this cell first; it installs the version needed"
        )
    for name in loaded:
        del sys.modules[name]
    raise ImportError(f"{found}. Install the newer one")


def _numbers(version: str) -> tuple[int, ...]:
    if not isinstance(version, str):
        raise TypeError(f"a version is a text of three numbers, such as '0.1.0', got {version!r}")
    match = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", version)
    if not match:
        raise ValueError(f"a version is three numbers, such as 0.1.0, got {version!r:.60}")
    return tuple(map(int, match.groups()))
