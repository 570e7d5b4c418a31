"""What the chapter on LeNet printed when the book was built."""

import pytest
from executed import ROOT, facts, number, printed, row, rows, said, table

CHAPTER = ROOT / "chapters" / "04-lenet.ipynb"

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text():
    return printed(CHAPTER)


def test_numbers_agree_with_the_paper(text):
    assert "DIFFERS" not in text
    assert text.count("agrees") == 7
    assert "61,706 parameters in all" in text
    assert facts(CHAPTER)["identical_scores"] is True
    assert ("sum", "60,000", "340,908") in rows(CHAPTER)
    assert "1516 parameters instead of 2416" in text
    # Table I of the paper: the maps of C3 that the first map of S2 feeds
    assert "0 | × · · · × × × · · × × × × · × ×" in text


def test_sharing_saves_parameters_and_moves_with_the_image():
    assert said(CHAPTER, "parameters with shared weights:") == "156"
    assert said(CHAPTER, "parameters if fully connected:") == "4,821,600"  # 1024·4704 + 4704
    assert facts(CHAPTER)["largest_difference"] == 0


def test_c5_is_a_convolution_that_equals_a_fully_connected_layer(text):
    assert number(said(CHAPTER, "differs from a fully connected layer by at most")) <= 1e-5
    assert "C5 gives (1, 120, 1, 33)" in text


def test_reaches_85_percent():
    evaluated = said(CHAPTER, "images: loss")
    assert number(evaluated.split("accuracy ")[1].rstrip(">")) >= 85


def test_learned_features_are_worth_more_than_pixels():
    pixels, learned = said(CHAPTER, "1,024 pixels:").split("learned features:")
    assert number(learned) > number(pixels) + 3


def test_the_sigmoid_starts_last():
    ends = table(CHAPTER, "activation", "test accuracy, mean (range)")
    accuracy = {end["activation"]: number(end["test accuracy, mean (range)"]) for end in ends}
    assert set(accuracy) == {"tanh", "ReLU", "sigmoid", "sigmoid, helped"}
    assert accuracy["sigmoid"] < 20 < 60 < accuracy["sigmoid, helped"]
    sigmoid, tanh, relu = map(number, row(CHAPTER, "c1.0.weight")[1:])
    assert 30 * sigmoid < relu < tanh
