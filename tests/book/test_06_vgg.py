"""What the VGG chapter says, and what it printed when the book was built."""

import itertools
from math import prod
from pathlib import Path

import pytest
import torch
from executed import facts, number, row, rows, table
from prose import above, percent, points, unsourced
from torch import nn

from cnnbook import data, experiments, models
from cnnbook.experiments.images import load_parts

CHAPTER = Path(__file__).parents[2] / "chapters" / "06-vgg.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

# Channels of the convolutions of each network, as Table 1 has them.
CHANNELS = {
    "A": [64, 128, 256, 256, 512, 512, 512, 512],
    "D": [64, 64, 128, 128, *[256] * 3, *[512] * 6],
    "E": [64, 64, 128, 128, *[256] * 4, *[512] * 8],
}
FC = {"fc6": (25_088, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}


def recorded() -> list[str]:
    depth = experiments.load("vgg_depth")
    a, *between, e = depth
    assert [arm.name for arm in depth] == list("ABCDE")
    for first, second in itertools.combinations([a, *between], 2):
        assert not above(second, first).excludes_zero
    tests, training = (above(e, a, key) for key in ("test_error", "train_error"))
    assert min(tests.low, training.low) > 0
    errors = ", ".join(f"{percent(arm)} ({arm.name})" for arm in [a, *between])
    fitted = sorted(depth, key=lambda arm: arm.interval("train_error").mean)
    least, most = fitted[0], fitted[-1]
    assert e.tried[str(a.lr)] == 0.9  # the worse of two runs guesses; the other is in no record
    return [
        f"The test errors are {errors} and {percent(e)} (E)",
        f"the test error is {points(tests)} higher than with A's 11, and the training error is "
        f"{points(training)} higher",
        f"At A's learning rate of {a.lr}, at least one of E's two trial runs learned nothing; E's "
        f"learning rate is {e.lr}",
        f"the training errors are still {percent(least, 'train_error')} ({least.name}) to "
        f"{percent(most, 'train_error')} ({most.name})",
    ]


def recorded_starts() -> list[str]:
    found = experiments.load("vgg_start")
    plain = [name for name, batch_norm in found.settings["networks"] if not batch_norm]
    assert plain == ["A", "D", "E"]

    def learned(start: str, networks: list[str] = plain) -> list[int]:
        return [len(found[f"{name}, {start}"].learned.runs) for name in networks]

    def accuracy(error: float) -> str:
        return f"{100 * (1 - error):.1f} %"

    def mean(arm: experiments.ArmResult) -> str:
        return f"{100 * (1 - arm.interval('test_error').mean):.0f} %"

    sigmas = [f"σ = {sigma:g}" for sigma in found.settings["sigmas"]]
    assert len(sigmas) == 8
    assert learned("σ = 0.03") == learned("He") == [3, 3, 3]
    assert learned("σ = 0.01") == learned("σ = 0.1") == [0, 0, 0]
    for name in plain:  # no rate that was tried works from 0.01, and the smallest was taken
        arm = found[f"{name}, σ = 0.01"]
        assert set(arm.tried.values()) == {0.9}
        assert (min(map(float, arm.tried)), max(map(float, arm.tried))) == (arm.lr, 0.03)
    for arm in (found["D, σ = 0.1"], found["E, σ = 0.1"]):
        assert all(run["diverged"] and run["steps"] < 5 for run in arm.runs)
        assert set(arm.tried.values()) == {1}
    worst = max(
        error for name in plain for error in found[f"{name}, σ = 0.03"].values("test_error")
    )
    assert worst == max(found["D, σ = 0.03"].values("test_error"))
    norm = [found[f"E, batch norm, {s}"] for s in sigmas]
    assert all(len(arm.learned.runs) == len(arm.runs) == 3 for arm in norm)
    assert norm[-1] is max(norm, key=lambda arm: arm.interval("test_error").mean)
    size = found.spec.sizes["desk"]
    assert size.tuning_seeds == 2
    assert 3 * size.tuning["epochs"] == 2 * found.settings["epochs"]
    steps = {run["steps"] for arm in found if not arm.runs[0]["diverged"] for run in arm.runs}
    assert steps == {237}
    well, badly = found["E, σ = 0.03"], found["E, σ = 0.035"]
    assert (len(badly.learned.runs), len(well.learned.runs)) == (2, 3)
    return [
        "11, 16 and 19 layers learn from σ = 0.03 or a σ for each layer (He and others 2015), but "
        "not from 0.01",
        "all nine runs from σ = 0.03 learn, though one of D's reaches an accuracy of only "
        f"{accuracy(worst)}",
        "Without batch normalization, D and E overflow from σ = 0.1 within a few steps",
        f"With σ = 0.035 and a learning rate of {badly.lr}, two of E's three runs learn, and reach "
        f"{mean(badly.learned)} on average; with σ = 0.03 and a learning rate of "
        f"{well.lr}, all three learn, and reach {mean(well.learned)}",
        f"Its accuracy is lowest with σ = 0.1 (learning rate {norm[-1].lr})",
        "From σ = 0.01, no learning rate up to 0.03 led beyond guessing",
    ]


def test_recorded_runs_are_as_the_prose_says():
    result = experiments.load("vgg_depth")
    settings = result.settings
    assert (settings["width"], settings["images"], settings["side"]) == (0.25, 10_000, 20)
    assert {arm.runs[0]["steps"] for arm in result} == {474}
    assert {len(arm.runs) for arm in result} == {3}
    size = result.spec.sizes["desk"]
    assert (size.tuning, size.tuning_seeds) == ({}, 2)  # in runs of the same length
    for arm in result:  # no learning rate lies at the edge of those tried
        assert min(map(float, arm.tried)) < arm.lr < max(map(float, arm.tried))


PAPERS = [
    "the top-1 error is 29.6 % with 11 layers, 27.0 % with 16 (VGG-16) and 27.3 % with 19",
    "the top-1 error falls by 2.6 points (Table 3). With E's 19, it is 0.3 points higher",
    "a difference of 0.3 points (Table 3)",
    "error by 0.6 points, D's by 1.7 (Table 3)",
    "A-LRN has an error of 29.7 %, A of 29.6 % (Table 3)",
    "a top-1 error of 24.8 %, averaging over 150 crops 24.6 %, and both together 24.4 % (Table 5)",
    "at several scales lower D's error by 2.2 points (Tables 3 and 4), nearly as much as the "
    "five additional layers from A to D, which lower the error by 2.6",
    "another 0.4 points (Table 5)",
    "gain at most 0.1 points at one test size",
    "1.3 million photographs",
    "a top-5 error of 7.3 %",
    "with 6.7 %",
    "with an error of 25.3 %",
    "7.0 % against 7.9 %",
    "GoogLeNet has 9.15 % and VGG-16 9.33 %",
    "have 6.8 % (Table 7)",
    "27.0 % and 27.3 % top-1 against 29.6 % with 11 layers",
    "from 27.0 % to 25.6 %",
    "(Section 2)",
    "(Section 3.1)",
    "(Section 3.2)",
    "(Section 3.3)",
    "(Section 4.1)",
    "σ = 0.01 leaves 1/17,000 of it",
    "computed with σ = 0.01",
    "which is σ = 0.1",
    "with momentum 0.9, weight decay 0.0005 and a learning rate of 0.01",
]
EXACT = [
    "take 2.6 times the operations of 11, with only 8.1 % more parameters: one fully "
    "connected layer holds 74.3 % of VGG-16's 138 million",
    "fc6 alone has 74.3 % of the parameters, and the three fully connected layers together have "
    "89.4 %",
    "take 99.2 % of the 15.5 billion multiply–adds",
    "the number of parameters grows by only 8.1 %, but that of multiply–adds by a factor of 2.6",
    "those of a batch far more: 27.3 GiB against 0.5 GiB",
    "that leaves 14.4 GiB",
    "instead of 27.3 GiB",
    "2.3 times AlexNet's parameters and 21.4 times its multiply–adds",
    "D also has 1.5 times as many weights in its convolutions as C",
    "65,536 times as large",
    "At σ = 0.01 every layer",
    "At σ = 0.1, A's signal grows",
    "Raise σ from 0.025 to 0.04, and A's scores, after 11 layers, become 176 times as large, and "
    "E's, after 19 layers, 7,556 times",
    "11.2 times fewer multiply–adds",
    "which takes 0.7 % of the operations",
    "about 0.021",
    # Settings.
    "a weaker signal: about 0.08 times the image's after A's last block and 0.02 times after E's. "
    "(Counting inputs would leave about 0.7 and 0.2;",
    "three (1.63 times the factor), and fc6 reads 64 numbers instead of 25,088 (0.14 times)",
    "Guessing gives an accuracy of 10 %",
    "if its test accuracy is above 20 %",
    "From σ = 0.025, A learns",
    "some 60 times as large",
    "100 times weaker or stronger",
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
    # At an eighth of the width: inputs of the first layer, and of fc6 after five halvings of 20.
    kept = [8**0.5 * (few / many) ** 0.5 for few, many in ((9, 27), (64, 25_088))]
    assert [f"{factor:.2f}" for factor in kept] == ["1.63", "0.14"]
    assert f"{27.0 - 24.8:.1f} {24.8 - 24.4:.1f} {29.6 - 27.0:.1f}" == "2.2 0.4 2.6"


def test_memory_of_activations():
    convs, pools, side = [], [], 224
    for channels in ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3):
        convs.append(sum(channels) * side**2)
        side //= 2
        pools.append(channels[-1] * side**2)
    fc = [m for _, m in FC.values()]
    relus = sum(convs) + sum(fc[:-1])
    every = sum(convs) + sum(fc) + relus + sum(pools)

    def gib(numbers: int) -> str:
        return f"{4 * 256 * numbers / 2**30:.1f}"

    assert [gib(every), gib(every - relus)] == ["27.3", "14.4"]
    assert f"{4 * 138_357_544 / 2**30:.1f}" == "0.5"
    blocks = [2 * conv + pool for conv, pool in zip(convs, pools, strict=True)]
    assert 0.45 < blocks[0] / every < 0.5  # "nearly half"
    # With checkpoints: what all poolings so far put out, and what one block makes.
    together = [sum(pools[: i + 1]) + 2 * conv for i, conv in enumerate(convs)]
    assert [gib(numbers) for numbers in together] == ["13.0", "7.3", "5.9", "3.7", "2.0"]


def test_signal_left_after_all_convolutions():
    def left(name: str, sigma: float) -> float:
        inputs = [3, *CHANNELS[name][:-1]]
        return prod(sigma * (9 * c / 2) ** 0.5 for c in inputs)

    assert [f"{left(name, 0.01):.0e}" for name in "AE"] == ["2e-05", "5e-09"]
    assert [f"{left(name, 0.1):.0e}" for name in "AE"] == ["2e+03", "5e+07"]
    # He and others: for B, at the last nine of its ten convolutions.
    backward = prod(0.01 * (9 * c / 2) ** 0.5 for c in (64, 128, 128, 256, 256, *[512] * 4))
    assert 16_500 < 1 / backward < 17_500


def test_signal_from_both_forms_of_hes_rule():
    settings = experiments.load("vgg_start").settings
    train = load_parts({**settings, "data": "fashion-mini", "images": 1_000, "val_images": 100})[0]
    images, _ = next(data.Batches(train.padded(settings["side"]), 256, device="cpu").epoch(0))

    def left(name: str, mode: str) -> float:
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            net = models.VGG(name, 10, 1, width=settings["width"], input_size=settings["side"])
            for layer in net.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
            with torch.no_grad():
                found.append(net.forward_features(images).square().mean().sqrt().item())
        return sum(found) / len(found)

    said = {"fan_out": [0.08, 0.02], "fan_in": [0.7, 0.2]}
    for mode, signals in said.items():
        assert [left(name, mode) for name in "AE"] == pytest.approx(signals, rel=0.3)


@pytest.mark.book
def test_family_agrees_with_the_paper():
    assert facts(CHAPTER)["same_scores_as_the_package"] is True
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
    assert facts(CHAPTER)["all_four_by_hand_are_exact"] is True
    assert ("fc6", "102,764,544", "102,760,448") in rows(CHAPTER)


@pytest.mark.book
def test_activations_take_more_memory_than_parameters():
    kept = {r["layers"]: r for r in table(CHAPTER, "layers")}
    assert kept["sum"]["of 256 images (GiB)"] == "27.3"
    assert kept["sum"]["parameters (GiB)"] == "0.52"
    assert kept["block1"]["of 256 images (GiB)"] == "13.0"
    assert kept["sum"]["activations of 1 image (MiB)"] == "109.3"  # 527.8 are parameters


@pytest.mark.book
def test_c_and_d_differ_in_what_they_see():
    fields = {r["network"]: r for r in table(CHAPTER, "network", "ReLUs")}
    assert [fields[name]["ReLUs"] for name in "ABCDE"] == ["8", "10", "13", "13", "16"]
    assert [fields[name]["receptive field"] for name in "BCDE"] == ["156", "156", "212", "268"]


@pytest.mark.book
def test_factors_are_those_of_the_formula():
    found = facts(CHAPTER)
    assert found["largest difference from the formula"] < 0.2
    assert found["signal left by He’s weights (image: 1), at least"] > 0.5
    assert found["signal left by He’s weights (image: 1), at most"] < 2
    listed = {r["layer"]: r for r in table(CHAPTER, "layer", "n")}
    assert listed["conv4_2"]["formula"] == "0.48"
    assert [listed[name]["σ for factor 1"] for name in ("conv1_2", "conv4_2")] == ["0.059", "0.021"]


@pytest.mark.book
def test_fully_convolutional_network_is_the_same_network():
    found = facts(CHAPTER)
    assert found["positions (rows, columns)"] == [2, 6]
    assert found["window alone, largest difference of a score"] < 1e-3
    assert found["window in the photograph, mean difference"] > 0.01


@pytest.mark.book
def test_live_networks_start_as_the_prose_says():
    found = facts(CHAPTER)
    assert found["A learns from σ = 0.025"] is found["A learns from He’s weights"] is True
    assert found["E learns from σ = 0.025"] is False
    assert found["E learns from He’s weights"] is True


@pytest.mark.book
def test_solutions_are_right():
    found = facts(SOLUTIONS)
    assert found["by_hand"] == found["counted"] == 5_309_696
    assert found["features_are_8192_times_as_large"] is True
    assert found["same_ranking"] is True
    assert row(SOLUTIONS, "average") == ("average", "15,227,688", "15,347,142,656")
    together = [line["together"] for line in table(SOLUTIONS, "at block")]
    assert together == ["13.0", "7.3", "5.9", "3.7", "2.0"]
    from_data, he = (
        found[f"gradient of the first layer, {name} ÷ σ = 0.01"] for name in ("from data", "He")
    )
    assert from_data > he > 1e6
    assert [found[f"with {count} layers"] for count in (16, 8)] == pytest.approx(
        [1.33, 1.78], abs=0.005
    )
