"""Write or check the compressed files of a data set that comes with the package."""

import hashlib
import lzma
import sys
from collections.abc import Mapping
from pathlib import Path

from cnnbook._files import write_whole


def write_or_check(folder: Path, contents: Mapping[str, bytes], check: bool) -> int:
    """Write files, or compare their contents with existing ones; return 0 if all are equal."""
    folder.mkdir(exist_ok=True)
    different = []
    for name, content in contents.items():
        if not check:
            write_whole(folder / name, lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
        elif lzma.decompress((folder / name).read_bytes()) != content:
            different.append(name)
        print(hashlib.sha256(content).hexdigest(), name)
    if different:
        print(f"different from a fresh draw: {', '.join(different)}", file=sys.stderr)
    return len(different)
