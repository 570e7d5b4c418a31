"""What the chapter on small filters says, and what it printed when the book was built."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from executed import facts, number, printed, rows, said, table
from prose import above, percent, points, unsourced

from cnnbook import analysis, experiments

CHAPTER = Path(__file__).parents[2] / "chapters" / "02-small-filters.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

ONE7, ONE5 = "one 7×7", "one 5×5"

book = pytest.mark.book


def signed(change: experiments.Interval) -> str:
    mean, interval = str(change).split(" ", 1)
    return f"{mean} points (95 % interval {interval[1:]}"


def recorded() -> list[str]:
    record = experiments.load("stacks")

    def test(name: str) -> str:
        return percent(record[name])

    def train(name: str) -> str:
        return percent(record[name], "train_error")

    def change(first: str, second: str) -> experiments.Interval:
        return above(record[first], record[second])

    three, two = (
        {kind: f"{layers}, {kind}" for kind in ("ReLU between", "no ReLU between", "equal width")}
        for layers in ("three 3×3", "two 3×3")
    )
    equal7, equal5 = (
        change(stack["ReLU between"], large) for stack, large in ((three, ONE7), (two, ONE5))
    )
    relu3, relu2 = (change(s["no ReLU between"], s["ReLU between"]) for s in (three, two))
    width3, width2 = (change(s["equal width"], o) for s, o in ((three, ONE7), (two, ONE5)))
    # Which differences are shown, and which are not.
    assert not any(change.excludes_zero for change in (equal7, equal5, width3))
    assert min(relu3.low, relu2.low) > 0 > width2.high
    assert max(-c.mean for c in (equal7, equal5, width3, width2)) == -width2.mean
    linear3, linear2 = (
        change(stack["no ReLU between"], large) for stack, large in ((three, ONE7), (two, ONE5))
    )
    assert (linear3.excludes_zero, linear2.excludes_zero) == (True, False)
    rates = record[three["ReLU between"]].lr, record[ONE7].lr
    assert rates == (min(arm.lr for arm in record), max(arm.lr for arm in record))
    tuned = record.tuning["images"] * record.tuning["epochs"]
    share = tuned / (record.settings["images"] * record.settings["epochs"])
    paired3 = above(record[three["ReLU between"]], record[ONE7], pairs=True)
    paired2 = above(record[two["no ReLU between"]], record[ONE5], pairs=True)
    assert paired3.low > 0 < paired2.low
    unsure = (equal7, equal5, width3, linear2)
    assert [change.low > -0.002 for change in unsure] == [True, False, False, True]
    both = f"{100 * relu3.mean:.1f} and {100 * relu2.mean:.1f} points"
    return [
        f"Three 3×3 layers have a test error of {test(three['ReLU between'])}, one 7×7 layer "
        f"{test(ONE7)}: a difference of {signed(equal7)}",
        f"Two have {test(two['ReLU between'])}, one 5×5 layer {test(ONE5)}: {signed(equal5)}",
        f"worse than the 7×7 layer by {points(linear3)}. For two layers against the "
        f"5×5 layer, no difference was detected: {points(linear2)}",
        f"in single runs with {100 * share:.0f} % as many steps, and range from {rates[0]} (three "
        f"layers with ReLU) to {rates[1]} (one 7×7 layer)",
        f"paired by seed, two that just include zero would exclude it: {100 * paired3.low:.1f} to "
        f"{100 * paired3.high:.1f} points for three layers with ReLU and "
        f"{100 * paired2.low:.1f} to {100 * paired2.high:.1f} for two without.)",
        f"raises the error of three layers by {points(relu3)}, and that of two by {points(relu2)}",
        f"test error of {test(two['equal width'])}, better than the 5×5 layer: {signed(width2)}",
        f"have {test(three['equal width'])}, no difference detected: {signed(width3)}",
        f"training error is {train(ONE7)} with one 7×7 layer and "
        f"{train(three['ReLU between'])} with three 3×3 layers and ReLU",
        # In the answers to claims.
        f"a test error of {test(two['equal width'])}, one 5×5 layer {test(ONE5)}",
        f"lowers the test error of stacks by {both}",
    ]


def test_what_is_equal_in_the_recorded_run():
    record = experiments.load("stacks")
    assert {run["steps"] for arm in record for run in arm.runs} == {752}
    parameters = {arm.name: arm.runs[0]["parameters"] for arm in record}
    macs = {arm.name: arm.runs[0]["macs"] for arm in record}
    for large, stack in ((ONE7, "three 3×3"), (ONE5, "two 3×3")):
        for count in (parameters, macs):
            assert count[f"{stack}, ReLU between"] == pytest.approx(count[large], rel=0.02)
    assert (parameters[ONE7], parameters["three 3×3, equal width"]) == (32_266, 18_082)
    assert (parameters[ONE5], parameters["two 3×3, equal width"]) == (16_714, 12_214)


PAPERS = [
    "(2015, Section 4.1) replaced each pair of 3×3 layers with one 5×5 layer, "
    "the top-1 error was 7 % higher",
    "the top-1 error was 7 % higher (Section 4.1",
    "(Section 2.3)",
    "29.6 % with 11 layers to 27.0 % with 16",
    "is 27.3 % with 19",
]
EXACT = [
    "stacks save 4 % of the parameters",
    "| 1.39 |",
    "| 1.81 |",
    "| 2.69 |",
    "1.43 times the parameters",
    "1.05 times",
    "within 1 %",
    "within 2 %",
    "248 times the parameters",
    "holds 95.45 %",
    "squared error is 1.00",
    "95.45 % of the influence should lie in a region the size of a square 28",
    "95.45 % of the influence lies within 28",  # the list of claims
    # Printed on the page; compared below.
    "misses 16.1 % of the ring",
    "lie within 2 points of one another",
    "measurement and prediction agree to within 5 %",
    "from 9.6 pixels to 10.5",
    "shrank it to 7.7",
    "multiplied by 1.16",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded(), PAPERS, EXACT) == []


def test_numbers_that_follow_from_definitions():
    assert f"{1 - 138_357_544 / 144_727_144:.0%}" == "4%"  # what stacks save in a whole VGG-16
    assert [f"{k * k / (9 * (k // 2)):.2f}" for k in (5, 7, 11)] == ["1.39", "1.81", "2.69"]

    def parameters(*layers: tuple[int, int, int]) -> int:
        return sum(analysis.conv_cost(*layer, 8).parameters for layer in layers)

    two, one = parameters((64, 64, 3), (64, 64, 3)), parameters((64, 64, 5))
    assert (one, two) == (102_464, 73_856)
    assert parameters((64, 128, 5)) == 204_928
    assert parameters((64, 128, 3), (128, 128, 3)) == 221_440
    first = parameters((3, 64, 5)), parameters((3, 64, 3), (64, 64, 3))
    assert first == (4_864, 38_720)
    assert 7.5 < first[1] / first[0] < 8

    def sigmoid_net(width: int) -> int:
        return parameters((1, width, 3), *[(width, width, 3)] * 7)

    assert round(sigmoid_net(128) / sigmoid_net(8)) == 248


def test_paths_predict_that_a_unit_depends_on_28_of_65_pixels():
    row = torch.ones(1, 1, 1)
    for _ in range(32):
        row = F.conv1d(row, torch.ones(1, 1, 3), padding=2)
    assert row.numel() == 65
    side = analysis.effective_size(row[0, 0].outer(row[0, 0]).sqrt())
    assert round(side) == 28


def test_four_shifted_kernels_make_any_larger_one():
    kernel, rest = torch.randn(5, 5), torch.ones(5, 5)
    first, second = torch.zeros(4, 1, 3, 3), torch.zeros(1, 4, 3, 3)
    for m, (y, x) in enumerate(itertools.product((0, 2), repeat=2)):
        first[m, 0, y, x] = 1
        second[0, m] = (kernel * rest)[y : y + 3, x : x + 3]
        rest[y : y + 3, x : x + 3] = 0
    assert analysis.compose_kernels(first, second)[0, 0].equal(kernel)


@book
def test_a_stack_reaches_as_far_on_more_paths():
    assert "[3, 6, 9, 6, 3]" in printed(CHAPTER)
    found = facts(CHAPTER)
    assert found["same_reach"] is found["every_pixel_counts"] is True
    assert (found["paths_in_the_stack"], found["paths_in_the_large_kernel"]) == (81, 25)


@book
def test_receptive_fields_agree_with_the_package():
    assert [stack["package"] for stack in table(CHAPTER, "stack")] == 5 * ["agrees"]
    for cells in (
        ("2 × 3×3", "5", "1", "agrees"),
        ("3 × 3×3, stride 2", "15", "8", "agrees"),
        ("3×3 with dilation 1, 2, 4", "15", "1", "agrees"),
        ("AlexNet up to pool1", "19", "8", "agrees"),
    ):
        assert cells in rows(CHAPTER)
    fields = "block1 6×6, block2 16×16, block3 44×44, block4 100×100, block5 212×212"
    assert fields in printed(CHAPTER)


@book
def test_parameters():
    for cells in (
        ("64 → 64", "102,464", "73,856", "1.39"),
        ("3 → 64", "4,864", "38,720", "0.13"),
        ("block1", "38,720", "4,864", "0.13"),
        ("block2", "221,440", "204,928", "0.93"),
        ("block5", "7,079,424", "12,845,568", "1.81"),
        ("all convolutions", "14,714,688", "21,084,288", "1.43"),
        ("whole network", "138,357,544", "144,727,144", "1.05"),
        ("multiply–adds", "15,346,630,656", "15,398,010,880", "1.00"),
        ("alexnet", "1 of 11×11, 1 of 5×5, 3 of 3×3", "85%"),
        ("vgg16", "13 of 3×3", "100%"),
        ("resnet50", "1 of 7×7, 36 of 1×1, 16 of 3×3", "48%"),
    ):
        assert cells in rows(CHAPTER)


@book
def test_two_linear_layers_are_one_but_not_the_reverse():
    found = facts(CHAPTER)
    assert found["two_layers_are_one"] is True
    assert (found["rank_with_one_channel_between"], found["rank_with_two_channels_between"]) == (
        17,
        25,
    )
    assert found["blur_is_two_small_blurs"] is True
    assert found["ring_missed_with_one_channel"] == pytest.approx(0.161, abs=5e-4)
    assert found["ring_missed_with_two_channels"] < 1e-3


@book
def test_only_the_relu_makes_an_even_function():
    assert facts(CHAPTER)["error_of_the_large_kernel"] == pytest.approx(1, abs=1e-3)
    assert facts(CHAPTER)["error_of_the_stack"] < 1e-6


@book
def test_folding_doubles_the_pieces():
    for layers in range(1, 9):
        assert (str(layers), str(2**layers)) in rows(CHAPTER)


@book
def test_differences_of_the_live_run_are_small():
    assert 0.005 < facts(CHAPTER)["largest_difference_of_mean_errors"] < 0.02


@book
def test_effective_fields():
    found = facts(CHAPTER)
    assert found["furthest_from_prediction"] < 0.05
    assert found["side_before_training"] == pytest.approx(9.6, abs=0.05)
    assert found["side_after_wide"] == pytest.approx(10.5, abs=0.05)
    assert found["side_after_narrow"] == pytest.approx(7.7, abs=0.06)


@book
def test_gradients_vanish_with_depth_not_with_parameters():
    assert facts(CHAPTER)["factor_of_128_channels"] == pytest.approx(1.16, abs=0.005)
    assert 3e-20 < facts(CHAPTER)["factor_of_32_layers"] < 3e-19


@book
def test_solutions_confirm_the_calculations():
    for cells in (
        ("five 3×3", "11", "1", "45"),
        ("two 3×3, stride 2", "7", "4", "18"),
        ("7×7 and pooling", "11", "4", "49"),
        ("2, 2", "9", "25", "9", "18"),
        ("1, 3, 9", "27", "729", "1", "27"),
    ):
        assert cells in rows(SOLUTIONS)
    assert number(said(SOLUTIONS, "error of 200 separable kernels:")) < 1e-9
    assert len(table(SOLUTIONS, "channels", "by operations")) == 2
    text = printed(SOLUTIONS)
    assert "6,272 ReLUs in each network" in text
    assert "8 layers; the largest mean is 1.6 times the smallest" in text
