"""A day with a GPU, rehearsed without one."""

import json
import re
import sys
import time
import zipfile
from pathlib import Path

import pytest
import try_gpu as tool

from cnnbook import analysis, models

ROOT = Path(__file__).parents[2]


def part(output, name, code, limit=30.0, **more):
    result = output / "results" / f"{name}.json"
    command = [sys.executable, "-c", code, result]
    return tool.Part(name, command, limit, tool.rows_of_bench, result, **more)


def write(rows, then=""):
    text = json.dumps({"rows": rows})
    return f"import sys; open(sys.argv[1], 'w').write({text!r}); {then}"


def start(output, minutes=1.0):
    return tool.Day(output, minutes, {"PATH": "/usr/bin:/bin"})


def test_a_part_that_fails_is_recorded_and_the_next_begins(tmp_path):
    day = start(tmp_path)
    bad = part(tmp_path, "bad", write([{"value": 1}], "raise ValueError('no such luck')"))
    missing = tool.Part("missing", ["/no/such/program"], 9, tool.rows_of_bench, tmp_path / "x")
    good = part(tmp_path, "good", write([{"value": 2}]))
    day.run_all([bad, missing, good], 1)
    assert day.kept(bad)["outcome"] == "failed"
    assert day.kept(bad)["error"].splitlines()[-1] == "ValueError: no such luck"
    assert day.kept(bad)["rows"] == [{"value": 1}]  # what it had written before
    assert "FileNotFoundError" in day.kept(missing)["error"]
    assert day.kept(good)["outcome"] == "ok"
    assert day.kept(good)["rows"] == [{"value": 2}]


def test_what_is_done_is_not_done_again_and_the_rest_is(tmp_path, capsys):
    count = "open('counted', 'a').write(NAME)"
    parts = [
        part(tmp_path, "a", count.replace("NAME", "'a'")),
        part(tmp_path, "b", count.replace("NAME", "'b'") + "; import os; os._exit(3)"),
    ]
    start(tmp_path).run_all(parts, 1)
    start(tmp_path).run_all(parts, 1)
    assert (tmp_path / "counted").read_text() == "abb"
    assert "a: done before" in capsys.readouterr().out


