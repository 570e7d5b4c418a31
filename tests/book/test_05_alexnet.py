"""What the AlexNet chapter says, and what it printed when the book was built."""

import math
from pathlib import Path

import pytest
from executed import column, facts, number, printed, row, rows, said, table
from prose import above, percent, points, unsourced

from cnnbook import experiments
from cnnbook.experiments.relu_race import epochs_to

CHAPTER = Path(__file__).parents[2] / "chapters" / "05-alexnet.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name


def recorded() -> list[str]:
    race = experiments.load("relu_race")
    needed, compared = {}, {}
    for setup in ("as in 2012", "pixels scaled", "start scaled"):
        relu, tanh = race[f"ReLU, {setup}"], race[f"tanh, {setup}"]
        assert all(run["reached"] for arm in (relu, tanh) for run in arm.runs)
        epochs = [arm.values("epochs_to_level") for arm in (relu, tanh)]
        needed[setup] = [f"{sum(values) / len(values):.1f}" for values in epochs]
        compared[setup] = experiments.of_ratio(*reversed(epochs))
    then, pixels, suited = compared.values()
    assert then.low > 1 > suited.high  # tanh was not slower
    for arm in race:
        following = min(rate for rate in map(float, arm.tried) if rate > arm.lr)
        assert following / arm.lr == pytest.approx(3.2, abs=0.2)
        assert {float(rate): found for rate, found in arm.tried.items()}[following] > 1  # failed
    assert pixels.low < 1 < pixels.high
    ends = [f"{ratio.low:.1f} to {ratio.high:.1f}" for ratio in (then, pixels)]
    times = [f"{ratio.mean:.1f} times as many" for ratio in (then, pixels)]
    (relu_then, tanh_then), (relu_pixels, tanh_pixels), (relu_suited, tanh_suited) = needed.values()
    return [
        f"tanh takes {times[0]} epochs as ReLU to reach 15 % (95 % interval {ends[0]})",
        f"ReLU reaches 15 % after {relu_then} epochs on average and tanh after {tanh_then}, "
        f"{times[0]} (95 % interval {ends[0]})",
        f"needs {relu_pixels} epochs and tanh {tanh_pixels}, {times[1]} ({ends[1]})",
        f"ReLU needs {relu_suited} epochs and tanh {tanh_suited}",
        f"tanh takes {times[0]} epochs as ReLU from AlexNet's start",
    ]


def recorded_dropout() -> list[str]:
    found = experiments.load("dropout")
    arms = {
        kind: [found[f"{kind} dropout, {n}×"] for n in (1, 2, 4)] for kind in ("without", "with")
    }
    for without, dropped in zip(*arms.values(), strict=True):
        assert not above(dropped, without).excludes_zero
    without, dropped = (
        min(by_length, key=lambda arm: arm.interval("val_error").mean)
        for by_length in arms.values()
    )
    for arm in (without, dropped):
        assert arm.interval("train_error").mean < 0.0015
    assert (without.name, dropped.name) == ("without dropout, 4×", "with dropout, 2×")
    return [
        f"The test error is {percent(without)} without dropout and {percent(dropped)} with it",
        f"The difference of {points(above(dropped, without))}",
    ]


def test_recorded_race_is_as_the_prose_says():
    race = experiments.load("relu_race")
    settings = race.settings
    assert (settings["width"], settings["images"], settings["epochs"]) == (16, 8_000, 30)
    assert settings["level"] == 0.15
    assert {len(arm.runs) for arm in race} == {5}
    for name in ("ReLU", "tanh"):
        for curve in race[f"{name}, as in 2012"].curves("train_error"):
            assert 1 < epochs_to(curve, 0.25) <= 3
    relu, tanh = (race[f"{name}, as in 2012"].curves("train_error") for name in ("ReLU", "tanh"))
    assert max(curve[0] for curve in tanh) < min(curve[0] for curve in relu)


