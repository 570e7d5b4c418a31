"""How experiments choose learning rates, are interrupted, resumed, recorded and read again."""

import json
import math
from dataclasses import replace

import pytest

from cnnbook import experiments
from cnnbook.cli.run import main
from cnnbook.experiments import Arm, Experiment, Size, figures
from cnnbook.experiments.registry import REGISTRY
from cnnbook.experiments.running import FAILED, TUNING_SEED, _best

TRAINED: list[tuple] = []
STOP_AT: list[int] = []
BEST = {"low": 0.003, "middle": 0.1, "high": 0.9}


def toy_train(options, settings, lr, seed):
    """Has its smallest error at the arm's own learning rate."""
    if len(TRAINED) in STOP_AT:
        raise KeyboardInterrupt
    TRAINED.append((options["arm"], lr, seed, settings["epochs"]))
    error = min(1.0, abs(math.log10(lr / BEST[options["arm"]])) / 10 + 0.05 + seed % 10 / 1000)
    curve = [error * 2, error]
    return {"val_error": error, "test_error": error, "steps": 4, "curves": {"train_error": curve}}


def toy_arms(settings):
    return [Arm(name, {"arm": name}, (0.03, 0.1, 0.3)) for name in settings["arms"]]


def toy_verdict(result):
    change = experiments.of_difference(
        *(result[name].values("test_error") for name in ("low", "high"))
    )
    return f"low minus high: {change} points"


def toy_plot(result):
    return figures.panels_of_curves({"toy": {arm.name: arm for arm in result}}, "train_error")


@pytest.fixture
def toy(monkeypatch, tmp_path):
    TRAINED.clear()
    STOP_AT.clear()
    settings = {"arms": ["low", "middle", "high"], "epochs": 8, "data": "digits"}
    sizes = {
        "live": Size(settings, seeds=2, tuning={"epochs": 3}),
        "desk": Size(settings, seeds=2, tuning={"epochs": 3}),
    }
    spec = Experiment("toy", "A toy", sizes, toy_arms, toy_train, toy_verdict, toy_plot)
    monkeypatch.setitem(REGISTRY, "toy", spec)
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path / "cache"))
    return spec


def test_the_chosen_rate_is_best_on_validation_images_and_never_at_an_end(toy):
    result = experiments.run("toy", progress=False)
    for arm in result:
        tried = {float(lr): error for lr, error in arm.tried.items()}
        assert tried[arm.lr] == min(tried.values())
        assert min(tried) < arm.lr < max(tried)
        assert arm.lr == pytest.approx(BEST[arm.name], rel=0.8)
        assert [run["val_error"] for run in arm.runs] == sorted(
            run["val_error"] for run in arm.runs
        )
    assert result["middle"].tried.keys() == {"0.03", "0.1", "0.3"}


def test_rates_are_chosen_with_other_seeds_and_settings_than_what_is_reported(toy):
    experiments.run("toy", progress=False)
    tuned = {(seed, epochs) for _, _, seed, epochs in TRAINED if epochs == 3}
    reported = {(seed, epochs) for _, _, seed, epochs in TRAINED if epochs == 8}
    assert tuned == {(TUNING_SEED, 3)}
    assert reported == {(0, 8), (1, 8)}


def test_of_equally_good_rates_the_middle_one_is_chosen(toy, monkeypatch):
    assert _best({0.01: 0.2, 0.1: 0.1, 1.0: 0.3}) == 0.1
    assert _best({1.0: 0.2, 0.01: 0.2, 0.1: 0.2, 0.001: 0.3}) == 0.1

    def learns_nothing(options, settings, lr, seed):
        return {"val_error": 0.9, "test_error": 0.9, "curves": {"train_error": [0.9]}}

    monkeypatch.setitem(REGISTRY, "toy", replace(toy, train=learns_nothing))
    low = experiments.run("toy", arms=["low"], progress=False)["low"]
    assert (low.lr, list(low.tried)) == (0.1, ["0.03", "0.1", "0.3"])  # and the search ends
    assert low.chosen_at_chance
    assert not low.lr_at_end


