"""Sphinx extension: tables that fit a phone: rows become cards where they would scroll sideways.

A card shows a row from top to bottom, each cell after its column's heading (phone.css). That suits
rows that one reads, and small tables; a long table of numbers is compared down its columns, so it
scrolls.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import html
import re

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

TABLE = re.compile(r"<table\b.*?</table>", flags=re.S)
PRINTED = re.compile(
    r'(<div class="output (?:stream|text_plain)\b[^>]*><div class="highlight">)'
    r"<pre>(.*?)(?=</pre>)",
    flags=re.S,
)
FEWEST_COLUMNS = 3
FEWEST_NUMBERS = 4  # columns of a table of numbers
PHONE = 326  # pixels: of a screen of 360, beside the margins
LETTER = 8  # pixels, on average, of a wide font; the size of text in tables is about 15
PADDING = 14
PROSE = 40  # characters of a cell that is read as a sentence; the first is a name
MOST_ROWS = 12  # a longer table is one to look something up in
MOST_CELLS = 28  # of a table of numbers whose cards fit one screen or two


def least_width(columns: list[list[Tag]]) -> float:
    """Return about how many pixels a table needs if text wraps and numbers do not."""
    needed = 0.0
    for cells in columns:
        words = [
            len(part)
            for cell in cells
            for part in ([cell.get_text()] if is_number(cell) else cell.get_text().split())
        ]
        needed += PADDING + LETTER * max(words, default=0)
    return needed


def is_number(cell: Tag) -> bool:
    """Tell whether a cell is of a column of numbers, which do not wrap."""
    return cell.name == "td" and "nowrap" in cell.get("style", "")


def suits(table: Tag) -> bool:
    """Tell whether a phone should show a table's rows as cards."""
    rows = table.find_all("tr")
    head = rows[0].find_all("th") if rows else []
    if len(head) < FEWEST_COLUMNS or "claims" in table.get("class", []):
        return False
    body = [row.find_all(["td", "th"]) for row in rows[1:]]
    if not body or table.select("[colspan], [rowspan]") or any(len(r) != len(head) for r in body):
        return False
    if len(body) > MOST_ROWS:
        return False
    if max(len(cell.get_text()) for row in body for cell in row[1:]) > PROSE:
        return True
    columns = [list(cells) for cells in zip(head, *body, strict=True)]
    is_wide = len(head) >= FEWEST_NUMBERS and least_width(columns) > PHONE
    return is_wide and len(body) * len(head) <= MOST_CELLS


def with_labels(text: str) -> str:
    """Return the HTML of a table; if its rows suit cards, with labels and roles."""
    page = BeautifulSoup(text, "html.parser")
    table = page.table
    if not suits(table):
        return text
    table["class"] = [*table.get("class", []), "cnnbook-cards"]
    # A style sheet that makes blocks of rows takes the meaning that elements of tables have.
    table["role"] = "table"
    for part in table.find_all(["thead", "tbody"]):
        part["role"] = "rowgroup"
    head, *body = table.find_all("tr")
    labels = [cell.get_text().strip() for cell in head.find_all("th")]
    for cell in head.find_all("th"):
        cell["role"] = "columnheader"
    for row in [head, *body]:
        row["role"] = "row"
    for row in body:
        for label, cell in zip(labels, row.find_all(["td", "th"]), strict=True):
            cell["role"] = "cell"
            cell["data-label"] = label
            if not cell.get_text().strip() and not cell.find(["img", "svg"]):
                cell["data-empty"] = ""
            inside = page.new_tag("div")
            inside.extend(list(cell.contents))
            cell.append(inside)
    return str(page)


def make_cards(app, pagename, templatename, context, doctree) -> None:
    """Label the cells of tables that a phone shows as cards.

    Cause: pydata-sphinx-theme 0.17.1 lets every wide table scroll, on a phone, too.
    Delete when: it shows rows as cards.
    """
    if "body" in context and "<table" in context["body"]:
        context["body"] = TABLE.sub(lambda table: with_labels(table[0]), context["body"])


def is_aligned(text: str) -> bool:
    """Tell whether printed text has columns, which a line that wraps would disorder."""
    rows = [line for line in text.splitlines() if len(re.findall(r"\S {2,}(?=\S)", line)) > 1]
    return len(rows) > 2 or text.lstrip().startswith(("tensor(", "[["))


def keep_columns(app, pagename, templatename, context, doctree) -> None:
    """Mark printed tables: all else that is printed wraps where there is no room.

    Cause: myst-nb 1.4.0 makes the same element of a printed sentence and of a printed table.
    Delete when: this book: no chapter prints a table.
    """

    def marked(found: re.Match) -> str:
        columns = is_aligned(html.unescape(re.sub(r"<[^>]*>", "", found[2])))
        return f'{found[1]}<pre class="cnnbook-columns">{found[2]}' if columns else found[0]

    if "body" in context:
        context["body"] = PRINTED.sub(marked, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    for change in (make_cards, keep_columns):
        app.connect("html-page-context", change, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
