"""Two runs never write the same checkpoint, and a killed one does not stand in the way."""

import os
import signal
import subprocess
import sys

import pytest

from cnnbook import _files, training

HOLDS = """
import sys, time
from pathlib import Path
from cnnbook._files import Claim
claim = Claim(Path(sys.argv[1]))
print("claimed", flush=True)
time.sleep(600)
"""
LOCKS = pytest.mark.skipif(sys.platform == "win32", reason="a claim is tested with POSIX locks")


class Within(training.Callback):
    """Does something in the middle of a training."""

    def __init__(self, action):
        self.action = action

    def on_step(self, run):
        if run.step == 2:
            self.action()


@pytest.fixture
def another(tmp_path):
    """Another process that has the claim on a file."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_before_it_trains(fit, small, tmp_path):
    refused = []

    def second():
        with pytest.raises(training.CheckpointError) as error:
            fit(small, checkpoint=tmp_path / "run", callbacks=[Within(pytest.fail)])
        refused.append(str(error.value))
        fit(small, epochs=1, checkpoint=tmp_path / "other")  # another file may be written

    history = fit(small, epochs=1, checkpoint=tmp_path / "run", callbacks=[Within(second)])
    assert len(history.step_loss) == 4
    going_on = "run is the checkpoint of a run that is still going on "
    assert f"{going_on}(process {os.getpid()}, which is this one)" in refused[0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "run"]


def test_another_name_of_the_file_does_not_help(fit, small, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")

    def second():
        with pytest.raises(training.CheckpointError, match="still going on"):
            fit(small, checkpoint=tmp_path / "link")

    fit(small, epochs=1, checkpoint=tmp_path / "run", callbacks=[Within(second)])


@LOCKS
@pytest.mark.slow
def test_the_other_process_is_named_and_a_killed_one_forgotten(fit, small, tmp_path, another):
    with pytest.raises(training.CheckpointError, match=rf"process {another.pid} on \S+, since"):
        fit(small, epochs=1, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    another.send_signal(signal.SIGKILL)
    another.wait()
    assert len(fit(small, epochs=1, checkpoint=tmp_path / "run").step_loss) == 4
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@LOCKS
@pytest.mark.slow
def test_a_finished_run_is_read_whoever_has_the_claim(fit, small, tmp_path, another):
    history = fit(small, epochs=1, checkpoint=tmp_path / "whole")
    (tmp_path / "whole").rename(tmp_path / "run")
    assert fit(small, epochs=1, checkpoint=tmp_path / "run") == history


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_run_that_fails_gives_the_file_back(fit, small, tmp_path, error):
    def fails():
        raise error

    with pytest.raises(error):
        fit(small, epochs=1, checkpoint=tmp_path / "run", callbacks=[Within(fails)])
    assert list(tmp_path.iterdir()) == []
    fit(small, epochs=1, checkpoint=tmp_path / "run")


def test_where_the_file_system_has_no_locks_a_run_goes_on(fit, small, tmp_path, monkeypatch):
    def none(handle):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_files, "_lock_without_waiting", none)
    assert len(fit(small, epochs=1, checkpoint=tmp_path / "run").step_loss) == 4


def test_files_whose_names_begin_alike_are_different(tmp_path):
    claims = [_files.Claim(tmp_path / f"{'x' * 60}{end}") for end in ("a b", "a_b")]
    with pytest.raises(_files.InUse):
        _files.Claim(tmp_path / f"{'x' * 60}a b")
    for claim in claims:
        claim.release()
    assert [file.suffix for file in tmp_path.iterdir()] == []


def test_a_run_that_was_killed_before_its_last_save_makes_up_for_it(fit, small, tmp_path):
    """Its steps were all taken and saved, but not the weights of its best epoch."""

    class Killed(training.Callback):
        def on_fit_end(self, run):
            raise KeyboardInterrupt

    def options():
        watch = training.EarlyStopping("val_loss", patience=9, min_delta=9)  # the first is the best
        return {"epochs": 2, "checkpoint": tmp_path / "run", "callbacks": [watch]}

    with pytest.raises(KeyboardInterrupt):
        fit(small, **(given := options()) | {"callbacks": [*given["callbacks"], Killed()]})
    last = training.load_checkpoint(tmp_path / "run")[0]["1.weight"]
    fit(small, **options())
    kept = training.load_checkpoint(tmp_path / "run")[0]["1.weight"]
    assert kept.equal(small[0][1].weight)
    assert not kept.equal(last)
