"""The comparison of public networks: it would find mistakes, and it finds none."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import compare_networks
import networks_page
import pytest
import timm
import torch
import torchvision
from torch import nn

from cnnbook import analysis

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "chapters" / "reference" / "networks-followed.md"


@pytest.fixture(scope="module")
def results():
    return json.loads(compare_networks.RESULTS.read_text("utf-8"))


@pytest.mark.slow
def test_a_sample_of_networks_agrees_with_everything(tmp_path):
    output = tmp_path / "sample.json"
    command = [sys.executable, compare_networks.__file__, "--sample", "--seconds", "2"]
    subprocess.run([*command, "--output", output], check=True, capture_output=True)
    rows = json.loads(output.read_text())["networks"]
    assert {row["name"] for row in rows} == set(compare_networks.SAMPLE)
    for row in rows:
        assert compare_networks.wrong(row) == []
        assert row["macs"]["unexplained"] == row["macs"]["unexplained_conv"] == 0
        assert row["parameters"]["ours"] == row["parameters"]["torch"]
        assert row["fields"]["checked"] >= 9
        assert row["fields"]["inside"] > 0


def test_every_network_of_torchvision_and_every_family_of_timm_is_compared(results):
    compared = {row["name"] for row in results["networks"]}
    torchvisions = torchvision.models.list_models(module=torchvision.models)
    assert {f"torchvision/{name}" for name in torchvisions} <= compared
    assert set(compare_networks.families()) <= compared
    assert sum(name.startswith("timm/") for name in compared) >= 100


def test_the_page_says_what_the_results_say(results):
    page = networks_page.page(results, compare_networks.families(), compare_networks.wrong)
    assert PAGE.read_text("utf-8") == page


def test_names_are_timms():
    known = {f"timm/{name}" for name in timm.list_models()}
    assert {n for n in compare_networks.families() if n.startswith("timm/")} <= known


class Small(nn.Module):
    """Has everything that blocks gradients: maxima, ReLUs, and gates that are almost shut."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU6(True), nn.MaxPool2d(3, 2, 1))
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.Hardswish(), nn.Conv2d(4, 4, 3, padding=1))
        nn.init.zeros_(self.body[0].weight)

    def forward(self, x):
        return self.body(self.stem(x)).mean((2, 3))


def compared(field=None):
    return compare_networks.receptive_fields(Small().eval(), (3, 32, 32), seconds=60)


def test_gradients_reach_every_pixel_that_a_unit_depends_on():
    found = compared()
    assert found["followed"] == found["layers"] == 8
    assert found["inside"] >= 8
    assert found["outside"] == found["wide"] == found["odd"] == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda f: {"size": tuple(n - 1 for n in f.size)}, "outside"),
        (lambda f: {"start": tuple(n + 1 for n in f.start)}, "outside"),
        (lambda f: {"jump": tuple(2 * n for n in f.jump)}, "outside"),
        (lambda f: {"positions": tuple(n - 1 for n in f.positions)}, "outside"),
        (lambda f: {"size": tuple(n + 1 for n in f.size)}, "wide"),
    ],
)
def test_a_wrong_box_is_found(monkeypatch, change, where):
    right = analysis.receptive_field

    def wrong(*arguments):
        field = right(*arguments)
        return field if field.layer != "body.2" else replace(field, **change(field))

    monkeypatch.setattr(analysis, "receptive_field", wrong)
    found = compared()
    assert found[where]
    assert all(text.startswith("body.2") for text in found[where])


def test_products_that_fvcore_does_not_count_are_counted_by_hand(monkeypatch):
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 5, batch_first=True, bidirectional=True)

        def forward(self, x):
            x = x.mean(1)  # (1, 6, 8)
            x = nn.functional.scaled_dot_product_attention(x, x, x)
            x = x @ torch.ones(2, 1, 8, 8)  # broadcast: 2 × (1, 6, 8) @ (8, 8)
            return self.lstm(torch.einsum("abij,abkj->bik", x, x).mean(0)[None, :, :1] + x[0])

    net = Products()
    monkeypatch.setattr(compare_networks, "build", lambda name, fused: (net, (3, 6, 8)))
    attention, broadcast, einsum = 6 * 6 * (8 + 8), 2 * 6 * 8 * 8, 2 * 6 * 6 * 8
    lstm = 2 * 6 * (4 * 5 * 8 + 4 * 5 * 5)
    found = compare_networks.macs("products", (3, 6, 8), attention + broadcast + einsum + lstm)
    assert found["torch"] == attention + broadcast + einsum + lstm
    assert found["unexplained"] == 0
    by_hand = {by["kind"]: by["hand"] for by in found["by_hand"]}
    assert by_hand["attention"] == attention
    assert by_hand["matmul"] == broadcast
    assert by_hand["lstm"] == lstm


def test_what_is_left_behind_is_found():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = compare_networks.state_of(net)
    assert compare_networks.changes(before, net) == []
    net[0].cache = {"of 3": [torch.zeros(1, device="meta")]}
    with torch.no_grad():
        net[1].running_mean += 1
    net[1].eval()
    torch.rand(1)
    assert sorted(compare_networks.changes(before, net)) == [
        "modes: 1",
        "on the meta device: Sequential._modules.0.cache.of 3[0]",
        "random numbers: state",
        "weights: 1.running_mean",
    ]


def test_what_contradicts_other_numbers_is_called_wrong(results):
    row = json.loads(json.dumps(next(r for r in results["networks"] if r["name"].endswith("18"))))
    assert compare_networks.wrong(row) == []
    row["macs"]["ours"] += 1
    row["macs"]["unexplained"] = 1
    row["parameters"]["ours"] -= 1
    row["attribution"]["occlusion"] = 0.1
    row["attribution"]["grad_cam"][0]["captum"] = 0.1
    words = "\n".join(compare_networks.wrong(row))
    for part in ("MACs: ours", "without a cause", "parameters:", "occlusion:", "Grad-CAM of"):
        assert part in words
