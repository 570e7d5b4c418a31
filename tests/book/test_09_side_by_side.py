"""What the comparison says, and what it printed when the book was built."""

import itertools
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
import torchvision
from executed import facts, number, printed, row, said, table
from prose import above, paragraphs, percent, points, unsourced

from cnnbook import analysis, experiments, models
from cnnbook.experiments import side_by_side

CHAPTER = Path(__file__).parents[2] / "chapters" / "09-side-by-side.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

TORCHVISION = ("alexnet", "vgg11", "vgg16", "googlenet", "resnet18", "resnet34", "resnet50")


def weights(name: str, version: int = 0) -> dict:
    return list(torchvision.models.get_model_weights(name))[version].meta


def accuracy(name: str, version: int = 0) -> float:
    return weights(name, version)["_metrics"]["ImageNet-1K"]["acc@1"]


def times(key: str, first: str, second: str) -> str:
    return f"{weights(first)[key] / weights(second)[key]:#.2g} times"


def from_torchvision() -> list[str]:
    """Return phrases with numbers that torchvision states of its own weights."""
    gain = accuracy("resnet50", 1) - accuracy("resnet50")
    design = accuracy("resnet50") - accuracy("resnet34")
    assert gain > design
    behind = accuracy("resnet34") - accuracy("vgg16")
    missed = accuracy("googlenet") - accuracy("resnet18")
    assert round(missed / 100 * 50_000) == 10
    b0, tiny = weights("efficientnet_b0"), weights("convnext_tiny")
    assert round(weights("resnet50")["_ops"] / b0["_ops"]) == 11
    assert accuracy("vgg16_bn") > accuracy("resnet34")
    return [
        f"accuracy of {accuracy('alexnet'):.1f} % on ImageNet",
        f"ResNet-50 of {accuracy('resnet50'):.1f} %, with "
        f"{times('num_params', 'resnet50', 'alexnet')} the parameters and "
        f"{times('_ops', 'resnet50', 'alexnet')} the multiply–adds",
        f"reaches {accuracy('resnet50', 1):.1f} %",
        f"{times('_ops', 'vgg16', 'resnet34')} the multiply–adds and "
        f"{times('num_params', 'vgg16', 'resnet34')} the parameters of ResNet-34, but its "
        f"accuracy is {behind:.1f} points lower",
        f"GoogLeNet costs less and is {missed:.2f} points more accurate",
        f"VGG-16 has {accuracy('vgg16_bn'):.1f} % (the large ring) instead of "
        f"{accuracy('vgg16'):.1f} %",
        f"It gains {gain:.1f} points",
        f"under one recipe, the gain is {design:.1f} points",
        f"ResNet-50 gains {gain:.1f} points",
        f"ResNet-50 takes {weights('resnet50')['_ops']:.1f} billion",
        f"EfficientNet-B0 has {accuracy('efficientnet_b0'):.1f} % with {b0['_ops']:.2f} billion",
        f"ConvNeXt-Tiny has {accuracy('convnext_tiny'):.1f} % with {tiny['_ops']:.1f} billion",
        # In the answers to the article's claims.
        f"VGG-16 has a top-1 accuracy of {accuracy('vgg16'):.1f} % and ResNet-34 of "
        f"{accuracy('resnet34'):.1f} %, with {times('_ops', 'resnet34', 'vgg16')} the",
    ]


