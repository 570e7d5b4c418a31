"""cnnbook train: what it keeps, what it goes on with, and how it stops."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cnnbook import data, models, training
from cnnbook.cli.train import SmoothedInTraining


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(trained, said):
    path = trained.path
    before = path.read_bytes()
    code, out, _ = said(*trained.words, "--checkpoint", path, "--json", "--quiet")
    assert code == 0
    result = json.loads(out)
    assert len(result["val_accuracy"]) == 1
    assert path.read_bytes() == before
    evaluated = json.loads(said("evaluate", path, "--json", "--device", "cpu")[1])
    assert result["test_accuracy"] == evaluated["accuracy"]
    code, _, err = said(*trained.words, "--checkpoint", path, "--seed", "3", "--quiet")
    assert code == 1
    assert "seed was 0, is 3" in err


@pytest.mark.slow
def test_other_options_do_not_go_on_with_a_network_of_the_same_shape(trained, said):
    path = trained.path
    before = path.read_bytes()
    options = ("--option", "activation=tanh"), ("--augment", "rotate=10"), ("--val-fraction", "0.2")
    for change in options:
        code, out, err = said(*trained.words, "--checkpoint", path, "--quiet", *change)
        assert code == 1
        assert "is of another run" in err
        assert "--no-resume" in err
        assert not out
    assert path.read_bytes() == before


class Seen(Exception):
    """Raised in place of training."""


def images_of(said, monkeypatch, *words):
    """Return what a command would train on, validate on, and the options of `fit`."""

    def note(network, train, val, **options):
        raise Seen(train, val, options)

    monkeypatch.setattr(training, "fit", note)
    with pytest.raises(Seen) as seen:
        said("train", *words, "--device", "cpu", "--no-checkpoint", "--quiet")
    return seen.value.args


@pytest.mark.slow
def test_images_larger_than_those_a_network_was_made_for(said, monkeypatch):
    train, val, _ = images_of(said, monkeypatch, "resnet20", "--data", "cluttered-fashion")
    assert (len(train), len(val)) == (9_000, 1_000)
    assert train.images.shape[1:] == (1, 64, 64)
    train, _, _ = images_of(said, monkeypatch, "resnet20", "--data", "fashion-mini")
    assert train.images.shape[1:] == (1, 32, 32)
    code, _, err = said("train", "lenet5", "--data", "cluttered-fashion", "--no-checkpoint")
    assert code == 2
    assert "lenet5 takes images of 32×32 pixels, these have 64×64" in err


def test_validation_images_come_from_the_training_part(said, monkeypatch):
    whole, test = data.load("digits", size=32)
    words = ("lenet5", "--data", "digits")
    train, val, _ = images_of(said, monkeypatch, *words)
    assert len(train) + len(val) == len(whole)
    assert len(val) == round(len(whole) / 10)
    assert torch.equal(val.labels.bincount() > 0, torch.ones(10, dtype=torch.bool))
    known = {bytes(image.numpy()) for image in whole.images}
    parts = [{bytes(image.numpy()) for image in part.images} for part in (train, val, test)]
    assert parts[0] | parts[1] == known
    assert not parts[1] & parts[2]
    # The same images, whatever the seed: runs can be compared.
    _, again, options = images_of(said, monkeypatch, *words, "--seed", 7)
    assert options["seed"] == 7
    assert torch.equal(val.images, again.images)
    train, val, _ = images_of(said, monkeypatch, *words, "--val-fraction", 0.3)
    assert len(val) == round(0.3 * len(whole))
    train, val, _ = images_of(said, monkeypatch, *words, "--val-fraction", 0)
    assert val is None
    assert torch.equal(train.images, whole.images)


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [
        (["--val-fraction", "1"], "got --val-fraction 1.0"),
        (["--val-fraction", "-0.1"], "got --val-fraction -0.1"),
        (["--val-fraction", "nan"], "got --val-fraction nan"),
        (["--val-fraction", "0", "--patience", "3"], "--patience 3 looks at validation images"),
        (["--val-fraction", "0", "--target-accuracy", "0.9"], "--target-accuracy 0.9 looks at"),
        (["--data", "imagefolder:x", "--val-fraction", "0.2"], "has a validation part of its own"),
    ],
)
def test_no_validation_images(words, said_of_it, said):
    code, out, err = said("train", "lenet5", "--no-checkpoint", "--quiet", *words)
    assert (code, out) == (2, "")
    assert said_of_it in err


def test_the_test_part_is_used_once_at_the_end(said, monkeypatch):
    _, test = data.load("digits")
    reads = []
    make_batches = data.make_batches

    def noted(images, *args, **options):
        if isinstance(images, data.Dataset) and len(images) == len(test):
            reads.append(images.name)
        return make_batches(images, *args, **options)

    for module in (data, sys.modules["cnnbook.training.evaluation"]):
        monkeypatch.setattr(module, "make_batches", noted)
    words = ("lenet5", "--data", "digits", "--epochs", 3, "--device", "cpu", "--no-checkpoint")
    code, out, _ = said("train", *words, "--quiet", "--json", "--patience", 1, "--lr", 0.5)
    result = json.loads(out)
    assert code == 0
    assert len(reads) == 1
    assert result["best_epoch"] == 1 + result["val_loss"].index(min(result["val_loss"]))
    assert 0 <= result["test_accuracy"] <= 1
    code, out, _ = said("train", *words, "--quiet", "--val-fraction", 0)
    assert "trained after 3 epochs" in out
    assert "test accuracy" in out
    assert len(reads) == 2


def test_tensorboard_log_holds_every_step(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path, log = trained.path, trained.log
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    _, state = training.load_checkpoint(path)
    steps = events.Scalars("loss/step")
    assert [e.step for e in steps] == list(range(1, 142))
    losses = state["history"]["step_loss"]
    assert [e.value for e in steps] == pytest.approx(losses, rel=1e-6)
    (accuracy,) = events.Scalars("accuracy/validation")
    assert accuracy.value == pytest.approx(state["history"]["val_accuracy"][0])


@pytest.mark.slow
def test_an_image_folder(tmp_path, said):
    for part in ("train", "val"):
        for name, level in (("dark", 40), ("light", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6):
                picture = np.full((50, 60, 3), level + i, np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{i}.png")
    path = tmp_path / "net"
    code, out, err = said(
        "train", "resnet18", "--data", f"imagefolder:{tmp_path}", "--size", 32,
        "--option", "width=0.1", "--epochs", 8, "--batch-size", 4, "--checkpoint", path,
        "--device", "cpu", "--json", "--ema-decay", "0.9",
    )  # fmt: skip
    assert code == 0
    assert len(json.loads(out)["val_accuracy"]) == 8
    assert json.loads(out)["test_accuracy"] is None  # the folder has no test part
    assert err.count("epoch ") == 8
    code, out, _ = said("predict", path, tmp_path / "val/dark/1.png", "--top", 9, "--device", "cpu")
    assert code == 0
    assert len(out.splitlines()) == 3  # a heading and both classes
    assert said("evaluate", path, "--data", "fashion-mini")[0] == 2
    code, out, _ = said("data", "verify", f"imagefolder:{tmp_path}", "--json")
    assert [row["images"] for row in json.loads(out)] == [12, 12]
    (tmp_path / "val/dark/1.png").write_bytes(b"no picture")
    code, _, err = said("data", "verify", f"imagefolder:{tmp_path}")
    assert code == 1
    assert "1.png is damaged or not an image" in err


@pytest.mark.slow
def test_a_stopped_run_exits_with_130_and_goes_on_later(trained, tmp_path):
    command = [sys.executable, "-m", "cnnbook", *trained.words, "--checkpoint", "net", "--json"]
    command[command.index("--epochs") + 1] = "40"
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    ) as process:  # fmt: skip
        assert process.stderr.readline().startswith("epoch 1")
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    stopped = json.loads(out)
    assert stopped["stopped"].startswith("stopped at step")
    assert stopped["test_accuracy"] is None
    _, state = training.load_checkpoint(tmp_path / "net")
    assert state["step"] == len(stopped["step_loss"]) > 141


@pytest.mark.slow
def test_a_disk_that_fills_during_training(tmp_path):
    code = """
