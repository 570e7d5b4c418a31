"""What the chapter on AlexNet printed when the book was built."""

import pytest
from executed import ROOT, number, printed, row, rows, said

CHAPTER = ROOT / "chapters" / "05-alexnet.ipynb"


@pytest.fixture(scope="module")
def text():
    return printed(CHAPTER)


@pytest.mark.book
def test_numbers_agree_with_the_paper(text):
    assert "DIFFERS" not in text
    assert text.count("agrees") == 8
    assert "60,965,224 parameters in all" in text
    assert "identical scores: True" in text
    assert "neurons counted here: 659,272" in text
    assert "sum of the caption:   622,312" in text
    assert row(CHAPTER, "one column")[1] == "62,378,344"


@pytest.mark.book
def test_forms_are_equal():
    for words in (
        "fc6 minus its product:",
        "grouped and side by side differ by at most",
        "no ReLU: differs from one 5×5 by",
    ):
        assert number(said(CHAPTER, words)) <= 1e-4
    assert number(said(CHAPTER, "scores up to ").split("differ by")[1]) <= 1e-4


@pytest.mark.book
def test_traffic_between_the_towers():
    # 256·13·13, 256·6·6, 4096 and, one way only, 2048 numbers
    assert ("sum", "58,624", "258,400") in rows(CHAPTER)


@pytest.mark.book
def test_224_pixels_do_not_fit():
    assert ("224", "0", "54.25", "54", "1", "5") in rows(CHAPTER)
    assert ("227", "0", "55.00", "55", "0", "6") in rows(CHAPTER)
