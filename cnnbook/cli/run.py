"""From command-line arguments to an exit code."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnbook.cli.parser import build_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Arguments after the program's name; those of this process if not given.

    Returns
    -------
    int
        The exit code: 0 success; 1 failure (a file is missing or damaged, memory or disk space ran
        out, the loss became infinite); 2 invalid command; 130 stopped by a signal.

    Examples
    --------
    >>> main(["models", "lenet5", "resnet20"])
    name      paper                               input    parameters        MACs  last layers
    lenet5    LeCun et al. 1998, as taught today  1×32×32      61,706     416,520  c5 f6 output
    resnet20  He et al. 2016                      3×32×32     269,722  40,551,040  conv4_x pool fc
    0
    """
    chosen = build_parser().parse_args(arguments)
    # Loading torch takes seconds, and --help need not wait for it.
    from cnnbook.cli.bench import bench
    from cnnbook.cli.listings import list_data, list_models
    from cnnbook.cli.train import train
    from cnnbook.cli.trained import evaluate, predict
    from cnnbook.data import DataError
    from cnnbook.training import CheckpointError

    commands = {
        "models": list_models,
        "data": list_data,
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "bench": bench,
    }
    try:
        for name in chosen.modules:
            import_module(name)
        return commands[chosen.command](chosen)
    except ValueError as error:
        print(f"cnnbook: {error}", file=sys.stderr)
        return 2
    except (DataError, CheckpointError, OSError, MemoryError, FloatingPointError) as error:
        print(f"cnnbook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cnnbook: stopped", file=sys.stderr)
        return 130


def import_module(name: str) -> None:
    """Import a module that registers networks, from this folder or from what is installed.

    Raises
    ------
    ValueError
        If it cannot be found, or itself imports something missing.
    """
    here = str(Path.cwd())
    if here not in sys.path:  # `python -m cnnbook` looks into this folder, `cnnbook` would not
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"cannot import {name!r} ({error}); --import takes the name of a Python module (toy "
            "for toy.py) in this folder or among the installed packages"
        ) from None
