"""What is accepted as a recorded run."""

import json

import pytest

from cnnbook import results
from cnnbook.results import schema

MACHINE = dict.fromkeys(schema.MACHINE, "")
ROWS = [
    results.Row("speed", "running", who, 1, "m/s", None, more={"laps": [1, 2.5]}).to_dict()
    for who in ("hare", "tortoise")
]


@pytest.fixture
def content():
    return json.loads(json.dumps(schema.document("A race", "run", MACHINE, ROWS)))


def test_columns_of_a_row_are_its_fields_then_more():
    row = results.Row("speed", "running", "hare", 1.5, "m/s", 2.0, "slept", {"laps": [1]})
    assert row.to_dict() == {
        "part": "speed",
        "task": "running",
        "contender": "hare",
        "value": 1.5,
        "unit": "m/s",
        "ratio": 2.0,
        "note": "slept",
        "laps": [1],
    }


def test_what_follows_the_schema_is_accepted(content):
    schema.check(content)
    for value in ("a text", 3, -0.5, None, [], [1, 2.5]):
        content["rows"][1]["laps"] = value
        schema.check(content)
    content["rows"][1] = dict(reversed(content["rows"][1].items()))  # the order means nothing
    schema.check(content)


def change(content, where, value):
    *way, last = where
    for key in way:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["schema"], 2, "schema is 2, this cnnbook reads 1"),
        (["schema"], None, "schema is None, this cnnbook reads 1"),
        (["title"], None, "the record: 'title' is missing; its fields are schema, title, command"),
        (["comment"], "good", "the record: 'comment' is unknown; its fields are schema"),
        (["machine", "torch"], None, "machine: 'torch' is missing; its fields are processor"),
        (["machine", "gpu"], "none", "machine: 'gpu' is unknown; its fields are processor"),
        (["rows"], [], "rows is empty"),
        (["rows", 1], [1], r"row 1 is \[1\], not an object with part"),
        (["rows", 1, "unit"], None, "row 1: 'unit' is missing; its fields are part, task"),
        (["rows", 0, "unit"], None, "row 0: 'unit' is missing; its fields are part, task"),
        (["rows", 1, "laps"], None, "row 1: 'laps' is missing; its fields are part.*, note, laps"),
        (["rows", 1, "color"], "red", "row 1: 'color' is unknown; its fields are part.*, laps"),
        (["rows", 0, "laps"], ["a"], r"row 0: laps is \['a'\]; allowed are a text"),
        (["rows", 0, "laps"], [1, float("inf")], r"row 0: laps is \[1, inf\]"),
        (["rows", 1, "value"], float("nan"), "row 1: value is nan"),
        (["rows", 1, "value"], float("inf"), "row 1: value is inf"),
        (["rows", 1, "note"], {"a": 1}, "row 1: note is"),
    ],
)
def test_what_breaks_the_schema_is_named(content, tmp_path, where, value, message):
    change(content, where, value)
    with pytest.raises(ValueError, match=message):
        schema.check(content)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        results.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_is_readable_and_read_as_it_was_written(content):
    content["title"] = "A race over 200 µm – “slow”"
    content["rows"][0]["laps"] = [0.1, -2, 1e-07]
    written = results.as_json(content)
    assert json.loads(written) == content
    assert '"laps": [0.1, -2, 1e-07]' in written.decode()  # a list on one line, and no escapes
    assert "200 µm – “slow”" in written.decode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.as_json({"value": float("nan")})
