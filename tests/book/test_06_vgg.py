"""What the chapter on VGG printed when the book was built."""

from pathlib import Path

import pytest
from executed import number, printed, row, rows, said, table

CHAPTER = Path(__file__).parents[2] / "chapters" / "06-vgg.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

pytestmark = pytest.mark.book


def test_family_agrees_with_the_paper():
    for cells in (
        ("A", "", "8 + 3 = 11", "132,863,336", "133", "True"),
        ("B", "", "10 + 3 = 13", "133,047,848", "133", "True"),
        ("C", "", "13 + 3 = 16", "133,638,952", "134", "True"),
        ("D", "VGG-16", "13 + 3 = 16", "138,357,544", "138", "True"),
        ("E", "VGG-19", "16 + 3 = 19", "143,667,240", "144", "True"),
    ):
        assert cells in rows(CHAPTER)


def test_counts_by_hand_agree():
    text = printed(CHAPTER)
    assert "DIFFERS" not in text
    assert sum(cells[-1] == "agrees" for cells in rows(CHAPTER)) == 4
    assert "15,470,264,320 multiply–adds" in text
    # 49/27, for each number of channels
    assert [cells[-1] for cells in rows(CHAPTER) if cells[1] == "7×7"] == 4 * ["81%"]
    assert "by hand 5,309,696, counted 5,309,696" in printed(SOLUTIONS)


def test_networks_compute_the_same():
    text = printed(CHAPTER)
    assert "identical scores: True" in text
    assert number(said(CHAPTER, "scores differ by at most")) < 1e-3
    assert "dense evaluation gives the last point's classes: 100%" in text


def test_signal_shrinks_and_explodes_with_depth():
    signals = table(CHAPTER, "column", "σ = 0.01")
    assert [signal["column"] for signal in signals] == list("ABDE")
    small, large, he = (
        [number(signal[start]) for signal in signals] for start in ("σ = 0.01", "σ = 0.1", "He")
    )
    assert list(small) == sorted(small, reverse=True)
    assert list(large) == sorted(large)
    assert max(he) < 10 * min(he)


def test_recorded_run_shows_what_the_text_says():
    lines = printed(CHAPTER).splitlines()
    (label,) = (i for i, line in enumerate(lines) if line.endswith(", not run on this page"))
    assert lines[label].startswith("recorded ")
    assert lines[label + 1 : label + 8] == [
        "python -m cnnbook bench configurations",
        "",
        "the ranges of A and B overlap",
        "the ranges of A and D overlap",
        "E is behind A with every seed",
        "C is behind B with every seed",
        "D is ahead of C with every seed",
    ]
    recorded = table(CHAPTER, "column", "test accuracy, recorded")
    losses = {cells["column"]: number(cells["training loss"]) for cells in recorded}
    assert losses["E"] > losses["A"]


def test_memory_of_the_feature_maps():
    solutions = printed(SOLUTIONS)
    assert row(SOLUTIONS, "sum") == ("sum", "109.3", "527.8")
    assert "feature maps: 21% of the parameters' memory" in solutions
    assert "block 1: 48% of the feature maps' memory" in solutions
