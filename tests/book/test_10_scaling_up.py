"""Facts that the chapter on scaling up prints."""

import ast
from pathlib import Path

import pytest
from executed import facts, number, printed, row, rows, said, table

CHAPTER = Path(__file__).parents[2] / "chapters" / "10-scaling-up.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def text() -> str:
    return printed(CHAPTER)


def test_parts_make_the_gradient_of_the_whole():
    differences = table(CHAPTER, "parts")
    parts = [row["parts"] for row in differences]
    assert parts == ["32 + 32", "16 + 16 + 16 + 16", "48 + 16", "60 + 4"]
    for difference in differences:
        assert number(difference["weighted"]) < 1e-12
        equal = len(set(difference["parts"].split(" + "))) == 1
        assert (number(difference["plain mean"]) < 1e-12) == equal
    assert number(said(CHAPTER, "the weights differ by")) < 1e-12


def test_only_batch_normalization_mixes_images():
    differences = table(CHAPTER, "images per part")
    assert [row["images per part"] for row in differences] == ["32", "16", "8", "4", "2"]
    for difference in differences:
        assert number(difference["none"]) < 1e-12
        assert number(difference["group norm"]) < 1e-12
        assert number(difference["batch norm"]) > 1e-3
    assert number(differences[-1]["batch norm"]) > number(differences[0]["batch norm"])
    alone = number(said(CHAPTER, "each for itself: differs by"))
    shared = number(said(CHAPTER, " shared: differs by"))
    assert shared < 1e-9 < 1e-3 < alone


def test_several_processes_train_as_one():
    first, last = said(CHAPTER, "first loss").split(", last ")
    assert number(last) < number(first) - 0.5
    assert number(said(CHAPTER, "the losses differ by at most")) < 0.05
    processes = table(CHAPTER, "beside one process")[0]
    assert number(processes["first step"]) < 1e-4


def test_the_processes_parts_are_the_batch(text):
    parts = [said(CHAPTER, f"process {rank}:").split(", ") for rank in range(2)]
    (whole,) = (line for line in text.splitlines() if line.startswith("the batch: "))
    whole = whole.removeprefix("the batch: ").split(", ")
    assert [name for pair in zip(*parts, strict=True) for name in pair] == whole
    assert len(whole) == 6


def test_a_stuck_process_does_not_hang_the_book(text):
    assert "step 1: the sum is 3" in text
    assert "step 2: the sum" not in text
    assert "Root Cause" in text
    assert number(said(CHAPTER, "exit code ")) > 0


def test_parameters_are_not_operations(text):
    networks = [list(row.values()) for row in table(CHAPTER, "network", "parameters")]
    parameters = {name: count for name, count, *_ in networks}
    macs = {name: number(count) for name, _, count, *_ in networks}
    assert parameters["alexnet"] == "60,965,224"
    assert parameters["resnet50"] == "25,557,032"
    assert macs["alexnet"] == 724_406_816
    assert macs["alexnet"] < macs["googlenet"] < macs["resnet50"] < macs["vgg16"]
    assert ("128", "7,503,872", "60,965,224", "towers") in rows(CHAPTER)
    assert ("2,048", "120,061,952", "60,965,224", "divided") in rows(CHAPTER)


def test_number_formats(text):
    assert row(CHAPTER, "257") == ("257", "257", "256", "257")
    assert row(CHAPTER, "70000")[1::2] == ("70000", "inf")
    assert "in torch.float32: 2.0000" in text
    assert "in torch.bfloat16: 1.0000" in text
    words = " of the steps are lost in bfloat16, "
    lines = [line.split(words) for line in text.splitlines() if words in line]
    lost = [(number(half.split()[-1]), number(full)) for half, full in lines]
    assert len(lost) == 4
    assert lost == sorted(lost)
    assert all(half > full for half, full in lost)


def test_layout_changes_strides_only(text):
    assert "strides (12, 4, 2, 1)" in text
    assert "strides (12, 1, 6, 3)" in text
    assert "[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]" in text
    assert "the same values: True" in text


def test_the_compiler_sees_one_graph(text):
    assert ("conv2d", "20") in rows(CHAPTER)
    assert ("add", "8") in rows(CHAPTER)
    (line,) = (line for line in text.splitlines() if line.endswith(" of them cheap;"))
    everything, cheap = map(number, line.split(" operations, "))
    runs = number(said(CHAPTER, "these stand in"))
    assert everything == cheap + 21
    assert runs < cheap


def test_a_recorded_run_or_none(text):
    none = "no run on a GPU is recorded yet" in text
    recorded = [line for line in text.splitlines() if line.startswith("recorded ")]
    assert none != any(" on NVIDIA" in line for line in recorded)
    if none:
        assert "python -m cnnbook bench throughput --record" in text


def test_image_folder(text):
    assert "<clothes train: 240 images, cropped to 3×32×32, 4 classes>" in text
    assert "<clothes test: 100 images, cropped to 3×32×32, 4 classes>" in text
    assert facts(CHAPTER)["exit_codes"] == [0, 0]
    # The command prints its table as text: three classes, the most probable first.
    ranked = [line.split()[2:] for line in text.splitlines() if "Ankle boot/000.jpg  " in line]
    assert [row[0] for row in ranked] == ["1", "2", "3"]
    probabilities = [number(row[-1]) for row in ranked]
    assert probabilities == sorted(probabilities, reverse=True)


def test_interrupted_runs_end_as_if_they_had_not_been(text):
    assert "returned: stopped at step 38 of 90, 38 losses" in text
    assert "equal losses: True; equal weights: True" in text
    assert facts(CHAPTER)["a_multiple_of_five_steps_is_kept"] is True
    assert "90 losses\nlargest difference from the run that was never killed: 0.0" in text


def test_the_bill(text):
    assert "120 epochs" in text
    assert "in proportion to the images: True" in text
    shares = [line for line in text.splitlines() if line.endswith("% of the time")]
    shares = [number(line.split(": ")[1]) for line in shares if "waits" not in line]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_solutions_confirm_the_calculations():
    text = printed(SOLUTIONS)
    assert number(said(SOLUTIONS, "with factors: relative difference")) < 1e-12
    assert "factors: 1.02, 1.02, 0.96" in text
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
    assert "before the change of hands equal: True" in text
    assert number(said(SOLUTIONS, "after it they differ by at most")) < 0.05
