"""Do what a reader in Colab does, in environments other than ours: open a chapter and run it.

python tools/try_as_reader.py oldest --python 3.10
python tools/try_as_reader.py newest --python 3.13 chapters/04-lenet.ipynb

The environment has torch and what notebooks need, but neither the book's tools nor cnnbook. Each
chapter is copied into an empty folder, and its own first cell installs the package, from the last
commit of this repository instead of GitHub. That must leave every installed version as it was.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))

# Colab's widgets are older than those of the book, and lack one that its explorers use.
WIDGETS = {"oldest": "ipywidgets==7.7.1", "newest": "ipywidgets"}


def make_environment(folder: Path, python: str, versions: str) -> Path:
    """Create an environment of the oldest or newest versions, and return its Python."""
    uv = shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("uv, which finds the oldest versions that fit: pip install uv")
    # With pip, as the install cell needs it.
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", python, folder], check=True)
    inside = folder / "bin" / "python"
    # Wheels only: what must be compiled first, no reader has.
    install = [uv, "pip", "install", "--quiet", "--python", inside, "--no-build"]
    choice = ["--resolution", "lowest-direct"] if versions == "oldest" else []
    subprocess.run([*install, *choice, "--requirement", ROOT / "pyproject.toml"], check=True)
    subprocess.run([*install, WIDGETS[versions], "ipykernel", "nbclient"], check=True)
    return inside


def installed(python: Path) -> dict[str, str]:
    command = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {package["name"]: package["version"] for package in json.loads(listed)}


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what else than cnnbook became another version, came or went."""
    names = sorted((before.keys() | after.keys()) - {"cnnbook"})
    return [
        f"{name} {before.get(name, 'missing')} -> {after.get(name, 'missing')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def as_on_github(root: Path = ROOT) -> dict[str, str]:
    """Return environment variables that make git fetch the book's address from this repository."""
    address = yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"]
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{root.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }


def seconds_of_first_cell(notebook: dict) -> float:
    """Return how long the first code cell ran: installing, and importing what is installed."""
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    times = first["metadata"]["execution"]
    begin, end = (
        datetime.fromisoformat(times[moment].replace("Z", "+00:00"))
        for moment in ("iopub.execute_input", "shell.execute_reply")
    )
    return (end - begin).total_seconds()


def run_chapter(python: Path, chapter: Path) -> tuple[float, float]:
    """Run a chapter alone, without cnnbook; return the seconds of its first cell, and of all."""
    uninstall = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "cnnbook"]
    subprocess.run(uninstall, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as empty:
        notebook = shutil.copy(chapter, empty)
        run = Path(empty) / "run.ipynb"
        began = datetime.now()
        subprocess.run(
            [python.with_name("jupyter-execute"), notebook, "--output", run, "--timeout", "1200"],
            cwd=empty,
            env=os.environ | as_on_github() | {"TQDM_DISABLE": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        seconds = (datetime.now() - began).total_seconds()
        return seconds_of_first_cell(json.loads(run.read_text())), seconds


def try_chapters(python: Path, chapters: list[Path]) -> list[str]:
    """Run chapters one after another, print how it went, and return what went wrong."""
    before, problems = installed(python), []
    if "cnnbook" in before:
        raise ValueError(f"{python} has cnnbook already; a reader has not")
    print(", ".join(f"{name} {version}" for name, version in before.items()))
    for chapter in chapters:
        try:
            first, seconds = run_chapter(python, chapter)
        except subprocess.CalledProcessError as error:
            problems.append(f"{chapter.name}: {error.stderr[-3000:]}")
            continue
        print(f"{chapter.name}: installed in {first:.1f} s, ran in {seconds:.0f} s", flush=True)
        problems += [
            f"{chapter.name} changed {line}" for line in changes(before, installed(python))
        ]
    check = [python, "-m", "pip", "check", "--disable-pip-version-check"]
    checked = subprocess.run(check, check=False, capture_output=True, text=True)
    if checked.returncode:
        problems.append(checked.stdout.strip())
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("versions", choices=WIDGETS, help="those we promise, or those of today")
    parser.add_argument("--python", default=sys.executable, help="version, or path (this one)")
    parser.add_argument("chapters", nargs="*", type=Path, default=CHAPTERS, help="all of them")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = make_environment(Path(folder) / "reader", chosen.python, chosen.versions)
            problems = try_chapters(python, [path.resolve() for path in chosen.chapters])
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            print(f"try_as_reader: {error}", file=sys.stderr)
            return 2
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
