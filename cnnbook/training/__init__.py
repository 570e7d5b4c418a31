"""Training and evaluation."""

from cnnbook.training.evaluation import Evaluation, evaluate
from cnnbook.training.loop import History, fit

__all__ = ["Evaluation", "History", "evaluate", "fit"]
