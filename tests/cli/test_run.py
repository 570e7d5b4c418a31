"""From words to an exit code: mistakes, and networks from outside the package."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from cnnbook import data, models
from cnnbook.cli import build_parser
from cnnbook.cli.run import as_typed
from cnnbook.models import registry

SMOOTH = ("--label-smoothing", 0.1)


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
        (["train", "lenet5", "--lr", "-1", "--no-checkpoint"], 2, "got --lr -1.0"),
        (["train", "lenet5", "--lr", "1e308", "--no-checkpoint"], 2, "got --lr 1e+308"),
        (["train", "lenet5", "--size", "99999999999"], 2, "choose a smaller size"),
        (["train", "lenet5", "--size", f"{2**70}"], 2, "size must be less than 2**63"),
        (["train", "lenet5", "--batch-size", f"{2**70}", "--no-checkpoint"], 2, "less than 2**63"),
        (["train", "lenet5", "--device", "meta"], 2, "shapes and no values"),
        (["train", "lenet5", "--time-limit", "nan", "--no-checkpoint"], 2, "--time-limit nan"),
        (["bench", "accuracy", "--time-limit", "nan"], 2, "got --time-limit nan"),
        (["bench", "augment", "--plot", "figure.docx"], 2, ".png, .svg or .pdf"),
        (
            ["bench", "augment", "--output", "/dev/full"],
            1,
            "cannot write /dev/full (it is there already",
        ),
        (["experiment", "depth", "--size", "live", "--plot", "/"], 2, ".png, .svg or .pdf"),
        (["train", "lenet5", "--option", "activaton=relu"], 2, "Did you mean 'activation'"),
        (["train", "vgg11", "--option", "width=abc"], 2, "must be a number, got width='abc'"),
        (["train", "vgg11", "--option", "num_classes=3"], 2, "data set determines num_classes"),
        (["train", "lenet5", "--augment", "hflip=0.5"], 2, "Did you mean 'flip'"),
        (["train", "lenet5", "--augment", "flip=yes"], 2, "must be a number, got flip='yes'"),
        (["train", "lenet5", "--augment", "scale=2"], 2, "2 values with a comma"),
        (["train", "lenet5", "--target-accuracy", "90"], 2, "got --target-accuracy 90.0"),
        (
            ["train", "lenet5", "--checkpoint-every", "3", "--no-checkpoint"],
            2,
            "pass --checkpoint too",
        ),
        (["train", "lenet5", "--data", "imagefolder:nowhere"], 1, "no folder"),
        (["evaluate", "nothing"], 1, "there is no file nothing"),
        (["predict", "nothing", "a.png"], 1, "there is no file nothing"),
        (["data", "fetch"], 2, "which data set"),
        (["data", "verify", "cifar"], 2, "unknown data set 'cifar'"),
        (["bench", "speed"], 2, "unknown part of the benchmark 'speed'"),
        (["bench", "models", "--model", "vgg17"], 2, "Did you mean 'vgg1"),
        (["bench", "--repeats", "0"], 2, "repeats must be at least 1"),
        (["bench", "recipe", "--seeds", "0"], 2, "seeds must be at least 1"),
        (["bench", "recipe", "--data", "mnist"], 2, "unknown data set 'mnist'"),
        (["bench", "throughput", "--model", "lenet6"], 2, "Did you mean 'lenet5'"),
        (["bench", "--record", "throughput"], 2, "name the part before --record: cnnbook bench th"),
        (["bench", "--record", "folder"], 2, "--record keeps one part, got 0"),
        (
            ["bench", "augment", "--model", "lenet5"],
            2,
            "--model is for models, throughput, ceiling",
        ),
        (["bench", "--data", "digits"], 2, "--data is for recipe"),
        (["bench", "epoch", "--time-limit", "9"], 2, "--time-limit is for accuracy"),
        (["bench", "models", "--seeds", "2"], 2, "--seeds is for recipe"),
        (["bench", "epoch", "models", "--record"], 2, "--record keeps one part, got 2"),
    ],
)
def test_mistakes_are_named(arguments, code, message, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found, out, err = said(*arguments)
    assert found == code
    assert message in err
    assert out == ""
    assert not list(tmp_path.iterdir())


TOY = """
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook.models import ModelSpec, register_model


class Toy(nn.Module):
    def __init__(self, num_classes=10, in_channels=1, *, width=8):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 5, stride=3)
        self.near, self.far = (nn.Linear(width * 64, num_classes) for _ in range(2))

    def forward(self, x):
        x = F.relu(self.conv(x)).flatten(1)
        return (self.near(x), self.far(x)) if self.training else self.near(x)


def toy_loss(output, labels):
    outputs = output if isinstance(output, tuple) else (output,)
    return sum(F.cross_entropy(scores, labels) for scores in outputs)


