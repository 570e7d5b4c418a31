"""Runs command lines of cnnbook, each in a fork of this process.

Reads a line of JSON for each case, and answers with what it did. A case has ``words``, and may have
``env`` (variables that are set, or None to remove one) and ``files``. Its process has a folder of
its own with these, 4 GB of address space beyond what torch takes, and five minutes.
"""

import os
import resource
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from forks import Fork, serve

from cnnbook import cli, data, experiments, models, training  # noqa: F401 (loaded before forking)
from cnnbook.cli import bench, listings, train, trained  # noqa: F401

GB = 2**30
SECONDS = 300


def taken() -> int:
    """Return the bytes of address space that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def in_fork(case: dict[str, Any], root: Path) -> dict[str, Any]:
    """Run one command line, with its output in files."""
    os.chdir(root / "here")
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(root / name, os.O_WRONLY | os.O_CREAT), stream)
    for name, value in case.get("env", {}).items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    limit = taken() + 4 * GB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    code: object = 70
    try:
        code = cli.main(case["words"])
    except SystemExit as stopped:  # argparse's way
        code = stopped.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return {"code": code if isinstance(code, int) else 71}


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Run one command line; return its exit code, what it printed and what it left behind."""
    with tempfile.TemporaryDirectory() as name:
        root, folder = Path(name), Path(name, "here")
        folder.mkdir()
        for file, content in case.get("files", {}).items():
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, file).write_text(content)
        fork = Fork(partial(in_fork, case, root), root / "result", SECONDS)
        fork.wait()
        return fork.end() | {
            "out": (root / "out").read_text(errors="replace"),
            "err": (root / "err").read_text(errors="replace"),
            "left": sorted(str(p.relative_to(folder)) for p in folder.rglob("*")),
        }


if __name__ == "__main__":
    serve(run)
