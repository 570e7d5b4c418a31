"""Checkpoints: resumed runs equal unbroken ones, bad files are refused, good ones survive."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from cnnbook import data, training

RUN = """
import json, resource, signal, sys, torch
from torch import nn
from cnnbook import data, training
torch.manual_seed(0)
train, test = data.load("fashion-mini")
net = nn.Sequential(
    nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
    nn.Dropout(0.3), nn.Linear(676, 10),
)
history = training.fit(
    net, train[:600], test[:100], epochs=4, batch_size=32, ema_decay=0.9, checkpoint=sys.argv[1],
    checkpoint_every=3, augment=data.Augment(rotate=10), device="cpu", progress=False,
    callback=(lambda step: print(step.number, flush=True)) if len(sys.argv) < 3 else None,
)
print(json.dumps([history.step_loss, history.test_loss, history.train_accuracy]))
"""


def command(*arguments):
    return [sys.executable, "-c", RUN, *map(str, arguments)]


def test_killed_and_resumed_equals_unbroken(tmp_path):
    whole = subprocess.run(command(tmp_path / "a", "-"), capture_output=True, check=True, text=True)
    stop = random.randint(4, 70)  # a new place each time: any must do
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


@pytest.fixture
def small():
    train, test = data.load("fashion-mini", size=32)
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), train[:256], test[:50]


def fit(small, **options):
    net, train, test = small
    return training.fit(net, train, test, device="cpu", progress=False, **options)


def test_a_finished_run_returns_its_history(small, tmp_path):
    first = fit(small, epochs=2, checkpoint=tmp_path / "run")
    assert fit(small, epochs=2, checkpoint=tmp_path / "run") == first


def test_another_run_is_refused(small, tmp_path):
    fit(small, epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(training.CheckpointError, match="seed was 0, is 1"):
        fit(small, epochs=1, seed=1, checkpoint=tmp_path / "run")
    small = (nn.Sequential(nn.Flatten(), nn.Linear(1024, 11)), *small[1:])
    with pytest.raises(training.CheckpointError, match="does not fit"):
        fit(small, epochs=1, checkpoint=tmp_path / "run")
    fit(small, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_bad_files_are_refused(small, tmp_path):
    net = small[0]
    good = training.save_checkpoint(tmp_path / "good", net.state_dict(), {"a": (1, None)})
    assert training.load_checkpoint(good)[1] == {"a": [1, None]}
    content = good.read_bytes()
    (tmp_path / "short").write_bytes(content[:-100])
    (tmp_path / "bits").write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    torch.save(net.state_dict(), tmp_path / "pickle")
    for name, message in {
        "short": "damaged or not a safetensors file",
        "bits": "checksum does not match",
        "pickle": "is a pickle",
        "none": "there is no file",
    }.items():
        with pytest.raises(training.CheckpointError, match=message) as error:
            training.load_checkpoint(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(training.CheckpointError, match=r"lacks: 0\.bias, 0\.weight"):
        training.load_weights(nn.Sequential(nn.Linear(2, 2)), good)
    with pytest.raises(TypeError, match="cannot hold"):
        training.save_checkpoint(tmp_path / "x", {}, {"a": object()})


def test_a_full_disk_leaves_the_old_file(small, tmp_path):
    code = """
import resource, signal, sys, torch
from cnnbook import training
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # writing more fails, as on a full disk
try:
    training.save_checkpoint(sys.argv[1], {"w": torch.zeros(5000)}, {})
except training.CheckpointError as error:
    print(error)
