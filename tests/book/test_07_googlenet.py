"""What the chapter on GoogLeNet says, and what it printed."""

from pathlib import Path
from statistics import fmean

import pytest
import torch
from executed import column, facts, number, printed, rows, said, table
from prose import above, percent, points, unsourced
from torch import nn

from cnnbook import analysis, experiments, models
from cnnbook.experiments import auxiliary, inception, pooling, side_by_side
from cnnbook.experiments.result import LEARNED
from cnnbook.models.googlenet import NaiveInception

CHAPTER = Path(__file__).parents[2] / "chapters" / "07-googlenet.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

book = pytest.mark.book

# Parameters (1,024) and operations (millions) as Table 1 states them, from conv1 to the output.
STATED = (
    *((2.7, 34), (112, 360), (159, 128), (380, 304), (364, 73), (437, 88)),
    *((463, 100), (580, 119), (840, 170), (1072, 54), (1388, 71), (1000, 1)),
)


def each(arm: experiments.ArmResult) -> str:
    """List the test errors of the runs, the lowest first."""
    *errors, last = (f"{100 * error:.0f}" for error in sorted(arm.values("test_error")))
    return f"{', '.join(errors)} and {last} %"


def recorded() -> list[str]:
    record = experiments.load("inception")
    names = ("Inception", "naive", "naive, 1×1 after pooling", "one 3×3", "two 3×3")
    ours, naive, projected, one, two = (record[name] for name in names)
    assert {run["steps"] for arm in record for run in arm.runs} == {564}
    assert {len(arm.runs) for arm in record} == {3}
    assert {arm.lr_at_end for arm in record} == {""}
    size = record.spec.sizes["desk"]
    assert (size.tuning, size.tuning_seeds) == ({}, 2)
    fitted = sorted(record, key=lambda arm: arm.interval("train_error").mean)
    assert (fitted[0], fitted[-1]) == (ours, naive)
    seconds = [arm.interval("seconds").mean for arm in (ours, one)]
    assert 2.3 < seconds[0] / seconds[1] < 2.7
    more = [above(arm, ours) for arm in (naive, one, two, projected)]
    assert [change.excludes_zero for change in more] == [True, False, True, True]
    beside = experiments.load("side_by_side")
    shifted = [
        100 * fmean(side_by_side.drops(beside, "upright", name, "shift"))
        for name in ("GoogLeNet", "ResNet-50")
    ]
    # "On training images, too, two layers do worse than one."
    assert above(two, one, "train_error").low > 0
    copies = above(naive, projected)
    assert copies.mean > 0.75 * more[0].mean  # most of it
    pooled = experiments.load("pooling")
    heads = pooled.settings["heads"]
    upright, anywhere = ([pooled[f"{form}: {head}"] for head in heads] for form in pooling.FORMS)
    gains = []
    for average, full, dropout in (upright, anywhere):
        assert dropout.interval("val_error").mean < full.interval("val_error").mean
        gains.append(above(dropout, average, pairs=True))
        assert average.interval("test_error").mean < dropout.interval("test_error").mean
    assert [change.excludes_zero for change in gains] == [False, True]
    accuracies = [percent(arm, accuracy=True) for arm in anywhere]
    helped = experiments.load("auxiliary")
    assert {run["steps"] for arm in helped for run in arm.runs} == {316}
    weak, weak_with, he, he_with = (
        helped[f"{start} start, {which}"]
        for start in auxiliary.STARTS
        for which in ("without", "with")
    )
    control = helped[auxiliary.CONTROL]
    # In the figure, which leaves out the run that is lost, the control ends lower.
    assert control.learned.interval("test_error").mean < weak_with.interval("test_error").mean
    learned = [len(arm.learned.runs) for arm in (weak, weak_with, control)]
    assert (learned, len(weak.runs)) == ([0, 5, 4], 5)
    assert (weak.lr, weak_with.lr, control.lr) == (0.1, 0.03, 0.03)
    helps = [
        above(without, with_, pairs=True)
        for without, with_ in ((control, weak_with), (he, he_with), (weak, weak_with))
    ]
    assert [change.excludes_zero for change in helps] == [False, False, True]
    assert helps[0].low < 0 < helps[2].mean < helps[0].high
    parameters = [pooled[f"cluttered: {head}"].runs[0]["parameters"] for head in heads[:2]]
    return [
        f"a hidden layer and {parameters[1] / parameters[0]:.0f} times the parameters",
        f"The test errors are {each(weak_with)} with auxiliary classifiers and {each(control)} "
        "without, so no difference is shown",
        f"is not shown either ({points(helps[1]).replace(' (', ', ')}",
        f"would have shown a lead of {100 * helps[2].mean:.0f} points for auxiliary classifiers. "
        f"With the control, {100 * helps[0].mean:.1f} are left",
        f"the same weights times {helped.settings['weak']}",
        f"without auxiliary classifiers (learning rate {weak.lr:g}), and all five learn with them "
        f"({weak_with.lr:g})",
        f"were also trained at {control.lr:g}: four of the five learn",
        f"the choice of {weak.lr} was close to a coin toss: the "
        f"validation error was {100 * weak.tried['0.1']:.1f} % at 0.1 and "
        f"{100 * weak.tried['0.03']:.1f} % at 0.03",
        f"if its test error is below {100 * LEARNED:.0f} %",
        f"the average has a test accuracy of {accuracies[0]}, the fully connected head "
        f"{accuracies[1]}, and {accuracies[2]} with dropout",
        f"The average is {points(gains[1])} ahead of the fully connected head with dropout",
        f"the training error is still {percent(anywhere[2], 'train_error')}",
        f"a difference from the head with dropout is not shown: {points(gains[0])} in favor of "
        "the average",
        f"it has a test accuracy of {accuracies[0]} where clothes lie anywhere, and fully "
        f"connected layers with dropout {accuracies[2]}",
        f"gave test errors of {percent(naive)} with naive modules, {percent(projected)} with a 1×1 "
        f"convolution after their pooling, and {percent(ours)} with reductions, too. Single 3×3 "
        f"layers ({percent(one)}) are not shown to be worse, "
        f"and take {seconds[1] / seconds[0]:.1f} times as long",
        f"a larger learning rate, {projected.lr} instead of {naive.lr}",
        f"GoogLeNet loses {shifted[0]:.0f} points and ResNet-50 {shifted[1]:.0f}, both with an",
        f"With naive modules, the error is {points(more[0])} higher",
        f"only a 1×1 convolution after the pooling removes {points(copies)} of this",
        f"which makes the naive modules Inception modules, the error is another {points(more[3])} "
        "lower",
        f"With two 3×3 layers, the error is {points(more[2])} higher than with Inception modules",
        f"the training errors are {percent(ours, 'train_error')} (Inception) to "
        f"{percent(naive, 'train_error')} (naive)",
        f"One 3×3 layer is not shown to be worse than an Inception module: the difference is "
        f"{points(more[1])}. Nor is it shown to be worse than naive modules with a 1×1 "
        "convolution after the pooling, which have several kernels at the same depth: "
        f"{points(above(one, projected))}",
        f"a training run took {seconds[0]:.0f} seconds with Inception modules and {seconds[1]:.0f} "
        "with one 3×3 layer",
    ]