PAPERS = [
    "but data (1.2 million photographs)",
    "memorize 1.2 million photographs",
    "(Section 3.3)",
    "(Section 3.4)",
    "(Section 4.1)",
    "(Section 4.2)",
    "(Section 6.1)",
    "2015, Section 4.1)",
    "a top-5 error of 15.3 %; the runner-up had 26.2 %",
    "a training error of 25 % six times faster",
    "lower by 1.7 percentage points",
    "top-5 error by 1.2 points (Section 3.2)",
    "no convolutional layer has more than 1 %",
    "weights with a standard deviation of 0.01 in every layer",
    "the top-1 error by 1.4 points and the top-5 error by 1.2",
    "the top-1 error by 0.4 points and the top-5 error by 0.3",
    "2,048 interdependent patches, mirrored ones included, from each photograph",
    "random number with standard deviation 0.1",
    "from 3.95 % to 3.02 %",
    "momentum 0.9, weight decay 0.0005, and a learning rate of 0.01",
    "famous 15.3 %",
    # The table of results and the table of changes.
    "| 47.1 % | 28.2 % |",
    "| 45.7 % | 25.7 % |",
    "| 37.5 % | 17.0 % |",
    "| 40.7 % | 18.2 % |",
    "| | 26.2 % |",
    "| | 16.4 % |",
    "| | 15.3 % |",
    "six times faster to 25 % training error (Figure 1)",
    "1.7 and 1.2 points (Section 3.2)",
    "1.4 and 1.2 points (Section 3.3)",
    "0.4 and 0.3 points (Section 3.4)",
    "more than 1 point, top-1 (Section 4.1)",
]
EXACT = [
    "the formula gives 54.25",
    "96.2 % of the parameters",
    "fc6 alone has 61.9 %",
    "91.9 % of the 724 million",
    "conv3 has 1.45 %, conv4 1.09 %",
    "988 times the parameters",
    "1,739 times the multiply–adds",
    "36.2 % of the multiply–adds, but only 2.3 % of the parameters",
    "less than 0.4 % at an activation of 10 and by 26.2 % at 100",
    "by 14.1 % at 30 and 30.5 % at 50",
    "an error of 40 % has a standard error of 0.5 points",
    "255 times as large",
    "miss the true class 99.5 % of the time",
    # Settings of the race.
    "pass 25 % in the second or third epoch",
    "a training error of at most 0.1 %",
    "a training error of 15 %",
    "ends at 25 %",
    "ReLU reaches 25 % first",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded() + recorded_dropout(), PAPERS, EXACT) == []


