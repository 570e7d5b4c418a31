"""Changed bytes of checkpoints, and files read while another process writes them."""

import os
import random
import shutil
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from cnnbook import data, training

BYTES = "single-byte changes of a checkpoint, each reader"
BESIDE = "loads while another process saves"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint of a run that can be resumed, with a network that can be built again."""
    images = torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8)
    dataset = data.Dataset("x", images, torch.arange(32) % 2, ("cat", "dog"), (0.5,), (0.2,))
    network = training.build_for("lenet5", dataset.padded(32), activation="relu")
    info = training.model_info(network, dataset.padded(32), source="digits", side=8)
    path = tmp_path_factory.mktemp("run") / "run"
    options = {"device": "cpu", "progress": False, "checkpoint_info": info, "batch_size": 32}
    training.fit(network, dataset.padded(32), epochs=1, checkpoint=path, **options)

    def resume(changed):
        training.fit(network, dataset.padded(32), epochs=1, checkpoint=changed, **options)

    readers = {
        "load_checkpoint": training.load_checkpoint,
        "load_weights": lambda changed: training.load_weights(network, changed),
        "load": training.load,
        "fit": resume,
    }
    return path, readers


@pytest.mark.slow
def test_no_changed_byte_goes_unnoticed(faults, run, tmp_path):
    path, readers = run
    content, changed = path.read_bytes(), tmp_path / "changed"
    header = 8 + int.from_bytes(content[:8], "little")
    rng = random.Random(0)
    number = faults.number(BYTES, quick=90, full=2100)
    for i in range(number):
        at = rng.randrange(header) if i % 3 else rng.randrange(header, len(content))
        bits = rng.choice((1, 2, 32, 128, 255))
        damaged = bytearray(content)
        damaged[at] ^= bits
        changed.write_bytes(damaged)
        for name, read in readers.items():
            where = f"{name}: byte {at} of a header of {header}"
            harm = f"{where}: silent"
            try:
                read(changed)
            except training.CheckpointError as error:
                clear = str(changed) in str(error) and len(str(error)) < 500
                harm = None if clear else f"{where}: {error}"
            except Exception as error:
                harm = f"{where}: {error!r}"
            faults.tried(harm)
    assert changed.read_bytes() == bytes(damaged)
    for read in readers.values():  # undamaged, it is read by all of them
        shutil.copy(path, changed)
        read(changed)


WRITER = """
import sys, torch
from cnnbook import training
for i in range(10**7):
    training.save_checkpoint(sys.argv[1], {"w": torch.full((5000,), float(i))}, {"i": i})
"""


@pytest.mark.slow
def test_a_reader_beside_a_writer_gets_one_state_or_the_other(faults, tmp_path):
    path = training.save_checkpoint(tmp_path / "run", {"w": torch.zeros(5000)}, {"i": 0})
    number = faults.number(BESIDE, quick=100, full=2000)
    seen, tried = {0}, 0
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
        try:
            while training.load_checkpoint(path)[1]["i"] == 0:
                time.sleep(0.1)  # it imports torch
            while tried < number or len(seen) < number // 20:
                harm = None
                try:
                    weights, state = training.load_checkpoint(path)
                    seen.add(state["i"])
                    if not weights["w"].eq(state["i"]).all():
                        harm = "load_checkpoint: neither of two states"
                    net = nn.ParameterDict({"w": torch.zeros(5000)})
                    training.load_weights(net, path)
                    if not net["w"].eq(net["w"][0]).all():
                        harm = "load_weights: neither of two states"
                except Exception as error:
                    harm = repr(error)
                faults.tried(harm)
                faults.tried()
                tried += 2
                assert writer.poll() is None
        finally:
            writer.kill()
    left = [name for name in os.listdir(tmp_path) if name != "run"]
    assert len(left) <= 1  # of the writer that was killed
