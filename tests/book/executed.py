"""What the notebooks printed when the book was built."""

import re
from pathlib import Path

import claims
from jupyter_cache import get_cache

ROOT = Path(__file__).parents[2]


def executed_cells(path: Path) -> list:
    """Return the code cells with their outputs, as the book shows them."""
    # Not from _build/jupyter_execute, whose copies lack the outputs that came from the cache.
    cache = get_cache(ROOT / "_build" / ".jupyter_cache")
    record = cache.match_cache_file(str(path))
    return cache.get_cache_bundle(record.pk).nb.cells


def printed(path: Path) -> str:
    outputs = [o for cell in executed_cells(path) for o in cell.outputs]
    texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs]
    return "\n".join(texts)


def has_row(text: str, *cells: str) -> bool:
    """Tell whether a printed table has a row of these cells."""
    return re.search(r"^ *" + r" +".join(map(re.escape, cells)) + r"$", text, re.M) is not None


def is_claims(cell) -> bool:
    return "claims" in cell.metadata.get("tags", [])


def executed_rows(path: Path) -> list[claims.Row]:
    """Return the rows of the claim table that a chapter ends with."""
    cell = [c for c in executed_cells(path) if is_claims(c)][-1]
    (table,) = [o.data["text/html"] for o in cell.outputs if "text/html" in o.get("data", {})]
    return claims.rows_of_html(table)
