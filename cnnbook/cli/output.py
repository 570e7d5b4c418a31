"""How commands print tables."""

import json

from cnnbook.tables import Table


def show(table: Table, *, as_json: bool) -> None:
    """Print a table as aligned text, or its rows as JSON."""
    print(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False) if as_json else table)
