"""Command line: ``python -m cnnbook``."""

import argparse
import json
import sys

import torch

from cnnbook import analysis, models
from cnnbook.tables import Table


def models_table(names: list[str]) -> Table:
    """Return one row per network: paper, input, parameters, multiply–adds, last layers.

    Parameters
    ----------
    names
        Names as in :func:`cnnbook.models.list_models`.

    Returns
    -------
    Table
        Multiply–adds are for one image of the size given.
    """
    rows = []
    for name in names:
        known = models.published(name)
        with torch.device("meta"):  # shapes and counts need no values
            net = models.create(name)
        layers = analysis.layer_table(net, known.input_shape).rows
        rows.append(
            {
                "name": name,
                "paper": known.paper,
                "input": "×".join(map(str, known.input_shape)),
                "parameters": sum(p.numel() for p in net.parameters()),
                "multiply–adds": sum(row["multiply–adds"] for row in layers),
                "top layers": " ".join(row["layer"] for row in layers[-3:]),
            }
        )
    return Table(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="cnnbook", description="Networks of the papers.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("models", help="list the networks with their costs")
    listing.add_argument("name", nargs="*", help="only these")
    listing.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = parser.parse_args(arguments)
    try:
        table = models_table(chosen.name or models.list_models())
    except ValueError as error:
        print(f"cnnbook: {error}", file=sys.stderr)
        return 2
    print(json.dumps(table.to_dicts(), indent=1) if chosen.json else table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
