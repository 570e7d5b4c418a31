"""Training and evaluation."""

from cnnbook.training.callbacks import (
    EMA,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochLines,
    Progress,
    TargetAccuracy,
    TensorBoard,
    TimeLimit,
)
from cnnbook.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from cnnbook.training.evaluation import Evaluation, evaluate
from cnnbook.training.fitting import fit
from cnnbook.training.history import History
from cnnbook.training.processes import join_processes
from cnnbook.training.run import Run

__all__ = [
    "EMA",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "EpochLines",
    "Evaluation",
    "History",
    "Progress",
    "Run",
    "TargetAccuracy",
    "TensorBoard",
    "TimeLimit",
    "evaluate",
    "fit",
    "join_processes",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
]
