"""On what a run was made."""

import os
import platform
import re

import torch

import cnnbook
from cnnbook import results
from cnnbook.results import schema


def test_the_machine_is_described_by_the_schema():
    machine = results.describe_machine()
    assert sorted(machine) == sorted(schema.MACHINE)
    assert (machine["cores"], machine["threads"]) == (os.cpu_count(), torch.get_num_threads())
    assert machine["python"] == platform.python_version()
    assert machine["torch"] == torch.__version__
    assert machine["cnnbook"] == cnnbook.__version__
    assert machine["torchvision"][0].isdigit()
    assert machine["processor"]
    assert machine["device"] == "cpu" or cnnbook.device().type != "cpu"
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", machine["date"])
