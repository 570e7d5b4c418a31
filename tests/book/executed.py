"""What the notebooks showed when the book was built: as rows, as values, and as text.

Tables are read as rows (`tables`, `table`, `rows`, `row`) or by `column`, and values that a
notebook showed as `cnnbook.tables.Facts` by name (`facts`). What stands in a sentence is read by
the words before it (`said`); `printed` is all text.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import yaml
from jupyter_cache import get_cache

ROOT = Path(__file__).parents[2]


def chapters_and_pages() -> tuple[list[Path], list[Path]]:
    """Return the chapters, and the pages below them, which have no solutions."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    below = {page["file"] for chapter in listed for page in chapter.get("sections", [])}
    notebooks = sorted((ROOT / "chapters").glob("*.ipynb"))
    is_page = [str(path.relative_to(ROOT).with_suffix("")) in below for path in notebooks]
    chapters = [path for path, page in zip(notebooks, is_page, strict=True) if not page]
    return chapters, [path for path, page in zip(notebooks, is_page, strict=True) if page]


class Shown(NamedTuple):
    """A table as it was displayed: all of it is text, and what is empty is ""."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@cache
def executed_cells(path: Path) -> list:
    """Return the cells with their outputs, as the book shows them."""
    # Not from _build/jupyter_execute, whose copies lack the outputs that came from the cache.
    executed = get_cache(ROOT / "_build" / ".jupyter_cache")
    record = executed.match_cache_file(str(path))
    return executed.get_cache_bundle(record.pk).nb.cells


def outputs(path: Path) -> list:
    return [output for cell in executed_cells(path) for output in cell.get("outputs", [])]


def printed(path: Path) -> str:
    texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs(path)]
    return "\n".join(texts)


@cache
def tables(path: Path) -> list[Shown]:
    """Return the tables that a notebook shows, in its order."""
    found = []
    for output in outputs(path):
        text = output.get("data", {}).get("text/html", "")
        if "cnnbook-table" in text:
            table = ElementTree.fromstring(text)
            columns = tuple(cell.text or "" for cell in table.iterfind(".//thead/tr/th"))
            rows = [tuple(cell.text or "" for cell in row) for row in table.iterfind(".//tbody/tr")]
            found.append(Shown(columns, rows))
    return found


def table(path: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of the one table that begins with these columns, each by column."""
    found = [t for t in tables(path) if t.columns[: len(columns)] == columns]
    if len(found) != 1:
        listed = "\n".join(map(str, (t.columns for t in tables(path))))
        raise LookupError(f"{len(found)} tables of {path.name} begin with {columns}:\n{listed}")
    return [dict(zip(found[0].columns, row, strict=True)) for row in found[0].rows]


def column(path: Path, name: str, *columns: str) -> dict[str, float]:
    """Return a column's numbers by the first column, of the table that begins with `columns`."""
    return {row[columns[0]]: number(row[name]) for row in table(path, *columns)}


def rows(path: Path) -> list[tuple[str, ...]]:
    """Return all rows of all tables."""
    return [row for t in tables(path) for row in t.rows]


def row(path: Path, *cells: str) -> tuple[str, ...]:
    """Return the one row that begins with these cells."""
    found = {r for r in rows(path) if r[: len(cells)] == cells}
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows of {path.name} begin with {cells}: {found}")
    return found.pop()


def facts(path: Path) -> dict[str, object]:
    """Return the values of all `cnnbook.tables.Facts` of a notebook, by name."""
    found: dict[str, object] = {}
    for output in outputs(path):
        values = output.get("metadata", {}).get("cnnbook", {}).get("facts", {})
        if again := found.keys() & values:
            raise LookupError(f"{path.name} names these facts twice: {sorted(again)}")
        found |= values
    return found


def said(path: Path, words: str) -> str:
    """Return what follows these words in the one printed line that has them."""
    found = [line.split(words, 1)[1] for line in printed(path).splitlines() if words in line]
    if len(found) != 1:
        raise LookupError(f"{len(found)} lines of {path.name} have {words!r}: {found}")
    return found[0].strip()


def number(text: str) -> float:
    """Return the number that a text begins with: 1,516 or −85.3% or 61.1 (60.2 – 61.6)."""
    return float(text.split()[0].rstrip("%,;:.>").replace(",", "").replace("−", "-"))
