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
from cnnbook.training.trained import (
    TrainedModel,
    build_for,
    load,
    model_info,
    predict,
)

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
    "TrainedModel",
    "build_for",
    "evaluate",
    "fit",
    "join_processes",
    "load",
    "load_checkpoint",
    "load_weights",
    "model_info",
    "predict",
    "save_checkpoint",
]
