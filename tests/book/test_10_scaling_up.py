"""What the chapter on scaling up says: its numbers and their sources, and what it printed."""

import ast
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from executed import facts, number, printed, row, rows, said, table
from prose import answers_of, text_of, unsourced

from cnnbook import analysis, models

CHAPTER = Path(__file__).parents[2] / "chapters" / "10-scaling-up.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

in_book = pytest.mark.book

GOYAL = [
    *("with 32 times as many", "With 32 times the learning rate"),
    *("23.60 %", "41.67 %", "26.22 %", "24.84 %", "23.74 %", "24.79 %", "about 90 %"),
]
WU = ["23.6 % with 32 images per GPU", "34.7 % with two", "24.1 % for both"]
SECTIONS = [f"Section {section}" for section in ("3.1", "3.2", "3.4")]
MICIKEVICIUS = ["75.92 % in float32", "76.04 % in mixed precision"]
# Settings of the papers and of the code, and definitions.
OUTPUTS = "10.6 million numbers per image"  # of ResNet-50's convolutions
SETTINGS = ["| 0.1 |", "momentum 0.9, weight decay 0.0001", "Nesterov's momentum 0.9"]
SETTINGS += ["With 16 times the batch", "0.1, divided by 10", "--lr 0.1", "between 0 and 100 %"]
SETTINGS += ["a learning rate of 0.1 to 1,024", "A learning rate of 0.4"]


@cache
def costs(name: str) -> tuple[int, int, float, float]:
    """Return parameters, multiply–adds, and the shares of them in fully connected layers."""
    with torch.device("meta"):
        net = models.create(name)
    listed = analysis.summary(net, models.model_spec(name).input_shape, depth=9).rows
    ran = [r for r in listed if r["output"]]
    linear = [r for r in ran if r["kind"] == "Linear"]
    parameters, macs = (sum(r[key] for r in ran) for key in ("parameters", "macs"))
    shares = (sum(r[key] for r in linear) for key in ("parameters", "macs"))
    in_fc = [share / whole for share, whole in zip(shares, (parameters, macs), strict=True)]
    return parameters, macs, *in_fc


def outputs_of_convolutions(name: str) -> int:
    with torch.device("meta"):
        net = models.create(name)
    listed = analysis.summary(net, models.model_spec(name).input_shape, depth=9).rows
    shapes = [r["output"] for r in listed if r["kind"] == "Conv2d" and r["output"]]
    return sum(math.prod(map(int, shape.split("×"))) for shape in shapes)


def exact() -> list[str]:
    alexnet, vgg, resnet = costs("alexnet"), costs("vgg16"), costs("resnet50")
    per_number = [3 * 32 * macs / (2 * p) for p, macs, *_ in (alexnet, resnet)]
    fixed, kept = 12 * resnet[0] / 2**30, 78 / 2**10
    assert 3 * kept < fixed < 4 * kept  # "Four images take more than"
    assert f"AlexNet computes {per_number[0]:.0f} of these for each number sent" in text_of(CHAPTER)
    return [
        f"{alexnet[2]:.1%} and {vgg[2]:.1%} of".replace("%", " %"),
        f"{alexnet[3]:.1%} and {vgg[3]:.1%} of".replace("%", " %"),
        f"{per_number[1] / per_number[0]:.1f} times as many",
        f"the {fixed:.2f} GiB for weights",
        f"64 images take {64 * kept:.1f} GiB",
        f"{alexnet[0] / costs('googlenet')[0]:.1f} times GoogLeNet's parameters",
        f"{1 + 0.001} becomes {torch.tensor(1.001).bfloat16().item():.0f}",
        f"costs {41.67 - 23.60:.0f} points",
        f"are {3 * 90 * 1_281_167 * alexnet[1] / 1e17:.1f}·10¹⁷ multiply–adds",
        f"are {3 * 120 * 1_281_167 * resnet[1] / 1e18:.1f}·10¹⁸ multiply–adds",
    ]


def test_every_number_has_a_source():
    papers = [*GOYAL, *WU, *MICIKEVICIUS, *SECTIONS]
    assert unsourced(CHAPTER, papers=papers, exact=[*exact(), *SETTINGS, OUTPUTS]) == []


def test_what_is_counted_is_as_said():
    text, answers = text_of(CHAPTER), " ".join(answers_of("10-scaling-up"))
    alexnet, resnet = costs("alexnet"), costs("resnet50")
    exchanged = 256 * 13 * 13 + 256 * 6 * 6 + 4096 + 4096 // 2
    assert f"only if a step has more than {alexnet[0] / exchanged:,.0f} of them" in text
    assert f"as many gradients back: {exchanged:,} numbers" in text
    outputs = outputs_of_convolutions("resnet50")
    assert f"{outputs / 1e6:.1f} million numbers per image" == OUTPUTS
    assert 2 < resnet[0] / outputs < 3  # "from three images on"
    assert resnet[0] < alexnet[0]
    assert outputs > outputs_of_convolutions("alexnet")
    assert round(alexnet[0] / (128 * exchanged)) == 8
    assert "the two towers send an eighth of what" in text
    assert "an eighth of what" in answers
    assert alexnet[1] < costs("googlenet")[1] / 2  # "less than half of its multiply–adds"
    seen = 120 * 1_281_167
    assert f"${3 * seen * resnet[1] / 1e18:.1f} \\cdot 10^{{18}}$ multiply–adds" in text
    assert f"{seen / 86_400:,.0f} images per second" in text
    assert round(600_000 * 256 / 1_281_167) == 120  # "or 120 epochs"
    assert torch.finfo(torch.bfloat16).eps == 2**-7
    assert 2 * torch.finfo(torch.float32).eps == 2**-22  # between 2 and 4
    assert torch.tensor(257.0).bfloat16() == 256


