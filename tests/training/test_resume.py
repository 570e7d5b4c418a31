"""Resumed runs equal unbroken ones; runs of other options are refused and change nothing."""

import json
import random
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnbook import data, training
from cnnbook.training.made_of import plain

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


def focal(gamma):
    def loss(scores, labels):
        each = nn.functional.cross_entropy(scores, labels, reduction="none")
        return ((1 - (-each).exp()) ** gamma * each).mean()

    return loss


class Centered(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, scores, labels):
        return nn.functional.cross_entropy(scores, labels) + self.share * scores.square().mean()


def with_optimizer(name, scheduler=None, **options):
    def make(net):
        optimizer = getattr(torch.optim, name)(net.parameters(), **options)
        return {"optimizer": optimizer} | ({"scheduler": scheduler(optimizer)} if scheduler else {})

    return make


def with_loss(loss):
    return lambda net: {"loss": loss}


def frozen(net):
    net[1].bias.requires_grad_(False)
    return {}


def in_evaluation(net):
    net[0].eval()
    return {}


def in_double(net):
    net.double()
    return {}


STEPS = torch.optim.lr_scheduler.StepLR
WEIGHTS = torch.arange(1.0, 11)
cross_entropy = nn.functional.cross_entropy


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (with_optimizer("Adam"), with_optimizer("AdamW"), "optimizer was Adam, is AdamW"),
        (with_optimizer("Adam"), with_optimizer("SGD"), "optimizer was Adam, is SGD"),
        (with_optimizer("Adam"), lambda net: {}, "optimizer was Adam, is SGD"),
        (
            with_optimizer("SGD", lr=0.1, momentum=0.9),
            with_optimizer("SGD", lr=0.01, momentum=0.9),
            r"optimizer lr was 0\.1, is 0\.01",
        ),
        (
            with_optimizer("Adam"),
            with_optimizer("Adam", betas=(0.5, 0.9)),
            r"optimizer betas was \[0\.9, 0\.999\], is \[0\.5, 0\.9\]",
        ),
        (
            with_optimizer("SGD", lambda sgd: STEPS(sgd, 2)),
            with_optimizer("SGD", lambda sgd: STEPS(sgd, 3)),
            "scheduler step_size was 2, is 3",
        ),
        (
            with_optimizer("SGD", lambda sgd: STEPS(sgd, 2)),
            with_optimizer("SGD", lambda sgd: torch.optim.lr_scheduler.ExponentialLR(sgd, 0.1)),
            "scheduler was StepLR, is ExponentialLR",
        ),
        (with_optimizer("SGD", lambda sgd: STEPS(sgd, 2)), with_optimizer("SGD"), "is None"),
        (with_optimizer("SGD"), with_optimizer("SGD", lambda sgd: STEPS(sgd, 2)), "was None"),
        (with_loss(nn.CrossEntropyLoss()), with_loss(nn.MultiMarginLoss()), "is MultiMarginLoss"),
        (lambda net: {}, with_loss(nn.MultiMarginLoss()), "was cross_entropy, is MultiMarginLoss"),
        (
            with_loss(nn.CrossEntropyLoss()),
            with_loss(nn.CrossEntropyLoss(label_smoothing=0.1)),
            r"loss label_smoothing was 0\.0, is 0\.1",
        ),
        (
            with_loss(nn.CrossEntropyLoss(WEIGHTS)),
            with_loss(nn.CrossEntropyLoss(WEIGHTS.flip(0))),
            r"loss weight was \[1\.0, 2.*is \[10\.0, 9",
        ),
        (with_loss(Centered(0.1)), with_loss(Centered(0.2)), r"loss share was 0\.1, is 0\.2"),
        (with_loss(focal(1)), with_loss(focal(2)), "loss gamma was 1, is 2"),
        (
            with_loss(partial(cross_entropy, label_smoothing=0.1)),
            with_loss(partial(cross_entropy, label_smoothing=0.2)),
            r"loss label_smoothing was 0\.1, is 0\.2",
        ),
        (lambda net: {}, lambda net: {"output": lambda y: y}, "output was None, is "),
        (lambda net: {}, frozen, r"parameter 1\.bias was trained, is frozen"),
        (frozen, lambda net: {}, r"parameter 1\.bias was frozen, is trained"),
        (lambda net: {}, in_evaluation, "layer 0 was in training mode, is in evaluation mode"),
        (lambda net: {}, in_double, r"weights was \['torch\.float32'\], is \['torch\.float64'\]"),
    ],
)
def test_another_run_is_refused_with_what_is_different(small, fit, tmp_path, first, second, said):
    def run(options, **more):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
        given = options(net)
        before = net[1].weight.detach().clone()
        try:
            return fit((net, *small[1:]), epochs=2, checkpoint=tmp_path / "run", **given, **more)
        except training.CheckpointError:
            assert torch.equal(net[1].weight, before)
            raise

    run(first, callbacks=[stop_after(3)])
    with pytest.raises(training.CheckpointError, match=f"of another run: .*{said}"):
        run(second)
    assert len(run(first).step_loss) == 8  # but the same options are accepted


