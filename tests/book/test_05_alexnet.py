"""What the chapter on AlexNet printed when the book was built."""

import re

import pytest
from executed import ROOT, printed


@pytest.fixture(scope="module")
def text():
    return printed(ROOT / "chapters" / "05-alexnet.ipynb")


@pytest.mark.book
def test_numbers_agree_with_the_paper(text):
    assert "DIFFERS" not in text
    assert text.count("agrees") == 8
    assert "60,965,224 parameters in all" in text
    assert "identical scores: True" in text
    assert "neurons counted here: 659,272" in text
    assert "sum of the caption:   622,312" in text
    assert re.search(r"^one column +62,378,344 +", text, flags=re.M)


@pytest.mark.book
def test_forms_are_equal(text):
    for pattern in (
        r"fc6 minus its product: (\S+)$",
        r"grouped and side by side differ by at most (\S+)$",
        r"^scores up to \S+ differ by (\S+)$",
        r"no ReLU: differs from one 5×5 by (\S+)$",
    ):
        (difference,) = re.findall(pattern, text, flags=re.M)
        assert float(difference) <= 1e-4


@pytest.mark.book
def test_traffic_between_the_towers(text):
    # 256·13·13, 256·6·6, 4096 and, one way only, 2048 numbers
    assert re.search(r"^sum +58,624 +258,400$", text, flags=re.M)


@pytest.mark.book
def test_224_pixels_do_not_fit(text):
    assert re.search(r"^ +224 +0 +54\.25 +54 +1 +5$", text, flags=re.M)
    assert re.search(r"^ +227 +0 +55\.00 +55 +0 +6$", text, flags=re.M)