register_model("toy", ModelSpec(Toy, "nobody 2026", (1, 28, 28), 10, loss=toy_loss))
"""


MISTAKE = "register_model('toy', int)"


def test_messages_name_what_was_typed(tmp_path):
    chosen = build_parser().parse_args(["train", "lenet5", "--checkpoint", "runs/lr=0.1"])
    for message, shown in (
        ("or resume=False to start over", "or --no-resume to start over"),
        ("pass checkpoint= too", "pass --checkpoint too"),
        (
            "batch_size must be at least 1, got batch_size=0",
            "--batch-size must be at least 1, got --batch-size 0",
        ),
        ("there is no file runs/lr=0.1", "there is no file runs/lr=0.1"),
        ("lr=0.1 is a file", "lr=0.1 is a file"),
        ("the data and the size of a model", "the data and the size of a model"),
        ("unknown option of lenet5 'width'", "unknown option of lenet5 'width'"),
    ):
        assert as_typed(message, chosen) == shown


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder, which is the current one, with a module that registers a network."""
    few = {name: models.model_spec(name) for name in ("lenet5", "vgg16")}
    monkeypatch.setattr(registry, "_MODELS", few)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy_network.py").write_text(TOY)
    yield "toy_network"
    sys.modules.pop("toy_network", None)


@pytest.mark.slow
def test_a_network_from_outside_goes_through_every_command(toy, said):
    ours = ("--import", toy)
    code, out, _ = said(*ours, "models", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert list(listed) == ["lenet5", "vgg16", "toy"]
    assert listed["toy"]["paper"] == "nobody 2026"
    assert listed["toy"]["parameters"] == 8 * 26 + 2 * 10 * (8 * 64 + 1)

    words = ("train", "toy", "--option", "width=8", "--epochs", 1, "--device", "cpu", "--quiet")
    code, out, _ = said(*ours, *words, "--json")
    assert code == 0
    trained = json.loads(out)
    assert trained["val_accuracy"][0] > 0.7
    assert trained["checkpoint"] == "toy-fashion-mini.safetensors"

    code, out, _ = said(*ours, "evaluate", trained["checkpoint"], "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] == trained["test_accuracy"]

    _, test = data.load("fashion-mini")
    Image.fromarray(test.images[0, 0].numpy()).save("boot.png")
    words = ("predict", trained["checkpoint"], "boot.png", "--top", 1, "--device", "cpu", "--json")
    code, out, _ = said(*ours, *words)
    assert code == 0
    (row,) = json.loads(out)
    assert row["class"] in test.classes
    assert row["probability"] > 0.1

    words = ("bench", "throughput", "--model", "toy", "--quick", "--repeats", 1, "--json")
    code, out, _ = said(*ours, *words)
    assert code == 0
    rows = json.loads(out)["rows"]
    assert {(row["network"], row["contender"]) for row in rows} == {("toy", "cnnbook")}
    assert all(row["value"] > 0 for row in rows)

    code, _, err = said("train", "toy", *SMOOTH)
    assert code == 2
    assert "toy is trained with toy_loss, which has no label smoothing" in err


@pytest.mark.slow
def test_a_network_that_nobody_registered(toy, said):
    words = ("train", "toy", "--epochs", 1, "--device", "cpu", "--quiet")
    code, _, err = said(*words)
    assert code == 2
    assert "unknown model 'toy'" in err
    assert said("--import", toy, *words)[0] == 0
    del registry._MODELS["toy"]
    code, _, err = said("evaluate", "toy-fashion-mini.safetensors")
    assert code == 1
    assert "holds a network named 'toy', which is not registered" in err
    assert "--import MODULE" in err


def test_a_module_that_cannot_be_imported(toy, said, tmp_path):
    code, out, err = said("--import", "toy_netwrok", "models")
    assert (code, out) == (2, "")
    assert "cannot import 'toy_netwrok' (No module named 'toy_netwrok')" in err
    (tmp_path / "needs_more.py").write_text("import what_nobody_has")
    code, _, err = said("--import", "needs_more", "models")
    assert code == 2
    assert "needs_more imports what_nobody_has, which is not installed" in err
    (tmp_path / "mistaken.py").write_text(
        "from cnnbook.models import register_model\n\n\n" + MISTAKE
    )
    code, _, err = said("models", "--import", "mistaken")
    assert code == 2
    assert "mistaken cannot be imported: TypeError: register_model takes a ModelSpec" in err
    assert f"(line 4 of {tmp_path / 'mistaken.py'})" in err
    (tmp_path / "again.py").write_text(TOY.replace('"toy"', '"vgg16"'))
    code, _, err = said("--import", "again", "models")
    assert code == 2
    assert "'vgg16' is registered already" in err


@pytest.mark.slow
def test_the_folder_of_the_shell_is_searched(toy, tmp_path):
    # As the installed command runs: its own folder, not this one, is where Python looks.
    program = "import sys; sys.path.remove(''); from cnnbook.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--import", toy, "models", "toy"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "nobody 2026" in out


@pytest.mark.slow
def test_a_reader_that_has_read_enough():
    command = [sys.executable, "-m", "cnnbook", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as head does
        assert process.stderr.read() == b""
    assert process.returncode == 1
