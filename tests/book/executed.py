"""What the notebooks printed when the book was built."""

from pathlib import Path

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
