"""Do what a reader in Colab does, in environments other than ours: open a chapter and run it.

python tools/try_as_reader.py oldest --python 3.10
python tools/try_as_reader.py newest --python 3.13 chapters/04-lenet.ipynb
python tools/try_as_reader.py torch==2.9 --python 3.12 --quick --record results.json
python tools/try_as_reader.py present

The environment has torch and what notebooks need, but neither the book's tools nor cnnbook. Each
notebook is copied into an empty folder, and its own first cell installs the package, from the last
commit of this repository instead of GitHub. That must not change any installed version.

oldest, newest and torch==2.N create an environment of about 5 GB and remove it afterwards; they
need uv and internet access. torch==2.N takes its last release, and the newest versions of all else
that suit it. present is the environment that runs this program, such as one in Colab or on Binder;
it must have nbclient but not cnnbook.

Quick runs execute every cell, but training takes at most five epochs of three batches, and the
first notebook installs the package for all. --record FILE adds the results to those in FILE, and
skips what is there already without problems; tools/versions_page.py makes a table of them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import set_repository
import set_version

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))

# What the record says besides Python's version. The rest follows from them.
RECORDED = ("python_version", "torch", "torchvision", "numpy", "matplotlib", "ipywidgets")

# torch says this once under exactly that release, whose bug it works around.
PYTHON_3_13_0 = re.compile(
    r"[^\n]*Guards may run slower on Python 3\.13\.0\. Consider upgrading[^\n]*\n"
    r"( *warnings\.warn\(\n)?"
)

# Runs in the kernel of a quick run, before the first cell. That cell may install cnnbook, so
# training is cut once it has run. Data that is not shuffled is evaluated, not trained on.
CUT_TRAINING = """
import functools
import sys
from IPython import get_ipython


