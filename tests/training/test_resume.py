"""Resumed runs equal unbroken ones; runs of other options are refused and change nothing."""

import json
import random
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnbook import data, training

RUN = """
import json, sys, torch
from torch import nn
from cnnbook import data, training

class Say(training.Callback):
    def on_step(self, run):
        print(run.step, flush=True)

torch.manual_seed(0)
train, test = data.load("fashion-mini")
net = nn.Sequential(
    nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
    nn.Dropout(0.3), nn.Linear(676, 10),
)
history = training.fit(
    net, train[:600], test[:100], epochs=4, batch_size=32, ema_decay=0.9, checkpoint=sys.argv[1],
    checkpoint_every=3, augment=data.Augment(rotate=10), device="cpu", progress=False,
    callbacks=[Say()] if len(sys.argv) < 3 else [],
)
print(json.dumps([history.step_loss, history.val_loss, history.train_accuracy]))
"""


def command(*arguments):
    return [sys.executable, "-c", RUN, *map(str, arguments)]


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(tmp_path):
    whole = subprocess.run(command(tmp_path / "a", "-"), capture_output=True, check=True, text=True)
    stop = random.randint(4, 70)  # another one each time: any must do
    with subprocess.Popen(command(tmp_path / "b"), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= stop:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    _, state = training.load_checkpoint(tmp_path / "b")
    assert stop - 3 <= state["step"] <= 76
    rest = subprocess.run(command(tmp_path / "b", "-"), capture_output=True, check=True, text=True)
    assert json.loads(rest.stdout) == json.loads(whole.stdout), f"killed after step {stop}"
    assert len(list(tmp_path.glob(".*.part"))) <= 1


def stop_after(step):
    """A callback that ends a run there."""

    def on_step(run):
        if run.step == step:
            run.stop()

    return SimpleNamespace(on_step=on_step)


def sgd_and_scheduler(net):
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    return {"optimizer": sgd, "scheduler": torch.optim.lr_scheduler.StepLR(sgd, 2, 0.8)}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 5, 7])  # in the first epoch, at its end, in the second
@pytest.mark.parametrize(
    "options",
    [
        lambda net: {"ema_decay": 0.9, "checkpoint_every": 2},
        lambda net: {"precision": "float16", "label_smoothing": 0.1},
        lambda net: {"augment": data.Augment(rotate=10), **sgd_and_scheduler(net)},
        lambda net: {"optimizer": torch.optim.Adam(net.parameters(), 0.001)},
    ],
    ids=["average", "float16", "scheduler", "Adam"],
)
def test_resumed_equals_unbroken(sets, tmp_path, options, stop):
    def run(*callbacks, **more):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(196, 10))
        more |= {"epochs": 2, "device": "cpu", "progress": False, **options(net)}
        more["checkpoint"] = more.get("checkpoint", tmp_path / "whole")
        # 300 images: the fifth and last batch of an epoch is smaller
        return net, training.fit(net, *sets, callbacks=callbacks, **more)

    whole, expected = run()
    _, begun = run(stop_after(stop), checkpoint=tmp_path / "parts")
    assert begun.stopped == f"stopped at step {stop} of 10"
    assert len(begun.step_loss) == stop
    resumed, history = run(checkpoint=tmp_path / "parts")
    assert history.step_loss == expected.step_loss
    assert history.train_accuracy == expected.train_accuracy
    assert history.val_loss == expected.val_loss
    assert history.stopped == ""
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_an_average_is_given_to_both_runs_or_none(fit, small, tmp_path):
    fit(small, epochs=1, checkpoint=tmp_path / "with", ema_decay=0.9)
    fit(small, epochs=1, checkpoint=tmp_path / "without")
    message = "the callback EMA was given to only one of the two runs"
    for path, options in (("with", {}), ("without", {"ema_decay": 0.9})):
        with pytest.raises(training.CheckpointError, match=message):
            fit(small, epochs=1, checkpoint=tmp_path / path, **options)


