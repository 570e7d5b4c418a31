"""Training and evaluation."""

from cnnbook.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from cnnbook.training.evaluation import Evaluation, evaluate
from cnnbook.training.history import History
from cnnbook.training.loop import Step, fit
from cnnbook.training.processes import join_processes

__all__ = [
    "CheckpointError",
    "Evaluation",
    "History",
    "Step",
    "evaluate",
    "fit",
    "join_processes",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
]
