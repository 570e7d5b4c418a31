"""Recorded runs: too long for a page, or made on a machine the reader may not have.

A record is a JSON file, written by ``python -m cnnbook bench PART --record``;
``cnnbook.results.schema`` defines what it holds. Those in the folder ``runs`` come with the
package.
"""

from cnnbook.results.machine import describe_machine
from cnnbook.results.records import Recorded, find, list_runs, load, record
from cnnbook.results.schema import Row, as_json

__all__ = [
    "Recorded",
    "Row",
    "as_json",
    "describe_machine",
    "find",
    "list_runs",
    "load",
    "record",
]
