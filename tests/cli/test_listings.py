"""cnnbook models and cnnbook data."""

import json

import pytest
from torch import nn

from cnnbook import models
from cnnbook.models import registry


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
    columns = ["name", "paper", "input", "parameters", "MACs", "last layers", "weights"]
    assert lines[0].split() == " ".join(columns).split()
    (vgg16,) = (line for line in lines if line.startswith("vgg16 "))
    for part in ("Simonyan", "3×224×224", "138,357,544", "15,470,264,320", "fc6 fc7 fc8"):
        assert part in vgg16
    code, out, _ = said("models", "--json", "lenet5")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["name"], row["parameters"], row["macs"]) == ("lenet5", 61_706, 416_520)
    assert row["last_layers"] == "c5 f6 output"
    assert row["options"] == {"activation": "tanh", "pool": "avg"}
    assert row["weights"] == {}


def test_options_are_listed_for_networks_that_are_named(said):
    out = said("models", "vgg11", "lenet5")[1].splitlines()
    assert [line.split()[0] for line in out[:3]] == ["name", "vgg11", "lenet5"]
    assert out[-1] == "options of lenet5: activation=tanh pool=avg"
    assert "batch_norm=False width=1 input_size=224" in out[-3]


def test_weights_are_listed_with_accuracy_license_and_source(said):
    out = said("models", "efficientnet_lite0", "resnet18", "resnet20")[1].splitlines()
    assert out[1].endswith("imagenet, top-1 75.1%, Apache-2.0")
    assert out[2].endswith("imagenet, top-1 69.8%, BSD-3-Clause")
    assert out[3].endswith("pool fc")
    assert any("ML Illustrated; from the Python package efficientnet-lite0" in line for line in out)
    (row,) = json.loads(said("models", "resnet50", "--json")[1])
    weights = row["weights"]["imagenet"]
    assert weights["accuracy"] == {"top1": 0.7613, "top5": 0.92862}
    assert weights["source"].startswith("https://download.pytorch.org/models/resnet50-")


def test_names_that_begin_alike(said):
    code, out, _ = said("models", "lenet", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == ["lenet5", "lenet5_1998"]
    code, _, err = said("models", "resnext")
    assert code == 2
    assert "unknown model 'resnext'" in err


def test_data_alone_lists(said):
    assert said("data") == said("data", "list")


def test_a_broken_network_does_not_hide_the_others(said, monkeypatch):
    monkeypatch.setattr(registry, "_MODELS", {"lenet5": models.model_spec("lenet5")})

    def broken(num_classes, in_channels):
        raise RuntimeError("no weights here\nand more")

    def too_narrow(num_classes, in_channels):
        return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))

    for name, build in (("broken", broken), ("narrow", too_narrow)):
        models.register_model(name, models.ModelSpec(build, "nobody", (1, 8, 8), 10))
    code, out, _ = said("models")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 4
    assert "61,706" in lines[1]
    assert lines[2].endswith("fails: no weights here")
    assert "fails: " in lines[3]
