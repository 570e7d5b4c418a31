"""That every part can be run, kept, drawn and repeated."""

import json
import shlex

import pytest
import torch

from cnnbook import bench, results
from cnnbook.bench.run import COMPARISONS, _command
from cnnbook.cli import build_parser, main
from cnnbook.results import schema


@pytest.mark.slow
def test_command_records_and_draws(tmp_path, capsys):
    output, plot = tmp_path / "b.json", tmp_path / "b.svg"
    arguments = ["bench", "augment", "epoch", "--quick", "--repeats", "1"]
    assert main([*arguments, "--output", str(output), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    record = json.loads(output.read_text())
    assert results.load(output).rows == record["rows"]
    assert record["command"] == "python -m cnnbook bench augment epoch --quick --repeats=1"
    assert record["machine"]["torch"] == torch.__version__
    assert {row["part"] for row in record["rows"]} == {"augment", "epoch"}
    assert all(row["value"] > 0 for row in record["rows"])
    assert "DataLoader, 4 workers" in text
    assert "times ours" in text
    assert plot.read_text().startswith("<?xml")


def test_the_command_repeats_what_was_asked_for():
    options = {
        "quick": True,
        "repeats": 1,
        "networks": ["vgg11", "resnet18"],
        "limit": 60,
        "data_set": "imagefolder:my pictures",
        "seeds": 2,
    }
    command = _command(["recipe"], options)
    chosen = build_parser().parse_args(shlex.split(command)[3:])
    found = (
        chosen.quick,
        chosen.repeats,
        chosen.model,
        chosen.time_limit,
        chosen.data,
        chosen.seeds,
    )
    assert found == tuple(options.values())
    assert chosen.part == ["recipe"]


def test_the_command_repeats_the_filters():
    options = {
        "networks": ["resnet50"],
        "precisions": ["bfloat16", "float16"],
        "layouts": ["channels_last"],
        "modes": ["eager", "graph"],
        "batch_size": 128,
    }
    command = _command(["throughput"], options)
    assert command == (
        "python -m cnnbook bench throughput --model=resnet50 --precision=bfloat16 "
        "--precision=float16 --layout=channels_last --mode=eager --mode=graph --batch=128"
    )
    chosen = build_parser().parse_args(shlex.split(command)[3:])
    found = (chosen.model, chosen.precision, chosen.layout, chosen.mode, chosen.batch)
    assert found == tuple(options.values())


def test_parts_are_the_comparisons_and_the_experiments():
    assert [*COMPARISONS] == ["augment", "epoch", "accuracy", "models"]
    assert [*bench.PARTS] == [*COMPARISONS, "throughput", "ceiling", "recipe"]
    titles = [bench.title(part) for part in bench.PARTS]
    assert all(titles)
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("part", bench.PARTS)
def test_a_part_is_given_the_options_that_it_takes(part, monkeypatch):
    given = {}

    def measure(*, quick, seeds):
        """Note the options."""
        given.update(quick=quick, seeds=seeds)
        yield results.Row(part, "noting", "nobody", 1.0, "s", None)

    monkeypatch.setitem(bench.PARTS, part, measure)
    result = bench.run([part], quick=True, seeds=7)
    assert given == {"quick": True, "seeds": 7}
    assert result.title == "Note the options"
    assert [row.part for row in result.rows] == [part]


def test_what_was_measured_before_a_failure_is_kept(monkeypatch, tmp_path):
    def measure(*, quick):
        """Fail in the middle."""
        yield results.Row("epoch", "first", "nobody", 1.0, "s", None)
        raise RuntimeError("out of luck")

    monkeypatch.setitem(bench.PARTS, "epoch", measure)
    file = tmp_path / "kept.json"
    with pytest.raises(RuntimeError, match="out of luck"):
        bench.run(["epoch"], output=file)
    assert [row["task"] for row in results.load(file).rows] == ["first"]


def test_parts_of_different_columns_make_one_result():
    rows = (
        results.Row("epoch", "train", "cnnbook", 2.0, "seconds", 1.0),
        results.Row("recipe", "learn", "lenet5", 0.9, "test accuracy", None, more={"lowest": 0.8}),
    )
    machine = results.describe_machine()
    found = bench.Result(rows, machine, "python -m cnnbook bench epoch recipe", "Both")
    schema.check(found.to_dict())
    assert [row["lowest"] for row in found.to_dict()["rows"]] == [None, 0.8]
    with pytest.raises(ValueError, match="nothing to draw"):
        bench.Result(rows, machine, "", "Both").plot()


def test_the_drawing_has_a_bar_for_each_other_contender():
    pytest.importorskip("matplotlib")
    rows = [("cnnbook", 1.0), ("slow", 3.0), ("fast", 0.5), ("never got there", None)]
    rows = [results.Row("speed", "running", who, 1.0, "s", ratio) for who, ratio in rows]
    figure = bench.Result(tuple(rows), {}, "", "A race").plot()
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["running: slow", "running: fast"]
    assert sorted(bar.get_width() for bar in axes.patches) == [0.5, 3.0]


def test_an_option_that_no_part_takes_is_refused():
    for option in ({"networks": ["lenet5"]}, {"data_set": "digits"}, {"seeds": 2}):
        (name,) = option
        with pytest.raises(
            ValueError, match=f"{name}= is for .*(ceiling|recipe); this runs only epoch"
        ):
            bench.run(["epoch"], **option)


@pytest.mark.parametrize(("threads", "shown"), [(1, ", 1 thread, "), (2, ", 2 threads, ")])
def test_threads_are_counted(threads, shown):
    machine = results.describe_machine() | {"threads": threads}
    row = results.Row("epoch", "train", "cnnbook", 2.0, "seconds", 1.0)
    assert shown in repr(bench.Result((row,), machine, "", "Train"))
