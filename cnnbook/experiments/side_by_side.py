"""Eight networks of five papers with equally many multiply–adds, under one protocol.

Each is as wide as about as many multiply–adds per image allow (within 15 % of each other) for
images of 32×32 pixels. All have the same images in the same order, equally many steps, and each its
own learning rate. Upright clothes have a margin of two pixels; cluttered ones have half their
resolution. What was changed to make this possible: beginnings with stride 1 and without early
pooling; no dropout, response normalization or auxiliary classifiers; batch normalization in VGG and
GoogLeNet, where it is younger than they are; ReLU and maximum pooling in LeNet-5. So this compares
designs, not the papers' recipes.

Seconds are those of training one image, forward, backward and its share of the update. They depend
on the machine, on the batch size, and on what else runs; multiply–adds do not.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import data, models
from cnnbook.experiments import figures
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import Interval, of_difference
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import WIDTH, line_style, new_figure