PAPERS = [
    "a top-5 error of 6.67 %, against 7.32 % for VGG's entry",
    "(Szegedy and others 2016, Sections 3.2, 6 and 7)",
    "in 2.3 times fewer steps",
    "with momentum 0.9, a learning rate that fell by 4 % every 8 epochs",
    "without dropout and with other changes, in 14 times fewer (Section 4.2)",
    "The paper says 12 times fewer than AlexNet",
    "raised the top-1 accuracy by about 0.6 points",
    "dropout of 70 %",
    "(around 0.5 %)",
    "effect on accuracy of about 0.5 %",
    "a gain of about 0.6 % on ImageNet",
    "one network has an error of 10.07 % on one crop and 7.89 % on 144",
    "one of them wider, have 8.09 % on one crop and 6.67 % on 144",
]
EXACT = [
    "costs 2.4 million MACs",
    "reduced to 10.3 % of its operations, and so by 89.7 %",
    "a reduction to 10.3 %, and so by 89.7 %",
    "2.4 times fewer",
    "13.9 times the parameters and 7.9 times the operations",
    "the factors would be 2.3 and 1.3; with only those before the larger kernels left "
    "out, 3.6 and 2.8",
    "would take 7.9 times the operations",
    "equal to within 3 %",
    "The factor is 8.7, not 12",
    "the factor is 8.7",
    "the paper's Table 1 adds up to 6.96 million",
    "its Table 1 adds up to 6.96 million",
    "2.5 from the larger kernels in 3a, 1.3 in 4a, 3.1 in 4d, and 1.3 in 5b",
    "8.3 times as many",
    "with 14.6 % of its parameters",
    "58.6 million multiply–adds",
    "6.9 times fewer",
    "passes on 0.87 times as much, and all together 0.87²² times, or a twentieth",
    # Of the paper, in paragraphs that do not name it; they are in the code that the page runs.
    "the main loss plus 0.3 of each auxiliary one",
    "The main loss counts fully, each auxiliary loss 0.3 times",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded(), PAPERS, EXACT) == []


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def macs(net: nn.Module, side: int = 224) -> int:
    return analysis.summary(net, (3, side, side)).total_macs


