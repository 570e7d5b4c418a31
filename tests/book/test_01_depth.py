"""The chapter on depth: its numbers, and the cell that needs a download."""

import ast
import hashlib
import types
from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch
import torchvision
from executed import executed_rows, number, outputs, printed, row, rows, said, table

from cnnbook.tables import VERDICTS

CHAPTER = Path(__file__).parents[2] / "chapters" / "01-depth.ipynb"


@pytest.mark.book
def test_numbers_that_follow_from_the_design():
    assert "18,482 parameters" in printed(CHAPTER)
    for cells in (
        ("conv1", "8×28×28", "88", "56,448", "3"),
        ("conv4", "16×7×7", "2,336", "112,896", "13"),
        ("conv6", "32×7×7", "9,280", "451,584", "29"),
        ("3×3, padded by 1", "28", "28", "28", "28", "28", "28"),
        ("3×3, not padded", "28", "26", "24", "22", "18", "8"),
        ("shallow", "1", "18,266", "668,528", "11"),
    ):
        assert cells in rows(CHAPTER)
    _, _, macs, relative, _, exponential = row(CHAPTER, "2,000", "32")
    assert (macs, relative, exponential) == ("2,371,456,000", "4", "8")


@pytest.mark.book
def test_training_is_what_makes_deep_layers_useful():
    probes = {probe["layer"]: probe for probe in table(CHAPTER, "layer", "numbers")}
    trained, untrained = (number(probes["pool"][net]) for net in ("trained", "untrained"))
    assert trained > untrained + 10


@pytest.mark.book
def test_both_rivals_had_a_good_rate_and_enough_steps():
    rates = ast.literal_eval(said(CHAPTER, "chosen:"))
    assert set(rates) == {"deep", "shallow"}
    assert all(0.003 < rate < 3 for rate in rates.values())  # not the first, not the last
    few = table(CHAPTER, "images", "deep, test (%)")[0]
    assert few["images"] == "100"
    assert min(number(few[f"{net}, seen (%)"]) for net in rates) > 95


@pytest.mark.book
def test_every_claim_has_a_verdict():
    assert len(executed_rows(CHAPTER)) == 18
    assert all(claim.verdict in VERDICTS for claim in executed_rows(CHAPTER))


@pytest.mark.book
def test_the_explorer_has_every_layer():
    texts = [o.get("data", {}).get("text/plain", "") for o in outputs(CHAPTER)]
    assert "<Explorer of 36 states (layer: 6, unit: 6)>" in texts


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A file like VGG-16's weights: random convolutions, fully connected layers of zeros."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in torchvision.models.vgg16().state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        if name.startswith("features"):
            weights[name] = 0.05 * torch.randn(shape, dtype=torch.float16)
        else:  # one number, repeated: it takes no room in the file
            weights[name] = torch.zeros(1, dtype=torch.float16).expand(shape)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save(weights, folder / "part")
    digest = hashlib.sha256((folder / "part").read_bytes()).hexdigest()
    file = (folder / "part").rename(folder / f"vgg16-{digest[:8]}.pth")
    assert file.stat().st_size < 50e6
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    url = f"https://example.org/{file.name}"
    read = partial(torch.hub.load_state_dict_from_url, url)
    address = types.SimpleNamespace(url=url, get_state_dict=read)
    monkeypatch.setattr(torchvision.models, "get_weight", lambda name: address)
    return file


def run_cells(*tags):
    """Run the chapter's cells with these tags, as a reader who wants the figure of VGG-16."""
    found = {"train": types.SimpleNamespace(mean=(0.5,), std=(0.5,))}
    for cell in nbformat.read(CHAPTER, as_version=4).cells:
        if set(tags) & set(cell.metadata.get("tags", [])):
            exec(cell.source, found)
    return found


@pytest.mark.slow
def test_with_weights_the_chapter_draws_vgg_16(stand_in, capsys):
    figure = run_cells("look-inside", "vgg16")["figure"]
    assert capsys.readouterr().out == ""
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 5 * 6
    assert [t for t in titles if t.startswith("sees")] == [
        f"sees {side} pixels" for side in (6, 16, 44, 100, 212)
    ]
    assert [axes.get_ylabel() for axes in figure.axes[::6]] == [
        f"block{i}\n{side}×{side}" for i, side in enumerate((112, 56, 28, 14, 7), 1)
    ]
    assert len(figure.svg()) < 700_000


@pytest.mark.slow
def test_without_weights_the_chapter_says_why_there_is_no_figure(stand_in, capsys):
    stand_in.write_bytes(b"something else")
    assert run_cells("look-inside", "vgg16")["figure"] is None
    assert "could not be\nfetched" in capsys.readouterr().out
