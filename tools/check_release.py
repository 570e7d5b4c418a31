"""Check that a tag, the package, the citation and the changelog name the same version.

If so, print what changed in that version.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Where a version is written, and how.
FILES = {
    "cnnbook/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (\S+)$",
    "CHANGELOG.md": r"^## (\d\S*) \(\d{4}-\d{2}-\d{2}\)$",  # the first one is the newest
}


def versions(root: Path = ROOT) -> dict[str, str | None]:
    """Return the version that each file names, or None."""
    found = {}
    for name, pattern in FILES.items():
        match = re.search(pattern, (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else None
    return found


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return the reasons why `tag` cannot be released."""
    return [
        f"{name} names {version or 'no version with its date'}; the tag is {tag}"
        for name, version in versions(root).items()
        if f"v{version}" != tag
    ]


def notes(root: Path = ROOT) -> str:
    """Return the changelog's section on the newest version, without its heading."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    _, _, text = text.partition(re.search(FILES["CHANGELOG.md"], text, re.MULTILINE)[0])
    return text.partition("\n## ")[0].strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag", help="v1.2.3")
    found = problems(parser.parse_args().tag)
    for problem in found:
        print(f"check_release: {problem}", file=sys.stderr)
    if not found:
        print(notes())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
