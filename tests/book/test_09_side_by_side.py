"""What the comparison printed when the book was built."""

from pathlib import Path

import pytest
from executed import number, outputs, printed, row, table, tables

CHAPTER = Path(__file__).parents[2] / "chapters" / "09-side-by-side.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text() -> str:
    return printed(CHAPTER)


@pytest.mark.parametrize(
    ("network", "side", "layers", "parameters", "field"),
    [
        ("LeNet-5", 32, 5, "61,706", 16),
        ("AlexNet", 227, 8, "60,965,224", 195),
        ("VGG-11", 224, 11, "132,863,336", 150),
        ("VGG-16", 224, 16, "138,357,544", 212),
        ("GoogLeNet", 224, 22, "6,998,552", 715),
        ("ResNet-18", 224, 18, "11,689,512", 435),
        ("ResNet-34", 224, 34, "21,797,672", 899),
        ("ResNet-50", 224, 50, "25,557,032", 483),
    ],
)
def test_costs_at_full_size(network, side, layers, parameters, field):
    assert row(CHAPTER, network, str(side), str(layers), parameters)[-1] == str(field)


def test_the_reference_of_the_times_is_one():
    one = "1.00 (1.00 – 1.00)"
    assert row(CHAPTER, "ResNet-18", "1.0000") == ("ResNet-18", "1.0000", one, one, "1.0")


def test_both_rankings_name_every_network_once(text):
    for kind in ("epochs", "time"):
        said = [line for line in text.splitlines() if line.startswith(f"equal {kind}:")]
        (order,) = (line.split(":")[1] for line in said if " > " in line or " ≥ " in line)
        names = [name.strip() for name in order.replace("≥", ">").split(" > ")]
        assert len(names) == len(set(names)) == 8
        (pairs,) = (line.split(":")[1] for line in said if " pairs " in line)
        apart, _, all_of_them, *_ = pairs.split()
        assert int(apart) <= int(all_of_them) == 28


def test_scaled_down_models_learn():
    # Ten classes: most of the eight have to do far better than guessing.
    (found,) = (t for t in tables(CHAPTER) if "equal epochs" in t.columns)
    accuracies = [number(cells[found.columns.index("equal epochs")]) for cells in found.rows]
    assert len(accuracies) == 8
    assert sum(accuracy > 40 for accuracy in accuracies) >= 5


def test_who_has_which_part():
    found = table(CHAPTER, "network", "ReLU", "LRN", "dropout", "batch norm")
    parts = {cells.pop("network"): list(map(int, cells.values())) for cells in found}
    assert parts["AlexNet"][1:4] == [2, 2, 0]
    assert parts["VGG-16"][5:7] == [13, 3]
    names = ("LeNet-5", "AlexNet", "VGG-16", "GoogLeNet", "ResNet-18", "ResNet-50")
    assert [parts[name][-1] for name in names] == [0, 0, 0, 0, 8, 16]


def test_the_scatter_has_every_pair_of_axes():
    shown = "\n".join(o.get("data", {}).get("text/plain", "") for o in outputs(CHAPTER))
    assert "<Explorer of 20 states (across: 4, up: 5)>" in shown


def test_solutions_by_hand_are_right():
    text = printed(SOLUTIONS)
    assert "DIFFERS" not in text
    assert text.count("agrees") == 2
    assert "whole ResNet-50s in a VGG-16: 5" in text
    assert sum(line.endswith("on the front") for line in text.splitlines()) == 3
    (vgg16,) = (line for line in text.splitlines() if "vgg16: " in line and "billion" in line)
    assert vgg16.endswith(": dominated")
