"""The machine on which a run was made."""

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import cnnbook
from cnnbook import settings


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
