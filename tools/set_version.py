"""Write a version wherever it is written: package, citation, first cells, buttons.

A chapter installs the tag ``v1.2.3`` of its own version, and Colab and Binder open the chapter at
that tag, so that they always fit together. A test checks that all of them agree.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import set_repository  # noqa: E402

from cnnbook._files import write_whole  # noqa: E402

NUMBERS = r"\d+\.\d+\.\d+"
# What precedes a version, in which files.
BEFORE = {
    "cnnbook/__init__.py": [r'^__version__ = "'],
    "CITATION.cff": [r"^version: "],
    "*.ipynb": [r'cnnbook\.require\(\\"', r"git\+https://github\.com/[\w.-]+/[\w.-]+@v"],
    "*.md": [
        r"git\+https://github\.com/[\w.-]+/[\w.-]+@v",
        r"colab\.research\.google\.com/github/[\w.-]+/[\w.-]+/blob/v",
        r"mybinder\.org/v2/gh/[\w.-]+/[\w.-]+/v",
    ],
}


def _places(path: Path, root: Path) -> list[str]:
    relative = path.relative_to(root)
    return [before for name, each in BEFORE.items() if relative.match(name) for before in each]


def written(root: Path = ROOT) -> dict[str, set[str]]:
    """Return the versions that each file names."""
    found = {}
    for path in set_repository.files(root):
        if places := _places(path, root):
            text = path.read_text(encoding="utf-8")
            versions = re.findall(rf"(?m)(?:{'|'.join(places)})({NUMBERS})", text)
            if versions:
                found[str(path.relative_to(root))] = set(versions)
    return found


def set_version(new: str, root: Path = ROOT) -> list[Path]:
    """Replace every version by `new`, and return the changed files."""
    if not re.fullmatch(NUMBERS, new):
        raise ValueError(f"a version is three numbers, such as 1.2.3, got {new!r}")
    changed = []
    for path in set_repository.files(root):
        if places := _places(path, root):
            text = path.read_text(encoding="utf-8")
            replaced = re.sub(rf"(?m)({'|'.join(places)}){NUMBERS}", rf"\g<1>{new}", text)
            if replaced != text:
                write_whole(path, replaced.encode())
                changed.append(path)
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="1.2.3")
    try:
        changed = set_version(parser.parse_args().version)
    except ValueError as error:
        print(f"set_version: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
