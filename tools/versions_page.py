"""Write the page that says under which versions every notebook has been run.

python tools/versions_page.py chapters/reference/versions.json > chapters/reference/versions.md

tools/try_as_reader.py --record writes the results.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NEWEST_TORCH = 15  # 2.15; with readers.yml, to be raised when there is a newer one

TEXT = """\
<!-- Written by tools/versions_page.py; do not edit. -->

# Which versions work

cnnbook requires torch 2.6 or newer, and Python 3.10 or newer. Reading source code does not show \
that every version in between works: chapter 8 once set a batch norm's `eps` to 0, and \
all versions that it had been run with accepted that; torch 2.11 does not.

Therefore `tools/try_as_reader.py` makes an environment for each version, with the newest \
matching release of everything else, and runs the notebooks there as a reader in Colab \
does: alone, in an empty folder, where the first cell installs the package. A notebook passes if \
every cell runs, nothing is written to stderr, not even a warning, and no installed package has \
been replaced.

**Quick** runs execute every cell as well, but cut training short, to five epochs of three \
batches at most, and only the first notebook installs the package: they \
show that the code runs, not that its results are right. **Full** runs \
train as long as the book does. All used CPUs; a GPU has other kernels and other bugs.
"""


def day(text: str) -> str:
    """Return a date in words."""
    found = date.fromisoformat(text)
    return f"{found:%B} {found.day}, {found.year}"


def plain(version: str) -> str:
    """Return a version without its build: 2.6.0 for 2.6.0+cu124."""
    return version.partition("+")[0]


def order(row: dict) -> list:
    """Return what sorts rows: by torch, then Python, then whether all is the oldest."""
    numbers = [plain(row["torch"]), row["python"]]
    parsed = [[int(part) for part in number.split(".")] for number in numbers]
    return [*parsed, row["versions"], row["mode"]]


def outcome(rows: Sequence[dict]) -> str:
    """Return how many notebooks passed, and which did not."""
    failed = [row["notebook"] for row in rows if row["problems"]]
    if failed:
        return f"{len(rows) - len(failed)} of {len(rows)}; not {', '.join(failed)}"
    if len(rows) == 1:
        return rows[0]["notebook"]
    chapters = sum("/" not in row["notebook"] for row in rows)
    more = len(rows) - chapters
    if not more:
        return f"{chapters} chapters"
    return f"{chapters} chapters, {more} more notebook" + "s" * (more > 1)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page(results: Sequence[dict]) -> str:
    """Return the page in MyST Markdown."""
    environments = defaultdict(list)
    for row in sorted(results, key=order):
        environments[row["versions"], row["python"], row["mode"]].append(row)
    lines = []
    for (versions, python, mode), rows in environments.items():
        first = rows[0]
        days = sorted({row["date"] for row in rows})
        lines.append(
            [
                plain(first["torch"]) + (", oldest of all" if versions == "oldest" else ""),
                python,
                plain(first["torchvision"]),
                f"{first['numpy']}, {first['matplotlib']}, {first['ipywidgets']}",
                mode,
                outcome(rows),
                " to ".join(dict.fromkeys((day(days[0]), day(days[-1])))),
            ]
        )
    head = ["torch", "Python", "torchvision", "numpy, matplotlib, ipywidgets", "mode", "passed"]
    parts = [TEXT, table([*head, "last run"], lines)]
    parts += problems(results)
    parts.append(untried(results))
    parts.append(
        "Every week, a [workflow](https://github.com/cnnbook/cnnbook/blob/main/.github/workflows/"
        "readers.yml) runs them again, with the versions of that day. "
        "[The results](versions.json) are one line per notebook and environment."
    )
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def problems(results: Sequence[dict]) -> list[str]:
    """Return what went wrong, a line for each notebook, if anything did."""
    lines = []
    for row in sorted(results, key=order):
        for problem in row["problems"]:
            last = problem.strip().splitlines()[-1]
            where = f"torch {plain(row['torch'])}, Python {row['python']}"
            lines.append(f"- {row['notebook']} ({where}): `{last.replace('`', '')}`")
    return ["## What went wrong", "\n".join(lines)] if lines else []


def untried(results: Sequence[dict]) -> str:
    """Return which versions have not been tried, in words."""
    pythons = {row["python"] for row in results}
    torches = {".".join(plain(row["torch"]).split(".")[:2]) for row in results}
    missing = [f"Python 3.{n}" for n in range(10, 15) if f"3.{n}" not in pythons]
    missing += [f"torch 2.{n}" for n in range(6, NEWEST_TORCH + 1) if f"2.{n}" not in torches]
    return f"**Not tried yet:** {', '.join(missing)}." if missing else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="what try_as_reader.py --record has written")
    print(page(json.loads(parser.parse_args().results.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