def test_numbers_that_are_counted():
    with torch.device("meta"):
        net, naive, flat = (
            models.create(name, auxiliary=False, **options)
            for name, options in (
                ("googlenet", {}),
                ("googlenet", {"naive": True}),
                ("googlenet", {"head": "fc"}),
            )
        )
        alexnet, vgg16 = models.create("alexnet"), models.create("vgg16")
        with_auxiliary = models.create("googlenet")
    ours, operations = count(net), macs(net)
    assert (ours, count(with_auxiliary)) == (6_998_552, 13_378_280)
    assert count(with_auxiliary) - ours == 6_379_728
    assert f"{operations / 1e9:.3f}" == "1.583"
    assert count(naive) == 97_526_008
    assert f"{count(naive) / ours:.1f} {macs(naive) / operations:.1f}" == "13.9 7.9"
    assert naive.get_submodule("inception5b").out_channels == 4_944
    assert f"{count(alexnet) / ours:.1f} {count(vgg16) / ours:.1f}" == "8.7 19.8"
    assert f"{macs(vgg16) / operations:.1f}" == "9.8"
    assert macs(alexnet, 227) < operations / 2
    assert (count(flat), f"{count(flat) / ours:.1f}") == (58_379_800, "8.3")
    assert f"{count(net.output) / ours:.1%}" == "14.6%"
    for other, share in ((alexnet, "96.2%"), (vgg16, "89.4%")):
        layers = [m for m in other.modules() if isinstance(m, nn.Linear)]
        assert f"{sum(map(count, layers)) / count(other):.1%}" == share


def counted(reduces: bool, projects: bool) -> tuple[int, int]:
    """Return parameters and operations of GoogLeNet with two, one or no kind of 1×1."""
    net = models.create("googlenet", auxiliary=False)
    parts = ("conv1", "conv2_reduce", "conv2")
    parameters = sum(count(net.get_submodule(name)) for name in parts)
    operations = 118_013_952 + 12_845_056 + 346_816_512
    channels, side = 192, 28
    for row in models.googlenet.INCEPTIONS.values():
        if row is None:
            side //= 2
            continue
        n1, r3, n3, r5, n5, pool = row
        layers = [(channels, n1, 1), (channels, r3, 1), (r3, n3, 3), (channels, r5, 1), (r5, n5, 5)]
        if not reduces:
            layers = [(channels, n1, 1), (channels, n3, 3), (channels, n5, 5)]
        layers += [(channels, pool, 1)] if projects else []
        weights = sum(a * b * k * k for a, b, k in layers)
        parameters += weights + sum(b for _, b, _ in layers)
        operations += weights * side**2
        channels = n1 + n3 + n5 + (pool if projects else channels)
    return parameters + 1000 * (channels + 1), operations + 1000 * channels


def test_counts_without_one_kind_of_1x1():
    both, before, after, neither = (
        counted(*kinds) for kinds in ((True, True), (True, False), (False, True), (False, False))
    )
    assert both == (6_998_552, 1_582_671_872)
    assert neither == (97_526_008, 12_568_061_056)
    ratios = [f"{a / b:.1f}" for kind in (before, after) for a, b in zip(kind, both, strict=True)]
    assert ratios == ["2.3", "1.3", "3.6", "2.8"]


