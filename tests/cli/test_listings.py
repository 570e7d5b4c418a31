"""cnnbook models and cnnbook data."""

import json

import pytest

from cnnbook import models


@pytest.mark.slow
def test_data_sets_are_listed_and_checked(said, monkeypatch, tmp_path):
    assert "fashion-mini" in said("data", "list")[1]
    code, out, _ = said("data", "verify", "fashion-mini", "--json")
    assert code == 0
    assert [row["images"] for row in json.loads(out)] == [10_000, 2_000]
    assert [row["smallest_class"] for row in json.loads(out)] == [1_000, 200]
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b")
    code, _, err = said("data", "verify", "fashion-mnist")
    assert code == 1
    assert "train-images-idx3-ubyte.gz" in err


@pytest.mark.slow
def test_networks_are_listed_with_their_costs(said):
    code, out, _ = said("models")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 1 + len(models.list_models())
    assert lines[0].split() == ["name", "paper", "input", "parameters", "MACs", "last", "layers"]
    (vgg16,) = (line for line in lines if line.startswith("vgg16 "))
    for part in ("Simonyan", "3×224×224", "138,357,544", "15,470,264,320", "fc6 fc7 fc8"):
        assert part in vgg16
    code, out, _ = said("models", "--json", "lenet5")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["name"], row["parameters"], row["macs"]) == ("lenet5", 61_706, 416_520)
    assert row["last_layers"] == "c5 f6 output"
