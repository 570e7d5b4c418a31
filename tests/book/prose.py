"""What a chapter says in words: its paragraphs, its length, and where its numbers come from.

A percentage or a decimal fraction in a chapter's prose is that of a recorded run, of a paper, or
exact. The chapter's own test says which, and compares it with the source::

    def recorded():
        races = experiments.load("relu_race")
        return [f"a training error of {percent(races['ReLU'], 'train_error')}"]

    def test_every_number_has_a_source():
        assert unsourced(CHAPTER, recorded(), papers=["15.3 %"], exact=["0.25"]) == []
"""

import re
from collections.abc import Iterable
from pathlib import Path

import claims
import nbformat

from cnnbook.experiments import ArmResult, Interval, of_difference, of_pairs

WORDS_PER_MINUTE, LINES_PER_MINUTE = 220, 30

MEASURED = re.compile(
    r"[−+]?\d[\d,]*(?:\.\d+)?(?= %| percentage points?\b| points?\b| times\b)|[−+]?\b\d+\.\d+\b"
)
LINK = re.compile(r"\]\([^)]*\)")
PAPER = re.compile(r"\b(?:Table|Figure|Section|Equation|[Pp]aper|[Aa]uthors)\b|\d{4}\b")
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def cells_of(path: Path, kind: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def text_of(path: Path) -> str:
    """Return a chapter's Markdown up to its references."""
    text = "\n\n".join(cell.source for cell in cells_of(path, "markdown"))
    return text.split("\n## References")[0]


def paragraphs(path: Path) -> list[str]:
    """Return a chapter's paragraphs, headings and list items, without addresses and formulas."""
    text = re.sub(r"^```.*?^```", "", text_of(path), flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)
    text = LINK.sub("]", text)
    parts = re.split(r"\n\s*\n|\n(?=[-*] |\d+\. |\|)", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def plain(text: str) -> str:
    """Return text without Markdown's emphasis, brackets of links and code marks."""
    return re.sub(r"[*`\[\]]", "", text)


def answers_of(chapter: str) -> list[str]:
    """Return what the list of claims says that a chapter found."""
    answers = [answer for claim in claims.read_claims() for answer in claim.answers]
    return [answer.found for answer in answers if answer.chapter == chapter]


def unsourced(
    path: Path,
    recorded: Iterable[str] = (),
    papers: Iterable[str] = (),
    exact: Iterable[str] = (),
) -> list[str]:
    """Return what is wrong with the numbers in a chapter's prose and in its answers to claims.

    Parameters
    ----------
    path
        The chapter.
    recorded
        Phrases as the prose has them, with numbers formatted from recorded runs.
    papers
        Phrases with numbers of papers; the paragraph has to name the paper.
    exact
        Phrases with numbers that follow from definitions, computed or given.
    """
    texts = [plain(text) for text in [*paragraphs(path), *answers_of(path.stem)]]
    problems = []
    for kind, phrases in (("recorded", recorded), ("paper", papers), ("exact", exact)):
        for phrase in sorted(phrases, key=len, reverse=True):
            having = [i for i, text in enumerate(texts) if phrase in text]
            if not having:
                problems.append(f"{kind}: the prose does not say “{phrase}”")
            for i in having:
                if kind == "paper" and not PAPER.search(texts[i]):
                    problems.append(f"paper: “{phrase}” stands without a paper: {texts[i]}")
                texts[i] = texts[i].replace(phrase, "…")
    problems += [
        f"no source for {', '.join(numbers)}: {text}"
        for text in texts
        if (numbers := MEASURED.findall(text))
    ]
    return problems


def percent(arm: ArmResult, key: str = "test_error", *, accuracy: bool = False) -> str:
    """Return the mean of a measurement over the runs of a recorded arm, as prose has it."""
    mean = arm.interval(key).mean if len(arm.runs) > 1 else arm.values(key)[0]
    return f"{100 * (1 - mean if accuracy else mean):.1f} %"


def above(
    first: ArmResult, second: ArmResult, key: str = "test_error", *, pairs: bool = False
) -> Interval:
    """Return by how much a measurement of the first arm is above that of the second.

    In pairs, if runs of one seed have more in common than the images.
    """
    compare = of_pairs if pairs else of_difference
    return compare(first.values(key), second.values(key))


def points(change: Interval) -> str:
    """Return the size of a difference between two recorded arms, as prose has it."""
    ends = sorted(abs(100 * end) for end in (change.low, change.high))
    if change.low * change.high < 0:
        ends = [100 * change.low, 100 * change.high]
    low, high = (f"{end:.1f}".replace("-", "−") for end in ends)
    return f"{abs(100 * change.mean):.1f} points (95 % interval {low} to {high})"


def visible_lines(path: Path) -> int:
    """Return the number of code lines that a reader sees without unfolding anything."""
    shown = [c for c in cells_of(path, "code") if not FOLDED & set(c.metadata.get("tags", ()))]
    return sum(len(cell.source.splitlines()) for cell in shown)


def minutes(path: Path, before: str = "") -> float:
    """Return how long a chapter takes to read, references included, or up to a heading."""
    words, lines = 0, visible_lines(path)
    for cell in cells_of(path, "markdown"):
        text, heading, _ = cell.source.partition(before or "\0")
        words += len(text.split())
        if heading:
            break
    return words / WORDS_PER_MINUTE + lines / LINES_PER_MINUTE
