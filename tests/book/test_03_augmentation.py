"""Facts that the chapter on augmentation must have printed."""

from pathlib import Path

import pytest
from executed import executed_rows, number, printed, row

CHAPTER = Path(__file__).parents[2] / "chapters" / "03-augmentation.ipynb"

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text():
    return printed(CHAPTER)


def test_matrices_of_the_transforms():
    def matrix(name):
        return [number(cell) for cell in row(CHAPTER, name)[1:]]

    assert matrix("rotate 30°") == [0.866, -0.5, 0, 0.5, 0.866, 0]
    assert matrix("mirror") == [-1, 0, 0, 0, 1, 0]
    # The order matters: the shift is turned along (16 cos 30° and 16 sin 30°).
    assert matrix("rotate, then shift") == [0.866, -0.5, 16, 0.5, 0.866, 0]
    assert matrix("shift, then rotate") == [0.866, -0.5, 13.86, 0.5, 0.866, 8]


def test_our_warp_is_that_of_the_package(text):
    assert "equal to a thousandth of the range: True" in text


def test_networks_side_by_side_do_not_meet(text):
    assert "three side by side give what each gives alone: True" in text


def test_resampling_again_and_again_blurs_and_once_does_not(text):
    before, again, at_once = (number(after) for after in text.split("detail ")[1:])
    assert before == 100
    assert again < 60
    assert at_once >= 99


def test_torchvision_changes_a_batch_alike(text):
    assert "torchvision: 1 different results from 8 equal images" in text
    assert "cnnbook: 8 different results from 8 equal images" in text


def test_turning_by_any_angle_harms_upright_digits():
    # ten points apart when this was written; the ranges were about two points wide
    any_angle, as_they_are = (number(row(CHAPTER, n)[-1]) for n in ("any angle", "as they are"))
    assert any_angle < as_they_are - 3


def test_every_claim_of_the_section_has_a_row():
    claims = executed_rows(CHAPTER)
    for part in ("edge", "accuracy", "preprocessing", "rotating", "scarce", "crop", "whatever"):
        assert any(part in claim.says for claim in claims), part
    (whatever,) = (claim for claim in claims if claim.says.startswith("whatever change"))
    assert whatever.verdict == "does not hold"
