"""The book's experiments: each a question, answered by code that runs in three sizes.

``"live"`` takes at most a minute on two cores, and is what chapters run; ``"desk"`` and ``"full"``
are recorded, on two cores and on a large GPU. Every arm of a comparison has its own learning rate,
chosen on validation images, and is trained with several seeds.

``python -m cnnbook experiment degradation --size desk --record`` runs one and keeps its result.
"""

from cnnbook.experiments import (
    activation,
    augmentation,
    auxiliary,
    degradation,
    depth,
    dropout,
    first_layer,
    inception,
    pooling,
    relu_race,
    side_by_side,
    stacks,
    vgg_depth,
    vgg_start,
)
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.intervals import Interval, of_difference, of_mean, of_pairs, of_ratio
from cnnbook.experiments.registry import REGISTRY, get, list_experiments
from cnnbook.experiments.result import ArmResult, Result, list_recorded, load
from cnnbook.experiments.running import run

__all__ = [
    "Arm",
    "ArmResult",
    "Experiment",
    "Interval",
    "Result",
    "Size",
    "get",
    "list_experiments",
    "list_recorded",
    "load",
    "of_difference",
    "of_mean",
    "of_pairs",
    "of_ratio",
    "run",
]

for _module in (
    *(depth, first_layer),
    stacks,
    augmentation,
    activation,
    *(relu_race, dropout),
    *(vgg_start, vgg_depth),
    *(inception, auxiliary, pooling),
    degradation,
    side_by_side,
):
    REGISTRY[_module.EXPERIMENT.name] = _module.EXPERIMENT
