"""python -m cnnbook: train, evaluate, predict, data; what it says and how it exits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook import commands, data, models, training
from cnnbook.__main__ import main

TRAIN = ["train", "lenet5", "--epochs", "1", "--option", "activation=relu", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    path, log = folder / "net.safetensors", folder / "log"
    assert main([*TRAIN, "--checkpoint", str(path), "--tensorboard", str(log), "--quiet"]) == 0
    return path, log


def said(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_train_keeps_what_evaluate_needs(trained, capsys):
    path, _ = trained
    _, state = training.load_checkpoint(path)
    code, out, _ = said(capsys, "evaluate", path, "--json", "--device", "cpu")
    result = json.loads(out)
    assert code == 0
    assert result["accuracy"] == state["history"]["val_accuracy"][-1]
    assert result["images"] == 2000
    by_class = result["classes"]
    assert len(by_class) == 10
    mean = sum(row["accuracy"] * row["images"] for row in by_class) / 2000
    assert mean == pytest.approx(result["accuracy"])
    assert all(row["most often taken for"] != row["class"] for row in by_class)
    assert "Ankle boot" in said(capsys, "evaluate", path, "--device", "cpu")[1]


def test_a_finished_run_is_not_trained_again(trained, capsys):
    path, _ = trained
    before = path.read_bytes()
    code, out, _ = said(capsys, *TRAIN, "--checkpoint", path, "--json", "--quiet")
    assert code == 0
    assert len(json.loads(out)["val_accuracy"]) == 1
    assert path.read_bytes() == before
    code, _, err = said(capsys, *TRAIN, "--checkpoint", path, "--seed", "3", "--quiet")
    assert code == 1
    assert "seed was 0, is 3" in err


def test_other_options_do_not_go_on_with_a_network_of_the_same_shape(trained, capsys):
    path, _ = trained
    before = path.read_bytes()
    for change in (["--option", "activation=tanh"], ["--augment", "rotate=10"]):
        code, out, err = said(capsys, *TRAIN, "--checkpoint", path, "--quiet", *change)
        assert code == 1
        assert "is of another run" in err
        assert "--no-resume" in err or "resume=False" in err
        assert not out
    assert path.read_bytes() == before


def test_pictures_are_named_as_the_test_images_are(trained, capsys, tmp_path):
    path, _ = trained
    net, info = commands.load_trained(path)
    _, test = data.load("fashion-mini", size=32)
    expected = training.evaluate(net, test[:3], device="cpu").scores.softmax(1)
    plain = data.load("fashion-mini")[1].images[:3, 0].numpy()
    files = []
    for i, image in enumerate(plain):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    code, out, _ = said(capsys, "predict", path, *files, "--top", 2, "--json", "--device", "cpu")
    rows = json.loads(out)
    assert code == 0
    assert [(row["image"], row["rank"]) for row in rows] == [
        (str(file), rank) for file in files for rank in (1, 2)
    ]
    for row, chances in zip(rows[::2], expected, strict=True):
        assert row["class"] == info["classes"][chances.argmax()]
        assert row["probability"] == pytest.approx(chances.max().item(), rel=1e-5)
    photo = tmp_path / "photo.jpg"  # color, another size, not square
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)).save(photo)
    assert said(capsys, "predict", path, photo, "--device", "cpu")[0] == 0


def test_tensorboard_log_holds_every_step(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path, log = trained
    events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
    _, state = training.load_checkpoint(path)
    steps = events.Scalars("loss/step")
    assert [e.step for e in steps] == list(range(1, 158))
    losses = state["history"]["step_loss"]
    assert [e.value for e in steps] == pytest.approx(losses, rel=1e-6)
    (accuracy,) = events.Scalars("accuracy/validation")
    assert accuracy.value == pytest.approx(state["history"]["val_accuracy"][0])


def test_an_image_folder(tmp_path, capsys):
    for part in ("train", "val"):
        for name, level in (("dark", 40), ("light", 200)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6):
                picture = np.full((50, 60, 3), level + i, np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{i}.png")
    path = tmp_path / "net"
    code, out, err = said(
        capsys, "train", "resnet18", "--data", f"imagefolder:{tmp_path}", "--size", 32,
        "--option", "width=0.1", "--epochs", 8, "--batch-size", 4, "--checkpoint", path,
        "--device", "cpu", "--json", "--ema-decay", "0.9",
    )  # fmt: skip
    assert code == 0
    assert len(json.loads(out)["val_accuracy"]) == 8
    assert err.count("epoch ") == 8
    code, out, _ = said(
        capsys, "predict", path, tmp_path / "val/dark/1.png", "--top", 9, "--device", "cpu"
    )
    assert code == 0
    assert len(out.splitlines()) == 3  # a heading and both classes
    assert said(capsys, "evaluate", path, "--data", "fashion-mini")[0] == 2
    code, out, _ = said(capsys, "data", "verify", f"imagefolder:{tmp_path}", "--json")
    assert [row["images"] for row in json.loads(out)] == [12, 12]
    (tmp_path / "val/dark/1.png").write_bytes(b"no picture")
    code, _, err = said(capsys, "data", "verify", f"imagefolder:{tmp_path}")
    assert code == 1
    assert "1.png is damaged or not an image" in err


def test_data_sets_are_listed_and_checked(capsys, monkeypatch, tmp_path):
    assert "fashion-mini" in said(capsys, "data", "list")[1]
    code, out, _ = said(capsys, "data", "verify", "fashion-mini", "--json")
    assert code == 0
    assert [row["images"] for row in json.loads(out)] == [10_000, 2_000]
    assert [row["rarest"] for row in json.loads(out)] == [1_000, 200]
    monkeypatch.setenv("CNNBOOK_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b")
    code, _, err = said(capsys, "data", "verify", "fashion-mnist")
    assert code == 1
    assert "train-images-idx3-ubyte.gz" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "resnet5"], 2, "Did you mean 'resnet56'"),
        (["train", "lenet5", "--data", "mnist"], 2, "unknown data set 'mnist'"),
        (["train", "lenet5", "--option", "color=red"], 2, "color"),
        (["train", "lenet5", "--option", "relu"], 2, "NAME=VALUE, got 'relu'"),
        (["train", "lenet5", "--augment", "spin=3"], 2, "spin"),
        (["train", "lenet5", "--augment", "flip=3"], 2, "flip must lie in"),
        (["train", "lenet5", "--size", "28"], 2, "takes images of 32×32"),
        (["train", "alexnet_2014"], 2, "takes images of 224×224"),
        (["train", "lenet5", "--lr", "-1", "--no-checkpoint"], 2, "lr=-1"),
        (["train", "lenet5", "--data", "imagefolder:nowhere"], 1, "no folder"),
        (["evaluate", "nothing"], 1, "there is no file nothing"),
        (["predict", "nothing", "a.png"], 1, "there is no file nothing"),
        (["data", "fetch"], 2, "which data set"),
        (["data", "verify", "cifar"], 2, "unknown data set 'cifar'"),
        (["bench", "speed"], 2, "unknown part of the benchmark 'speed'"),
        (["bench", "models", "--model", "vgg17"], 2, "Did you mean 'vgg1"),
        (["bench", "--repeats", "0"], 2, "repeats must be at least 1"),
        (["bench", "fashion", "--seeds", "0"], 2, "seeds must be at least 1"),
        (["bench", "fashion", "--data", "mnist"], 2, "unknown data set 'mnist'"),
        (["bench", "fashion", "--model", "vgg1"], 2, "Did you mean 'vgg11'"),
        (["bench", "throughput", "--model", "lenet5"], 2, "unknown network of full size"),
        (["bench", "--record", "throughput"], 2, "--record keeps one part, got 0"),
        (["bench", "epoch", "models", "--record"], 2, "--record keeps one part, got 2"),
    ],
)
def test_mistakes_are_named(arguments, code, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found, out, err = said(capsys, *arguments)
    assert found == code
    assert message in err
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_a_foreign_checkpoint_is_refused(capsys, tmp_path):
    path = training.save_checkpoint(tmp_path / "x", models.lenet5().state_dict(), {})
    code, _, err = said(capsys, "evaluate", path)
    assert code == 1
    assert "does not say which network it holds" in err


def test_help_loads_no_torch():
    code = """
