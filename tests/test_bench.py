"""The benchmark's arithmetic, and that every part runs. How fast things are is not tested."""

import json
import shlex
from types import SimpleNamespace

import pytest
import torch

from cnnbook import bench, experiments, results
from cnnbook.__main__ import main, parser
from cnnbook.models import create, list_models


def test_ratios_are_taken_round_by_round():
    seconds = {bench.OURS: [1.0, 2.0, 4.0], "other": [3.0, 8.0, 8.0]}
    ours, other = bench.rows_of_race("part", "task", seconds, 100, {"other": "slow"})
    assert (ours.ratio, ours.value) == (1.0, 50.0)
    assert (other.ratio, other.value, other.note) == (3.0, 100 / 8, "slow")


def test_contenders_take_turns():
    calls = []
    race = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = bench.race(race, 2)
    assert calls == ["a", "b"] * 3  # a round to warm up, two that count
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_processes_apart_take_turns_and_their_death_is_noticed():
    race = {bench.OURS: torch.get_num_threads, "other": torch.get_num_threads}
    assert {len(t) for t in bench.race_apart(race, 2).values()} == {2}
    with pytest.raises(RuntimeError, match="the process of 'bad' died"):
        bench.race_apart({"bad": torch.cat}, 1)


@pytest.mark.parametrize("name", ["alexnet_2014", "googlenet_bn", "resnet50", "vgg16_bn"])
def test_torchvisions_network_does_the_same_work(name):
    with torch.device("meta"):
        options = {"auxiliary": False} if name == "googlenet_bn" else {}
        ours, theirs = create(name, **options), bench.torchvision_model(name)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]


def test_all_names_exist():
    assert set(bench.SAME) <= set(list_models())
    assert set(experiments.FULL_SIZE) <= set(list_models())


def test_the_recipe_trains_lenet5():
    net, options = bench.recipe()
    assert sum(p.numel() for p in net.parameters()) == 61_706
    assert options["epochs"] >= 1


@pytest.mark.parametrize("peer", bench.PEERS)
def test_peers_score_images(peer):
    make, side, optimizer, batch_size = bench.PEERS[peer]
    net = make()
    assert net(torch.zeros(2, 1, side, side)).shape == (2, 10)
    assert optimizer(net.parameters()).param_groups
    assert batch_size > 1


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
    command = bench._command(["fashion"], **options)
    chosen = parser().parse_args(shlex.split(command)[3:])
    found = (chosen.quick, chosen.repeats, chosen.model, chosen.limit, chosen.data, chosen.seeds)
    assert found == tuple(options.values())
    assert chosen.part == ["fashion"]


def test_parts_of_different_columns_make_one_result():
    rows = (
        bench.Row("epoch", "train", "cnnbook", 2.0, "seconds", 1.0),
        bench.Row("fashion", "learn", "lenet5", 0.9, "test accuracy", None, more={"lowest": 0.8}),
    )
    machine = results.describe_machine()
    found = bench.Result(rows, machine, "python -m cnnbook bench epoch fashion", "Both")
    results.check(found.to_dict())
    assert [row["lowest"] for row in found.to_dict()["rows"]] == [None, 0.8]
    with pytest.raises(ValueError, match="nothing to draw"):
        bench.Result(rows, machine, "", "Both").plot()


@pytest.mark.parametrize("name", experiments.FULL_SIZE)
def test_throughput_races_the_same_networks(name):
    with torch.device("meta"):
        pair = experiments._same_networks(name)
        if name not in bench.SAME:
            assert list(pair) == [bench.OURS]
            return
        shapes = [[p.shape for p in net.parameters()] for net in pair.values()]
    assert list(pair) == [bench.OURS, "torchvision"]
    assert shapes[0] == shapes[1]


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    tried = []

    def steps(net, batch_size, *_):
        def work():
            tried.append(batch_size)
            if batch_size > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return work

    monkeypatch.setattr(experiments, "_steps", steps)
    nets = {bench.OURS: None, "torchvision": None}
    monkeypatch.setattr(experiments, "_same_networks", lambda name: nets)
    variant = {"precision": "float32", "layout": "contiguous", "mode": "eager"}
    device = torch.device("cpu")
    rows, batch_size = experiments._throughput("vgg16", 8, 1, 1, device, **variant)
    assert batch_size == 2
    assert tried == [8, 4, 2, 2, 2, 2]  # two networks, to warm up and once more
    assert [row.contender for row in rows] == [bench.OURS, "torchvision"]
    assert {row.more["batch size"] for row in rows} == {2}


@pytest.mark.parametrize("layout", experiments.LAYOUTS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_throughput_trains(layout, precision):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 16, stride=16),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 1000),
    )
    before = [p.detach().clone() for p in net.parameters()]
    device = torch.device("cpu")
    experiments._steps(net, 2, 1, device, precision, layout, "eager")()
    assert all((p != q).any() for p, q in zip(net.parameters(), before, strict=True))
    assert net[0].weight.is_contiguous(memory_format=experiments.LAYOUTS[layout])


def test_fashion_trains_the_small_forms():
    options = {"quick": True, "seeds": 2, "networks": ["lenet5"]}
    (row,) = bench.run(["fashion"], **options).rows
    assert (row.contender, row.unit) == ("lenet5", "test accuracy")
    assert row.more["parameters"] == 61_706
    for column in ("accuracies", "training losses"):
        assert len(row.more[column]) == 2


def test_a_training_that_was_interrupted_is_not_a_result(monkeypatch):
    fit = experiments.training.fit

    def interrupted(*arguments, **options):
        stop = SimpleNamespace(on_step=lambda run: run.stop())
        return fit(*arguments, callbacks=[stop], **options)

    monkeypatch.setattr(experiments.training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run(["fashion"], quick=True, seeds=1, networks=["lenet5"])