def recorded() -> list[str]:
    """Return phrases with numbers of the recorded run, and check what they imply."""
    record = experiments.load("side_by_side")
    names = list(record.settings["widths"])
    upright, cluttered = (
        {name: record[f"{name}, {task}"] for name in names} for task in ("upright", "cluttered")
    )
    drops = {
        (task, change): {
            name: 100 * fmean(side_by_side.drops(record, task, name, change)) for name in names
        }
        for task in ("upright", "cluttered")
        for change in side_by_side.CHANGES
    }
    assert {run["steps"] for arm in record for run in arm.runs} == {440}
    assert {len(arm.runs) for arm in record} == {3}
    accuracies = [
        {name: arm.interval("test_error").mean for name, arm in arms.items()}
        for arms in (upright, cluttered)
    ]
    ends = [(max(a, key=a.__getitem__), min(a, key=a.__getitem__)) for a in accuracies]
    assert ends == [("ResNet-50", "LeNet-5"), ("AlexNet", "GoogLeNet")]
    by_validation = [
        min(arms, key=lambda name: arms[name].interval("val_error").mean)
        for arms in (upright, cluttered)
    ]
    assert by_validation == ["ResNet-18", "GoogLeNet"]
    lucky = above(upright["ResNet-18"], upright["LeNet-5"], pairs=True)
    sizes = {name: upright[name].runs[0]["parameters"] for name in names}
    rates = {name: {upright[name].lr, cluttered[name].lr} for name in names}
    assert max(set.union(*(rates[name] for name in names[:4]))) == 0.03
    assert min(set.union(*(rates[name] for name in names[4:]))) == 0.1
    seeds_differ = [
        [100 * stdev(arm.values("test_error")) for arm in arms.values()]
        for arms in (upright, cluttered)
    ]
    first, second = sorted(arm.interval("val_error").mean for arm in upright.values())[:2]
    macs = [arm.runs[0]["macs"] / 1e6 for arm in record]
    lead = above(cluttered["LeNet-5"], cluttered["GoogLeNet"], pairs=True)
    assert lead.low > 0
    google, lenet = (upright[name].runs[0]["parameters"] for name in ("GoogLeNet", "LeNet-5"))
    shifted = drops["upright", "shift"]
    assert min(shifted, key=shifted.__getitem__) == "GoogLeNet"
    assert max(shifted, key=shifted.__getitem__) == "ResNet-50"
    anywhere = max(drops["cluttered", "shift"].values())
    lost = [shifted[name] for name in names if name.startswith("Res")]
    assert shifted["AlexNet"] < min(lost)
    blurred = [list(drops[task, "blur"].values()) for task in ("upright", "cluttered")]
    few, many = names[:4], names[4:]
    groups = [
        [drops[task, "noise"][name] for name in group]
        for task in ("upright", "cluttered")
        for group in (few, many)
    ]
    times = {name: side_by_side.milliseconds(record, name) for name in names}
    assert min(times, key=times.__getitem__) == "AlexNet"
    assert max(times, key=times.__getitem__) == "GoogLeNet"
    assert f"{times['ResNet-50']:.1f}" == f"{times['GoogLeNet']:.1f}"
    left = [arm.interval("train_error").mean for arm in cluttered.values()]
    seeds = [f"{100 * (1 - error):.1f}" for error in cluttered["AlexNet"].values("test_error")]
    return [
        f"clothes lose {min(shifted.values()):.0f} to {max(shifted.values()):.0f} points of "
        "accuracy when these are shifted by three pixels. Trained and tested on clothes lying "
        f"anywhere, they lose at most {anywhere:.1f} points, from accuracies of "
        f"{100 - 100 * max(accuracies[1].values()):.0f} to "
        f"{100 - 100 * min(accuracies[1].values()):.0f} %",
        f"between {percent(upright['ResNet-50'], accuracy=True)} (ResNet-50) and "
        f"{percent(upright['LeNet-5'], accuracy=True)} (LeNet-5)",
        f"between {percent(cluttered['AlexNet'], accuracy=True)} (AlexNet) and "
        f"{percent(cluttered['GoogLeNet'], accuracy=True)} (GoogLeNet)",
        f"ahead of LeNet-5 by {points(lead)}, with {google:,} parameters against {lenet:,}",
        f"by {100 * (second - first):.1f} points on {record.settings['val_images']:,} images; on "
        f"the test images it is {points(lucky)} behind LeNet-5",
        f"their accuracies are only {100 - 100 * max(accuracies[1].values()):.1f} to "
        f"{percent(cluttered['GoogLeNet'], accuracy=True)}",
        f"GoogLeNet has {google / sizes['AlexNet']:.2f} times AlexNet's parameters, about as many "
        f"multiply–adds, and takes {times['GoogLeNet'] / times['AlexNet']:.1f} times as long",
        f"({min(macs):.1f} to {max(macs):.1f} million)",
        f"fewer parameters ({max(sizes[name] for name in names[4:]):,} at most, against "
        f"{min(sizes[name] for name in names[:4]):,} at least)",
        f"range from {min(seeds_differ[0]):.1f} to {max(seeds_differ[0]):.1f} points on upright "
        f"and from {min(seeds_differ[1]):.1f} to {max(seeds_differ[1]):.1f} points on cluttered",
        f"AlexNet, without such an average, loses only {shifted['AlexNet']:.0f} points",
        f"Blur costs all eight {min(blurred[0]):.0f} to {max(blurred[0]):.0f} points on upright "
        f"and {min(blurred[1]):.0f} to {max(blurred[1]):.0f} points on cluttered clothes",
        f"from {shifted['GoogLeNet']:.0f} points (GoogLeNet) to {shifted['ResNet-50']:.0f} points",
        f"none loses more than {anywhere:.1f} points",
        f"the ResNets have it and lose {min(lost):.0f} to {max(lost):.0f} points",
        f"LeNet-5, AlexNet and the VGGs {min(groups[0]):.1f} to {max(groups[0]):.1f} points on "
        f"upright clothes and {min(groups[2]):.0f} to {max(groups[2]):.0f} points on cluttered "
        f"ones, GoogLeNet and the ResNets {min(groups[1]):.0f} to {max(groups[1]):.0f} points and "
        f"{min(groups[3]):.0f} to {max(groups[3]):.0f} points",
        f"takes {times['AlexNet']:.2f} ms with AlexNet and {times['GoogLeNet']:.1f} ms with "
        f"GoogLeNet or ResNet-50, {times['GoogLeNet'] / times['AlexNet']:.1f} times as long",
        f"still err on {100 * min(left):.0f} to {100 * max(left):.0f} %",
        f"three runs have accuracies of {seeds[0]}, {seeds[1]} and {seeds[2]} %",
    ]


