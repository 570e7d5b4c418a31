"""What the comparison printed when the book was built."""

import re
from pathlib import Path

import pytest
from executed import executed_cells, printed

CHAPTERS = Path(__file__).parents[2] / "chapters"

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text() -> str:
    return printed(CHAPTERS / "09-side-by-side.ipynb")


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
def test_costs_at_full_size(text, network, side, layers, parameters, field):
    row = rf"^{network} +{side} +{layers} +{parameters} .* {field}$"
    assert re.search(row, text, flags=re.M)


def test_the_reference_of_the_times_is_one(text):
    one = re.escape("1.00 (1.00 – 1.00)")
    assert re.search(rf"^ResNet-18 +1\.0000 +{one} +{one} +1\.0$", text, flags=re.M)


def test_both_rankings_name_every_network_once(text):
    for kind in ("epochs", "time"):
        (line,) = re.findall(rf"^equal {kind}: +(.* [>≥] .*)$", text, flags=re.M)
        names = re.split(" [>≥] ", line)
        assert len(names) == len(set(names)) == 8
        (apart, pairs) = re.findall(rf"^equal {kind}: (\d+) of (\d+) pairs", text, flags=re.M)[0]
        assert int(apart) <= int(pairs) == 28


def test_scaled_down_models_learn(text):
    # Ten classes: most of the eight have to do far better than guessing.
    rows = re.findall(r"^[A-Z]\S+ +[\d,]+ +[\d.]+ +([\d.]+) \([\d.]+ – [\d.]+\) ", text, flags=re.M)
    assert len(rows) == 8
    assert sum(float(accuracy) > 40 for accuracy in rows) >= 5


def test_who_has_which_part(text):
    columns = r"ReLU +LRN +dropout +batch norm"
    table = text[re.search(rf"^network +{columns}", text, flags=re.M).start() :]
    parts = {
        name: [int(n) for n in re.search(rf"^{name} +([\d ]+)$", table, flags=re.M)[1].split()]
        for name in ("LeNet-5", "AlexNet", "VGG-16", "GoogLeNet", "ResNet-18", "ResNet-50")
    }
    assert parts["AlexNet"][1:4] == [2, 2, 0]
    assert parts["VGG-16"][5:7] == [13, 3]
    assert [parts[name][-1] for name in parts] == [0, 0, 0, 0, 8, 16]


def test_the_scatter_has_every_pair_of_axes():
    outputs = [o for c in executed_cells(CHAPTERS / "09-side-by-side.ipynb") for o in c.outputs]
    shown = "\n".join(o.get("data", {}).get("text/plain", "") for o in outputs)
    assert "<Explorer of 20 states (across: 4, up: 5)>" in shown


def test_solutions_by_hand_are_right():
    text = printed(CHAPTERS / "solutions" / "09-side-by-side.ipynb")
    assert "DIFFERS" not in text
    assert text.count("agrees") == 2
    assert "whole ResNet-50s in a VGG-16: 5" in text
    assert len(re.findall(r"on the front$", text, flags=re.M)) == 3
    assert re.search(r"vgg16: .*: dominated$", text, flags=re.M)