def test_many_values_are_described_by_a_checksum():
    values = torch.arange(100.0)
    assert plain(values) == plain(values.clone())
    assert plain(values) != plain(values.flip(0))
    assert plain(values[:3]) == [0, 1, 2]
    assert plain(torch.eye(30).to_sparse()) == "(30, 30) values"


def test_the_objects_of_an_interrupted_run_can_be_used_again(small, fit, tmp_path):
    def run(net, *callbacks, **options):
        path = tmp_path / f"run {len(options)}"
        return fit((net, *small[1:]), epochs=2, checkpoint=path, callbacks=callbacks, **options)

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
        sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CyclicLR(sgd, 0.01, 0.1, 3)
        return net, {"optimizer": sgd, "scheduler": schedule, "loss": Centered(0.1)}

    net, options = make()
    run(net, stop_after(3), **options)
    run(net, stop_after(6), **options)
    history = run(net, **options)
    whole, options = make()
    expected = fit((whole, *small[1:]), epochs=2, **options)
    assert history.step_loss == expected.step_loss
    assert torch.equal(net[1].weight, whole[1].weight)


class Whitened(nn.Module):
    """Divides by a running mean that its state_dict() does not have, in its first run made."""

    def __init__(self, made):
        super().__init__()
        self.head = nn.Linear(1024, 10)
        self.register_buffer("size", torch.ones(()) if made else None, persistent=False)

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            now = x.detach().abs().mean()
            self.size = now if self.size is None else 0.9 * self.size + 0.1 * now
        return self.head(x / self.size)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_statistics_outside_the_state_dict_are_resumed(small, fit, tmp_path, ema_decay, made):
    def run(name, *callbacks):
        torch.manual_seed(0)
        net = Whitened(made)
        options = {"epochs": 2, "ema_decay": ema_decay, "checkpoint_every": 1}
        history = fit((net, *small[1:]), **options, checkpoint=tmp_path / name, callbacks=callbacks)
        return net, history

    whole, expected = run("whole")
    run("parts", stop_after(3))
    resumed, history = run("parts")
    assert history.step_loss == expected.step_loss
    assert history.val_loss == expected.val_loss
    assert torch.equal(resumed.size, whole.size)
    assert torch.equal(resumed.head.weight, whole.head.weight)
    # What was validated is what is left in the network.
    evaluated = training.evaluate(whole, small[2], device="cpu")
    assert evaluated.loss == pytest.approx(expected.val_loss[-1], rel=1e-5)


def test_the_best_epoch_has_its_own_statistics(small, fit):
    torch.manual_seed(0)
    net, sizes = Whitened(True), []
    see = SimpleNamespace(on_epoch_end=lambda run: sizes.append(run.model.size.clone()))
    stopping = training.EarlyStopping("val_loss", patience=1, min_delta=100)
    fit((net, *small[1:]), epochs=3, callbacks=[see, stopping])
    assert len(sizes) == 2
    assert torch.equal(net.size, sizes[0])
    assert sizes[0] != sizes[1]


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
    with pytest.raises(training.CheckpointError, match=r"cannot write .*Read-only"):
        fit(small, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_a_folder_that_cannot_be_written_is_noticed_before_training(fit, small, tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    options = {"checkpoint": tmp_path / "file" / "run", "epochs": 1}
    with pytest.raises(training.CheckpointError, match=r"cannot write .*choose another name"):
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
