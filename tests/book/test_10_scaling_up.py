"""Facts that the chapter on scaling up prints."""

import re
from pathlib import Path

import pytest
from executed import has_row, printed

CHAPTER = Path(__file__).parents[2] / "chapters" / "10-scaling-up.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

pytestmark = pytest.mark.book

NUMBER = r"(-?[\d.,]+(?:e[-+]\d+)?)"


@pytest.fixture(scope="module")
def text() -> str:
    return printed(CHAPTER)


def table(text: str, head: str) -> list[list[str]]:
    """Return the cells of the printed table whose line of columns begins with `head`."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if re.match(rf" *{head}  ", line))
    columns = len(re.split(r"  +", lines[start].strip()))
    rows = []
    for line in lines[start + 1 :]:
        cells = re.split(r"  +", line.strip())
        if len(cells) != columns:
            break
        rows.append(cells)
    return rows


def test_parts_make_the_gradient_of_the_whole(text):
    rows = table(text, "parts")
    assert [parts for parts, *_ in rows] == ["32 + 32", "16 + 16 + 16 + 16", "48 + 16", "60 + 4"]
    for parts, weighted, plain in rows:
        assert float(weighted) < 1e-12
        equal = len(set(parts.split(" + "))) == 1
        assert (float(plain) < 1e-12) == equal
    (accumulated,) = re.findall(rf"weights differ by {NUMBER} of their size", text)
    assert float(accumulated) < 1e-12


def test_only_batch_normalization_mixes_images(text):
    rows = table(text, "images per part")
    assert [row[0] for row in rows] == ["32", "16", "8", "4", "2"]
    for _, none, batch, group in rows:
        assert float(none) < 1e-12
        assert float(group) < 1e-12
        assert float(batch) > 1e-3
    assert float(rows[-1][2]) > float(rows[0][2])
    (alone,) = re.findall(rf"each for itself: differs by {NUMBER}", text)
    (shared,) = re.findall(rf" shared: differs by {NUMBER}", text)
    assert float(shared) < 1e-9 < 1e-3 < float(alone)


def test_several_processes_train_as_one(text):
    (first, last) = re.findall(rf"first loss {NUMBER}, last {NUMBER}", text)[0]
    assert float(last) < float(first) - 0.5
    (apart,) = re.findall(rf"the losses differ by at most {NUMBER}", text)
    assert float(apart) < 0.05
    processes = table(text, "beside one process")[0]
    assert float(processes[1]) < 1e-4


def test_the_processes_parts_are_the_batch(text):
    parts = [line.split(", ") for line in re.findall(r"^process \d: (.+)$", text, re.M)]
    whole = re.search(r"^the batch: (.+)$", text, re.M)[1].split(", ")
    assert [name for pair in zip(*parts, strict=True) for name in pair] == whole
    assert len(whole) == 6


def test_a_stuck_process_does_not_hang_the_book(text):
    assert "step 1: the sum is 3" in text
    assert "step 2: the sum" not in text
    assert "Root Cause" in text
    assert re.search(r"^exit code [1-9]", text, re.M)


def test_parameters_are_not_operations(text):
    rows = {row[0]: row for row in table(text, "network")}
    assert rows["alexnet"][1:3] == ["60,965,224", "724,406,816"]
    assert rows["resnet50"][1] == "25,557,032"
    macs = {name: int(row[2].replace(",", "")) for name, row in rows.items()}
    assert macs["alexnet"] < macs["googlenet"] < macs["resnet50"] < macs["vgg16"]
    assert has_row(text, "128", "7,503,872", "60,965,224", "towers")
    assert has_row(text, "2,048", "120,061,952", "60,965,224", "divided")


def test_number_formats(text):
    assert re.search(r"^257 +257 +256 +257$", text, re.M)
    assert re.search(r"^70000 +70000 +\d+ +inf$", text, re.M)
    assert "in torch.float32: 2.0000" in text
    assert "in torch.bfloat16: 1.0000" in text
    lost = re.findall(
        r"^learning rate [\d.]+: (\d+)% of the steps are lost in bfloat16, (\d+)%", text, re.M
    )
    assert len(lost) == 4
    assert [int(b) for b, _ in lost] == sorted(int(b) for b, _ in lost)
    assert all(int(b) > int(full) for b, full in lost)


def test_layout_changes_strides_only(text):
    assert "strides (12, 4, 2, 1)" in text
    assert "strides (12, 1, 6, 3)" in text
    assert "[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]" in text
    assert "the same values: True" in text


def test_the_compiler_sees_one_graph(text):
    assert has_row(text, "conv2d", "20")
    assert has_row(text, "add", "8")
    counts = re.search(r"(\d+) operations, (\d+) of them cheap;\nthese stand in (\d+) runs", text)
    everything, cheap, runs = map(int, counts.groups())
    assert everything == cheap + 21
    assert runs < cheap


def test_a_recorded_run_or_none(text):
    none = "no run on a GPU is recorded yet" in text
    assert none != bool(re.search(r"^recorded \d{4}-\d\d-\d\d on NVIDIA", text, re.M))
    if none:
        assert "python -m cnnbook bench throughput --record" in text


def test_image_folder(text):
    assert "<clothes train: 240 images, cropped to 3×32×32, 4 classes>" in text
    assert "<clothes test: 100 images, cropped to 3×32×32, 4 classes>" in text
    assert "exit codes: [0, 0]" in text
    assert re.search(r"Ankle boot/000\.jpg +1 ", text)


def test_interrupted_runs_end_as_if_they_had_not_been(text):
    assert "returned: stopped at step 38 of 90, 38 losses" in text
    assert "equal losses: True; equal weights: True" in text
    assert "a multiple of five steps is kept: True" in text
    assert "90 losses\nlargest difference from the run that was never killed: 0.0" in text


def test_the_bill(text):
    assert "120 epochs" in text
    assert "in proportion to the images: True" in text
    shares = re.findall(
        r"^(convolutions|fully connected layers|softmax): ([\d.]+)% of the time", text, re.M
    )
    assert sum(float(share) for _, share in shares) == pytest.approx(100, abs=0.1)


def test_solutions_confirm_the_calculations():
    text = printed(SOLUTIONS)
    (off,) = re.findall(rf"with factors: relative difference {NUMBER}", text)
    assert float(off) < 1e-12
    assert "factors: 1.02, 1.02, 0.96" in text
    assert "to the nearest: 256" in text
    (average,) = re.findall(r"at random: (\d+) on average", text)
    assert abs(int(average) - 1000) < 10
    rings = re.findall(r"all have the sum: (\w+)\n +each sent \{(\d+)\} .* formula (\d+)", text)
    assert [(sum_, sent == formula) for sum_, sent, formula in rings] == [("True", True)] * 4
    images = re.findall(r"^(SGD with momentum|Adam) +(\d+) +(\d+)$", text, re.M)
    assert len(images) == 2
    for _, full, half in images:
        assert 2 * int(full) <= int(half) <= 2 * int(full) + 1
    assert "before the change of hands equal: True" in text
    (after,) = re.findall(rf"after it they differ by at most {NUMBER}", text)
    assert float(after) < 0.05
