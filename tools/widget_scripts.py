"""The JavaScript of interactive figures, from the npm registry, to be served by the book itself.

A published book must work where no other host can be reached, and a built copy of somebody else's
program has no place in the repository. So the build downloads one pinned npm package, compares it
with its published checksum, and takes the few files a page needs. Node and npm are not required.
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path, PurePosixPath

PACKAGE = "@jupyter-widgets/html-manager"
VERSION = "1.0.15"  # speaks version 2.0.0 of the widgets' protocol, as ipywidgets 8.1 does
# The registry's `dist.integrity` of that version, and the checksum of its dist/embed.js.
PACKAGE_INTEGRITY = (
    "sha512-5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi"
    "//SABeNz1yp47bCrJ3CQA=="
)
SCRIPT_INTEGRITY = "sha384-BhIlHV0bCNC00G3UVIEIJKhEHXPQXX90znOSkFJNUoe/L1UByfxdu2lxB3Kdgrpu"
CDN = f"https://cdn.jsdelivr.net/npm/{PACKAGE}@{VERSION}/dist/embed.js"
REGISTRY = "https://registry.npmjs.org"

# embed.js holds the standard widgets and needs no module loader; it looks for the icon fonts
# beside itself.
SCRIPT = "embed.js"
WANTED = (".woff2", SCRIPT, f"{SCRIPT}.LICENSE.txt")


def integrity(content: bytes, algorithm: str) -> str:
    """Return the checksum as npm and browsers write it, for example ``sha512-…``."""
    digest = hashlib.new(algorithm, content).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def registry() -> str:
    """Return the address of the npm registry this machine is set to use."""
    for name, value in os.environ.items():
        if name.lower() == "npm_config_registry" and value:
            return value.rstrip("/")
    if npm := shutil.which("npm"):
        command = [npm, "config", "get", "registry"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if answer.startswith("http"):
            return answer.rstrip("/")
    return REGISTRY


def download(timeout: float = 30) -> bytes:
    """Return the npm package, compared with its checksum.

    Raises
    ------
    OSError
        If it cannot be downloaded.
    ValueError
        If something else was delivered.
    """
    url = f"{registry()}/{PACKAGE}/-/{PACKAGE.split('/')[1]}-{VERSION}.tgz"
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        content = answer.read()
    found = integrity(content, "sha512")
    if found != PACKAGE_INTEGRITY:
        raise ValueError(f"{url} has the checksum {found} instead of {PACKAGE_INTEGRITY}")
    return content


def unpack(package: bytes, folder: Path) -> None:
    """Write the files a page needs into `folder`, all or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        part.chmod(0o755)
        with tarfile.open(fileobj=io.BytesIO(package)) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if path.parent.name == "dist" and path.name.endswith(WANTED):
                    # Only the last part of the name is used: nothing is written elsewhere.
                    (part / path.name).write_bytes(archive.extractfile(member).read())
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    script = folder / SCRIPT
    return (
        script.is_file()
        and integrity(script.read_bytes(), "sha384") == SCRIPT_INTEGRITY
        and any(folder.glob("*.woff2"))
    )


def provide(folder: Path) -> str:
    """Make sure that the files are in `folder`; return why not, or an empty string."""
    if not is_complete(folder):
        try:
            unpack(download(), folder)
        except (OSError, ValueError, tarfile.TarError) as error:
            return str(error)
    return ""
