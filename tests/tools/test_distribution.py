"""What pip installs, and what PyPI shows."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import set_repository

ROOT = Path(__file__).parents[2]


def build(kind: str, folder: Path) -> Path:
    code = f"import sys, hatchling.build as b; print(b.build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    path = build("wheel", tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def package() -> set[str]:
    names = {str(path.relative_to(ROOT)) for path in set_repository.files(ROOT)}
    return {name for name in names if name.startswith("cnnbook/")}


@pytest.mark.slow
def test_the_wheel_is_the_package_and_nothing_else(wheel):
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert installed == package()
    assert "cnnbook/py.typed" in installed
    assert any(name.startswith("cnnbook/data/assets/photos/") for name in installed)
    for name in installed - {"cnnbook/py.typed"}:
        assert wheel.getinfo(name).file_size > 0, name


def test_the_wheel_is_small(wheel):
    assert Path(wheel.filename).stat().st_size <= 10e6


def test_every_license_comes_with_it(wheel, metadata):
    named = set(metadata.get_all("License-File"))
    data = {p.parent for p in (ROOT / "cnnbook" / "data" / "assets").rglob("*") if p.is_file()}
    for folder in data:
        files = {str((folder / name).relative_to(ROOT)) for name in ("LICENSE", "CREDITS")}
        assert files & named, f"{folder} comes without a license"
    assert "LICENSE" in named
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    for name in named:
        assert wheel.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()
    assert metadata["License-Expression"] == "MIT AND CC-BY-4.0 AND CC0-1.0"


@pytest.mark.slow
def test_the_source_builds_the_wheel_and_holds_no_more(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    about = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    made = {"PKG-INFO", "pyproject.toml", ".gitignore"}
    assert names == package() | about | made


def test_it_needs_little_and_leaves_torch_alone(metadata):
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {line.split(">")[0] for line in needed}
    assert names == {"torch", "torchvision", "numpy", "matplotlib", "safetensors", "tqdm"}
    # A reader's torch stays: no upper bounds, no exact versions.
    assert all(">=" in line and "<" not in line and "==" not in line for line in needed)
    assert metadata["Requires-Python"] == ">=3.10"
