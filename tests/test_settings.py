import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import cnnbook
from cnnbook import settings

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["cpu", "gpu", " GPU "])
def test_environment_decides_the_preset(monkeypatch, name):
    monkeypatch.setenv("CNNBOOK_PRESET", name)
    chosen = cnnbook.preset()
    assert chosen == name.strip().lower()
    assert cnnbook.choose(cpu=1, gpu=2) == {"cpu": 1, "gpu": 2}[chosen]


def test_without_environment_the_preset_follows_the_machine(monkeypatch):
    monkeypatch.delenv("CNNBOOK_PRESET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cnnbook.preset() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cnnbook.preset() == "gpu"


def test_unknown_preset_is_named_with_the_nearest(monkeypatch):
    monkeypatch.setenv("CNNBOOK_PRESET", "gpuu")
    with pytest.raises(ValueError, match=r"'gpuu'\. Did you mean 'gpu'.*cpu, gpu"):
        cnnbook.preset()


def test_seed_repeats_all_three_generators():
    def draw():
        cnnbook.seed(7)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draw() == draw()


@pytest.mark.parametrize("value", [-1, 2**32])
def test_seed_out_of_range(value):
    with pytest.raises(ValueError, match=str(value)):
        cnnbook.seed(value)


@pytest.mark.parametrize("value", ["3", 1.5, None])
def test_seed_of_the_wrong_kind(value):
    with pytest.raises(TypeError, match=f"a seed is an integer, got {value!r}"):
        cnnbook.seed(value)


def test_device_of_the_wrong_kind():
    with pytest.raises(TypeError, match=r"a device is a name, such as 'cpu' or 'cuda:1', got 1.5"):
        cnnbook.device(1.5)


def test_start_says_what_runs(capsys, monkeypatch):
    monkeypatch.setenv("CNNBOOK_PRESET", "cpu")
    cnnbook.start(seed=3)
    first = torch.rand(3)
    out = capsys.readouterr().out
    for part in (cnnbook.__version__, torch.__version__, cnnbook.device().type, "preset  cpu"):
        assert part in out
    cnnbook.seed(3)
    assert torch.equal(first, torch.rand(3))


def test_start_says_how_long_a_chapter_takes_and_how_to_choose_the_other_preset(
    capsys, monkeypatch
):
    monkeypatch.setenv("CNNBOOK_PRESET", "cpu")
    cnnbook.start("08-resnet")
    out = capsys.readouterr().out
    assert "%env CNNBOOK_PRESET=gpu before cnnbook.start" in out
    assert re.search(r"takes   about \d+ (s|minutes) on two cores\n", out)
    # The environment is read at each call, so that %env works after the import, too.
    monkeypatch.setenv("CNNBOOK_PRESET", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cnnbook.start("08-resnet")
    out = capsys.readouterr().out
    assert "%env CNNBOOK_PRESET=cpu before cnnbook.start" in out
    assert re.search(r"takes   [\d,]+ training steps, \d·10[⁰-⁹¹²³]+ operations: made for a ", out)


def test_start_estimates_the_time_on_this_gpu(monkeypatch):
    monkeypatch.setattr(settings, "_training_seconds", lambda counted, device: 22.0)
    words = settings._takes("08-resnet", "gpu", torch.device("cuda"))
    assert words.endswith(" operations: about 20 s on this GPU")


def test_the_estimate_grows_with_steps_and_operations():
    few = {"steps": 100, "operations": 1e9, "kernels": 2_000}
    many = {"steps": 1_000_000, "operations": 1e16, "kernels": 20_000_000}
    cpu = torch.device("cpu")
    assert 0 < settings._training_seconds(few, cpu) < settings._training_seconds(many, cpu)


def test_the_measurement_does_not_change_the_random_numbers(monkeypatch):
    monkeypatch.setenv("CNNBOOK_PRESET", "gpu")
    monkeypatch.setattr(settings, "_takes", lambda *given: str(torch.rand(1)))
    cnnbook.start("08-resnet", seed=3)
    first = torch.rand(3)
    cnnbook.seed(3)
    assert torch.equal(first, torch.rand(3))


def test_start_names_a_chapter_that_there_is_not():
    with pytest.raises(ValueError, match=r"'08-resnets'\. Did you mean '08-resnet'\?.*01-depth"):
        cnnbook.start("08-resnets")


def test_every_notebook_has_an_entry_and_starts_with_its_name():
    stored = json.loads((ROOT / "cnnbook" / "chapters.json").read_text())
    chapters = ROOT / "chapters"
    names = {
        path.relative_to(chapters).with_suffix("").as_posix() for path in chapters.rglob("*.ipynb")
    }
    assert set(stored["gpu"]["notebooks"]) == set(stored["cpu"]["notebooks"]) == names
    for name in names:
        cells = json.loads((chapters / f"{name}.ipynb").read_text())["cells"]
        first = next(cell for cell in cells if cell["cell_type"] == "code")
        assert f'cnnbook.start("{name}", seed=0)' in "".join(first["source"])


@pytest.mark.parametrize("name", ["nodev", "cuda:99", "cpux"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"this machine has no device '{name}'"):
        cnnbook.device(name)


def test_a_device_that_is_there_is_returned():
    assert cnnbook.device("cpu") == torch.device("cpu")
    assert cnnbook.device(torch.device("cpu", 0)) == torch.device("cpu", 0)


@pytest.mark.parametrize("wanted", ["meta", torch.device("meta")])
def test_a_device_without_values_is_refused(wanted):
    with pytest.raises(ValueError, match="'meta' has shapes and no values"):
        cnnbook.device(wanted)