def cut_training(_result):
    if "cnnbook" not in sys.modules:
        return
    get_ipython().events.unregister("post_run_cell", cut_training)
    from cnnbook import training
    from cnnbook.data import Batches, StreamingBatches

    fit = training.fit

    @functools.wraps(fit)
    def fit_briefly(*args, epochs=None, **options):
        return fit(*args, epochs=min(epochs or 5, 5), **options)

    training.fit = fit_briefly

    kernel = sys.argv[0]

    def cut(kind):
        create = kind.__init__

        def create_with_few(self, data, batch_size=128, *args, shuffle=True, **options):
            few = slice(2 * batch_size + batch_size // 2)  # the last batch is smaller
            # A script that a cell runs is compared with itself in other processes, where
            # nothing is cut.
            if sys.argv[0] != kernel:
                pass
            elif shuffle and isinstance(data, tuple):
                data = tuple(tensor[few] for tensor in data)
            elif shuffle and len(data) > few.stop:
                data = data[few]
            create(self, data, batch_size, *args, shuffle=shuffle, **options)

        kind.__init__ = create_with_few

    cut(Batches)
    cut(StreamingBatches)


get_ipython().events.register("post_run_cell", cut_training)
"""


class Measured(NamedTuple):
    """What running a chapter took."""

    first: float  # seconds of its first cell
    seconds: float  # of all cells
    memory: int  # bytes, maximum
    warnings: str  # what it wrote to stderr, which notebooks show in red


def versions_asked_for(text: str) -> str:
    """Return `text` if it names versions: oldest, newest, present or torch==2.N."""
    if text in ("oldest", "newest", "present") or re.fullmatch(r"torch==2\.\d+", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is none of oldest, newest, present, torch==2.N")


def requirements(versions: str) -> list[str]:
    """Return what is required besides pyproject.toml and what every environment has."""
    # Colab's widgets are older than the book's, and lack one that its explorers use.
    widgets = "ipywidgets==7.7.1" if versions == "oldest" else "ipywidgets"
    # A release of torchvision requires its own torch, so uv finds the one that suits.
    return [widgets, f"{versions}.*"] if versions.startswith("torch==") else [widgets]


def make_environment(folder: Path, python: str, versions: str) -> Path:
    """Create an environment with the versions asked for, and return its Python."""
    uv = shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("no uv, which finds the oldest versions that fit: pip install uv")
    # With pip, as the install cell needs it.
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", python, folder], check=True)
    inside = folder / "bin" / "python"
    # Wheels only: no reader has packages that must first be compiled.
    install = [uv, "pip", "install", "--quiet", "--python", inside, "--no-build"]
    project, rest = ["--requirement", ROOT / "pyproject.toml"], ["ipykernel", "nbclient"]
    if versions == "oldest":
        subprocess.run([*install, "--resolution", "lowest-direct", *project], check=True)
        project = []  # installed; only the rest is as new as can be
    subprocess.run([*install, *project, *requirements(versions), *rest], check=True)
    return inside


def version_of(python: Path | str) -> str:
    """Return the version of a Python, such as 3.12.1."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def installed(python: Path) -> dict[str, str]:
    command = [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {package["name"]: package["version"] for package in json.loads(listed)}


def changes(before: dict[str, str], after: dict[str, str], *, may_add: bool = False) -> list[str]:
    """Return which packages besides cnnbook were changed, removed or, unless allowed, added."""
    names = before.keys() if may_add else before.keys() | after.keys()
    return [
        f"{name} {before.get(name, 'missing')} -> {after.get(name, 'missing')}"
        for name in sorted(names - {"cnnbook"})
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
    """Return what cells wrote to stderr, but for one warning about Python itself."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    texts = [output["text"] for output in outputs if output.get("name") == "stderr"]
    text = "".join(line for text in texts for line in text)  # a string may be a list of lines
    return PYTHON_3_13_0.sub("", text)


def uninstall(python: Path) -> None:
    command = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "cnnbook"]
    subprocess.run(command, check=True, capture_output=True)


def run_chapter(python: Path, chapter: Path, quick: bool = False) -> Measured:
    """Run a chapter alone, in an environment without cnnbook unless it is a quick run."""
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile("w+") as log:
        environment = as_a_reader()
        if quick:
            startup = Path(empty, "ipython", "profile_default", "startup")
            startup.mkdir(parents=True)
            (startup / "cut_training.py").write_text(CUT_TRAINING)
            environment["IPYTHONDIR"] = str(startup.parents[1])
        folder, run = Path(empty, "chapter"), Path(empty, "run.ipynb")
        folder.mkdir()
        notebook = shutil.copy(chapter, folder)
        command = [python.with_name("jupyter-execute"), notebook, "--output", run]
        command += ["--timeout", "1200"]
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)  # its kernel's usage included
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            log.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=log.read())
        done = json.loads(run.read_text())
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(seconds_of_first_cell(done), seconds, memory, written_to_stderr(done))


class Record:
    """Results in a file, one line for each notebook in each environment."""

    def __init__(self, file: Path, versions: str, python: str, quick: bool):
        self.file = file
        self.asked = {"versions": versions, "python": python, "mode": "quick" if quick else "full"}
        self.rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []

    def row_of(self, notebook: Path) -> dict | None:
        """Return what happened to a notebook in this environment, if it has been tried."""
        wanted = self.asked | {"notebook": name_of(notebook)}
        return next((row for row in self.rows if wanted.items() <= row.items()), None)

    def add(
        self, notebook: Path, packages: dict[str, str], seconds: float | None, problems: list[str]
    ) -> None:
        """Store what happened; `seconds` is None if the notebook did not run to its end."""
        earlier = self.row_of(notebook)
        if earlier:
            self.rows.remove(earlier)
        self.rows.append(
            self.asked
            | {"notebook": name_of(notebook), "date": date.today().isoformat()}
            | {"seconds": seconds and round(seconds), "problems": [p[-1000:] for p in problems]}
            | {name: packages[name] for name in RECORDED if name in packages}
        )
        self.rows.sort(key=lambda row: [str(row[key]) for key in (*self.asked, "notebook")])
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in self.rows)
        unfinished = self.file.with_suffix(".unfinished")
        unfinished.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        unfinished.replace(self.file)


def name_of(notebook: Path) -> str:
    """Return a notebook's path in chapters/, without its ending."""
    return notebook.resolve().relative_to(ROOT / "chapters").with_suffix("").as_posix()


def try_chapters(
    python: Path,
    chapters: list[Path],
    limit: float,
    *,
    quick: bool = False,
    record: Record | None = None,
) -> list[str]:
    """Run chapters one after another, print the results, and return what went wrong."""
    before, problems = installed(python), []
    if "cnnbook" in before:
        raise ValueError(f"{python} already has cnnbook, which a reader does not: uninstall it")
    print(", ".join(f"{name} {version}" for name, version in before.items()), flush=True)
    for chapter in chapters:
        if not quick:
            uninstall(python)
        took, found = None, []
        try:
            took = run_chapter(python, chapter, quick)
        except subprocess.CalledProcessError as error:
            print(f"{chapter.name}: failed", flush=True)
            found.append(f"{chapter.name}: {error.stderr[-3000:]}")
        else:
            print(
                f"{chapter.name}: installed in {took.first:.1f} s, ran in {took.seconds:.0f} s, "
                f"{took.memory / 1e9:.1f} GB of memory",
                flush=True,
            )
            after = installed(python)
            if "cnnbook" not in after:
                found.append(f"{chapter.name}: its first cell did not install cnnbook")
            if took.first > limit:
                found.append(f"{chapter.name}: its first cell took more than {limit:.0f} s")
            if took.warnings:
                found.append(f"{chapter.name} warned: {took.warnings[-3000:]}")
            # The gallery installs more than cnnbook, and says so.
            more = chapter.read_text(encoding="utf-8").count("%pip install") > 1
            found += [
                f"{chapter.name} changed {line}" for line in changes(before, after, may_add=more)
            ]
            if more:
                before |= after
        if record:
            versions = before | {"python_version": version_of(python)}
            record.add(chapter, versions, took and took.seconds, found)
        problems += found
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
        type=versions_asked_for,
        help="oldest that pyproject.toml allows, newest of today, present in this environment, or "
        "torch==2.N",
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
    parser.add_argument("--quick", action="store_true", help="cut training short")
    parser.add_argument("--record", type=Path, metavar="FILE", help="add the results to FILE")
    parser.add_argument(
        "chapters", nargs="*", type=Path, default=CHAPTERS, help="notebooks (default: chapters)"
    )
    chosen = parser.parse_intermixed_args()  # chapters may follow an option
    if missing := [str(path) for path in chosen.chapters if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    chapters = [path.resolve() for path in chosen.chapters]
    record = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            if chosen.record:
                number = chosen.python
                if not re.fullmatch(r"3\.\d+(\.\d+)?", number):
                    number = version_of(number)
                minor = ".".join(number.split(".")[:2])
                record = Record(chosen.record, chosen.versions, minor, chosen.quick)
                rows = {chapter: record.row_of(chapter) for chapter in chapters}
                chapters = [c for c, row in rows.items() if row is None or row["problems"]]
                if not chapters:
                    print(f"nothing to do: {chosen.record} has the results")
                    return 0
            python = Path(sys.executable)
            if chosen.versions != "present":
                python = make_environment(Path(folder) / "reader", chosen.python, chosen.versions)
            problems = try_chapters(
                python, chapters, chosen.limit, quick=chosen.quick, record=record
            )
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"try_as_reader: {error}", file=sys.stderr)
            return 2
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