import resource, signal, sys
from cnnbook.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # a longer file cannot be written
sys.exit(main(["train", "lenet5", "--epochs", sys.argv[3], "--checkpoint", sys.argv[1],
               "--quiet", "--device", "cpu"]))
"""

    def run(limit, epochs):
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "net"), str(limit), str(epochs)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert run(10**8, 1).returncode == 0
    before = (tmp_path / "net").read_bytes()
    failed = run(100_000, 1)  # finished already: nothing to write
    assert failed.returncode == 0
    (tmp_path / "net").rename(tmp_path / "old")
    failed = run(100_000, 1)
    assert failed.returncode == 1
    assert "could not write" in failed.stderr
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == before


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    def run(*launcher):
        out = subprocess.run(
            [
                sys.executable, *launcher, "-m", "cnnbook", "train", "lenet5", "--epochs", "1",
                "--batch-size", "250", "--no-checkpoint", "--json", "--device", "cpu",
            ],
            capture_output=True, text=True, check=True, timeout=300, cwd=tmp_path,
        ).stdout  # fmt: skip
        assert out.count('"step_loss"') == 1
        return json.loads(next(line for line in out.splitlines() if line.startswith("{")))

    one = run()
    two = run("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    assert two["step_loss"] == pytest.approx(one["step_loss"], rel=1e-3)
    assert two["test_accuracy"] == pytest.approx(one["test_accuracy"], abs=0.005)
    assert two["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=0.005)


SMOOTH = ("--label-smoothing", "0.1")


def train_on_two_images(said, monkeypatch, *words):
    """Run `cnnbook train` on two images of each of two classes; return code, losses, messages.

    One of each class is for validation.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8, generator=generator)
    few = data.Dataset("few", images, torch.tensor([0, 1, 0, 1]), tuple("ab"), (0.5,), (0.25,))
    monkeypatch.setattr(data, "load", lambda name, size=None, channels=1: (few, few))
    code, out, err = said("train", *words, "--epochs", 1, "--device", "cpu", "--json", "--quiet")
    return code, json.loads(out) if out else {}, err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["lenet5"],
        ["googlenet", "--option", "auxiliary=False", "--option", "width=0.1"],
        ["googlenet", "--option", "width=0.1"],
    ],
)
def test_label_smoothing_is_for_training_only_and_is_remembered(words, said, monkeypatch, tmp_path):
    keep = ["--checkpoint", tmp_path / "net"]
    code, smooth, _ = train_on_two_images(said, monkeypatch, *words, *keep, *SMOOTH)
    assert code == 0
    _, plain, _ = train_on_two_images(said, monkeypatch, *words, "--no-checkpoint")
    (smooth_step,), (plain_step,) = smooth["step_loss"], plain["step_loss"]
    assert smooth_step != plain_step
    # One step is too short for the weights to differ by much.
    assert smooth["val_loss"] == pytest.approx(plain["val_loss"], abs=0.02)
    code, _, err = train_on_two_images(said, monkeypatch, *words, *keep)
    assert code == 1
    assert "0.1, is 0.0" in err


