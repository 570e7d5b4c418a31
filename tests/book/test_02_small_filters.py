"""Facts that the chapter on small filters prints."""

import re
from pathlib import Path

import pytest
from executed import has_row, printed

CHAPTER = Path(__file__).parents[2] / "chapters" / "02-small-filters.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

pytestmark = pytest.mark.book


def test_receptive_fields_agree_with_the_package():
    text = printed(CHAPTER)
    assert "DIFFERS" not in text
    assert text.count("agrees") == 5
    assert has_row(text, "2 × 3×3", "5", "1", "agrees")
    assert has_row(text, "AlexNet up to pool1", "19", "8", "agrees")


def test_weights():
    text = printed(CHAPTER)
    assert has_row(text, "5×5", "2", "25", "18", "7", "1.39")
    assert has_row(text, "7×7", "3", "49", "27", "22", "1.81")
    assert has_row(text, "3 → 64", "4,864", "38,720", "0.13", "8.0")
    assert has_row(text, "convolutions, parameters", "14,714,688", "21,084,288", "1.43")
    assert has_row(text, "whole network, parameters", "138,357,544", "144,727,144", "1.05")
    assert has_row(text, "alexnet", "1 of 11×11, 1 of 5×5, 3 of 3×3", "85%")
    assert has_row(text, "vgg16", "13 of 3×3", "100%")


def test_two_linear_layers_are_one_but_not_the_reverse():
    text = printed(CHAPTER)
    assert "the package composes likewise: True" in text
    # The rim of 64×64 pixels, and nothing else.
    assert "252 of 4,096 outputs differ, 0 of them more than 1 pixel from the rim" in text
    for row in (("1", "18", "17"), ("2", "36", "25"), ("3", "54", "25")):
        assert has_row(text, *row)
    assert "two small blurs are exactly the large one: True" in text
    assert re.search(r"^random +[1-9]\d\.\d% +0\.0%$", text, re.M)


def test_only_the_relu_learns_an_even_function():
    rows = re.findall(
        r"^(.+?)  +(?:trained on|new) +(\d\.\d{4}) +(\d\.\d{4})$", printed(CHAPTER), re.M
    )
    assert len(rows) == 6
    for network, lowest, highest in rows:
        if "ReLU" in network:
            assert float(highest) < 0.5
        else:
            assert float(lowest) > 0.99


def test_folding_doubles_the_pieces():
    text = printed(CHAPTER)
    for layers in range(1, 9):
        assert has_row(text, str(layers), str(2**layers), "1", str(2 * layers + 1))


def test_gradients_vanish_with_depth_not_with_parameters():
    text = printed(CHAPTER)
    wider = re.search(r"wider: +(\d+) times the parameters, ([\d.]+) times", text)
    deeper = re.search(r"deeper: +(\d+) times the parameters, (\S+) times", text)
    assert int(wider[1]) > 200
    assert 0.1 < float(wider[2]) < 10
    assert float(deeper[2]) < 1e-12


def test_solutions_confirm_the_calculations():
    text = printed(SOLUTIONS)
    for row in (
        ("five 3×3", "11", "1", "45"),
        ("two 3×3, stride 2", "7", "4", "18"),
        ("7×7 and pooling", "11", "4", "49"),
        ("2, 2", "9", "25", "9", "18"),
        ("1, 3, 9", "27", "729", "1", "27"),
    ):
        assert has_row(text, *row)
    (worst,) = re.findall(r"error of 200 separable kernels: (\S+)", text)
    assert float(worst) < 1e-9
