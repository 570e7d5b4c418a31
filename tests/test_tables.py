from xml.etree import ElementTree

import pytest

from cnnbook.tables import Table, claim_table

ROWS = [{"layer": "C1", "n": 1516, "share": 0.25}, {"layer": "a<b", "n": 2, "share": None}]


def test_text_is_aligned_and_formatted():
    text = repr(Table(ROWS, caption="title", formats={"share": ".0%"}))
    assert text.splitlines() == [
        "title",
        "layer      n  share",
        "C1     1,516    25%",
        "a<b        2",
    ]


def test_html_is_well_formed_and_escaped():
    table = ElementTree.fromstring(Table(ROWS, caption="a & b")._repr_html_()).find("table")
    assert table.find("caption").text == "a & b"
    assert [th.text for th in table.iter("th")] == ["layer", "n", "share"]
    assert [td.text or "" for td in table.iter("td")][3] == "a<b"


def test_dicts_are_unformatted_copies():
    table = Table(ROWS)
    assert table.to_dicts() == ROWS
    table.to_dicts()[0]["n"] = 0
    assert table[0]["n"] == 1516
    assert len(table) == 2


def test_rows_must_agree():
    with pytest.raises(ValueError, match=r"row 1 has columns \['b'\]"):
        Table([{"a": 1}, {"b": 1}])


def test_empty_table():
    assert repr(Table([])) == ""


def test_claims_need_a_known_verdict_and_all_their_texts():
    (row,) = claim_table([("a", "holds in part", "b", "c")]).rows
    assert list(row.values()) == ["a", "holds in part", "b", "c"]
    with pytest.raises(ValueError, match=r"unknown verdict 'hold'.*Did you mean 'holds'"):
        claim_table([("a", "hold", "b", "c")])
    with pytest.raises(ValueError, match="needs all its texts"):
        claim_table([("a", "holds", "", "c")])