def test_the_worst_of_several_tries_counts(toy, monkeypatch):
    def lucky(options, settings, lr, seed):
        """With the first seed, the largest rate is the best; with the second, it fails."""
        failed = lr == 0.3 and seed == TUNING_SEED + 1
        error = 1.0 if failed else 0.2 - lr / 2
        return {"val_error": error, "test_error": error, "curves": {"train_error": [error]}}

    for seeds, chosen in ((1, lambda lr: lr > 0.3), (2, lambda lr: lr == 0.1)):
        size = Size(toy.sizes["live"].settings, 2, {}, seeds)
        spec = replace(toy, sizes={"live": size}, train=lucky)
        monkeypatch.setitem(REGISTRY, "toy", spec)
        result = experiments.run("toy", arms=["low"], progress=False)
        assert chosen(result["low"].lr)
        assert not result.is_stale


def test_a_rate_that_spoils_the_weights_in_the_last_step_is_not_chosen(toy, monkeypatch):
    def spoiled(options, settings, lr, seed):
        if lr == 0.3 and seed == TUNING_SEED:
            raise FloatingPointError("the scores of 10 of 10 images are not numbers")
        return toy_train(options, settings, lr, seed)

    monkeypatch.setitem(REGISTRY, "toy", replace(toy, train=spoiled))
    monkeypatch.setitem(BEST, "low", 0.3)
    low = experiments.run("toy", arms=["low"], progress=False)["low"]
    assert low.tried["0.3"] == FAILED == max(low.tried.values())
    assert low.lr == 0.1


def test_a_training_that_is_reported_is_not_made_up(toy, monkeypatch):
    def spoiled(options, settings, lr, seed):
        if seed == 1:
            raise FloatingPointError("the scores of 10 of 10 images are not numbers")
        return toy_train(options, settings, lr, seed)

    monkeypatch.setitem(REGISTRY, "toy", replace(toy, train=spoiled))
    with pytest.raises(FloatingPointError, match="the scores of 10"):
        experiments.run("toy", arms=["low"], progress=False)


def test_a_search_that_finds_no_end_stops(toy, monkeypatch):
    monkeypatch.setitem(BEST, "low", 1e-30)
    result = experiments.run("toy", arms=["low"], progress=False)
    assert len(result["low"].tried) < 10


def test_an_interrupted_run_continues_where_it_was(toy):
    STOP_AT.append(7)
    with pytest.raises(KeyboardInterrupt):
        experiments.run("toy", "desk", jobs=1, progress=False)
    finished = list(TRAINED)
    assert len(finished) == 7
    STOP_AT.clear()
    result = experiments.run("toy", "desk", jobs=1, progress=False)
    assert TRAINED[:7] == finished
    assert len(set(TRAINED)) == len(TRAINED)  # nothing was trained twice
    TRAINED.clear()
    assert experiments.run("toy", "desk", jobs=1, progress=False).arms == result.arms
    assert TRAINED == []


