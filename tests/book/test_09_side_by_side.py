"""What the comparison says, and what it printed when the book was built."""

from pathlib import Path

import pytest
import torch
import torchvision
from executed import facts, number, printed, row, said, table
from prose import paragraphs, unsourced

from cnnbook import analysis, experiments, models

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
    assert accuracy("vgg16") > accuracy("googlenet")
    return [
        f"accuracy of {accuracy('alexnet'):.1f} % on ImageNet",
        f"ResNet-50 of {accuracy('resnet50'):.1f} %, with "
        f"{times('num_params', 'resnet50', 'alexnet')} the parameters and "
        f"{times('_ops', 'resnet50', 'alexnet')} the multiply–adds",
        f"reaches {accuracy('resnet50', 1):.1f} %",
        f"{times('_ops', 'vgg16', 'resnet34')} the multiply–adds of ResNet-34 and "
        f"{times('num_params', 'vgg16', 'resnet34')} its parameters, and is {behind:.1f} points",
        f"by {missed:.2f} points against GoogLeNet",
        f"VGG-16 has {accuracy('vgg16_bn'):.1f} % instead of {accuracy('vgg16'):.1f} %",
        f"This gains {gain:.1f} points",
        f"under one recipe, it is {design:.1f} points",
        f"ResNet-50 gains {gain:.1f} points",
        f"ResNet-50 is at {weights('resnet50')['_ops']:.1f} billion",
        f"EfficientNet-B0 has {accuracy('efficientnet_b0'):.1f} % with {b0['_ops']:.2f} billion",
        f"ConvNeXt-Tiny has {accuracy('convnext_tiny'):.1f} % with {tiny['_ops']:.1f} billion",
        # In the answers to the article's claims.
        f"VGG-16 has a top-1 accuracy of {accuracy('vgg16'):.1f} % and ResNet-34 of "
        f"{accuracy('resnet34'):.1f} %, with {times('_ops', 'resnet34', 'vgg16')} the",
    ]


def recorded() -> list[str]:
    """Return phrases with numbers of the recorded comparison."""
    # RECORD: record = experiments.load("side_by_side"), and phrases made of side_by_side.lead,
    # .drops, .milliseconds, percent(record["VGG-11, upright"], accuracy=True) and points(...).
    return []


PAPERS = [
    "3.6 billion multiply–adds for ResNet-34 and 11.3 billion for ResNet-152",
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
    "15.3 %, 6.67 % and 3.57 %",
    "on one crop has 10.07 %",
    "144 crops have 6.67 %",
    "18.2 % (AlexNet), 9.15 % (GoogLeNet), 9.33 % (VGG-16), 6.71 % (ResNet-50) and 5.71 %",
    "6.67 % against 7.3 %, was one of 0.6 points",
    "24.19 % with 34 layers, 22.85 % with 50, 21.75 % with 101 and 21.43 % with 152",
    "gains 0.3 points",
    "won with 3.57 %, AlexNet with 15.3 %",
    "VGG-16 28.07 %, ResNet-18 27.88 %, ResNet-34 24.19 %, ResNet-50 22.85 %",
    "one of A's networks has 9.15 %",
    # In the answers to the article's claims.
    "22.85 % with 50 layers, 21.75 % with 101 and 21.43 % with 152",
]
EXACT = [
    "within 2 %",
    "8.7 times fewer",
    "exceeds it by 6 %",
    "multiply–adds 15.6 times",
    "1,008 times",
    "as the activations do (0.79) and as the parameters do (0.76)",
    "hardly alike (0.45)",
    "by 1.64 standard deviations",
    "the 95 % interval",
    "5 % of 28 pairs, 1.4 in each",
    "0.11 times the parameters of AlexNet, and 2.2 times",
    "top-5 error of 6.67 % with seven networks on 144 crops, paper B 6.71 %",
    "its 95 % interval excludes",
    "5 % of them are 2.25",
    "learning rate of 0.01 and the ResNets with 0.1",
    "learning rates of 0.003 and 0.03",
    "A 84.1, 85.0 and 83.6 %, and B 83.7, 84.5 and 83.3 %",
    "t is 4.303",
    "1.2 to 1.4 million",
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
    assert f"{alexnet[0] / googlenet[0]:.1f}" == "8.7"
    assert f"{googlenet[0] / alexnet[0]:.2f} {googlenet[1] / alexnet[1]:.1f}" == "0.11 2.2"
    assert f"{googlenet[1] / 1.5e9 - 1:.0%}" == "6%"
    assert f"{resnet152[1] / alexnet[1]:.1f}" == "15.6"
    assert f"{resnet152[0] / vgg16[0]:.2f}" == "0.44"
    assert 7 * 144 == 1008
    assert f"{7.3 - 6.67:.1f} {21.75 - 21.43:.1f}" == "0.6 0.3"


def test_what_the_recorded_comparison_is_said_to_be():
    text = "\n".join(paragraphs(CHAPTER))
    sizes = experiments.get("side_by_side").sizes
    desk, live = sizes["desk"], sizes["live"]
    assert f"the {desk.settings['images']:,} training images" in text
    assert len(desk.settings["widths"]) == 8
    assert desk.settings["widths"]["LeNet-5"] == 4
    assert desk.settings["widths"]["ResNet-50"] == 1 / 16
    steps = live.settings["epochs"] * -(-live.settings["images"] // live.settings["batch_size"])
    assert f"and {steps} steps" in text
    assert list(live.settings["sets"]) == ["upright"]
    assert len(live.settings["widths"]) == 4


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
def test_orders_of_the_costs():
    found = facts(CHAPTER)
    assert f"{found['macs_and_activations']:.2f}" == "0.79"
    assert f"{found['parameters_and_activations']:.2f}" == "0.45"
    assert f"{found['parameters_and_macs']:.2f}" == "0.76"


@pytest.mark.book
def test_equal_networks_look_different():
    found = facts(CHAPTER)
    # The mean range of eight normal numbers is 2.847 standard deviations (Tippett 1925).
    assert found["best_minus_worst"] == pytest.approx(2.847 / 3**0.5, abs=0.02)
    assert found["pairs_called_different"] == pytest.approx(0.05 * 28, abs=0.1)


@pytest.mark.book
def test_the_live_run():
    assert facts(CHAPTER)["all_learn"] is True
    assert facts(CHAPTER)["all_lose_when_shifted"] is True


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
    low, high = table(SOLUTIONS, "learning rate", "LeNet-5", "ResNet-18")
    gains = [number(high[name]) - number(low[name]) for name in ("LeNet-5", "ResNet-18")]
    assert gains[1] > gains[0]
