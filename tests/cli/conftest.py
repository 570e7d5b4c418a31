"""What the tests of several commands share."""

from types import SimpleNamespace

import pytest

from cnnbook.cli import main

TRAIN = ("train", "lenet5", "--epochs", "1", "--option", "activation=relu", "--device", "cpu")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Return the words of a training, the file it wrote and its log."""
    folder = tmp_path_factory.mktemp("runs")
    path, log = folder / "net.safetensors", folder / "log"
    assert main([*TRAIN, "--checkpoint", str(path), "--tensorboard", str(log), "--quiet"]) == 0
    return SimpleNamespace(words=TRAIN, path=path, log=log)


@pytest.fixture
def said(capsys):
    """Return a function that runs a command: its exit code, output and messages."""

    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run
