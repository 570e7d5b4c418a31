"""Rewrite the address of the repository wherever it is written, for a fork or a move.

``repository: url`` in ``_config.yml`` is the authoritative address. Launch buttons, install cells,
badges, package metadata and the citation repeat it; a test checks that they agree.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cnnbook._files import write_whole  # noqa: E402

ADDRESS = re.compile(r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?")
IN_CONFIG = re.compile(r"^repository:.*\n(?:[ ]+.*\n)*?[ ]+url:[ ]*(\S+)", re.MULTILINE)
# What precedes OWNER/NAME: the site, its raw files, Colab's and Binder's links, torch.hub.
BEFORE = r"""(github\.com[/:]|githubusercontent\.com/|/github/|/gh/|hub\.load\(["'])"""


def owner_and_name(address: str) -> tuple[str, str]:
    """Return the two parts of ``https://github.com/OWNER/NAME``."""
    match = ADDRESS.fullmatch(address)
    if not match:
        raise ValueError(
            f"{address!r} is not the address of a repository on GitHub, "
            "like https://github.com/you/yourbook"
        )
    return match[1], match[2]


def current(root: Path = ROOT) -> str:
    """Return the address in ``_config.yml``."""
    match = IN_CONFIG.search((root / "_config.yml").read_text(encoding="utf-8"))
    if not match:
        raise ValueError(f"{root / '_config.yml'} has no line `url:` under `repository:`")
    return match[1]


def pages(address: str) -> str:
    """Return where GitHub Pages shows the book of a repository, without a slash at the end."""
    owner, name = owner_and_name(address)
    site = f"{owner.lower()}.github.io"
    return f"https://{site}" if name.lower() == site else f"https://{site}/{name}"


def replaced(text: str, old: str, new: str) -> str:
    """Return `text` with every form of the address `old` turned into the same form of `new`."""
    (owner, name), (new_owner, new_name) = owner_and_name(old), owner_and_name(new)
    end = r"(?![\w-])"
    clone = rf"(git clone https://github\.com/{re.escape(f'{owner}/{name}')}(?:\.git)?\s+cd ){name}"
    text = re.sub(clone + end, rf"\g<1>{new_name}", text)
    text = re.sub(
        BEFORE + re.escape(f"{owner}/{name}") + end, rf"\g<1>{new_owner}/{new_name}", text
    )
    return re.sub(re.escape(pages(old)) + end, pages(new), text)


def files(root: Path = ROOT) -> list[Path]:
    """Return the repository's own files: those that git tracks, or would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    paths = (root / name for name in listed.split("\0") if name)
    return sorted({path for path in paths if path.is_file()})


def text_of(path: Path) -> str | None:
    """Return a file's text with its line endings unchanged, or None if it is not text."""
    content = path.read_bytes()
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def set_repository(new: str, root: Path = ROOT) -> list[Path]:
    """Replace the current address with `new`, and return the changed files."""
    old, new = current(root), "https://github.com/{}/{}".format(*owner_and_name(new))
    changes = {}
    for path in files(root):
        text = text_of(path)
        if text is not None and (changed := replaced(text, old, new)) != text:
            changes[path] = changed
    # The authoritative file comes last: after an interruption, the same command does the rest.
    for path in sorted(changes, key=lambda path: path.name == "_config.yml"):
        write_whole(path, changes[path].encode())
    return list(changes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="https://github.com/you/yourbook")
    arguments = parser.parse_args()
    try:
        changed = set_repository(arguments.address)
    except ValueError as error:
        print(f"set_repository: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} files changed. The book will be at {pages(current())}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