def test_pairs_of_the_recorded_run():
    record = experiments.load("side_by_side")
    names = list(record.settings["widths"])
    found = {
        task: {
            (a, b): change.mean > 0
            for a, b in itertools.combinations(names, 2)
            if (change := side_by_side.lead(record, task, a, b)).excludes_zero
        }
        for task in ("upright", "cluttered")
    }
    text = "\n".join(paragraphs(CHAPTER))
    counts = [len(pairs) for pairs in found.values()]
    assert "{} pairs on upright and {} pairs on cluttered clothes".format(*counts) in text
    both = {
        pair: found["upright"][pair] == found["cluttered"][pair]
        for pair in found["upright"].keys() & found["cluttered"].keys()
    }
    assert both == {("GoogLeNet", "ResNet-50"): True, ("LeNet-5", "ResNet-50"): False}
    shared = counts[0] * counts[1] / 28
    assert f"would share {shared:.1f} on average ({counts[0]} · {counts[1]} / 28)" in text
    assert {tuple(arm.lr_at_end for arm in record)} == {("",) * 16}
    net = side_by_side.build("ResNet-50", record.settings["widths"]["ResNet-50"])
    first = next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.out_channels == 4


PAPERS = [
    "Their 1.5 billion multiply–adds",
    "12 times fewer",
    "| 15.3 % |",
    "| 18.2 % |",
    "| 6.67 % |",
    "| 9.15 % |",
    "| 10.07 % |",
    "| 7.3 % |",
    "| 9.33 % |",
    "| 3.57 % |",
    "| 6.71 % |",
    "| 5.71 % |",
    "fell from 18.2 % (Krizhevsky and others 2012) to 5.71 % (He and others 2016)",
    "6.96 million",
    "it is GoogLeNet: 6.67 % against 7.3 %",
    "it is GoogLeNet again: 9.15 % against 9.33 %",
    "as its authors chose, it is VGG: 7.0 % against 7.9 %",
    "24.19 % with 34 layers, 22.85 % with 50, 21.75 % with 101 and 21.43 % with 152",
    "gains 0.3 points",
    "a test error of 0.95 % on MNIST",
    "won with 3.57 %, AlexNet with 15.3 %",
    "VGG-16 28.07 %, ResNet-18 27.88 %, ResNet-34 24.19 %, ResNet-50 22.85 %",
    "one of A's networks has 9.15 %",
    # In the answers to the article's claims.
    "22.85 % with 50 layers, 21.75 % with 101 and 21.43 % with 152",
]
EXACT = [
    "within 2 %",
    "8.7 times fewer",
    "a standard error of 0.75 points",
    "accuracy of 87 % on 2,000 images",
    "it has 325,680 multiply–adds",
    "share 2.6 on average (8 · 9 / 28)",
    "at most 2.88 times that standard deviation",
    "if their correlation is above 0.58",
    "(0.1 or more, against 0.03 at most)",
    "In 95 % of our tables",
    "exceeds by 6 %",
    "multiply–adds became 15.6 times",
    "1,008 times",
    "with 1.2 to 1.4 million multiply–adds each",
    "0.3 % have 8 or more",
    "by 1.64 standard deviations",
    "the 95 % interval",
    "would be 1.96",
    "Student's t is 4.303",
    "divides the 5 % by",
    "intervals misses is then at most 5 %",
    "5 % of the pairs, on average 1.4 of the 28",
    "69 % of the tables",
    "With the correction, 5 % of the tables have one",
    "grows to 23.6, so a mean difference must exceed 13.6 (23.6/√3) times",
    "top-5 error of 6.67 % with seven networks on 144 crops, paper B 6.71 %",
    "5 % of them are 2.25",
    "learning rate of 0.01 and the ResNets with 0.1",
    "learning rate of 0.03, then with 0.3",
    "A 84.1, 85.0 and 83.6 %, and B 83.7, 84.5 and 83.3 %",
    "Student's is 4.303",
    "0.44 times the parameters",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, [*from_torchvision(), *recorded()], PAPERS, EXACT) == []


