"""The machine on which a run was made."""

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cnnbook
from cnnbook import settings


def where_and_when(machine: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the device, the day and torch's version of what :func:`describe_machine` returned.

    Examples
    --------
    >>> kept = {"device": "cpu", "processor": "Z80", "date": "2026-11-28 9:00", "torch": "2.6+cpu"}
    >>> where_and_when(kept)
    ('Z80', '2026-11-28', '2.6')
    """
    where = machine["processor"] if machine["device"] == "cpu" else machine["device"]
    return where, machine["date"].partition(" ")[0], machine["torch"].partition("+")[0]


def describe_machine() -> dict[str, str | int]:
    """Return the processor, threads, device, versions and the current date.

    Examples
    --------
    >>> sorted(describe_machine())[:4]
    ['cnnbook', 'cores', 'date', 'device']
    """
    import torch  # records can be read without them
    import torchvision

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    device = settings.device()
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cnnbook": cnnbook.__version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