def test_numbers_of_table_1():
    stated, operations = (sum(row[i] for row in STATED) for i in (0, 1))
    assert operations == 1_502
    assert f"{1024 * stated / 1e6:.2f}" == "6.96"
    assert round((1_582_671_872 - 118_013_952 - 51_079_168) / 1e6) == 1_502 - 34 - 54
    assert 64 * 64 + 9 * 64 * 192 == 112 * 1024
    # conv1 as stated, and what is missing in it.
    assert round((7 + 7) * 3 * 64 * 112**2 / 1e6) == 34
    assert round(7 * 7 * 3 * 64 * 112**2 / 1e6) == 118
    # 4c: 498K with its filters.
    filters = 512 * (128 + 128 + 24 + 64) + 9 * 128 * 256 + 25 * 24 * 64
    assert (round(filters / 1024), round(filters * 14**2 / 1e6)) == (498, 100)
    # 5a with 32 and with 48 channels before its 5×5 kernels.
    for reduced, thousands, millions in ((32, 1018, 51), (48, 1081, 54)):
        filters = 832 * (256 + 160 + reduced + 128) + 9 * 160 * 320 + 25 * reduced * 128
        assert (round(filters / 1024), round(filters * 7**2 / 1e6)) == (thousands, millions)


def test_sizes_of_reductions():
    assert f"{12_443_648 / 120_422_400:.1%} {1 - 12_443_648 / 120_422_400:.1%}" == "10.3% 89.7%"
    assert f"{303_464_448 / 128_049_152:.1f}" == "2.4"
    assert (9 * 64 * 32, 64 * 56 + 9 * 56 * 32) == (18_432, 19_712)
    assert (25 * 256 * 64, 256 * 32 + 25 * 32 * 64) == (409_600, 59_392)
    assert f"{409_600 / 59_392:.1f}" == "6.9"
    larger = {
        name: (row[2] + row[4]) / row[0] for name, row in models.googlenet.INCEPTIONS.items() if row
    }
    chosen = [f"{larger[f'inception{name}']:.1f}" for name in ("3a", "4a", "4d", "5b")]
    assert chosen == ["2.5", "1.3", "3.1", "1.3"]


def longest_path(layer: nn.Module) -> int:
    """Return how many layers with weights a signal passes at most."""
    if isinstance(
        layer, models.googlenet.Inception | NaiveInception | inception.ProjectedInception
    ):
        return max(map(longest_path, layer.children()))
    return sum(isinstance(part, nn.Conv2d | nn.Linear) for part in layer.modules())


def test_22_layers_are_the_longest_path_and_58_are_all():
    with torch.device("meta"):
        net = models.create("googlenet", auxiliary=False)
    in_row = [longest_path(layer) for layer in net.children()]
    assert (in_row.count(2), sum(in_row)) == (9, 22)
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in net.modules()) == 58


def test_networks_of_equal_cost():
    record, made, in_row = experiments.load("inception"), {}, {}
    for arm in record:
        net = inception.network(**arm.options, settings=record.settings)
        made[arm.name] = count(net), analysis.summary(net, (1, 32, 32)).total_macs
        in_row[arm.name] = sum(map(longest_path, net.children())) - 1  # without the last layer
    operations = [macs for _, macs in made.values()]
    assert max(operations) < 1.03 * min(operations)
    assert min(made, key=lambda name: made[name][0]) == "Inception"
    assert [name for name, count in in_row.items() if count == 11] == ["Inception", "two 3×3"]
    assert set(in_row.values()) == {6, 11}


def test_a_weak_start_leaves_a_twentieth_in_22_layers():
    assert experiments.load("auxiliary").settings["weak"] == 0.87
    assert f"{0.87**22:.2f}" == "0.05"


def test_a_relu_between_two_1x1_layers_gives_the_distance():
    a, b = torch.randn(2, 100)
    assert torch.allclose(torch.relu(a - b) + torch.relu(b - a), (a - b).abs())


def test_channels_that_are_copies():
    settings = experiments.get("inception").sizes["desk"].settings
    made = []
    for kind in ("naive", "projected"):
        width = settings["widths"][kind]
        net = inception.network(kind, width, settings)
        made.append(
            [m for m in net if isinstance(m, NaiveInception | inception.ProjectedInception)]
        )
    naive, projected = (modules[-1] for modules in made)
    filters = [
        sum(getattr(m, f"branch{k}")[0].out_channels for k in (1, 3, 5)) for m in (naive, projected)
    ]
    assert filters == [51, 72]
    assert (naive.out_channels, naive.out_channels - filters[0]) == (168, 117)