def test_a_part_is_stopped_at_its_limit_with_what_it_started(tmp_path):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', CODE])".replace(
        "CODE", repr("import time; time.sleep(3); open('late', 'w').close()")
    )
    slow = part(tmp_path, "slow", write([{"value": 1}], child), limit=1.5)
    day = start(tmp_path)
    began = time.monotonic()
    day.run_all([slow], 1)
    assert time.monotonic() - began < 20  # not 3 s exactly: this machine may be busy
    assert day.kept(slow)["outcome"] == "out of time"
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_when_the_time_is_up_nothing_more_begins(tmp_path, capsys):
    day = start(tmp_path, minutes=(tool.RESERVE + tool.LEAST - 1) / 60)
    never = part(tmp_path, "never", write([]))
    day.run_all([never], 1)
    assert day.kept(never) is None
    assert "never: no time left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--parts", "testz"], "no part begins with 'testz'; there are tests, "),
        (["--minutes", "-3"], "--minutes is more than 0"),
        (["--side-by-side", "0"], "--side-by-side at least 1"),
        (["--wheels", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_wrong_arguments_are_no_success(tmp_path, capsys, arguments, told):
    try:
        code = tool.main([*arguments, "--device", "cpu", "--output", str(tmp_path)])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert told in capsys.readouterr().err


def test_parts_of_a_group_run_side_by_side(tmp_path):
    meet = (  # each waits until the other has begun
        "import pathlib, time; pathlib.Path(ME).touch()\n"
        "while not pathlib.Path(OTHER).exists(): time.sleep(0.02)"
    )
    parts = [
        part(tmp_path, me, meet.replace("ME", repr(me)).replace("OTHER", repr(other)), group="g")
        for me, other in (("one", "two"), ("two", "one"))
    ]
    day = start(tmp_path)
    day.run_all(parts, 2)
    assert [day.kept(each)["outcome"] for each in parts] == ["ok", "ok"]


def test_a_refusal_in_words_is_what_two_processes_on_one_gpu_are_to_give(tmp_path):
    said = part(
        tmp_path, "said", "raise SystemExit('2 processes on 1 GPU: …')", must_say="on 1 GPU"
    )
    silent = part(tmp_path, "silent", "raise SystemExit('NCCL')", must_say="on 1 GPU")
    day = start(tmp_path)
    day.run_all([said, silent], 1)
    assert day.kept(said)["outcome"] == "ok"
    assert day.kept(silent)["outcome"] == "failed"
    assert "did not say 'on 1 GPU'" in day.kept(silent)["error"]


def test_goals_stand_beside_their_figures():
    def ratio(part, contender, value, **more):
        row = {"part": part, "task": "96 px", "contender": contender, "ratio": value}
        return {**row, "value": 1.0, "unit": "images/s", "note": "", **more}

    network = {"network": "lenet5", "batch_size": 256}
    variant = {"network": "resnet50", "precision": "bfloat16", "layout": "channels_last"}
    found = {
        "tests": {"rows": [{"tests": 20, "failures": 1, "errors": 0, "failed": ["x"]}]},
        "chapter 01": {"outcome": "ok", "rows": [{"seconds": 20.0}]},
        "chapter 02": {"outcome": "failed", "rows": []},
        "ceiling": {"rows": [ratio("ceiling", "the same step, one CUDA graph", 0.83, **network)]},
        "augment": {
            "rows": [
                ratio("augment", "kornia, batched", 2.1),
                ratio("augment", "cnnbook, parameters drawn before", 0.9)
                | {"task": "256 × 224 px, 3 channels", "note": "23% of the memory's bandwidth"},
            ]
        },
        "recipe": {
            "rows": [
                ratio("recipe", "test accuracy", None) | {"value": 0.9412, "unit": "test accuracy"},
                ratio("recipe", "training", None) | {"value": 7.5, "unit": "seconds"},
            ]
        },
        "throughput": {
            "rows": [
                ratio("throughput", "torchvision", 1.01, **variant, mode="graph"),
                *(
                    ratio("throughput", "cnnbook", 1, **{**variant, "network": name}, mode="graph")
                    | {"value": value}
                    for name, value in (("alexnet", 600.0), ("alexnet_2014", 1200.0))
                ),
            ],
        },
        "torchrun with 1 process": {
            "outcome": "ok",
            "rows": [{"said": "validation accuracy 75 %"}],
        },
    }
    assert [tuple(line.values()) for line in tool.goals(found)] == [
        ("tests on a GPU pass", "19 of 20", "no"),
        ("every chapter ends, in at most 60 s", "1 of 2 ended, the slowest in 20 s", "no"),
        ("fit reaches 80 % of the graph: lenet5, batch 256", "83%", "yes"),
        ("augmentation at 3 times kornia's speed: 96 px", "2.10 times", "no"),
        (
            "augmentation at 20 % of the memory's bandwidth: 256 × 224 px, 3 channels",
            "23%",
            "yes",
        ),
        ("94 % of Fashion-MNIST in 8 s", "94.12% in 7.5 s", "yes"),
        (
            "as fast as torchvision: resnet50, bfloat16, channels_last, graph",
            "1.01 times",
            "yes",
        ),
        (
            "AlexNet of 2012 within 1.5 times its share of operations: "
            "bfloat16, channels_last, graph",
            "1.97 times",
            "no",
        ),
        ("torchrun with 1 process", "validation accuracy 75 %", "yes"),
    ]
    assert tool.goals({}) == []


def test_operations_of_the_networks_that_are_compared():
    for name, macs in tool.OPERATIONS.items():
        shape = models.model_spec(name).input_shape
        assert analysis.summary(models.create(name), shape).total_macs == macs


def test_wheels_of_what_is_missing_are_unpacked(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("pytest", "not_here"):
        with zipfile.ZipFile(wheels / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "")
    tool.unpack(wheels, tmp_path / "site")
    tool.unpack(wheels, tmp_path / "site")
    assert (tmp_path / "site" / "not_here" / "__init__.py").exists()
    assert not (tmp_path / "site" / "pytest").exists()
    with pytest.raises(FileNotFoundError, match=r"no wheels in .*--collect"):
        tool.unpack(tmp_path, tmp_path / "site")


def test_every_chapter_and_every_goal_has_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "gpus", lambda: 1)
    parts = {each.name: each for each in tool.make_parts(tmp_path, tiny=False, device="cuda")}
    chapters = [name for name in parts if name.startswith("chapter ")]
    assert len(chapters) == len(tool.CHAPTERS) >= 10
    assert all(parts[name].environment["CNNBOOK_PRESET"] == "gpu" for name in chapters)
    assert parts["torchrun with 2 processes"].must_say == "2 processes on 1 GPU"
    assert {"tests", "ceiling", "augment", "recipe", "throughput"} <= set(parts)
    files = [each.file_name for each in parts.values()]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in files)


def notebook(path, *sources):
    cells = [
        {"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None}
        for s in sources
    ]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    content = {"nbformat": 4, "nbformat_minor": 4, "metadata": spec, "cells": cells}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_a_notebook_is_run_in_an_empty_folder_and_its_kernel_ends_with_it(tmp_path):
    good = notebook(tmp_path / "good.ipynb", "import os\nassert os.listdir() == []", "1 / 0")
    slow = notebook(
        tmp_path / "slow.ipynb",
        f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))",
        "import time; time.sleep(600)",
    )
    day = tool.Day(tmp_path, 4, dict(tool.os.environ))
    command = [sys.executable, tool.__file__, "--notebook"]
    files = [tmp_path / "results" / f"{n}.json" for n in range(3)]
    read = tool.rows_of_notebook
    parts = [
        tool.Part("one cell", [*command, good, files[0], "--cells", 1], 90, read, files[0]),
        tool.Part("both", [*command, good, files[1]], 90, read, files[1]),
        tool.Part("slow", [*command, slow, files[2]], 40, read, files[2]),
    ]
    day.run_all(parts, 1)
    one, both, slow = (day.kept(each) for each in parts)
    assert (one["outcome"], one["rows"][0]["gpu_memory_gb"]) == ("ok", 0)
    assert both["outcome"] == "failed"
    assert both["rows"][0]["error"][-1] == "ZeroDivisionError: division by zero"
    assert slow["outcome"] == "out of time"
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.2)
    else:
        assert not Path(f"/proc/{pid}/cmdline").exists()


@pytest.mark.slow
def test_the_rehearsal_runs_every_part(tmp_path, capsys):
    code = tool.main(["--device", "cpu", "--tiny", "--minutes", "9", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "try_gpu.json").read_text())
    assert record["not_done"] == [], [p["error"] for p in record["parts"]]
    assert code == 0
    assert [p["name"] for p in record["parts"]] == [
        *("tests", "ceiling", "chapter 00-convolution", "augment", "recipe"),
        *("torchrun with 1 process", "torchrun with 2 processes", "throughput"),
    ]
    assert record["machine"]["device"] == "cpu"
    assert record["parts"][0]["rows"][0]["tests"] > 20
    assert "goal" in printed
