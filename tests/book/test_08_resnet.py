"""What the ResNet chapter printed when the book was built."""

from pathlib import Path

import pytest
from executed import facts, printed, rows

CHAPTER = Path(__file__).parents[2] / "chapters" / "08-resnet.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name


@pytest.fixture(scope="module")
def text() -> str:
    return printed(CHAPTER)


@pytest.mark.book
def test_networks_of_the_notebook_equal_those_of_the_package(text):
    assert text.count("identical scores: True") == 2
    assert "identical scores: False" not in text
    assert facts(CHAPTER)["identical_outputs"] is True
    assert text.count("269,434 parameters") == 2


@pytest.mark.book
def test_published_networks_have_the_papers_numbers(text):
    family = {
        ("18", "11,689,512", "5", "3"),
        ("34", "21,797,672", "13", "3"),
        ("50", "25,557,032", "12", "4"),
        ("101", "44,549,160", "29", "4"),
        ("152", "60,192,808", "46", "4"),
    }
    assert family <= {(*cells[:2], *cells[4:]) for cells in rows(CHAPTER)}
    assert "operations within 2 % of the paper's: True" in text
    assert "DIFFERS" not in text
    assert text.count("agrees") == 3


@pytest.mark.book
def test_identities_are_exact(text):
    # A deep network with identity layers, zero residuals, and gradients at an addition.
    assert "8 and 44 layers with weights\nlargest difference of their scores: 0\n" in text
    assert text.count("output equals input: True") == 3
    assert "output equals input: False" not in text
    assert "zero start, before training: largest ratio 0.0" in text
    assert "both get exactly what comes from above:\nTrue True" in text
    assert "a full convolution takes the same MACs in all stages: True" in text


@pytest.mark.book
def test_bottleneck_arithmetic(text):
    assert "= 54,591,488 multiply–adds; 69,632 parameters" in text
    assert "= 924,844,032 multiply–adds; 1,179,648 parameters" in text


@pytest.mark.book
def test_plain_networks_degrade_and_residual_ones_do_not(text):
    worse = "worse than the shallowest, in every run"
    assert f"deepest plain network: {worse}" in text
    assert f"deepest residual network: {worse}" not in text


@pytest.mark.book
def test_solutions_by_hand_are_right():
    text = printed(SOLUTIONS)
    assert "DIFFERS" not in text
    assert text.count("agrees") == 2
    assert "pre-activation: identity True" in text
    assert "of the chapter: identity False" in text
    assert "of the chapter: relu(x) True" in text