def test_the_state_of_a_callback_of_ones_own_comes_back(fit, small, tmp_path):
    class Largest(training.Callback):
        def __init__(self):
            self.loss, self.seen = torch.zeros(()), []

        def on_fit_begin(self, run):
            self.begun_with = self.loss.item()

        def on_step(self, run):
            self.loss = torch.maximum(self.loss, run.loss)
            self.seen.append(run.step)

        def state_dict(self):
            return {"loss": self.loss, "seen": self.seen}

        def load_state_dict(self, state):
            self.loss, self.seen = state["loss"], state["seen"]

    first, second = [Largest(), Largest()], [Largest(), Largest()]
    options = {"epochs": 2, "checkpoint": tmp_path / "run"}
    history = fit(small, callbacks=[*first, stop_after(3)], **options)
    _, state = training.load_checkpoint(tmp_path / "run")
    assert sorted(state["callbacks"]) == ["Largest", "Largest 2"]
    fit(small, callbacks=second, **options)
    for each in second:
        assert each.begun_with == max(history.step_loss)
        assert each.seen == [1, 2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(training.CheckpointError, match="callback Largest 2 was given to only"):
        fit(small, callbacks=second[:1], **options)


def test_a_callback_that_refuses_its_state_leaves_the_network_as_it_was(fit, small, tmp_path):
    class Picky(training.Callback):
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            raise ValueError("not this")

    fit(small, epochs=1, checkpoint=tmp_path / "run", callbacks=[Picky()])
    before = small[0][1].weight.detach().fill_(3).clone()
    with pytest.raises(training.CheckpointError, match=r"does not fit .*: not this"):
        fit(small, epochs=1, checkpoint=tmp_path / "run", callbacks=[Picky()])
    assert torch.equal(small[0][1].weight, before)


def test_a_finished_run_returns_its_history(fit, small, tmp_path):
    first = fit(small, epochs=2, checkpoint=tmp_path / "run")
    assert fit(small, epochs=2, checkpoint=tmp_path / "run") == first


def test_another_run_is_refused(fit, small, tmp_path):
    fit(small, epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(training.CheckpointError, match="seed was 0, is 1"):
        fit(small, epochs=1, seed=1, checkpoint=tmp_path / "run")
    small = (nn.Sequential(nn.Flatten(), nn.Linear(1024, 11)), *small[1:])
    with pytest.raises(training.CheckpointError, match="does not fit"):
        fit(small, epochs=1, checkpoint=tmp_path / "run")
    fit(small, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_a_checkpoint_of_something_else_is_refused(fit, small, tmp_path):
    training.save_checkpoint(tmp_path / "run", small[0].state_dict(), {"epoch": 3})
    with pytest.raises(training.CheckpointError, match=r"run was not written by fit\(\)"):
        fit(small, epochs=1, checkpoint=tmp_path / "run")
    fit(small, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_other_augmentation_or_loss_is_another_run(fit, small, tmp_path):
    fit(small, epochs=1, checkpoint=tmp_path / "run", augment=data.Augment(rotate=5))
    with pytest.raises(training.CheckpointError, match=r"augment was Augment\(.*is None"):
        fit(small, epochs=1, checkpoint=tmp_path / "run")
    fit(small, epochs=1, checkpoint=tmp_path / "smooth")
    with pytest.raises(training.CheckpointError, match=r"label smoothing was 0\.0, is 0\.1"):
        fit(small, epochs=1, checkpoint=tmp_path / "smooth", label_smoothing=0.1)


def test_a_refused_file_leaves_the_network_as_it_was(fit, small, tmp_path):
    def net(outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(1024, 4), nn.Linear(4, outputs))

    fit((net(10), *small[1:]), epochs=1, checkpoint=tmp_path / "run")
    other = net(12)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(training.CheckpointError, match="does not fit"):
        fit((other, *small[1:]), epochs=1, checkpoint=tmp_path / "run")
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_another_optimizer_is_refused(fit, small, tmp_path):
    adam = torch.optim.Adam(small[0].parameters())
    fit(small, epochs=1, checkpoint=tmp_path / "run", optimizer=adam)
    sgd = torch.optim.SGD(small[0].parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(training.CheckpointError, match="another optimizer"):
        fit(small, epochs=2, checkpoint=tmp_path / "run", optimizer=sgd)


@pytest.mark.parametrize("at_first", [True, False])
def test_validation_images_come_with_every_epoch_or_with_none(fit, small, tmp_path, at_first):
    net, train, val = small
    for validated in (at_first, not at_first):
        part = (net, train, val if validated else None)
        options = {"epochs": 3, "checkpoint": tmp_path / "run"}
        if validated == at_first:
            fit(part, **options, callbacks=[SimpleNamespace(on_epoch_end=lambda run: run.stop())])
        else:
            other = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
            before = other[1].weight.clone()
            message = "validation images were given to only one of the two runs"
            with pytest.raises(training.CheckpointError, match=message):
                fit((other, *part[1:]), **options)
            assert torch.equal(other[1].weight, before)


def test_files_of_an_older_torch_know_less(fit, small, tmp_path):
    adam = torch.optim.AdamW(small[0].parameters())
    path = tmp_path / "run"
    fit(small, epochs=1, checkpoint=path, optimizer=adam)
    weights, state = training.load_checkpoint(path)
    for group in state["optimizer"]["param_groups"]:
        group.pop("decoupled_weight_decay", None)  # older versions of torch have no such option
    training.save_checkpoint(path, weights, state)
    adam = torch.optim.AdamW(small[0].parameters())
    history = fit(small, epochs=2, checkpoint=path, optimizer=adam)
    assert len(history.step_loss) == 8


def test_a_finished_run_is_read_where_nothing_can_be_written(fit, small, tmp_path, monkeypatch):
    first = fit(small, epochs=1, checkpoint=tmp_path / "run")

    def read_only(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", read_only)
    assert fit(small, epochs=1, checkpoint=tmp_path / "run") == first
    with pytest.raises(training.CheckpointError, match=r"cannot write the checkpoint .*Read-only"):
        fit(small, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_a_folder_that_cannot_be_written_is_noticed_before_training(fit, small, tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    options = {"checkpoint": tmp_path / "file" / "run", "epochs": 1}
    with pytest.raises(training.CheckpointError, match="cannot write the checkpoint"):
        fit(small, callbacks=[SimpleNamespace(on_step=steps.append)], **options)
    assert not steps


def test_a_loss_that_is_no_number_keeps_the_last_good_file(fit, small, tmp_path):
    class Poison(training.Callback):
        def on_step(self, run):
            if run.step == 6:
                run.model[1].weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="step 7"):
        fit(small, epochs=3, checkpoint=tmp_path / "run", callbacks=[Poison()])
    assert training.load_checkpoint(tmp_path / "run")[1]["step"] == 4


def test_weights_that_overflow_before_the_first_file_are_named(fit, small, tmp_path):
    sgd = torch.optim.SGD(small[0].parameters(), lr=float("inf"))
    one_step = (small[0], small[1][:64], None)
    with pytest.raises(FloatingPointError, match="not finite after step 1: lower") as error:
        fit(one_step, epochs=1, checkpoint=tmp_path / "run", optimizer=sgd)
    assert "last good state" not in str(error.value)