def test_minutes_are_those_of_all_sessions(toy, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("cnnbook.experiments.running.time.monotonic", lambda: now[0])
    train = toy.train

    def slow(*arguments):
        now[0] += 60
        return train(*arguments)

    monkeypatch.setitem(REGISTRY, "toy", replace(toy, train=slow))
    STOP_AT.append(7)
    with pytest.raises(KeyboardInterrupt):
        experiments.run("toy", "desk", jobs=1, progress=False)
    STOP_AT.clear()
    now[0] += 9_999  # nobody ran anything
    minutes = experiments.run("toy", "desk", jobs=1, progress=False).minutes
    assert minutes == {"minutes": len(TRAINED), "processor_minutes": len(TRAINED)}
    again = experiments.run("toy", "desk", jobs=1, progress=False).minutes
    assert again == minutes


def test_a_cut_off_line_of_the_kept_file_is_trained_again(toy, tmp_path):
    first = experiments.run("toy", "desk", jobs=1, progress=False)
    (kept,) = (tmp_path / "cache" / "experiments").glob("toy-*.jsonl")
    kept.write_text(kept.read_text()[:-30])
    TRAINED.clear()
    again = experiments.run("toy", "desk", jobs=1, progress=False)
    assert len(TRAINED) == 1
    assert again.arms == first.arms
    TRAINED.clear()
    experiments.run("toy", "desk", jobs=1, progress=False, resume=False)
    assert len(TRAINED) > 10


def test_result_comes_back_from_its_file(toy, tmp_path):
    result = experiments.run("toy", progress=False)
    path = result.save(tmp_path)
    assert path.name == "toy-live-cpu.json"
    again = experiments.load(path)
    assert again.verdict == result.verdict
    assert str(again.plot()) == str(result.plot())
    assert not again.is_stale
    assert repr(again.table()) == repr(result.table())
    with pytest.raises(ValueError, match=r"unknown arm 'lo'\. Did you mean 'low'"):
        again["lo"]
    with pytest.raises(ValueError, match="unknown measurement"):
        again["low"].values("accuracy")


def test_other_settings_make_a_record_stale(toy, tmp_path, monkeypatch):
    path = experiments.run("toy", progress=False).save(tmp_path)
    settings = toy.sizes["live"].settings
    monkeypatch.setitem(toy.sizes, "live", Size({**settings, "epochs": 9}, 2, {"epochs": 3}))
    assert experiments.load(path).is_stale


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c | {"schema": 0}, "schema 1"),
        (lambda c: {k: v for k, v in c.items() if k != "machine"}, "'machine' is missing"),
        (lambda c: c | {"more": 1}, "'more' is unknown"),
        (lambda c: c | {"arms": []}, "no arms"),
        (lambda c: c | {"arms": [3]}, "arm 0 is int"),
        (lambda c: c | {"arms": [c["arms"][0] | {"runs": []}]}, "arm 0 has no runs"),
        (lambda c: c | {"arms": [c["arms"][0] | {"runs": [{}]}]}, "a run of arm 0"),
        (lambda c: c | {"arms": [c["arms"][0] | {"lr": True}]}, "'lr'"),
        (lambda c: [c], "not a record"),
    ],
)
def test_a_file_that_is_no_record_is_refused_with_its_name(toy, tmp_path, change, told):
    path = experiments.run("toy", progress=False).save(tmp_path)
    content = json.loads(path.read_text())
    del content["sha256"]  # as in a record of before there was one
    path.write_text(json.dumps(change(content)))
    with pytest.raises(ValueError, match=told) as error:
        experiments.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"size": "huge"}, "unknown size 'huge'"),
        ({"arms": ["loww"]}, "Did you mean 'low'"),
        ({"seeds": 0}, "seeds is a whole number from 1 to 1,000, got seeds=0"),
        ({"jobs": 0}, "jobs is a whole number from 1 to 1,000, got jobs=0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_trained(toy, arguments, told):
    with pytest.raises(ValueError, match=told):
        experiments.run("toy", **{"progress": False, **arguments})
    assert TRAINED == []


def test_unknown_experiment_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'degradation'"):
        experiments.run("degredation")


def test_command_line_lists_runs_and_records(toy, tmp_path, capsys):
    assert main(["experiment"]) == 0
    assert "degradation" in capsys.readouterr().out
    command = ["experiment", "toy", "--arm", "low", "--arm", "high", "--record", str(tmp_path)]
    assert main([*command, "--plot", str(tmp_path / "toy.svg")]) == 0
    assert "low minus high" in capsys.readouterr().out
    recorded = experiments.load(tmp_path / "toy-live-cpu.json")
    assert [arm.name for arm in recorded] == ["low", "high"]
    assert recorded.command.endswith("toy --size live --arm 'low' --arm 'high'")
    assert (tmp_path / "toy.svg").stat().st_size > 1000
    assert main(["experiment", "toy", "--size", "big"]) == 2
    assert "unknown size 'big'" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_give_what_one_process_gives(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path))
    spec = experiments.get("degradation")
    small = {"data": "digits", "images": 200, "val_images": 100, "epochs": 1, "depths": (8,)}
    settings = {**spec.sizes["live"].settings, **small, "shrink": 1}
    monkeypatch.setitem(spec.sizes, "live", Size(settings, seeds=1))
    two = experiments.run("degradation", jobs=2, progress=False)
    one = experiments.run("degradation", progress=False)
    for a, b in zip(one, two, strict=True):
        assert a.runs[0]["curves"]["train_loss"] == pytest.approx(
            b.runs[0]["curves"]["train_loss"], rel=1e-4
        )