@in_book
def test_parts_make_the_gradient_of_the_whole():
    differences = table(CHAPTER, "parts")
    assert [row["parts"] for row in differences][2:] == ["48 + 16", "60 + 4"]
    for difference in differences:
        assert number(difference["weighted mean"]) < 1e-12
        equal = len(set(difference["parts"].split(" + "))) == 1
        assert (number(difference["plain mean"]) < 1e-12) == equal


@in_book
def test_only_batch_normalization_mixes_images():
    differences = table(CHAPTER, "images per part")
    assert [row["images per part"] for row in differences] == ["32", "8", "2"]
    for difference in differences:
        assert number(difference["none"]) < 1e-12
        assert number(difference["group norm"]) < 1e-12
    apart = [number(difference["batch norm"]) for difference in differences]
    assert 1e-3 < apart[0] < apart[1] < apart[2]


@in_book
def test_two_processes_train_as_one():
    seen = facts(CHAPTER)
    first, last = seen["losses"]
    assert last < first - 0.5
    assert seen["first_step_differs_by"] < 1e-5
    assert seen["largest_difference"] < 0.01  # of a loss above 1: one line in the figure


@in_book
def test_parameters_are_not_operations():
    for name in ("alexnet", "vgg16", "googlenet", "resnet50"):
        shown = row(CHAPTER, name, f"{costs(name)[0]:,}")
        assert number(shown[2]) == costs(name)[1]
    assert "60,965,224 parameters, 58,624 activations per image:" in printed(CHAPTER)


@in_book
def test_what_resnet_50_keeps():
    assert said(CHAPTER, "kept for each image:") == "78 MiB"


@in_book
def test_a_large_batch_needs_another_learning_rate():
    small, same, scaled = (number(r["test accuracy"]) for r in table(CHAPTER, "batch", "lr"))
    chance = 10
    assert small - chance > 2 * (same - chance)  # "most of the accuracy is lost"
    assert scaled - same > small - scaled > 0  # "recovers most of it, but not all"


@in_book
def test_number_formats():
    assert row(CHAPTER, "257") == ("257", "257", "256", "257")
    assert row(CHAPTER, "70000")[1::2] == ("70000", "inf")
    assert row(CHAPTER, "1e-08")[3] == "0"


@in_book
def test_small_steps_are_lost_in_bfloat16():
    seen = facts(CHAPTER)
    assert abs(seen["mixed_minus_float32"]) < 0.05 < 0.1 < seen["bfloat16_minus_float32"]
    assert seen["updates_lost_with_mixed_precision"] < 0.01
    assert seen["updates_lost_in_bfloat16"] > 2 / 3


@in_book
def test_own_images():
    text = printed(CHAPTER)
    assert "<clothes train: 240 images, cropped to 3×32×32, 4 classes>" in text
    assert facts(CHAPTER)["exit_codes"] == [0, 0]
    # The command prints its table as text: three classes, the most probable first.
    ranked = [line.split()[2:] for line in text.splitlines() if "Ankle boot/000.jpg  " in line]
    assert [entry[0] for entry in ranked] == ["1", "2", "3"]
    probabilities = [number(entry[-1]) for entry in ranked]
    assert probabilities == sorted(probabilities, reverse=True)


@in_book
def test_interrupted_runs_end_as_if_they_had_not_been():
    assert "returned: stopped at step 38 of 90, 38 losses" in printed(CHAPTER)
    seen = facts(CHAPTER)
    assert seen["losses_after_resuming"] == 90
    assert seen["equal_losses"] is seen["equal_weights"] is True
    assert seen["finished_before_the_kill"] is False
    assert seen["kept_after_a_multiple_of_five"] is True
    assert seen["largest_difference_after_the_kill"] == 0


@in_book
def test_the_bill():
    assert ("resnet50", "120", "153,740,040", "1.8e+18", "1,779") in rows(CHAPTER)
    assert row(CHAPTER, "alexnet", "90")[3] == "2.5e+17"


@in_book
def test_solutions_confirm_the_calculations():
    text = printed(SOLUTIONS)
    assert number(said(SOLUTIONS, "with factors: relative difference")) < 1e-12
    assert "factors: 1.02, 1.02, 0.96" in text
    assert "step 1: the sum is 3" in text
    assert "step 2: the sum" not in text
    assert "[rank0]: Runtime" in text
    assert said(SOLUTIONS, "Root cause, torchrun says: rank ") == "0"
    assert number(said(SOLUTIONS, "exit code ")) > 0
    assert "to the nearest: 256" in text
    assert abs(number(said(SOLUTIONS, "at random:")) - 1000) < 10
    lines = text.splitlines()
    rings = [i for i, line in enumerate(lines) if "all have the sum: " in line]
    assert len(rings) == 4
    for i in rings:
        assert lines[i].endswith("all have the sum: True")
        sent, formula = lines[i + 1].split(" formula ")
        assert ast.literal_eval(sent[sent.index("{") : sent.index("}") + 1]) == {int(formula)}
    images = [tuple(row.values()) for row in table(SOLUTIONS, "optimizer")]
    assert [name for name, *_ in images] == ["SGD with momentum", "Adam"]
    for _, full, half in images:
        assert 2 * number(full) <= number(half) <= 2 * number(full) + 1
    assert "equal until the interruption: True" in text
    assert number(said(SOLUTIONS, "after it they differ by at most")) < 0.05