def counts(name: str, **options: bool) -> tuple[int, int]:
    with torch.device("meta"):
        net = models.create(name, **options)
    counted = analysis.summary(net, models.model_spec(name).input_shape)
    return counted.total_parameters, counted.total_macs


@pytest.mark.slow
def test_numbers_that_follow_from_counts():
    alexnet, googlenet = counts("alexnet"), counts("googlenet", auxiliary=False)
    lenet5, vgg16, resnet152 = (counts(name) for name in ("lenet5", "vgg16", "resnet152"))
    assert lenet5[1] == 416_520
    # C3 of 1998 has 1,500 weights of 2,400, each used at 100 positions.
    assert counts("lenet5_1998")[1] - 100 * (2_400 - 1_500) == 325_680
    assert f"{alexnet[0] / googlenet[0]:.1f}" == "8.7"
    assert f"{googlenet[1] / 1.5e9 - 1:.0%}" == "6%"
    assert f"{resnet152[1] / alexnet[1]:.1f}" == "15.6"
    assert f"{resnet152[0] / vgg16[0]:.2f}" == "0.44"
    # VGG has more parameters than AlexNet mostly because of its first fully connected layer.
    assert (vgg16[0] - alexnet[0]) / 2 < 4096 * (512 * 7 * 7 - 256 * 6 * 6)
    assert 7 * 144 == 1008
    assert f"{21.75 - 21.43:.1f}" == "0.3"


def test_what_the_two_comparisons_are_said_to_be():
    text = "\n".join(paragraphs(CHAPTER))
    sizes = experiments.get("side_by_side").sizes
    desk, live = sizes["desk"].settings, sizes["live"].settings
    assert len(desk["widths"]) == 8
    assert list(desk["sets"]) == ["upright", "cluttered"]
    assert sizes["desk"].tuning == {}  # chosen in runs of the same length
    assert sizes["desk"].tuning_seeds == 2
    assert f"the same {desk['images']:,} training images" in text
    assert f"{desk['epochs'] * -(-desk['images'] // desk['batch_size'])} steps" in text

    assert f"{live['images']:,} images of upright clothes" in text
    assert f"for {live['epochs'] * -(-live['images'] // live['batch_size'])} steps" in text
    assert list(live["sets"]) == ["upright"]
    assert sizes["live"].seeds == 3
    assert len(live["widths"]) == 4
    rates = live["rates"]
    assert rates["LeNet-5"] == rates["AlexNet"]
    assert rates["VGG-11"] == rates["ResNet-18"]


