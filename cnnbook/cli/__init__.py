"""Command line: ``python -m cnnbook``, or ``cnnbook`` once installed."""

from cnnbook.cli.parser import build_parser
from cnnbook.cli.run import main

__all__ = ["build_parser", "main"]