def test_numbers_that_follow_from_others():
    convolutions = {
        "conv1": (11 * 11 * 3, 96, 55),
        "conv2": (25 * 48, 256, 27),
        "conv3": (9 * 256, 384, 13),
        "conv4": (9 * 192, 384, 13),
        "conv5": (9 * 192, 256, 13),
    }
    parameters = {name: (n + 1) * c for name, (n, c, _) in convolutions.items()}
    macs = sum(n * c * side**2 for n, c, side in convolutions.values())
    fc = {"fc6": (9216, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}
    in_fc = {name: (n + 1) * c for name, (n, c) in fc.items()}
    whole = sum(parameters.values()) + sum(in_fc.values())
    macs_fc = sum(n * c for n, c in fc.values())
    assert whole == 60_965_224
    assert macs + macs_fc == 724_406_816
    assert f"{sum(in_fc.values()) / whole:.1%} {in_fc['fc6'] / whole:.1%}" == "96.2% 61.9%"
    assert f"{macs / (macs + macs_fc):.1%}" == "91.9%"
    shares = {name: f"{n / whole:.2%}" for name, n in parameters.items()}
    assert (shares["conv3"], shares["conv4"]) == ("1.45%", "1.09%")
    assert f"{whole / 61_706:.0f} {(macs + macs_fc) / 416_520:,.0f}" == "988 1,739"
    assert f"{1 - 724_406_816 / 1_135_256_096:.1%} {1 - whole / 62_378_344:.1%}" == "36.2% 2.3%"
    assert 1 - 1.005**-0.75 < 0.004
    assert f"{1 - 1.5**-0.75:.1%}" == "26.2%"
    active = [1 - (1 + 5e-4 * a**2 / 2) ** -0.75 for a in (30, 50)]
    assert " ".join(f"{share:.1%}" for share in active) == "14.1% 30.5%"
    assert f"{100 * math.sqrt(0.4 * 0.6 / 10_000):.1f}" == "0.5"
    assert 33 * 33 * 2 == 2_178


@pytest.mark.book
def test_network_equals_the_papers_down_to_the_last_parameter():
    found = facts(CHAPTER)
    assert found["identical_scores"] is True
    assert found["parameters"] == 60_965_224
    listed = table(CHAPTER, "layer", "output", "by hand")
    assert len(listed) == 9
    for layer in listed:
        assert layer["by hand"] == layer["in the module"]
    assert (listed[-1]["by hand"], listed[-1]["MACs"]) == ("60,965,224", "724,406,816")


@pytest.mark.book
def test_224_pixels_do_not_fit():
    assert ("224", "0", "54.25", "54", "26", "12", "5", "6,400") in rows(CHAPTER)
    assert ("227", "0", "55.00", "55", "27", "13", "6", "9,216") in rows(CHAPTER)
    assert ("224", "2", "55.25", "55", "27", "13", "6", "9,216") in rows(CHAPTER)


@pytest.mark.book
def test_towers_are_groups_and_exchange_little():
    assert facts(CHAPTER)["grouped_is_two_side_by_side"] is True
    assert facts(CHAPTER)["two_devices_give_the_same_scores"] is True
    # 256·13·13, 256·6·6, 4096 and, one way only, 2048 numbers
    assert ("sum", "58,624", "258,400") in rows(CHAPTER)
    assert row(CHAPTER, "two towers (grouped)")[1:] == ("60,965,224", "724,406,816", "58,624")
    assert row(CHAPTER, "one column")[1:] == ("62,378,344", "1,135,256,096", "258,400")


@pytest.mark.book
def test_tanh_is_flat_from_the_start_of_2012_and_relu_half_flat_from_each():
    tanh, relu = (column(CHAPTER, f"flat, {f}", "start") for f in ("tanh", "ReLU"))
    assert tanh["as in 2012"] > 50
    assert tanh["pixels scaled"] == tanh["weights scaled too"] == 0
    assert all(30 < share < 70 for share in relu.values())
    assert 4.5 < column(CHAPTER, "standard deviation", "start")["as in 2012"] < 5.5


@pytest.mark.book
def test_live_race_ends_as_the_prose_says():
    assert facts(CHAPTER)["relu_arrives_first"] is True
    assert facts(CHAPTER)["both_arrive_from_a_scaled_start"] is True


@pytest.mark.book
def test_parts_written_by_hand_equal_the_papers():
    found = facts(CHAPTER)
    assert found["same_as_the_package"] is True  # response normalization
    assert found["distance_in_standard_errors"] < 4  # of dropout's sums
    assert "27 with 3×3, 27 with 2×2" in printed(CHAPTER)
    assert "13 with 3×3, 13 with 2×2" in printed(CHAPTER)
    assert "6 with 3×3, 6 with 2×2" in printed(CHAPTER)
    assert abs(number(said(CHAPTER, "top-5 error of guessing:")) - 99.5) < 0.5


@pytest.mark.book
def test_color_shift_is_invisible_on_pixels_from_0_to_1():
    assert facts(CHAPTER)["typical_shift_in_gray_levels"] < 1
    assert facts(CHAPTER)["share_along_the_first_direction"] > 0.9


@pytest.mark.book
def test_live_network_memorizes_without_dropout():
    assert facts(CHAPTER)["memorizes_without_dropout"] is True
    assert facts(CHAPTER)["memorizes_less_with_dropout"] is True


@pytest.mark.book
def test_solutions_are_right():
    text, found = printed(SOLUTIONS), facts(SOLUTIONS)
    assert "sides: 54 26 12 5" in text
    assert text.count("49,430,888") == 2  # by hand, and in the module
    assert ("conv1", "290,400", "253,440") in rows(SOLUTIONS)
    assert found["usual_and_mean_agree_best"] is True
    assert "at a = 200" in text
    assert number(said(SOLUTIONS, "scores differ by")) < 1e-5