def test_what_the_four_networks_are_said_to_be():
    widths = experiments.get("side_by_side").sizes["live"].settings["widths"]
    nets = {name: side_by_side.build(name, width) for name, width in widths.items()}
    macs = [analysis.summary(net, (1, 32, 32)).total_macs / 1e6 for net in nets.values()]
    counted = f"with {min(macs):.1f} to {max(macs):.1f} million multiply–adds each"
    assert counted in "\n".join(paragraphs(CHAPTER))
    for name, net in nets.items():
        normalized = any(isinstance(layer, torch.nn.BatchNorm2d) for layer in net.modules())
        assert normalized == (name in ("VGG-11", "ResNet-18"))


@pytest.mark.book
def test_counts_are_those_of_torchvision_and_of_the_papers():
    assert facts(CHAPTER)["counts_equal_those_of_torchvision"] is True
    found = table(CHAPTER, "network", "year")
    assert [r["network"] for r in found] == [
        *("LeNet-5", "AlexNet", "VGG-16", "VGG-19", "GoogLeNet"),
        *("ResNet-34", "ResNet-50", "ResNet-152"),
    ]
    for r in found:
        for counted, paper in (("parameters (M)", "paper (M)"), ("MACs (G)", "paper (G)")):
            if r[paper] and r["network"] != "GoogLeNet":
                assert number(r[counted]) == pytest.approx(number(r[paper]), rel=0.02)


@pytest.mark.book
def test_networks_that_no_other_beats():
    assert said(CHAPTER, "multiply–adds:").strip() == "AlexNet, GoogLeNet, ResNet-34, ResNet-50"
    assert said(CHAPTER, "parameters:   ").strip() == "GoogLeNet, ResNet-34, ResNet-50"


@pytest.mark.book
def test_costs_change_independently():
    changes = {
        "image twice as high and wide": ("1", "4", "4"),
        "twice the channels": ("4", "4", "2"),
        "twice the layers": ("2", "2", "2"),
        "1×1 kernels": ("0.111", "0.111", "1"),
    }
    for change, multiples in changes.items():
        assert row(CHAPTER, change) == (change, *multiples)


@pytest.mark.book
def test_activations_are_counted_in_two_ways():
    found = {r["network"]: list(r.values())[1:] for r in table(CHAPTER, "network", "all outputs")}
    assert found == {
        **{"VGG-16": ["109", "51.7"], "GoogLeNet": ["59.3", "12.3"], "ResNet-50": ["137", "40.4"]}
    }


@pytest.mark.book
def test_equal_networks_look_different():
    found = facts(CHAPTER)
    # The mean range of eight normal numbers is 2.847 standard deviations (Tippett 1925).
    assert found["best_minus_worst"] == pytest.approx(2.847 / 3**0.5, abs=0.02)
    assert found["pairs_called_different"] == pytest.approx(0.05 * 28, abs=0.1)
    assert f"{found['pairs_called_different']:.1f}" == "1.4"
    assert f"{found['tables_with_such_a_pair']:.0%}" == "69%"
    assert f"{found['tables_with_eight_or_more']:.1%}" == "0.3%"
    # Bonferroni's bound, and three standard errors of 10,000 tables.
    assert found["tables_with_one_after_the_correction"] <= 0.05 + 0.007
    assert f"{found['tables_with_one_after_the_correction']:.0%}" == "5%"


def quantile(t: float) -> float:
    """Return how much of Student's distribution lies within ±t, for two degrees of freedom."""
    steps = torch.linspace(-t, t, 2_000_001, dtype=torch.float64)
    return torch.trapezoid((2 + steps**2) ** -1.5, steps).item()


@pytest.mark.parametrize(("t", "pairs"), [(4.303, 1), (23.6, 28)])
def test_t_of_two_degrees_of_freedom(t, pairs):
    assert 1 - quantile(t) == pytest.approx(0.05 / pairs, rel=0.01)
    assert f"{23.63 / 3**0.5:.1f}" == "13.6"


@pytest.mark.book
def test_t_in_the_chapter():
    found = facts(CHAPTER)
    shown = [found[f"t_for_{which}"] for which in ("one_pair", "all_pairs")]
    assert [f"{t:.4g}" for t in shown] == ["4.303", "23.63"]


@pytest.mark.book
def test_the_live_run():
    found = facts(CHAPTER)
    assert found["all_learn"] is True
    assert found["all_lose_when_shifted"] is True
    assert found["oldest_ahead_of_newest"] is True
    assert found["widest_interval"] > 5


