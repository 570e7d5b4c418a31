"""Reading back what notebooks showed."""

from pathlib import Path

import executed
import nbformat
import pytest

from cnnbook.tables import Facts, Table

PATH = Path("a chapter.ipynb")


def shown(value):
    """Return the output that a notebook keeps of a value."""
    if isinstance(value, str):
        return nbformat.v4.new_output("stream", text=value)
    data, metadata = {"text/plain": repr(value)}, {}
    if isinstance(value, Table):
        data["text/html"] = value._repr_html_()
    else:
        _, metadata = value._repr_mimebundle_()
    return nbformat.v4.new_output("execute_result", data=data, metadata=metadata)


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setenv("CNNBOOK_BOOK", "1")
    layers = [
        {"layer": "C1", "parameters": 156, "kind": None},
        {"layer": "C3", "parameters": 1516, "kind": "a<b"},
    ]
    values = [
        "it differs by 1e-06, hardly\nstep 1: 3\nstep 2: 4\n",
        Table(layers, caption="Layers"),
        Table([{"layer": "C1", "accuracy": 0.5}], formats={"accuracy": ".1%"}),
        Facts(equal=True, macs=416_520),
    ]
    cells = [nbformat.v4.new_code_cell(outputs=[shown(value)]) for value in values]
    cells.insert(1, nbformat.v4.new_markdown_cell("it differs by nothing"))
    monkeypatch.setattr(executed, "executed_cells", lambda path: cells)
    executed.tables.cache_clear()
    yield cells
    executed.tables.cache_clear()


def test_tables_are_rows_of_what_one_sees(notebook):
    assert executed.rows(PATH) == [("C1", "156", ""), ("C3", "1,516", "a<b"), ("C1", "50.0%")]
    assert executed.table(PATH, "layer", "accuracy") == [{"layer": "C1", "accuracy": "50.0%"}]
    assert executed.row(PATH, "C3") == ("C3", "1,516", "a<b")
    with pytest.raises(LookupError, match="2 tables of a chapter"):
        executed.table(PATH, "layer")
    with pytest.raises(LookupError, match="2 rows of a chapter"):
        executed.row(PATH, "C1")
    with pytest.raises(LookupError, match="0 rows"):
        executed.row(PATH, "C5")


def test_facts_are_read_by_name_and_named_once(notebook):
    assert executed.facts(PATH) == {"equal": True, "macs": 416_520}
    notebook.append(nbformat.v4.new_code_cell(outputs=[shown(Facts(macs=1))]))
    with pytest.raises(LookupError, match=r"names these facts twice: \['macs'\]"):
        executed.facts(PATH)


def test_sentences_are_read_by_the_words_before(notebook):
    assert executed.said(PATH, "it differs by") == "1e-06, hardly"
    assert executed.said(PATH, "MACs:") == "416,520"
    for words in ("step ", "step 3"):
        with pytest.raises(LookupError, match="lines of a chapter"):
            executed.said(PATH, words)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,516", 1516), ("85.3%", 85.3), ("61.1 (60.2 – 61.6)", 61.1), ("-3e-07, so", -3e-7)],
)
def test_numbers(text, value):
    assert executed.number(text) == value
