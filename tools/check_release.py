"""Check that a tag, the package, the chapters, the citation and the changelog name one version.

If so, print what changed in that version.
"""

import argparse
import re
import sys
from pathlib import Path

import set_version

ROOT = Path(__file__).resolve().parents[1]
RELEASED = r"^## (\d\S*) \(\d{4}-\d{2}-\d{2}\)$"  # in the changelog; the first one is the newest


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return the reasons why `tag` cannot be released."""
    log = re.search(RELEASED, (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    found = {"CHANGELOG.md": {log[1] if log else "no version with its date"}}
    found |= set_version.written(root)
    return [
        f"{name} names {' and '.join(sorted(versions))}; the tag is {tag}"
        for name, versions in found.items()
        if versions != {tag.removeprefix("v")}
    ]


def notes(root: Path = ROOT) -> str:
    """Return the changelog's section on the newest version, without its heading."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    _, _, text = text.partition(re.search(RELEASED, text, re.MULTILINE)[0])
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