def test_networks_that_scatter_alike_seldom_seem_to_differ_as_much_as_the_recorded_ones():
    record = experiments.load("side_by_side")
    found = [
        stdev(record[f"{name}, cluttered"].values("test_error"))
        for name in record.settings["widths"]
    ]
    scatter = torch.randn(100_000, 8, 3, generator=torch.Generator().manual_seed(0)).std(-1)
    by_chance = scatter.amax(1) / scatter.amin(1) >= max(found) / min(found)
    assert by_chance.float().mean().item() == pytest.approx(1 / 5, abs=0.02)


@pytest.mark.book
def test_pairs_that_the_recorded_run_shows():
    assert (
        said(CHAPTER, "upright:").strip()
        == "8 of 28 pairs differ one by one, 0 with the correction"
    )
    assert (
        said(CHAPTER, "cluttered:").strip()
        == "9 of 28 pairs differ one by one, 0 with the correction"
    )
    lines = [line.strip() for line in printed(CHAPTER).splitlines()]
    ahead = [line.split(" is ahead of ") for line in lines if " is ahead of " in line]
    five = ["AlexNet", "VGG-16", "ResNet-18", "ResNet-34", "ResNet-50"]
    assert [worse for better, worse in ahead if better == "LeNet-5"] == five
    four = ["LeNet-5", "AlexNet", "VGG-11", "VGG-16"]
    assert [worse for better, worse in ahead if better == "GoogLeNet"] == four
    assert [pair for pair in ahead if pair[0] == "ResNet-18"] == [["ResNet-18", "AlexNet"]]
    assert lines.count("by Tukey's method: 5") == 2
    # Tukey's q of eight means and 14 degrees of freedom is 4.99 (Harter 1960), of single runs.
    limit = facts(CHAPTER)["limit_in_shared_standard_deviations"]
    assert limit == pytest.approx(4.99 / 3**0.5, abs=0.03)
    assert f"{limit:.2f}" == "2.88"


def test_when_pairing_pays():
    paired, unpaired = 4.303, 2.776  # Student's t of 2 and 4 degrees of freedom
    assert f"{1 - (unpaired / paired) ** 2:.2f}" == "0.58"


def test_standard_error_of_an_accuracy():
    record = experiments.load("side_by_side")
    assert record.settings["test_images"] == 2_000
    upright = [arm for arm in record if arm.options["set"] == "upright"]
    middle = fmean(1 - arm.interval("test_error").mean for arm in upright)
    assert f"{middle:.2f}" == "0.87"
    assert f"{100 * (0.87 * 0.13 / 2_000) ** 0.5:.2f}" == "0.75"


def test_cluttered_clothes_are_smaller():
    sides = [28 * scale / 2 for scale in (0.8, 1.3)]
    assert "{:.0f} to {:.0f} pixels instead of 28".format(*sides) in "\n".join(paragraphs(CHAPTER))


@pytest.mark.book
def test_solutions_are_right():
    text, found = printed(SOLUTIONS), facts(SOLUTIONS)
    assert "DIFFERS" not in text
    assert text.count("agrees") == 2
    assert found["whole_resnet_50s_in_a_vgg_16"] == 5
    assert (found["pairs_exclude_zero"], found["unpaired_excludes_zero"]) == (True, False)
    assert sum(line.endswith("on the front") for line in text.splitlines()) == 3
    assert said(SOLUTIONS, "vgg16: 15.5 billion").endswith("dominated")
    assert found["wins_back_some_of_the_loss"] is True
    assert found["the_order_is_reversed"] is True
    assert found["lenet_learns_nothing_at_the_larger_rate"] is True
    low, high = table(SOLUTIONS, "learning rate", "LeNet-5", "ResNet-18")
    assert (low["ahead"], high["ahead"]) == ("LeNet-5", "ResNet-18")


def test_the_solution_says_what_welch_gives():
    a, b = [84.1, 85.0, 83.6], [83.7, 84.5, 83.3]
    stats = pytest.importorskip("scipy.stats")
    found = stats.ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval(0.95)
    assert 3.5 < found.df < 4
    assert f"{low:.1f} {high:.1f}" == "-1.1 1.9"
    assert "from −1.1 to 1.9" in "\n".join(paragraphs(SOLUTIONS))
