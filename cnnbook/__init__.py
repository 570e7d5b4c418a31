"""Convolutional network architectures: the papers' networks, a training loop, and figures.

``import cnnbook`` loads nothing heavy. Submodules and the few top-level functions below are
imported on first use, so the package also works where matplotlib or Jupyter is missing.

Examples
--------
>>> import cnnbook
>>> net = cnnbook.models.lenet5()
>>> sum(p.numel() for p in net.parameters())
61706
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ finds, for editors and type checkers
    from cnnbook import analysis as analysis
    from cnnbook import data as data
    from cnnbook import models as models
    from cnnbook import plots as plots
    from cnnbook import results as results
    from cnnbook import settings as settings
    from cnnbook import training as training
    from cnnbook import widgets as widgets
    from cnnbook._versions import require as require
    from cnnbook.settings import choose as choose
    from cnnbook.settings import device as device
    from cnnbook.settings import preset as preset
    from cnnbook.settings import seed as seed
    from cnnbook.settings import start as start
    from cnnbook.training import load as load

__version__ = "0.1.0"

_SUBMODULES = (
    "analysis",
    "data",
    "models",
    "plots",
    "results",
    "settings",
    "training",
    "widgets",
)
_FUNCTIONS = {
    "choose": "settings",
    "device": "settings",
    "load": "training",
    "preset": "settings",
    "require": "_versions",
    "seed": "settings",
    "start": "settings",
}

__all__ = [*_SUBMODULES, *_FUNCTIONS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"cnnbook.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"cnnbook.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'cnnbook' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
