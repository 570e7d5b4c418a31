"""Facts that the chapter on augmentation must have printed."""

import re
from pathlib import Path

import pytest
from executed import executed_cells, printed

CHAPTER = Path(__file__).parents[2] / "chapters" / "03-augmentation.ipynb"

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text():
    return printed(CHAPTER)


def test_matrices_of_the_moves(text):
    def row(name):
        (line,) = re.findall(rf"^{name} +(-?[\d.]+(?: +-?[\d.]+){{5}})$", text, flags=re.M)
        return [float(value) for value in line.split()]

    assert row("rotate 30°") == [0.866, -0.5, 0, 0.5, 0.866, 0]
    assert row("mirror") == [-1, 0, 0, 0, 1, 0]
    # The order matters: the shift is turned along (16 cos 30° and 16 sin 30°).
    assert row("rotate, then shift") == [0.866, -0.5, 16, 0.5, 0.866, 0]
    assert row("shift, then rotate") == [0.866, -0.5, 13.86, 0.5, 0.866, 8]


def test_our_warp_is_that_of_the_package(text):
    assert "equal to a thousandth of the range: True" in text


def test_networks_side_by_side_do_not_meet(text):
    assert "three side by side give what each gives alone: True" in text


def test_resampling_again_and_again_blurs_and_once_does_not(text):
    detail = [int(p) for p in re.findall(r"detail (\d+)%", text)]
    assert detail[0] == 100
    assert detail[1] < 60
    assert detail[2] >= 99


def test_torchvision_changes_a_batch_alike(text):
    assert "torchvision: 1 different results from 8 equal images" in text
    assert "cnnbook: 8 different results from 8 equal images" in text


def accuracy(text, name):
    (percent,) = re.findall(rf"^{name} .*?([\d.]+)% \([\d.]+% – [\d.]+%\)$", text, flags=re.M)
    return float(percent)


def test_turning_by_any_angle_harms_upright_digits(text):
    # ten points apart when this was written; the ranges were about two points wide
    assert accuracy(text, "any angle") < accuracy(text, "as they are") - 3


def test_every_claim_of_the_section_has_a_row():
    tagged = [c for c in executed_cells(CHAPTER) if "claims" in c.metadata.get("tags", [])]
    table = tagged[-1].outputs[0]["data"]["text/plain"]
    for part in ("edge", "accuracy", "preprocessing", "rotating", "short", "crop", "whatever"):
        assert part in table
    assert re.search(r"^whatever change.*does not hold", table, flags=re.M)
