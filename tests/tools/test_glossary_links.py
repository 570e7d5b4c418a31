"""Links to the glossary, in a small book: where they lead, and what they say of the term."""

import re
import subprocess
import sys
from pathlib import Path
from string import ascii_uppercase

import glossary
import nbformat
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]

SETTINGS = f"""
import sys
sys.path.append({str(ROOT / "tools" / "sphinx")!r})
project = "a small book"
extensions = ["myst_nb", "glossary"]
myst_enable_extensions = []
nb_execution_mode = "off"
exclude_patterns = ["jupyter_execute"]
"""
GLOSSARY = """
# Words

```{glossary}
1×1 convolution (1×1 합성곱)
  A convolution whose kernels
  have one pixel, `k < 2`.

  More in [a chapter](../chapter.ipynb).

class activation map (CAM, 클래스 활성화 맵)
  See [1×1 convolution](#term-1x1-convolution).
```
"""
CHAPTER = """# A chapter

A [1×1](reference/words.md#term-1x1-convolution) layer, again
[1×1](reference/words.md#term-1x1-convolution), and the [page](reference/words.md).

| a [CAM](reference/words.md#term-class-activation-map) |
| --- |
| b |
"""


@pytest.mark.parametrize(
    ("term", "expected"),
    [("accuracy (정확도)", "accuracy · 정확도"), ("epoch", "epoch"), ("GAP (a, b)", "GAP · a, b")],
)
def test_the_index_names_a_term_without_brackets(term, expected):
    assert glossary.indexed(term) == expected


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("feature map (피처 맵, 특징 맵)", "term-feature-map"),
        ("1×1 convolution (1×1 합성곱)", "term-1x1-convolution"),
        ("global average pooling (전역 평균 풀링, GAP)", "term-global-average-pooling"),
        ("multiply–add (곱셈-덧셈 연산, MAC)", "term-multiply-add"),
        ("He initialization (He 초기화)", "term-he-initialization"),
    ],
)
def test_an_address_is_made_of_the_english_name(term, expected):
    assert glossary.anchor(term) == expected


def write(folder: Path, chapter: str) -> None:
    (folder / "reference").mkdir(parents=True)
    (folder / "conf.py").write_text(SETTINGS)
    (folder / "index.md").write_text("# Start\n\n```{toctree}\nchapter\nreference/words\n```\n")
    (folder / "reference" / "words.md").write_text(GLOSSARY)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(chapter)])
    nbformat.write(notebook, folder / "chapter.ipynb")


def build(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-n", "--keep-going", "."]
    return subprocess.run(
        [*command, "html"], cwd=folder, check=False, capture_output=True, text=True
    )


def page(folder: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((folder / "html" / f"{name}.html").read_text(), "html.parser")


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    write(folder, CHAPTER)
    result = build(folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
def test_links_lead_to_entries_and_are_described_by_their_definitions(small_book):
    chapter, words = page(small_book, "chapter"), page(small_book, "reference/words")
    links = chapter.select("a.cnnbook-term")
    assert [link.get_text() for link in links] == ["1×1", "1×1", "CAM"]
    for link in links:
        address, _, name = link["href"].partition("#")
        assert address == "reference/words.html"
        assert words.find("dt", id=name) is not None
        assert len(chapter.find_all(id=link["aria-describedby"])) == 1
    texts = [chapter.find(id=link["aria-describedby"]).get_text() for link in links]
    assert texts[0] == "A convolution whose kernels have one pixel, k < 2."
    assert texts[2] == "See 1×1 convolution."
    for text in chapter.select("[role=tooltip]"):
        assert text.has_attr("hidden")


@pytest.mark.slow
def test_other_links_and_the_glossary_itself_stay_as_they_are(small_book):
    (link,) = (a for a in page(small_book, "chapter").select("a") if a.get_text() == "page")
    assert not link.has_attr("aria-describedby")
    words = page(small_book, "reference/words")
    assert not words.select("[role=tooltip], .cnnbook-term")
    addresses = [link["href"] for link in words.select("dd a")]
    assert addresses == ["../chapter.html", "#term-1x1-convolution"]


def test_a_letter_leads_to_its_first_entry_and_one_without_entries_is_no_link():
    names = ["term-1x1-convolution", "term-adam", "term-affine-map", "term-he-initialization"]
    row = BeautifulSoup(glossary.letters(names), "html.parser")
    assert [li.get_text() for li in row.select("li")] == list(ascii_uppercase)
    links = {link.get_text(): link["href"] for link in row.select("a")}
    assert links == {"A": "#term-adam", "H": "#term-he-initialization"}
    # A screen reader does not read the letters that lead nowhere.
    assert all(li.find("a") or li["aria-hidden"] == "true" for li in row.select("li"))


@pytest.mark.slow
def test_the_letters_are_above_the_entries(small_book):
    words = page(small_book, "reference/words")
    (row,) = words.select("nav.cnnbook-letters")
    assert row["aria-label"]
    assert row.find_next("dl").find("dt")["id"] == "term-1x1-convolution"
    links = {link.get_text(): link["href"] for link in row.select("a")}
    assert links == {"C": "#term-class-activation-map"}


@pytest.mark.slow
def test_definitions_are_not_found_by_a_search_of_other_pages(small_book):
    index = (small_book / "html" / "searchindex.js").read_text()
    pages = re.search(r'"docnames": ?\[(.*?)\]', index)[1].replace('"', "").split(",")
    (found,) = re.findall(r'"kernel": ?(\d+)', index)
    assert pages[int(found)].strip() == "reference/words"


@pytest.mark.slow
def test_pages_follow_a_definition_that_changes(tmp_path):
    write(tmp_path, CHAPTER)
    assert build(tmp_path).returncode == 0
    path = tmp_path / "reference" / "words.md"
    path.write_text(GLOSSARY.replace("whose kernels", "whose windows"))
    assert build(tmp_path).returncode == 0
    assert "whose windows" in page(tmp_path, "chapter").find(role="tooltip").get_text()


@pytest.mark.slow
def test_a_link_to_no_entry_is_an_error(tmp_path):
    write(tmp_path, "# A chapter\n\n[tern](reference/words.md#term-tern)\n")
    result = build(tmp_path)
    assert result.returncode != 0
    assert "term-tern" in result.stderr
