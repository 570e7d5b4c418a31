"""Two processes that train together, as forks of one, one of which comes to harm.

Reads a line of JSON for each training of two, and answers with what became of each of them.
"""

import os
import resource
import signal
import socket
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from forks import Fork, serve, silence
from torch import nn

from cnnbook import data, training

TRAIN = data.load("digits")[0][:64]
HANGS = ("hangs", "is stopped", "never starts")
LATE = "fails, and threads are late"
LARGE = 4096  # bytes; a checkpoint has more


class Happens(training.Callback):
    """Something that happens to one of the processes after a step."""

    def __init__(self, what, step):
        self.what, self.step = what, step

    def on_step(self, run):
        if run.step != self.step:
            return
        if self.what == "hangs":
            time.sleep(600)
        elif self.what == "is stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self.what == "has no room on its disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE, LARGE))
        elif self.what.startswith("fails"):
            raise ZeroDivisionError("a mistake in one of them")
        elif self.what == "leaves":
            os._exit(3)
        else:
            os.kill(os.getpid(), getattr(signal, self.what))


class LateThreads(training.Callback):
    """From a step on, the threads that exchange tensors run after everything else."""

    def __init__(self, step):
        self.step = step

    def on_step(self, run):
        if run.step == self.step and hasattr(os, "SCHED_IDLE"):
            for name in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(name), {0})
                if int(name) != os.getpid():
                    os.sched_setscheduler(int(name), os.SCHED_IDLE, os.sched_param(0))


def fit(path, device="cpu", callbacks=()):
    """Train, and return what must be the same whatever happened before."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    history = training.fit(
        net, TRAIN, epochs=3, batch_size=32, device=device, progress=False,
        checkpoint=path, checkpoint_every=1, callbacks=callbacks,
    )  # fmt: skip
    return {"losses": history.step_loss, "weights": net[1].weight.tolist()}


def train(rank, order):
    """Train as one of two."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(order["port"]),
    }  # fmt: skip
    happens = [LateThreads(order["step"])] if order.get("what") == LATE else []
    happens += [Happens(order["what"], order["step"])] if rank == order.get("who") else []
    if order.get("what") == "never starts" and rank == order["who"]:
        time.sleep(600)
    with training.join_processes(timeout=order["timeout"]) as device:
        return fit(order["path"], device, happens)


def in_silence(rank, order):
    """Train as one of two, without printing the errors that are expected."""
    silence()
    return train(rank, order)


def both(order):
    """Train in two processes; say how and when each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        order["port"] = free.getsockname()[1]
    forks = [
        Fork(partial(in_silence, rank, order), Path(f"{order['result']}{rank}"), order["patience"])
        for rank in range(2)
    ]
    # Of one that hangs, nothing is expected.
    awaited = [
        fork
        for rank, fork in enumerate(forks)
        if order.get("what") not in HANGS or rank != order["who"]
    ]
    for fork in awaited:
        fork.wait()
    return [fork.end() for fork in forks]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fit(Path(folder, "run"))  # loads what every fork would load again
    serve(both)