def test_a_loss_without_label_smoothing_is_named(said, monkeypatch, tmp_path):
    words = ["lenet5_1998", "--option", "codes=random", "--no-checkpoint"]
    code, result, _ = train_on_two_images(said, monkeypatch, *words, "--lr", "0.001")
    assert code == 0
    torch.manual_seed(0)
    untrained = models.lenet5_1998(2, codes="random")
    images, _ = data.load("few")[0].split()
    loss = training.evaluate(untrained, images, loss=models.map_loss, device="cpu").loss
    assert result["step_loss"] == pytest.approx([loss], rel=1e-4)
    code, _, err = train_on_two_images(said, monkeypatch, *words, *SMOOTH)
    assert code == 2
    assert "lenet5_1998 is trained with map_loss, which has no label smoothing" in err


@pytest.mark.parametrize("name", ["lenet5", "googlenet"])
def test_label_smoothing_is_a_fraction(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = said("train", name, "--label-smoothing", "2")
    assert code == 2
    assert "from 0 to 1, got --label-smoothing 2.0" in err


def test_smoothing_ends_where_gradients_do():
    loss = SmoothedInTraining("googlenet", 0.2)
    scores, labels = torch.tensor([[4.0, 0.0], [1.0, 2.0]]), torch.tensor([0, 1])
    assert torch.equal(loss(scores, labels), F.cross_entropy(scores, labels, label_smoothing=0.2))
    with torch.inference_mode():
        assert torch.equal(loss(scores, labels), F.cross_entropy(scores, labels))
