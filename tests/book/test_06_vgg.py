"""What the chapter on VGG printed when the book was built."""

import re
from pathlib import Path

import pytest
from executed import printed

CHAPTERS = Path(__file__).parents[2] / "chapters"

pytestmark = pytest.mark.book


def test_family_agrees_with_the_paper():
    text = printed(CHAPTERS / "06-vgg.ipynb")
    for column, layers, parameters, millions in (
        ("A", "8 + 3 = 11", "132,863,336", 133),
        ("B", "10 + 3 = 13", "133,047,848", 133),
        ("C", "13 + 3 = 16", "133,638,952", 134),
        ("D +VGG-16", "13 + 3 = 16", "138,357,544", 138),
        ("E +VGG-19", "16 + 3 = 19", "143,667,240", 144),
    ):
        row = rf"^{column} +{re.escape(layers)} +{parameters} +{millions} +True$"
        assert re.search(row, text, flags=re.M), column


def test_counts_by_hand_agree():
    text = printed(CHAPTERS / "06-vgg.ipynb")
    assert "DIFFERS" not in text
    assert len(re.findall(r"\d +agrees$", text, flags=re.M)) == 4
    assert "15,470,264,320 multiply–adds" in text
    assert text.count("81%") >= 4  # 49/27, for each number of channels
    solutions = printed(CHAPTERS / "solutions" / "06-vgg.ipynb")
    assert "by hand 5,309,696, counted 5,309,696" in solutions


def test_networks_compute_the_same():
    text = printed(CHAPTERS / "06-vgg.ipynb")
    assert "identical scores: True" in text
    (difference,) = re.findall(r"scores differ by at most (\S+)$", text, flags=re.M)
    assert float(difference) < 1e-3
    assert "dense evaluation gives the last point's classes: 100%" in text


def test_signal_shrinks_and_explodes_with_depth():
    text = printed(CHAPTERS / "06-vgg.ipynb")
    number = r"(\d\.\de[+-]\d\d)"
    rows = re.findall(rf"^[ABDE] +{number} +{number} +{number}$", text, flags=re.M)
    small, large, he = zip(*(map(float, row) for row in rows), strict=True)
    assert len(rows) == 4
    assert list(small) == sorted(small, reverse=True)
    assert list(large) == sorted(large)
    assert max(he) < 10 * min(he)


def test_recorded_run_shows_what_the_text_says():
    text = printed(CHAPTERS / "06-vgg.ipynb")
    label = r"^recorded \d{4}-\d\d-\d\d on .+, torch .+, not run on this page$"
    (found,) = re.finditer(label, text, flags=re.M)
    command, empty, *lines = text[found.end() :].strip().split("\n")
    assert command == "python -m cnnbook bench configurations"
    assert empty == ""
    assert lines[:5] == [
        "the ranges of A and B overlap",
        "the ranges of A and D overlap",
        "E is behind A with every seed",
        "C is behind B with every seed",
        "D is ahead of C with every seed",
    ]
    losses = dict(re.findall(r"^([A-E]) +\S+% \(.+?\) +(0\.\d+)$", "\n".join(lines), flags=re.M))
    assert float(losses["E"]) > float(losses["A"])


def test_memory_of_the_feature_maps():
    solutions = printed(CHAPTERS / "solutions" / "06-vgg.ipynb")
    assert re.search(r"^sum +109\.3 +527\.8$", solutions, flags=re.M)
    assert "feature maps: 21% of the parameters' memory" in solutions
    assert "block 1: 48% of the feature maps' memory" in solutions
