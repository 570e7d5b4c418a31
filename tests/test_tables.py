import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from cnnbook.tables import Facts, Table

ROWS = [{"layer": "C1", "n": 1516, "share": 0.25}, {"layer": "a<b", "n": 2, "share": None}]


def test_text_is_aligned_and_formatted():
    text = repr(Table(ROWS, caption="title", formats={"share": ".0%"}))
    assert text.splitlines() == [
        "title",
        "layer      n  share",
        "C1     1,516    25%",
        "a<b        2",
    ]


def test_html_is_well_formed_and_escaped(monkeypatch):
    monkeypatch.setenv("CNNBOOK_BOOK", "1")
    table = ElementTree.fromstring(Table(ROWS, caption="a & b")._repr_html_()).find("table")
    assert table.find("caption").text == "a & b"
    assert [th.text for th in table.iter("th")] == ["layer", "n", "share"]
    assert [td.text or "" for td in table.iter("td")][3] == "a<b"


def test_html_has_minus_signs_in_numbers_alone():
    table = Table([{"layer": "-a", "change": -0.03}, {"layer": "b-c", "change": 2e-7}])
    shown = ElementTree.fromstring(table._repr_html_())
    cells = [[cell.text for cell in row.iterfind("td")] for row in shown.iter("tr")]
    assert cells[1:] == [["-a", "−0.03"], ["b-c", "2e-07"]]
    assert repr(table).splitlines()[1].split() == ["-a", "-0.03"]


def test_outside_the_book_html_has_only_tags_that_sanitizers_keep(monkeypatch):
    monkeypatch.delenv("CNNBOOK_BOOK", raising=False)
    shown = ElementTree.fromstring(Table(ROWS, caption="a & b", notes=["c"])._repr_html_())
    # What nbconvert 7.17 keeps, of which GitHub keeps all.
    assert {element.tag for element in shown.iter()} <= {"div", "strong", "table", "td", "tr"}
    assert [cell.text for cell in shown.iterfind(".//td/strong")] == ["layer", "n", "share"]
    assert [[td.text or "" for td in row] for row in shown.iter("tr")][2][0] == "a<b"
    assert [div.text for div in shown.iterfind("div")] == ["a & b", "c"]


def test_dicts_are_unformatted_copies():
    table = Table(ROWS)
    assert table.to_dicts() == ROWS
    table.to_dicts()[0]["n"] = 0
    assert table[0]["n"] == 1516
    assert len(table) == 2


def test_notes_stand_below_the_table():
    table = Table(ROWS, notes=["total: 1,518 & more", "second"])
    assert repr(table).splitlines()[-2:] == ["total: 1,518 & more", "second"]
    notes = ElementTree.fromstring(table._repr_html_()).findall("div")
    assert [note.text for note in notes] == ["total: 1,518 & more", "second"]
    assert len(table) == 2


def test_to_pandas():
    frame = Table(ROWS, formats={"share": ".0%"}).to_pandas()
    assert list(frame.columns) == ["layer", "n", "share"]
    assert frame["n"].sum() == 1518
    assert frame["share"].isna().tolist() == [False, True]
    assert list(Table([]).to_pandas().columns) == []


def test_without_pandas_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas needs pandas: pip install pandas"):
        Table(ROWS).to_pandas()


def test_rows_must_agree():
    with pytest.raises(ValueError, match=r"row 1 has columns \['b'\]"):
        Table([{"a": 1}, {"b": 1}])


def test_empty_table():
    assert repr(Table([])) == ""


def test_facts_are_text_for_readers_and_values_for_tests():
    values = {"largest_error": 1.23456e-7, "sides": (32, 28), "equal": True, "macs": 416_520}
    facts = Facts(**values, formats={"largest_error": ".0e"})
    text = "largest error: 1e-07\nsides: [32, 28]\nequal: True\nMACs: 416,520"
    assert repr(facts) == text
    data, metadata = facts._repr_mimebundle_()
    assert data == {"text/plain": text}
    read = json.loads(json.dumps(metadata))["cnnbook"]["facts"]
    assert read == values | {"sides": [32, 28]}
    assert facts["largest_error"] == 1.23456e-7


def test_names_of_facts_are_words_also_with_digits():
    assert repr(Facts(a_1x1_layer_is_a_product=True)) == "a 1x1 layer is a product: True"


def test_one_number_of_torch_or_numpy_is_a_number():
    facts = Facts(a=torch.tensor(3), b=np.float64(0.5), c=torch.tensor(True))
    assert facts.values == {"a": 3, "b": 0.5, "c": True}
    assert [type(value) for value in facts.values.values()] == [int, float, bool]


def test_what_is_no_single_value_is_refused_by_name():
    with pytest.raises(TypeError, match=r"the fact 'found' is a dict; it must be a number"):
        Facts(found={})
    with pytest.raises((RuntimeError, ValueError)):
        Facts(many=torch.zeros(2))


def test_a_notebook_keeps_the_values_beside_the_text():
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    data, metadata = formatter.format(Facts(equal=True))
    assert data == {"text/plain": "equal: True"}
    assert metadata == {"cnnbook": {"facts": {"equal": True}}}


def test_headings_are_words():
    keys = {"macs": 1, "macs_per_image": 2, "test_accuracy": 3, "conv1_1": 4, "activation_kib": 5}
    table = Table([keys])
    assert [table.label(key) for key in keys] == [
        "MACs", "MACs per image", "test accuracy", "conv1_1", "activations (KiB)",
    ]  # fmt: skip