"""
    path = training.save_checkpoint(tmp_path / "run", {"w": torch.ones(3)}, {})
    run = [sys.executable, "-c", code, str(path)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "The file there before is unchanged" in said
    assert torch.equal(training.load_checkpoint(path)[0]["w"], torch.ones(3))
    assert os.listdir(tmp_path) == ["run"]


def test_a_loss_that_is_no_number_keeps_the_last_good_file(small, tmp_path):
    def poison(step):
        if step.number == 6:
            step.model[1].weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="step 7"):
        fit(small, epochs=3, checkpoint=tmp_path / "run", callback=poison)
    assert training.load_checkpoint(tmp_path / "run")[1]["step"] == 4


def test_other_augmentation_or_loss_is_another_run(small, tmp_path):
    fit(small, epochs=1, checkpoint=tmp_path / "run", augment=data.Augment(rotate=5))
    with pytest.raises(training.CheckpointError, match=r"augment was Augment\(.*is None"):
        fit(small, epochs=1, checkpoint=tmp_path / "run")
    fit(small, epochs=1, checkpoint=tmp_path / "smooth")
    with pytest.raises(training.CheckpointError, match=r"label smoothing was 0\.0, is 0\.1"):
        fit(small, epochs=1, checkpoint=tmp_path / "smooth", label_smoothing=0.1)


def test_a_refused_file_leaves_the_network_as_it_was(small, tmp_path):
    def net(outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(1024, 4), nn.Linear(4, outputs))

    fit((net(10), *small[1:]), epochs=1, checkpoint=tmp_path / "run")
    other = net(12)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(training.CheckpointError, match="does not fit"):
        fit((other, *small[1:]), epochs=1, checkpoint=tmp_path / "run")
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_another_optimizer_is_refused(small, tmp_path):
    adam = torch.optim.Adam(small[0].parameters())
    fit(small, epochs=1, checkpoint=tmp_path / "run", optimizer=adam)
    sgd = torch.optim.SGD(small[0].parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(training.CheckpointError, match="another optimizer"):
        fit(small, epochs=2, checkpoint=tmp_path / "run", optimizer=sgd)


@pytest.mark.parametrize("at_first", [True, False])
def test_test_images_come_with_every_epoch_or_with_none(small, tmp_path, at_first):
    net, train, test = small
    for tested in (at_first, not at_first):
        part = (net, train, test if tested else None)
        options = {"epochs": 3, "checkpoint": tmp_path / "run"}
        if tested == at_first:
            fit(part, **options, callback=lambda step: step.epoch_done)
        else:
            other = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
            before = other[1].weight.clone()
            with pytest.raises(training.CheckpointError, match="test images were given to only"):
                fit((other, *part[1:]), **options)
            assert torch.equal(other[1].weight, before)


def test_files_of_before_know_less(small, tmp_path):
    adam = torch.optim.AdamW(small[0].parameters())
    path = tmp_path / "run"
    fit(small, epochs=1, checkpoint=path, optimizer=adam)
    weights, state = training.load_checkpoint(path)
    del state["same"]["augment"], state["same"]["label smoothing"]
    for group in state["optimizer"]["param_groups"]:
        group.pop("decoupled_weight_decay", None)  # older versions of torch have no such option
    training.save_checkpoint(path, weights, state)
    adam = torch.optim.AdamW(small[0].parameters())
    history = fit(small, epochs=2, checkpoint=path, optimizer=adam, label_smoothing=0.1)
    assert len(history.step_loss) == 8


def test_a_finished_run_is_read_where_nothing_can_be_written(small, tmp_path, monkeypatch):
    first = fit(small, epochs=1, checkpoint=tmp_path / "run")

    def read_only(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    assert fit(small, epochs=1, checkpoint=tmp_path / "run") == first
    with pytest.raises(training.CheckpointError, match=r"cannot write into .*Read-only"):
        fit(small, epochs=1, checkpoint=tmp_path / "run", resume=False)


def test_a_place_that_cannot_be_written_is_noticed_before_training(small, tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    with pytest.raises(training.CheckpointError, match="cannot write into"):
        fit(small, epochs=1, checkpoint=tmp_path / "file" / "run", callback=steps.append)
    assert not steps


def test_weights_that_overflow_before_the_first_file_are_named(small, tmp_path):
    sgd = torch.optim.SGD(small[0].parameters(), lr=float("inf"))
    one_step = (small[0], small[1][:64], None)
    with pytest.raises(FloatingPointError, match="not finite after step 1: lower") as error:
        fit(one_step, epochs=1, checkpoint=tmp_path / "run", optimizer=sgd)
    assert "last good state" not in str(error.value)


def test_ctrl_c_returns_the_history_so_far(small, tmp_path):
    def interrupt(step):
        if step.number == 6:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)

    history = fit(small, epochs=3, checkpoint=tmp_path / "run", callback=interrupt)
    assert len(history.train_loss) == 1
    assert history.stopped.endswith("of 12")
    assert len(fit(small, epochs=3, checkpoint=tmp_path / "run").step_loss) == 12


def test_target_accuracy_and_time_to_it(small):
    history = fit(small, epochs=9, target_accuracy=0.3)
    assert history.test_accuracy[-1] >= 0.3
    assert history.time_to(0.3) == history.seconds[-1]
    assert history.time_to(1.1) is None
    assert "reached" in history.stopped


def test_out_of_memory_names_a_batch_that_fits(small):
    class Hungry(nn.Sequential):
        def forward(self, x):
            if len(x) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    net = Hungry(nn.Flatten(), nn.Linear(1024, 10))
    with pytest.raises(MemoryError, match=r"batch of 64 .* batch_size=16 fits"):
        fit((net, *small[1:]), epochs=1)


def test_too_few_outputs(small):
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 5))
    with pytest.raises(ValueError, match="10 classes, the network has 5 outputs"):
        fit((net, *small[1:]), epochs=1)


def test_precision_and_smoothing(small):
    half = fit(small, epochs=1, precision="bfloat16", label_smoothing=0.1)
    assert half.step_loss[0] == pytest.approx(2.4, abs=0.5)
    with pytest.raises(ValueError, match="unknown precision"):
        fit(small, precision="int8")
    with pytest.raises(ValueError, match="label_smoothing=2"):
        fit(small, label_smoothing=2)


def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text("""
import json, sys, torch
from torch import nn
from cnnbook import data, training
with training.join_processes():
    torch.manual_seed(0)
    train, test = data.load("fashion-mini")
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(676, 10))
    history = training.fit(
        net, train[:129], test[:51], epochs=3, batch_size=32, device="cpu", progress=False
    )
    if training.processes.rank() == 0:
        print("RESULT", json.dumps(history.to_dict()))
""")

    def run(*launcher):
        said = subprocess.run(
            [sys.executable, *launcher, str(script)], capture_output=True, text=True, check=True,
            timeout=300,
        )  # fmt: skip
        return json.loads(said.stdout.split("RESULT")[1].strip().splitlines()[0])

    one = run()
    two = run("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29611")
    assert two["step_loss"] == pytest.approx(one["step_loss"], rel=1e-4)
    assert two["test_accuracy"] == one["test_accuracy"]
    assert two["train_accuracy"] == one["train_accuracy"]
    assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-4)
