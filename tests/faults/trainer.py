"""Trains in forks of itself, so that hundreds of trainings can be disturbed at little cost.

Reads a line of JSON for each training, and answers with one.
"""

import hashlib
import os
import signal
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import torch
from forks import Fork, serve, silence
from torch import nn

from cnnbook import _files, data, training
from cnnbook.data import Augment

TRAIN, TEST = (part[:n] for part, n in zip(data.load("digits"), (80, 32), strict=True))
WORKS = {  # what each training uses, beside the plain
    "plain": lambda net: {"checkpoint_every": 1},
    "averaged": lambda net: {"checkpoint_every": 2, "ema_decay": 0.9},
    "own optimizer": lambda net: own_optimizer(net) | {"augment": Augment(translate=0.1, flip=0.5)},
    "best epoch": lambda net: {
        "checkpoint_every": 1,
        "callbacks": [training.EarlyStopping("val_loss", patience=9)],
    },
}


def own_optimizer(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    return {"optimizer": optimizer, "scheduler": plateau, "checkpoint_every": 1}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(144, 10),
    )  # fmt: skip


def train(work, path, progress=True):
    """Train, or resume, and return what must be the same whatever happened in between."""
    net = network()
    history = training.fit(
        net, TRAIN, TEST, epochs=3, batch_size=32, seed=3, device="cpu", checkpoint=path,
        progress=progress, **WORKS[work](net),
    )  # fmt: skip
    if history.stopped:
        saved = training.load_checkpoint(path)[1]["step"]
        assert saved == len(history.step_loss), f"saved {saved} of {len(history.step_loss)} steps"
    kept = training.load_checkpoint(path)[0]
    for name, value in net.state_dict().items():
        assert history.stopped or torch.equal(value, kept[name]), f"the file has another {name}"
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    kept = {
        key: value for key, value in history.to_dict().items() if key not in ("seconds", "stopped")
    }
    return {"weights": digest.hexdigest(), "history": kept, "stopped": history.stopped}


def break_stderr(how):
    """Give this process a stderr that nobody reads, or none."""
    if how == "dead pipe":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 2)
    elif how == "full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    elif how == "closed":
        os.close(2)
    else:
        silence()


def signal_within(moment, number):
    """Send this process a signal at one of the moments of writing a file, the n-th of its kind.

    Returns
    -------
    list
        Empty until the signal has been sent.
    """
    name, left, sent = moment["within"], moment["nth"], []
    real_fdopen = os.fdopen

    def due():
        nonlocal left
        left -= 1
        return left == 0

    def send():
        sent.append(number)
        os.kill(os.getpid(), number)

    class Half:
        """A file of which half is written when the signal comes."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, attribute):
            return getattr(self.file, attribute)

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            send()
            return self.file.write(content[len(content) // 2 :])

    if name == "write":
        _files.os.fdopen = lambda *a: Half(real_fdopen(*a)) if due() else real_fdopen(*a)
        return sent
    real = getattr(os, name)

    def disturbed(*arguments, **options):
        now = due()
        if now and moment["before"]:
            send()
        result = real(*arguments, **options)
        if now and not moment["before"]:
            send()
        return result

    setattr(os, name, disturbed)
    return sent


def in_fork(order):
    """Train in a fork, where something happens."""
    sent = [True]
    break_stderr(order.get("stderr"))
    if "within" in order:
        sent = signal_within(order, getattr(signal, order["signal"]))
    try:
        return train(order["work"], order["path"]) | {"sent": bool(sent)}
    except BaseException:
        return {"error": traceback.format_exc(), "sent": bool(sent)}


def warm_up():
    """Load here what every child would load again."""
    with tempfile.TemporaryDirectory() as folder:
        for work in WORKS:
            train(work, Path(folder, work), progress=False)


def answer(order):
    """Train in a fork, send it a signal, and say how it ended, after how long, with what result."""
    fork = Fork(partial(in_fork, order), Path(order["result"]), patience=300)
    if "after" in order:
        time.sleep(order["after"])
        fork.send(getattr(signal, order["signal"]))
    fork.wait()
    return fork.end()


if __name__ == "__main__":
    torch.set_num_threads(1)
    warm_up()
    serve(answer)
