"""What the VGG chapter says, and what it printed when the book was built."""

from math import prod
from pathlib import Path

import pytest
from executed import facts, number, printed, row, rows, said, table
from prose import percent, points, unsourced

from cnnbook import experiments

CHAPTER = Path(__file__).parents[2] / "chapters" / "06-vgg.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

# Channels of the convolutions of each network, as Table 1 has them.
CHANNELS = {
    "A": [64, 128, 256, 256, 512, 512, 512, 512],
    "D": [64, 64, 128, 128, *[256] * 3, *[512] * 6],
    "E": [64, 64, 128, 128, *[256] * 4, *[512] * 8],
}
FC = {"fc6": (25_088, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}


def behind(configuration: str, key: str = "test_error") -> experiments.Interval:
    result = experiments.load("vgg_depth")
    return experiments.of_difference(result[configuration].values(key), result["A"].values(key))


def recorded() -> list[str]:
    depth = experiments.load("vgg_depth")
    others = sorted(percent(depth[name]).removesuffix(" %") for name in "BCDE")
    assert behind("B").excludes_zero
    assert behind("C").excludes_zero
    assert not behind("D").excludes_zero
    assert not behind("E").excludes_zero
    fitted = {arm.name: arm.interval("train_error").mean for arm in depth}
    assert (min(fitted, key=fitted.get), max(fitted, key=fitted.get)) == ("A", "E")
    return [
        f"a test error of {percent(depth['A'])}, and the other four have {others[0]} to "
        f"{others[-1]} %",
        f"B is behind A by {points(behind('B'))} and C by {points(behind('C'))}",
        f"on its own training images, {percent(depth['A'], 'train_error')}, and E the highest, "
        f"{percent(depth['E'], 'train_error')}",
        f"worse than A by {points(behind('B', 'train_error'))} and "
        f"{points(behind('C', 'train_error'))}",
    ]


def recorded_starts() -> list[str]:
    found = experiments.load("vgg_start")
    plain = [name for name, batch_norm in found.settings["networks"] if not batch_norm]
    assert plain == ["A", "D", "E"]

    def learned(start: str, networks: list[str] = plain) -> list[int]:
        return [len(found[f"{name}, {start}"].learned.runs) for name in networks]

    def accuracy(arm: str) -> str:
        return f"{100 * (1 - found[arm].interval('test_error').mean):.1f} %"

    sigmas = [f"σ = {sigma:g}" for sigma in found.settings["sigmas"]]
    counts = {name: sum(learned(s)[i] for s in sigmas) for i, name in enumerate(plain)}
    assert len(sigmas) == 8
    assert learned("σ = 0.03") == [3, 3, 3]
    assert learned("σ = 0.01") == learned("σ = 0.1") == [0, 0, 0]
    assert all(run["diverged"] for name in "DE" for run in found[f"{name}, σ = 0.1"].runs)
    assert learned("He") == [3, 3, 3]
    norm = [found[f"E, batch norm, {s}"] for s in sigmas]
    assert all(len(arm.learned.runs) == len(arm.runs) == 3 for arm in norm)
    assert norm[-1] is max(norm, key=lambda arm: arm.interval("test_error").mean)
    assert found.spec.sizes["desk"].tuning_seeds == 2
    steps = {run["steps"] for arm in found if not arm.runs[0]["diverged"] for run in arm.runs}
    assert steps == {237}
    return [
        f"of all 24 runs, {counts['A']} learn with A, {counts['D']} with D and {counts['E']} with "
        "E",
        "in our recorded runs at 0.03, but not at 0.01 or 0.1",
        "all nine runs from σ = 0.03 learn, and none from 0.01 or 0.1; at 0.1, D and E overflow",
        f"From σ = 0.025, A reaches {accuracy('A, σ = 0.025')} and E "
        f"{accuracy('E, σ = 0.025')}; from He's weights, {accuracy('A, He')} and "
        f"{accuracy('E, He')}",
    ]


def test_recorded_runs_are_as_the_prose_says():
    result = experiments.load("vgg_depth")
    settings = result.settings
    assert (settings["width"], settings["images"], settings["side"]) == (0.25, 10_000, 20)
    assert {arm.runs[0]["steps"] for arm in result} == {474}
    assert {len(arm.runs) for arm in result} == {3}
    assert result.spec.sizes["desk"].tuning["epochs"] * 3 == settings["epochs"]
    for arm in result:  # no learning rate lies at the edge of those tried
        assert min(map(float, arm.tried)) < arm.lr < max(map(float, arm.tried))


PAPERS = [
    "11 layers have a top-1 error of 29.6 %, 16 layers 27.0 %, and 19 layers 27.3 %",
    "the top-1 error falls by 2.6 points (Table 3). With 19 it is 0.3 points higher",
    "a step of 0.3 points (Table 3)",
    "error by 0.6 points, D's by 1.7 (Table 3)",
    "29.7 % against 29.6 % (Table 3)",
    "a top-1 error of 24.8 %, averaging over 150 crops 24.6 %, and both together 24.4 % (Table 5)",
    "D gains 2.6 points",
    "1.3 million photographs",
    "a top-5 error of 7.3 %",
    "with 6.7 %",
    "with 25.3 %",
    "7.0 % against 7.9 %",
    "have 6.8 % (Table 7)",
    "27.0 % and 27.3 % top-1 against 29.6 % with 11 layers",
    "from 27.0 % to 25.6 %",
    "(Section 2)",
    "(Section 3.1)",
    "(Section 3.2)",
    "(Section 3.3)",
    "(Section 4.1)",
    "σ = 0.01 leaves 1/17,000 of it",
    "computed with 0.01",
    "which is σ = 0.1",
]
EXACT = [
    "138 million parameters, 74.3 % are in a single",
    "fc6 alone has 74.3 % of the parameters, and the three fully connected layers have 89.4 %",
    "take 99.2 % of the 15.5 billion multiply–adds",
    "raise the parameters by 8.1 % only, and the multiply–adds 2.6 times",
    "2.3 times AlexNet's parameters and 21.4 times its multiply–adds",
    "D also has 1.5 times as many weights in its convolutions as C",
    "65,536 times as large",
    "At σ = 0.01 every layer",
    "From σ = 0.025 to 0.04, A's scores, after 11 layers, grow 176 times and E's, after 19, 7,556 "
    "times",
    "11.2 times fewer multiply–adds",
    "which takes 0.7 % of the operations",
    "about 0.021",
    # Settings.
    "Guessing gives 10 %",
    "From σ = 0.025, A learns",
    "some 60 times as large",
    "100 times weaker nor 100 times stronger",
    "from σ = 0.01",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded() + recorded_starts(), PAPERS, EXACT) == []


def convolutions(name: str) -> tuple[int, int]:
    """Return the parameters and the multiply–adds of a network's convolutions."""
    parameters = macs = 0
    before, side = 3, 224
    for i, n in enumerate(CHANNELS[name]):
        follows = {"A": (1, 2, 4, 6), "D": (2, 4, 7, 10), "E": (2, 4, 8, 12)}[name]
        side = 224 >> sum(i >= first for first in follows)
        parameters += (9 * before + 1) * n
        macs += 9 * before * n * side**2
        before = n
    return parameters, macs


def test_numbers_that_follow_from_others():
    in_fc = {name: (n + 1) * m for name, (n, m) in FC.items()}
    macs_fc = sum(n * m for n, m in FC.values())
    parameters = {name: convolutions(name)[0] + sum(in_fc.values()) for name in CHANNELS}
    macs = {name: convolutions(name)[1] + macs_fc for name in CHANNELS}
    assert parameters == {"A": 132_863_336, "D": 138_357_544, "E": 143_667_240}
    assert macs["D"] == 15_470_264_320
    whole = parameters["D"]
    assert f"{in_fc['fc6'] / whole:.1%} {sum(in_fc.values()) / whole:.1%}" == "74.3% 89.4%"
    assert f"{convolutions('D')[1] / macs['D']:.1%}" == "99.2%"
    assert f"{FC['fc6'][0] * FC['fc6'][1] / macs['D']:.1%}" == "0.7%"
    growth = parameters["E"] / parameters["A"] - 1, macs["E"] / macs["A"]
    assert f"{growth[0]:.1%} {growth[1]:.1f}" == "8.1% 2.6"
    assert f"{whole / 60_965_224:.1f} {macs['D'] / 724_406_816:.1f}" == "2.3 21.4"
    assert f"{14_714_688 / 9_996_096:.1f}" == "1.5"
    assert f"{1.6**11:.0f} {1.6**19:,.0f}" == "176 7,556"
    # Dense evaluation at 384 pixels: 6×6 windows of 224, 32 pixels apart.
    dense = convolutions("D")[1] * (384 / 224) ** 2 + 36 * macs_fc
    assert f"{36 * macs['D'] / dense:.1f}" == "11.2"
    assert 1 - (2 * 2 * 4) / (2 * 2 * 9) > 0.5  # padding, where feature maps are 2×2
    assert f"{(2 / 4608) ** 0.5:.3f}" == "0.021"


def test_signal_left_after_all_convolutions():
    def left(name: str, sigma: float) -> float:
        inputs = [3, *CHANNELS[name][:-1]]
        return prod(sigma * (9 * c / 2) ** 0.5 for c in inputs)

    assert [f"{left(name, 0.01):.0e}" for name in "AE"] == ["2e-05", "5e-09"]
    assert [f"{left(name, 0.1):.0e}" for name in "AE"] == ["2e+03", "5e+07"]
    # He and others: for B, at the last nine of its ten convolutions.
    backward = prod(0.01 * (9 * c / 2) ** 0.5 for c in (64, 128, 128, 256, 256, *[512] * 4))
    assert 16_500 < 1 / backward < 17_500


@pytest.mark.book
def test_family_agrees_with_the_paper():
    assert facts(CHAPTER)["identical_scores"] is True
    for cells in (
        ("A", "8 + 3 = 11", "132,863,336", "133", "7,609,090,048"),
        ("B", "10 + 3 = 13", "133,047,848", "133", "11,308,466,176"),
        ("C", "13 + 3 = 16", "133,638,952", "134", "11,770,888,192"),
        ("D", "13 + 3 = 16", "138,357,544", "138", "15,470,264,320"),
        ("E", "16 + 3 = 19", "143,667,240", "144", "19,632,062,464"),
    ):
        assert cells in rows(CHAPTER)
        assert round(number(cells[2]) / 1e6) == number(cells[3])


@pytest.mark.book
def test_counts_by_hand_agree():
    assert facts(CHAPTER)["by_hand_is_exact"] is True
    assert ("fc6", "102,764,544", "102,760,448") in rows(CHAPTER)


@pytest.mark.book
def test_c_and_d_differ_in_what_they_see():
    fields = {r["network"]: r for r in table(CHAPTER, "network", "ReLUs")}
    assert fields["C"]["ReLUs"] == fields["D"]["ReLUs"]
    assert [fields[name]["sees"] for name in "BCD"] == ["156", "156", "212"]


@pytest.mark.book
def test_factors_are_those_of_the_formula():
    assert facts(CHAPTER)["largest_difference"] < 0.25
    assert facts(CHAPTER)["he_keeps_the_signal"] is True
    listed = {r["layer"]: r for r in table(CHAPTER, "layer", "n")}
    assert listed["conv4_2"]["formula"] == "0.48"
    assert [listed[name]["σ for 1"] for name in ("conv1_2", "conv4_2")] == ["0.059", "0.021"]


@pytest.mark.book
def test_fully_convolutional_network_is_the_same_network():
    found = facts(CHAPTER)
    assert found["positions"] == [2, 6]
    assert found["difference_for_the_window"] < 1e-3
    assert found["difference_within_the_photo"] > 0.01


@pytest.mark.book
def test_live_networks_start_as_the_prose_says():
    found = facts(CHAPTER)
    assert found["a_starts_from_the_smaller"] is True
    assert found["e_starts_from_the_smaller"] is False
    assert found["both_start_from_he"] is True


@pytest.mark.book
def test_solutions_are_right():
    found = facts(SOLUTIONS)
    assert found["by_hand"] == found["counted"] == 5_309_696
    assert found["features_are_8192_times_as_large"] is True
    assert found["same_ranking"] is True
    assert row(SOLUTIONS, "average") == ("average", "15,227,688", "15,347,142,656")
    assert row(SOLUTIONS, "sum") == ("sum", "109.3", "527.8")
    assert "activations of one image: 21%" in printed(SOLUTIONS)
    assert number(said(SOLUTIONS, "of a batch of 256:")) == 27.3
    assert found["data_over_small"] > found["he_over_small"] > 1e6