import sys
from cnnbook.__main__ import main
try:
    main(["train", "--help"])
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "0 False"
    assert "--tensorboard" in out.stdout


def test_a_stopped_run_exits_with_130_and_goes_on_later(tmp_path):
    command = [sys.executable, "-m", "cnnbook", *TRAIN, "--checkpoint", "net", "--json"]
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
    _, state = training.load_checkpoint(tmp_path / "net")
    assert state["step"] == len(stopped["step_loss"]) > 157


def test_a_disk_that_fills_during_training(tmp_path):
    code = """
import resource, signal, sys
from cnnbook.__main__ import main
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
    two = run("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29617")
    assert two["step_loss"] == pytest.approx(one["step_loss"], rel=1e-3)
    assert two["val_accuracy"] == pytest.approx(one["val_accuracy"], abs=0.005)


@pytest.mark.parametrize("name", models.list_models())
def test_every_network_fits_images_or_says_which_it_takes(name):
    known = models.model_spec(name)
    side = 32 if known.input_shape[1] == 32 else 28
    if known.small is None and known.input_shape[1] != side:
        with pytest.raises(ValueError, match="takes images of"):
            models.create_for(name, (1, side, side), 10)
        return
    with torch.device("meta"):
        net = models.create_for(name, (1, side, side), 10).eval()
        assert net(torch.zeros(1, 1, side, side)).shape == (1, 10)
        full = models.create_for(name, known.input_shape, 10).eval()
        assert full(torch.zeros(1, *known.input_shape)).shape == (1, 10)
