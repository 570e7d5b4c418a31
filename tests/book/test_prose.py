"""The rules for a chapter's prose: findings first, numbers with sources, short, little code."""

import json
import re

import claims
import nbformat
import pytest
from executed import ROOT, chapters_and_pages
from prose import (
    MEASURED,
    cells_of,
    minutes,
    paragraphs,
    text_of,
    unsourced,
    visible_lines,
)

CHAPTERS, _ = chapters_and_pages()
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)

# A finding that opens like this says that its author has not looked, or will not tell.
HEDGE = re.compile(r"(\*\*[^*]+\*\*:? *)?(If|Where|Whether|Should the)\b")


def hedges(text: str) -> list[str]:
    """Return the paragraphs, list items and cells of tables that open with a condition."""
    parts = re.split(r"\n\s*(?:[-*]|\d+\.) |\n\s*\n|\|", "\n" + text)
    return [part for part in parts if HEDGE.match(part.strip())]


def write(path, *cells):
    made = [
        nbformat.v4.new_code_cell(text[1:], metadata={"tags": ["hide-input"]})
        if text.startswith("%")
        else nbformat.v4.new_code_cell(text[1:])
        if text.startswith(">")
        else nbformat.v4.new_markdown_cell(text)
        for text in cells
    ]
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=made)))
    return path


@every_chapter
def test_a_chapter_is_read_in_25_minutes(path):
    assert minutes(path) <= 25


@every_chapter
def test_at_most_350_lines_of_code_are_visible(path):
    assert visible_lines(path) <= 350


@every_chapter
def test_a_picture_comes_before_code(path):
    first, second = cells_of(path, "code")[:2]
    assert "hide-cell" in first.metadata.tags  # installs
    assert "hide-input" in second.metadata.tags  # draws
    opening = nbformat.read(path, as_version=4).cells[0].source
    assert len(opening.split()) <= 130


@every_chapter
@pytest.mark.parametrize("folder", ["", "solutions"])
def test_no_finding_is_a_condition(path, folder):
    text = text_of(path.parent / folder / path.name)
    for heading in ("\n## Exercises", "\n## Check yourself"):
        text = text.split(heading)[0]
    assert hedges(text) == []


@every_chapter
def test_five_quick_questions_with_folded_answers(path):
    asked = text_of(path).split("\n## Check yourself")[1].split("\n## ")[0]
    assert re.findall(r"^(\d)\. ", asked, flags=re.M) == list("12345")
    answers = re.findall(r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", asked, re.S)
    assert len(answers) == 5


@every_chapter
def test_exercises_are_graded(path):
    exercises = text_of(path).split("\n## Exercises")[1]
    marks = re.findall(r"^\d\. (★+) ", exercises, flags=re.M)
    assert marks == sorted(marks)
    assert 4 <= len(marks) <= 6


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("If the loss falls, it learned.\n\nWhere both meet, stop.", 2),
        ("- If it has grown\n- Whether it has\n\n1. Where it is", 3),
        ("| layer | note |\n| --- | --- |\n| conv1 | If both agree |", 1),
        ("**What to notice.** If one curve is above, and\n- **B.** Where it changes", 2),
        ("It is so. If not, it is not.\n\nIffy; wherever.", 0),
    ],
)
def test_what_counts_as_a_condition(text, count):
    assert len(hedges(text)) == count


def headings_of(chapter: str) -> set[str]:
    cells = cells_of(ROOT / "chapters" / f"{chapter}.ipynb", "markdown")
    text = "\n\n".join(cell.source for cell in cells)
    return set(re.findall(r"^##+ (.+)$", text, flags=re.M))


def test_answers_to_claims_are_sentences_and_name_a_section():
    for claim in claims.read_claims():
        for answer in claim.answers:
            assert answer.found.endswith("."), claim.number
            assert answer.heading in headings_of(answer.chapter), claim.number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain-56 ends at 27.1 % and 1,024 times", ["27.1", "1,024"]),
        ("a 3×3 kernel, conv3_1, ResNet-50, 224 pixels, 60,000 images", []),
        ("a change of −0.5, from 0.1", ["−0.5", "0.1"]),
        ("3 points; 12 percentage points; torch 2.12.1", ["3", "12", "2.12"]),
    ],
)
def test_what_counts_as_a_measured_number(text, found):
    assert MEASURED.findall(text) == found


def test_numbers_without_a_source_are_found(tmp_path):
    path = write(
        tmp_path / "x.ipynb",
        "# A chapter\n\nWe got **27.1 %**, [He](http://h/0.5) 28.5 % (Table 2), $0.7x$ 0.25.",
        ">accuracy = 0.9",
        "A list:\n- 3.5 % once\n- 4.5 % twice\n\n## References\n\n- 10.1109/5.7",
    )
    said = ["We got 27.1 %"], ["28.5 %"], ["0.25", "3.5 %", "4.5 %"]
    assert unsourced(path, *said) == []
    (problem,) = unsourced(path, [], *said[1:])
    assert problem.startswith("no source for 27.1: A chapter We got") or "27.1" in problem
    (problem,) = unsourced(path, said[0], ["28.5 %", "4.5 %"], ["0.25", "3.5 %"])
    assert problem.startswith("paper: “4.5 %” stands without a paper")
    (missing, unknown) = unsourced(path, ["We got 27.2 %"], *said[1:])
    assert missing == "recorded: the prose does not say “We got 27.2 %”"
    assert "27.1" in unknown


def test_lines_and_minutes_count_what_is_read(tmp_path):
    cells = ["word " * 220, ">a = 1\nb = 2", "%folded = 3", "## Exercises\n\n" + "word " * 438]
    path = write(tmp_path / "x.ipynb", *cells)
    assert visible_lines(path) == 2
    assert minutes(path) == pytest.approx((220 + 2 + 438) / 220 + 2 / 30)
    assert minutes(path, before="## Exercises") == pytest.approx(1 + 2 / 30)
    assert len(paragraphs(path)) == 3
    assert json.loads(path.read_text())["nbformat"] == 4
