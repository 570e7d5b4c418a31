"""What the chapter on GoogLeNet printed."""

from pathlib import Path

import pytest
from executed import number, printed, said, table

CHAPTER = Path(__file__).parents[2] / "chapters" / "07-googlenet.ipynb"
pytestmark = pytest.mark.book


def test_costs_of_the_source():
    text = printed(CHAPTER)
    assert "28·28·192·5·5·32 = 120,422,400" in text
    assert "2,408,448 + 10,035,200 = 12,443,648" in text
    assert "7·7·1024·1024 = 51,380,224" in text
    assert "average of each feature map: 0 parameters" in text


def test_the_network_built_here_is_the_papers():
    text = printed(CHAPTER)
    assert text.count("same output: True") == 2
    assert "identical scores: True" in text
    assert said(CHAPTER, "parameters without auxiliary classifiers:") == "6,998,552"
    assert said(CHAPTER, "parameters with them:") == "13,378,280"
    assert "= 22 layers deep, 27 with pooling" in text
    # Of the 24 figures of Table 1 five differ: both of conv1 and 5a, the parameters of 4c. The
    # five counts by hand all agree.
    assert text.count("DIFFERS") == 5
    assert text.count("agrees") == 19 + 5


def test_what_reductions_take():
    text = printed(CHAPTER)
    assert "through 16 channels: (192, 800), rank 16" in text
    assert "free: (192, 800), rank 192" in text


def test_gradients_vanish_from_the_default_start_only():
    starts = table(CHAPTER, "start", "without", "with auxiliary")
    gradient = {start["start"]: number(start["without"]) for start in starts}
    assert gradient["default"] < 1e-5 < 1e-3 < gradient["He"]


def test_the_loss_is_a_sum_with_weights():
    loss = number(said(CHAPTER, "the loss:"))
    assert loss == pytest.approx(number(said(CHAPTER, "main + 0.3·(…+…):")), abs=2e-4)
    assert loss != pytest.approx(number(said(CHAPTER, "their average:")), abs=2e-4)
