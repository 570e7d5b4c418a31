"""Packages from the npm registry, without Node or npm."""

import base64
import hashlib
import os
import shutil
import subprocess
import urllib.request

REGISTRY = "https://registry.npmjs.org"


def integrity(content: bytes, algorithm: str) -> str:
    """Return a checksum as npm and browsers write it, for example ``sha512-…``."""
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


def download(package: str, version: str, checksum: str, timeout: float = 30) -> bytes:
    """Return a package as it was published, a compressed tar archive.

    Parameters
    ----------
    package, version
        Its name, with the scope if it has one, and an exact version.
    checksum
        The registry's ``dist.integrity`` of that version, a SHA-512.
    timeout
        Seconds to wait for the registry.

    Raises
    ------
    OSError
        If it cannot be downloaded.
    ValueError
        If something else was delivered.
    """
    url = f"{registry()}/{package}/-/{package.split('/')[-1]}-{version}.tgz"
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        content = answer.read()
    found = integrity(content, "sha512")
    if found != checksum:
        raise ValueError(f"{url} has the checksum {found} instead of {checksum}")
    return content