@book
def test_the_module():
    found = facts(CHAPTER)
    assert found["output_channels"] == 256
    assert found["branches_stay_apart"] is found["same_as_the_matrix_product"] is True
    text = printed(CHAPTER)
    assert "\n2,408,448 + 10,035,200 = 12,443,648\n" in text
    assert said(CHAPTER, "direct:") == "28·28·192·5·5·32 = 120,422,400"
    for cells in (
        ("naive", "387,296", "303,464,448", "416"),
        ("with reductions", "163,696", "128,049,152", "256"),
        ("both, as built", "1,024", "6,998,552", "1,582,671,872"),
        ("neither, naive", "4,944", "97,526,008", "12,568,061,056"),
    ):
        assert cells in rows(CHAPTER)
    shown = column(CHAPTER, "test error", "modules", "learning rate")
    for arm in experiments.load("inception"):
        assert shown[arm.name] == pytest.approx(100 * arm.interval("test_error").mean, abs=0.06)
    assert found["one_layer"] is True
    assert found["rank"] == 16


@book
def test_the_network_built_here_is_the_papers():
    found = facts(CHAPTER)
    assert found["identical_scores"] is True
    assert (found["parameters"], found["parameters_in_training"]) == (6_998_552, 13_378_280)
    assert "1×1 branch 27×27, 3×3 branch 43×43, 5×5 branch 59×59" in printed(CHAPTER)


@book
def test_the_average():
    found = facts(CHAPTER)
    assert "7·7·1024·1024 = 51,380,224" in printed(CHAPTER)
    assert found["parameters_with_this_layer"] == 58_379_800
    assert found["order_can_be_exchanged"] is True
    assert found["fully_connected_loses_more"] is True
    assert found["guesses_as_expected"] is found["most_evidence_in_own_photo"] is True


@book
def test_auxiliary_classifiers():
    found = facts(CHAPTER)
    assert found["a_weighted_sum"] is found["auxiliary_more_than_tenfold"] is True
    assert found["he_more_than_thousandfold_again"] is True
    assert found["auxiliary_with_he_below_tenfold"] is True
    assert found["naive_more_than_thousandfold"] is True


@book
def test_solutions_confirm_the_calculations():
    assert said(SOLUTIONS, "parameters:") == "376,176"
    assert said(SOLUTIONS, "multiply–adds:") == "73,608,192"
    assert said(SOLUTIONS, "costs the most:") == "3×3"
    assert "5×5: r < 154.8, by trial 154, used 16" in printed(SOLUTIONS)
    assert "3×3: r < 164.6, by trial 164, used 96" in printed(SOLUTIONS)
    compared = table(SOLUTIONS, "row", "params (K), paper")
    differs = [row["row"] for row in compared if row[""] == "differs"]
    assert differs == ["conv1", "4c", "5a"]
    assert compared[-1]["ops (M), counted"] == "1,582.7"
    branches = table(SOLUTIONS, "branch", "receptive field")
    assert [number(branch["parameters"]) for branch in branches] == [15_920, 16_976, 10_048]


@book
def test_what_makes_the_gradient_small_are_1x1_convolutions_after_the_pooling():
    found = facts(SOLUTIONS)
    assert found["neither_more_than_thousandfold"] is True
    assert found["only_before_over_thousandfold"] is True
    assert found["only_after_below_hundredfold"] is True
    sizes = column(SOLUTIONS, "parameters", "1×1 convolutions", "parameters")
    assert max(sizes, key=sizes.get) == "neither, naive"


@book
def test_one_branch_of_one_module_is_silenced_at_a_time():
    falls = table(SOLUTIONS, "module", "1×1")
    assert [row["module"] for row in falls] == [
        "3a",
        "3b",
        "4a",
        "4b",
        "4c",
        "4d",
        "4e",
        "5a",
        "5b",
    ]
    kinds = table(SOLUTIONS, "branch", "modules with a fall")
    for kind in kinds:
        cells = [row[kind["branch"]] for row in falls]
        shown = sum(number(cell) > number(cell.split("±")[1]) for cell in cells)
        # rounded cells may differ from what was counted before rounding
        assert abs(shown - number(kind["modules with a fall"])) <= 1
        assert max(map(number, cells)) == number(kind["largest fall"])
    largest = {kind["branch"]: number(kind["largest fall"]) for kind in kinds}
    assert min(largest, key=largest.get) == "pooling"
    ends = [
        [[number(part) for part in row[way].split("±")] for way in ("1×1", "3×3")] for row in falls
    ]
    assert any(one - a > three + b for (one, a), (three, b) in ends)
