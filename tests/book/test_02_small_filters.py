"""Facts that the chapter on small filters prints."""

from pathlib import Path

import pytest
from executed import facts, number, printed, rows, said, table

CHAPTER = Path(__file__).parents[2] / "chapters" / "02-small-filters.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

pytestmark = pytest.mark.book


def test_receptive_fields_agree_with_the_package():
    assert "DIFFERS" not in printed(CHAPTER)
    assert [stack["package"] for stack in table(CHAPTER, "stack")] == 5 * ["agrees"]
    assert ("2 × 3×3", "5", "1", "agrees") in rows(CHAPTER)
    assert ("AlexNet up to pool1", "19", "8", "agrees") in rows(CHAPTER)


def test_weights():
    for cells in (
        ("5×5", "2", "25", "18", "7", "1.39"),
        ("7×7", "3", "49", "27", "22", "1.81"),
        ("3 → 64", "4,864", "38,720", "0.13", "8.0"),
        ("convolutions, parameters", "14,714,688", "21,084,288", "1.43"),
        ("whole network, parameters", "138,357,544", "144,727,144", "1.05"),
        ("alexnet", "1 of 11×11, 1 of 5×5, 3 of 3×3", "85%"),
        ("vgg16", "13 of 3×3", "100%"),
    ):
        assert cells in rows(CHAPTER)


def test_two_linear_layers_are_one_but_not_the_reverse():
    text = printed(CHAPTER)
    assert "the package composes likewise: True" in text
    # The edge of 64×64 pixels, and nothing else.
    assert "252 of 4,096 outputs differ, 0 of them more than 1 pixel from the edge" in text
    for cells in (("1", "18", "17"), ("2", "36", "25"), ("3", "54", "25")):
        assert cells in rows(CHAPTER)
    assert "two small blurs are exactly the large one: True" in text
    (random,) = (k for k in table(CHAPTER, "5×5 kernel") if k["5×5 kernel"] == "random")
    assert number(random["1 between"]) >= 10
    assert random["2 between"] == "0.0%"


def test_only_the_relu_learns_an_even_function():
    errors = table(CHAPTER, "network", "photographs")
    assert len(errors) == 6
    for error in errors:
        if "ReLU" in error["network"]:
            assert number(error["highest"]) < 0.5
        else:
            assert number(error["lowest"]) > 0.99


def test_folding_doubles_the_pieces():
    for layers in range(1, 9):
        assert (str(layers), str(2**layers), "1", str(2 * layers + 1)) in rows(CHAPTER)


def test_the_filters_found_by_hand_are_exact():
    assert facts(CHAPTER)["largest_error"] < 1e-5


def test_gradients_vanish_with_depth_not_with_parameters():
    wider, deeper = (said(CHAPTER, f"{kind}:").split(", ") for kind in ("wider", "deeper"))
    assert number(wider[0]) > 200
    assert 0.1 < number(wider[1]) < 10
    assert number(deeper[1]) < 1e-12


def test_solutions_confirm_the_calculations():
    for cells in (
        ("five 3×3", "11", "1", "45"),
        ("two 3×3, stride 2", "7", "4", "18"),
        ("7×7 and pooling", "11", "4", "49"),
        ("2, 2", "9", "25", "9", "18"),
        ("1, 3, 9", "27", "729", "1", "27"),
    ):
        assert cells in rows(SOLUTIONS)
    assert number(said(SOLUTIONS, "error of 200 separable kernels:")) < 1e-9
