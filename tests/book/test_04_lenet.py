"""What the chapter on LeNet printed when the book was built."""

import re

import pytest
from executed import ROOT, has_row, printed

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text():
    return printed(ROOT / "chapters" / "04-lenet.ipynb")


def test_numbers_agree_with_the_paper(text):
    assert "DIFFERS" not in text
    assert text.count("agrees") == 7
    assert "61,706 parameters in all" in text
    assert "identical scores: True" in text
    assert has_row(text, "sum", "60,000", "340,908")
    assert "1516 parameters instead of 2416" in text
    # Table I of the paper: the maps of C3 that the first map of S2 feeds
    assert "0 | × · · · × × × · · × × × × · × ×" in text


def test_sharing_saves_parameters_and_moves_with_the_image(text):
    assert re.search(r"with shared weights: +156$", text, flags=re.M)
    assert re.search(r"if fully connected: +4,821,600$", text, flags=re.M)  # 1024·4704 + 4704
    assert "largest difference: 0\n" in text


def test_c5_is_a_convolution_that_equals_a_fully_connected_layer(text):
    (difference,) = re.findall(
        r"differs from a fully connected layer by at most (\S+)$", text, flags=re.M
    )
    assert float(difference) <= 1e-5
    assert "C5 gives (1, 120, 1, 33)" in text


def test_reaches_85_percent(text):
    (accuracy,) = re.findall(r"<[\d,]+ images: loss [\d.]+, accuracy ([\d.]+)%>", text)
    assert float(accuracy) >= 85


def test_learned_features_are_worth_more_than_pixels(text):
    found = re.search(r"pixels: ([\d.]+)%; 84 learned features: ([\d.]+)%", text)
    pixels, learned = map(float, found.groups())
    assert learned > pixels + 3


def test_the_sigmoid_starts_last(text):
    start = {}
    for name in ("tanh", "ReLU", "sigmoid", "sigmoid, helped"):
        (start[name],) = re.findall(rf"^{name} +([\d.]+)% \(", text, flags=re.M)
    accuracy = {name: float(percent) for name, percent in start.items()}
    assert accuracy["sigmoid"] < 20 < 60 < accuracy["sigmoid, helped"]
    gradients = re.search(r"^c1\.0\.weight +(\S+) +(\S+) +(\S+)$", text, flags=re.M)
    sigmoid, tanh, relu = map(float, gradients.groups())
    assert 30 * sigmoid < relu < tanh
