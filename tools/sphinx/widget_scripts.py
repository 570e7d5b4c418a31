"""The JavaScript of interactive figures, from the npm registry, served by the book itself.

A published book must work where no other host can be reached, and the repository does not keep
built copies of third-party programs. So the build downloads one pinned npm package, compares it
with its published checksum, and takes the few files a page needs.
"""

import io
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import npm

PACKAGE = "@jupyter-widgets/html-manager"
VERSION = "1.0.15"  # speaks version 2.0.0 of the widgets' protocol, as ipywidgets 8.1 does
# The registry's `dist.integrity` of that version, and the checksum of its dist/embed.js.
PACKAGE_INTEGRITY = (
    "sha512-5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi"
    "//SABeNz1yp47bCrJ3CQA=="
)
SCRIPT_INTEGRITY = "sha384-BhIlHV0bCNC00G3UVIEIJKhEHXPQXX90znOSkFJNUoe/L1UByfxdu2lxB3Kdgrpu"
CDN = f"https://cdn.jsdelivr.net/npm/{PACKAGE}@{VERSION}/dist/embed.js"

# embed.js holds the standard widgets and needs no module loader; it looks for the icon fonts in its
# own folder.
SCRIPT = "embed.js"
WANTED = (".woff2", SCRIPT, f"{SCRIPT}.LICENSE.txt")


def unpack(package: bytes, folder: Path) -> None:
    """Write the files a page needs to `folder`, all or none."""
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
        and npm.integrity(script.read_bytes(), "sha384") == SCRIPT_INTEGRITY
        and any(folder.glob("*.woff2"))
    )


def provide(folder: Path) -> str:
    """Make sure that the files are in `folder`; return why they are not, or an empty string."""
    if not is_complete(folder):
        try:
            unpack(npm.download(PACKAGE, VERSION, PACKAGE_INTEGRITY), folder)
        except (OSError, ValueError, tarfile.TarError) as error:
            return str(error)
    return ""
