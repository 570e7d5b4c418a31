"""Do what a reader in Colab does, in environments other than ours: open a chapter and run it.

python tools/try_as_reader.py oldest --python 3.10
python tools/try_as_reader.py newest --python 3.13 chapters/04-lenet.ipynb
python tools/try_as_reader.py present

The environment has torch and what notebooks need, but neither the book's tools nor cnnbook. Each
chapter is copied into an empty folder, and its own first cell installs the package, from the last
commit of this repository instead of GitHub. That must not change any installed version.

oldest and newest create an environment of about 5 GB and remove it afterwards; they need uv and
internet access. present is the environment that runs this program, such as one in Colab or on
Binder; it must have nbclient but not cnnbook.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import set_repository
import set_version

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))

# Colab's widgets are older than the book's, and lack one that its explorers use.
WIDGETS = {"oldest": "ipywidgets==7.7.1", "newest": "ipywidgets"}


class Measured(NamedTuple):
    """What running a chapter took."""

    first: float  # seconds of its first cell
    seconds: float  # of all cells
    memory: int  # bytes, maximum
    warnings: str  # what it wrote to stderr, which notebooks show in red


def make_environment(folder: Path, python: str, versions: str) -> Path:
    """Create an environment with the oldest or newest versions, and return its Python."""
    uv = shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("no uv, which finds the oldest versions that fit: pip install uv")
    # With pip, as the install cell needs it.
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", python, folder], check=True)
    inside = folder / "bin" / "python"
    # Wheels only: no reader has packages that must first be compiled.
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
    """Return which packages besides cnnbook were changed, added or removed."""
    names = sorted((before.keys() | after.keys()) - {"cnnbook"})
    return [
        f"{name} {before.get(name, 'missing')} -> {after.get(name, 'missing')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


@cache
def tagged_copy(root: Path) -> tempfile.TemporaryDirectory:
    """Return a copy of a repository whose last commit has the tag that first cells install.

    The tag itself is made when a version is released, and names an older commit afterwards.
    """
    copy = tempfile.TemporaryDirectory()
    subprocess.run(["git", "clone", "--quiet", "--bare", root, copy.name], check=True)
    (version,) = set_version.written(root)["cnnbook/__init__.py"]
    subprocess.run(["git", "tag", "--force", f"v{version}", "HEAD"], cwd=copy.name, check=True)
    return copy


def as_a_reader(root: Path = ROOT) -> dict[str, str]:
    """Return the environment variables of a chapter.

    With them, git fetches the book's address from a copy of this repository, and Python does not
    find the package there unless it is installed.
    """
    found = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return found | {
        "TQDM_DISABLE": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{Path(tagged_copy(root).name).as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": set_repository.current(root),
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


def written_to_stderr(notebook: dict) -> str:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    texts = [output["text"] for output in outputs if output.get("name") == "stderr"]
    return "".join(line for text in texts for line in text)  # a string may be a list of lines


def uninstall(python: Path) -> None:
    command = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "cnnbook"]
    subprocess.run(command, check=True, capture_output=True)


def run_chapter(python: Path, chapter: Path) -> Measured:
    """Run a chapter alone, in an environment without cnnbook."""
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile("w+") as log:
        notebook, run = shutil.copy(chapter, empty), Path(empty) / "run.ipynb"
        command = [python.with_name("jupyter-execute"), notebook, "--output", run]
        command += ["--timeout", "1200"]
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=empty, env=as_a_reader(), stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)  # its kernel's usage included
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            log.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=log.read())
        done = json.loads(run.read_text())
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(seconds_of_first_cell(done), seconds, memory, written_to_stderr(done))


def try_chapters(python: Path, chapters: list[Path], limit: float) -> list[str]:
    """Run chapters one after another, print the results, and return what went wrong."""
    before, problems = installed(python), []
    if "cnnbook" in before:
        raise ValueError(f"{python} already has cnnbook, which a reader does not: uninstall it")
    print(", ".join(f"{name} {version}" for name, version in before.items()), flush=True)
    for chapter in chapters:
        uninstall(python)
        try:
            took = run_chapter(python, chapter)
        except subprocess.CalledProcessError as error:
            print(f"{chapter.name}: failed", flush=True)
            problems.append(f"{chapter.name}: {error.stderr[-3000:]}")
            continue
        print(
            f"{chapter.name}: installed in {took.first:.1f} s, ran in {took.seconds:.0f} s, "
            f"{took.memory / 1e9:.1f} GB of memory",
            flush=True,
        )
        after = installed(python)
        if "cnnbook" not in after:
            problems.append(f"{chapter.name}: its first cell did not install cnnbook")
        if took.first > limit:
            problems.append(f"{chapter.name}: its first cell took more than {limit:.0f} s")
        if took.warnings:
            problems.append(f"{chapter.name} warned: {took.warnings[-3000:]}")
        problems += [f"{chapter.name} changed {line}" for line in changes(before, after)]
    check = [python, "-m", "pip", "check", "--disable-pip-version-check"]
    checked = subprocess.run(check, check=False, capture_output=True, text=True)
    print(f"pip check: {checked.stdout.strip()}")
    if checked.returncode:
        problems.append(checked.stdout.strip())
    uninstall(python)
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "versions",
        choices=[*WIDGETS, "present"],
        help="the oldest that pyproject.toml allows, today's newest, or those installed here",
    )
    parser.add_argument(
        "--python", default=sys.executable, help="version, or path (default: this one)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60,
        metavar="SECONDS",
        help="for a first cell, which installs cnnbook and imports torch; on an idle machine it "
        "takes less than 15 (default: 60)",
    )
    parser.add_argument("chapters", nargs="*", type=Path, default=CHAPTERS, help="default: all")
    chosen = parser.parse_intermixed_args()  # chapters may follow an option
    if missing := [str(path) for path in chosen.chapters if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    chapters = [path.resolve() for path in chosen.chapters]
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = Path(sys.executable)
            if chosen.versions != "present":
                python = make_environment(Path(folder) / "reader", chosen.python, chosen.versions)
            problems = try_chapters(python, chapters, chosen.limit)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"try_as_reader: {error}", file=sys.stderr)
            return 2
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
