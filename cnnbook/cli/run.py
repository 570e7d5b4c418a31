"""From command-line arguments to an exit code."""

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from cnnbook._stderr import say
from cnnbook.cli.parser import build_parser
from cnnbook.tables import printable


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
    >>> main(["models", "lenet5"])
    name    paper                               input    parameters     MACs  last layers   weights
    lenet5  LeCun et al. 1998, as taught today  1×32×32      61,706  416,520  c5 f6 output
    options of lenet5: activation=tanh pool=avg
    0
    """
    for stream in (sys.stdout, sys.stderr):  # None, if the process has been given none
        if hasattr(stream, "reconfigure"):  # a terminal that lacks × shows a question mark
            stream.reconfigure(errors="replace")
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    # Loading torch takes seconds, and --help need not wait for it.
    from cnnbook.cli.bench import bench
    from cnnbook.cli.experiment import experiment
    from cnnbook.cli.listings import list_data, list_models
    from cnnbook.cli.train import train
    from cnnbook.cli.trained import evaluate, predict
    from cnnbook.data import DataError
    from cnnbook.models import WeightsError
    from cnnbook.training import CheckpointError
    from cnnbook.training.device import is_out_of_memory

    commands = {
        "models": list_models,
        "data": list_data,
        "train": train,
        "evaluate": evaluate,
        "predict": predict,
        "bench": bench,
        "experiment": experiment,
    }
    try:
        for name in chosen.modules:
            import_module(name)
        code: int = commands[chosen.command](chosen)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads the output, such as head, has read enough
        # Python flushes once more when it ends, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ValueError as error:
        say(f"cnnbook: {printable(as_typed(str(error), chosen))}")
        return 2
    except (
        *(DataError, CheckpointError, WeightsError),
        *(OSError, MemoryError, FloatingPointError),
    ) as error:
        say(f"cnnbook: {printable(as_typed(str(error), chosen))}")
        return 1
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        say(f"cnnbook: out of memory ({printable(str(error).splitlines()[0])})")
        return 1
    except KeyboardInterrupt:
        say("cnnbook: stopped")
        return 130


# What the functions call differently, or the other way round.
_FLAGS = {
    "networks": "--model",
    "arms": "--arm",
    "data_set": "--data",
    "limit": "--time-limit",
    "seconds": "--time-limit",
    "resume=False": "--no-resume",
    "checkpoint=None": "--no-checkpoint",
}


def as_typed(message: str, chosen: argparse.Namespace) -> str:
    """Return an error message with command-line options where it has arguments in Python.

    Examples
    --------
    >>> as_typed("lr must be positive and finite, got lr=-1.0", argparse.Namespace(lr=-1.0))
    'lr must be positive and finite, got --lr -1.0'
    >>> as_typed("resume=False starts over", argparse.Namespace(no_resume=False))
    '--no-resume starts over'
    """
    flags = {name: f"--{name.replace('_', '-')}" for name in vars(chosen)} | _FLAGS
    typed = [str(value) for value in vars(chosen).values() if isinstance(value, (str, list))]

    def flag(found: re.Match[str]) -> str:
        name, sign, value = found["name"], found["sign"] or "", found["value"] or ""
        whole = f"{name}{sign}{value}"
        if sign and whole in _FLAGS:
            return _FLAGS[whole]
        # Names without "=" are also words, unless they have an underscore; a file may have any.
        if name not in flags or not (sign or "_" in name) or any(whole in text for text in typed):
            return found[0]
        return f"{flags[name]} {value}" if value else flags[name]

    return re.sub(
        r"(?<![\w./=-])(?P<name>[a-z_]+)(?:(?P<sign>=)(?P<value>[\w.+-]*\w)?)?", flag, message
    )


def import_module(name: str) -> None:
    """Import a module that registers networks, from this folder or from what is installed.

    Raises
    ------
    ValueError
        If it cannot be found, itself imports something missing, or fails.
    """
    here = str(Path.cwd())
    if here not in sys.path:  # `python -m cnnbook` looks into this folder, `cnnbook` would not
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"cannot import {name!r} ({error}); --import takes the name of a Python module "
                "(toy for toy.py) in this folder or among the installed packages"
            ) from None
        raise ValueError(f"{name} imports {error.name}, which is not installed") from None
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
        where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
        raise ValueError(
            f"{name or repr(name)} cannot be imported: {type(error).__name__}: {error}{where}"
        ) from None


def _is_users(file: str) -> bool:
    """Return whether a file is neither Python's import system nor of this package."""
    return "importlib" not in file and Path(__file__).parents[1] not in Path(file).parents
