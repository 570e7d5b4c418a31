"""Recorded runs: how they are found and shown, and that none is lost in writing."""

import copy
import os
import shlex

import pytest

from cnnbook import bench, results
from cnnbook.cli import build_parser, main
from cnnbook.results import records

MACHINE = {
    "processor": "AMD EPYC",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "python": "3.11.7",
    "torch": "2.12.1+cu130",
    "torchvision": "0.27.1",
    "cnnbook": "0.1.0",
    "date": "2026-11-26 09:30 UTC",
}
ROWS = [
    {
        "part": "speed",
        "task": "running",
        "contender": who,
        "value": value,
        "unit": "meters/s",
        "ratio": None,
        "note": "",
        "laps": [1, 2.5],
    }
    for who, value in (("hare", 180.4), ("tortoise", 0.1))
]
COMMAND = "python -m cnnbook bench epoch --quick"


def write(folder, *, date=MACHINE["date"], **machine):
    machine = MACHINE | machine | {"date": date}
    return results.record("A race", COMMAND, ROWS, machine=machine, folder=folder)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Let the package's own runs be an empty folder."""
    monkeypatch.setattr(records, "RUNS", tmp_path)
    return tmp_path


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = write(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "speed-cpu.json"
    run = results.load(path)
    assert (run.name, run.title, run.command) == ("speed-cpu", "A race", COMMAND)
    assert (run.machine, run.rows) == (MACHINE, ROWS)
    assert results.load(str(path)) == run
    assert '"laps": [1, 2.5]' in path.read_text()  # on one line


def test_a_record_says_that_it_is_one(tmp_path):
    run = results.load(write(tmp_path))
    label = "recorded 2026-11-26 on AMD EPYC, torch 2.12.1, not run on this page"
    assert run.label == label
    assert repr(run) == f"{label}\n{COMMAND}\n{run.table()!r}"
    table = run.table()
    assert table.caption == "A race: running"
    assert table.columns == ["contender", "value", "unit", "laps"]  # no empty column
    assert [row["value"] for row in table.rows] == [180, 0.1]
    assert table.rows[0]["laps"] == "1, 2.5"
    on_gpu = results.load(write(tmp_path, device="NVIDIA H100 80GB HBM3"))
    assert "on NVIDIA H100 80GB HBM3, torch" in on_gpu.label


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cpu", "speed-cpu"),
        ("NVIDIA H100 80GB HBM3", "speed-nvidia-h100"),
        ("NVIDIA A100-SXM4-40GB", "speed-nvidia-a100-sxm4"),
        ("NVIDIA GeForce RTX 4090", "speed-nvidia-geforce-rtx-4090"),
    ],
)
def test_files_are_named_by_part_and_device(tmp_path, device, name):
    assert write(tmp_path, device=device).stem == name


def test_runs_are_found_by_part_and_device_newest_first(runs):
    assert results.list_runs() == results.find("speed") == []
    write(runs, date="2026-02-01 08:00 UTC")
    write(runs, date="2026-11-26 08:00 UTC", device="NVIDIA H100 80GB HBM3")
    write(runs, date="2025-12-31 23:59 UTC", device="Tesla T4")
    assert results.list_runs() == ["speed-cpu", "speed-nvidia-h100", "speed-tesla-t4"]
    names = ["speed-nvidia-h100", "speed-cpu", "speed-tesla-t4"]
    assert [run.name for run in results.find("speed")] == names
    assert [run.name for run in results.find("speed", "h100")] == ["speed-nvidia-h100"]
    assert results.find("speed", "MI300") == results.find("throughput") == []


def test_an_unknown_name_lists_what_is_there(runs):
    write(runs)
    write(runs, device="Tesla T4")
    with pytest.raises(
        ValueError, match=r"Did you mean 'speed-cpu'\? .* speed-cpu, speed-tesla-t4"
    ):
        results.load("speed_cpu")
    for path in ("nowhere.json", runs / "nowhere.json"):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
            results.load(path)


def test_a_damaged_file_is_named(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"speed-cpu\.json: .* line 5 column 12"):
        results.load(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"speed-cpu\.json: schema is None"):
        results.load(path)


def test_what_breaks_the_schema_is_not_written(tmp_path):
    rows = copy.deepcopy(ROWS)
    rows[1]["value"] = float("nan")
    with pytest.raises(ValueError, match="row 1: value is nan"):
        results.record("A race", COMMAND, rows, machine=MACHINE, folder=tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "problem"),
    [("fsync", KeyboardInterrupt()), ("fsync", OSError("full")), ("replace", OSError("locked"))],
)
def test_an_interrupted_writing_keeps_the_old_file(tmp_path, monkeypatch, call, problem):
    before = write(tmp_path).read_bytes()

    def fail(*_):
        raise problem

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(problem)):
        write(tmp_path, date="2026-11-27 00:00 UTC")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["speed-cpu.json"]
    assert (tmp_path / "speed-cpu.json").read_bytes() == before
    write(tmp_path, date="2026-11-27 00:00 UTC")  # without a failure it is replaced
    assert (tmp_path / "speed-cpu.json").read_bytes() != before


@pytest.mark.parametrize("name", results.list_runs())
def test_runs_of_the_package_can_be_repeated(name):
    run = results.load(name)
    python, flag, package, *words = shlex.split(run.command)
    assert (python, flag, package) == ("python", "-m", "cnnbook")
    chosen = build_parser().parse_args(words)
    (part,) = chosen.part
    assert part in bench.PARTS
    assert run.title == bench.title(part)
    assert {row["part"] for row in run.rows} == {part}
    assert name.startswith(f"{part}-")
    assert not chosen.quick


@pytest.mark.slow
def test_a_part_is_recorded_as_the_package_has_it(tmp_path, capsys):
    arguments = ["bench", "recipe", "--quick", "--seeds", "2", "--record", str(tmp_path)]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    (path,) = tmp_path.glob("recipe-*.json")
    assert f"recorded in {path}" in err
    run = results.load(path)
    assert run.command == "python -m cnnbook bench recipe --quick --seeds=2"
    assert [row["contender"] for row in run.rows] == ["test accuracy", "training"]
    assert all(row["contender"] in out for row in run.rows)
    accuracy, accuracies = run.rows[0], run.rows[0]["accuracies"]
    assert len(accuracies) == 2
    assert accuracy["lowest"] == min(accuracies) <= accuracy["value"] <= accuracy["highest"]
    for recorded in results.find("recipe"):
        assert set(recorded.rows[0]) <= set(run.rows[0])
