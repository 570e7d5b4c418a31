"""Which tables become cards on a phone, and what their cells say."""

import cards
import pytest

from cnnbook.tables import Table


@pytest.fixture(autouse=True)
def _in_book(monkeypatch):
    monkeypatch.setenv("CNNBOOK_BOOK", "1")


def made(rows):
    return cards.TABLE.sub(lambda found: cards.with_labels(found[0]), Table(rows)._repr_html_())


NUMBERS = dict.fromkeys(["training loss", "training accuracy", "validation loss", "seconds"], 0.5)


def test_a_small_table_becomes_cards_with_the_headings_as_labels():
    text = made([{"network": "A", "parameters": 132_863_336} | NUMBERS] * 3)
    page = cards.BeautifulSoup(text, "html.parser")
    assert page.table["class"] == ["cnnbook-cards"]
    for row in page.select("tbody tr"):
        labels = [cell["data-label"] for cell in row.find_all("td")]
        assert labels == ["network", "parameters", *NUMBERS]
        assert [cell["role"] for cell in row.find_all("td")] == ["cell"] * 6
        assert row.get_text(" ") == "A 132,863,336 0.5 0.5 0.5 0.5"
    assert len(page.select("[role=columnheader]")) == 6
    assert len(page.select("[role=row]")) == 4


@pytest.mark.parametrize(
    "rows",
    [
        [{"network": "A"} | NUMBERS] * 9,  # compared down its columns
        [{"network": "A", "layers": 1, "loss": 0.5, "error": 0.5}] * 3,  # narrow
        [{"network": "a sentence that is longer than forty letters", "loss": 0.5}] * 3,  # wraps
        [{"network": "A", "parameters": 10**15, "multiply–adds": 10**18}] * 3,
    ],
    ids=["many numbers", "narrow", "two columns", "three columns of numbers"],
)
def test_other_tables_stay_as_they_are(rows):
    assert made(rows) == Table(rows)._repr_html_()


def test_sentences_become_cards_unless_one_looks_something_up():
    remark = "it is read from left to right, as a sentence is, and not down"
    rows = [{"year": "2012", "network": "AlexNet", "where": remark, "layers": 8}]
    assert "cnnbook-cards" in made(rows * 12)
    assert "cnnbook-cards" not in made(rows * 13)
    assert "cnnbook-cards" in made([{"change": "ReLU", "effect": remark, "today": "yes"}])


def test_a_cell_keeps_its_links_together():
    row = (
        "<tr><td>a <a href='#'>b</a> c</td>" + "<td>some longer words than that</td>" * 4 + "</tr>"
    )
    head = "<tr>" + "<th>electroencephalograms</th>" * 5 + "</tr>"
    text = cards.with_labels(f"<table><thead>{head}</thead><tbody>{row}</tbody></table>")
    cell = cards.BeautifulSoup(text, "html.parser").td
    assert [child.name for child in cell.children] == ["div"]
    assert cell.get_text() == "a b c"


def test_cells_that_span_columns_do_not_become_cards():
    head = "<tr>" + "<th>electroencephalograms</th>" * 5 + "</tr>"
    text = f"<table><thead>{head}</thead><tbody><tr><td colspan=5>x</td></tr></tbody></table>"
    assert cards.with_labels(text) == text


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("image        rank  class\na.jpg           1  Bag\nb.jpg           2  Coat\n", True),
        ("tensor([[1, 2],\n        [3, 4]])", True),
        ("device  cpu (x86_64, 1 thread)\npreset  cpu  (to change it)\ntakes   50 s\n", False),
        ("With three layers in place of one, the test error is 1.1 points lower.", False),
    ],
)
def test_printed_tables_keep_their_columns(text, columns):
    context = {
        "body": '<div class="output stream highlight"><div class="highlight"><pre><span></span>'
        f"{text}</pre></div></div>"
    }
    cards.keep_columns(None, "page", "page.html", context, None)
    assert ('<pre class="cnnbook-columns">' in context["body"]) == columns
    assert text in context["body"]
