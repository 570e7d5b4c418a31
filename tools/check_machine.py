"""Say clearly if this machine cannot build the book. Runs under any Python, even an old one."""

import os
import shutil
import sys

NEEDED_PYTHON = (3, 10)
NEEDED_GB = 8  # a Linux build of torch with its CUDA libraries, unpacked, and room to build


def problems(version, free_bytes, has_venv):
    found = []
    if version < NEEDED_PYTHON:
        found.append(
            "cnnbook needs Python %d.%d or newer; this is %d.%d. If you have a newer one, name it: "
            "make PYTHON=python3.12 book" % (NEEDED_PYTHON + tuple(version[:2]))
        )
    if not has_venv:
        found.append(
            "this Python lacks the modules venv and ensurepip; on Debian and Ubuntu, "
            "install the package python3-venv"
        )
    if free_bytes < NEEDED_GB * 10**9:
        found.append(
            "only %.1f GB are free here; the environment of the book takes about 5 GB and %d GB "
            "must be free to build it. Free some space or clone to another disk"
            % (free_bytes / 1e9, NEEDED_GB)
        )
    return found


def main():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401

        has_venv = True
    except ImportError:
        has_venv = False
    free = shutil.disk_usage(os.getcwd()).free if hasattr(shutil, "disk_usage") else float("inf")
    if os.path.exists(".venv"):
        free = float("inf")  # what needs the space is already there
    found = problems(tuple(sys.version_info), free, has_venv)
    for problem in found:
        sys.stderr.write("cnnbook: " + problem + ".\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
