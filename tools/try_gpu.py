"""A day with a GPU: run everything here that needs one, within some minutes, and keep the results.

python tools/try_gpu.py --collect wheels          # before, on a machine with internet access
python tools/try_gpu.py --wheels wheels           # on the machine with the GPU
python tools/try_gpu.py --device cpu --tiny       # a rehearsal, in a minute or so

The machine needs Python 3.10 or newer, torch, torchvision and pytest. What else is needed comes
from the wheels, which are unpacked into the output folder; nothing is installed or downloaded.

The parts run one after another, the most valuable first, each in a process of its own with a limit
of its own. A part that fails is recorded, and the next one begins. When the time is up, everything
ends; started again with the same output folder, the program goes on with the parts that are not
done yet. At the end it prints a table of the goals and writes try_gpu.json.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "chapters" / "solutions").glob("*.ipynb"))

# What notebooks, figures and tests import beside torch, torchvision and pytest.
WANTED = ("nbclient", "ipykernel", "ipywidgets", "matplotlib", "safetensors", "tqdm", "hypothesis")
ALONE = ("kornia", "kornia_rs")  # without what they depend on, which is torch
# The first two come with torchvision; the others are for editors, debuggers and browsers: half of
# the size, and never imported here.
LEFT_OUT = (*("numpy", "pillow", "debugpy", "jedi", "widgetsnbextension", "jupyterlab_widgets"),)
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")

# Multiplications, each with an addition, of one image's forward pass.
OPERATIONS = {"alexnet": 724_406_816, "alexnet_2014": 714_188_480}

LEAST = 10  # seconds without which no part is begun
RESERVE = 5  # seconds that are kept for writing the results


@dataclass(frozen=True)
class Part:
    """Something to run, and what it may take.

    `read` turns the file that the command wrote, or what it printed, into rows. Parts with the same
    `group` run side by side.
    """

    name: str
    command: Sequence[object]
    limit: float  # seconds
    read: Callable[[Path, str], list[dict]]
    result: Path
    group: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    # Instead of a success: what must be said.
    must_say: str = ""

    @property
    def file_name(self) -> str:
        """The name, without what a file's name should not have."""
        return re.sub(r"[^\w.]+", "-", self.name)


# ------------------------------------------------------------------------------------ the parts


def make_parts(output: Path, *, tiny: bool, device: str) -> list[Part]:
    """Return everything there is to run, the most valuable first."""
    results = output / "results"
    python, cuda = sys.executable, device == "cuda"
    parts: list[Part] = []

    def bench(name: str, limit: float, *words: str) -> None:
        file = results / f"{re.sub(r'[^a-z0-9]+', '-', name)}.json"
        size = ("--quick", "--repeats", "1") if tiny else ("--repeats", "3")
        # A part without rounds takes no --repeats, but does not mind them.
        command = [python, "-m", "cnnbook", "bench", *words, *size, "--output", file]
        parts.append(Part(name, command, limit, rows_of_bench, file))

    def torchrun(processes: int, must_say: str) -> None:
        file = results / f"torchrun-{processes}.json"
        # Without name resolution, which a machine without a network may lack.
        run = ["-m", "torch.distributed.run", "--nnodes=1", "--master-addr=127.0.0.1"]
        run += [f"--master-port={29500 + processes}", f"--nproc-per-node={processes}"]
        train = ["-m", "cnnbook", "train", "lenet5", "--epochs", "1", "--quiet", "--no-checkpoint"]
        local = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
        parts.append(
            Part(
                f"torchrun with {count(processes, 'process')}",
                [python, *run, *train],
                90,
                rows_of_text,
                file,
                environment=local,
                must_say=must_say,
            )
        )

    def chapters(paths: list[Path], group: str, limit: float, cells: int | None) -> None:
        for path in paths:
            file = results / f"{group}-{path.stem}.json"
            command = [python, __file__, "--notebook", path, file]
            command += ["--cells", cells] if cells else []
            preset = {"CNNBOOK_PRESET": "gpu" if cuda else "cpu"}
            name = f"{group} {path.stem}"
            parts.append(Part(name, command, limit, rows_of_notebook, file, group, preset))

    junit = results / "tests.xml"
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:benchmark"]
    only_list = [] if cuda else ["--collect-only"]
    tests = [python, "-m", "pytest", *quiet, "-m", "gpu", ROOT / "tests" / "gpu", *only_list]
    parts.append(Part("tests", [*tests, f"--junitxml={junit}"], 120, rows_of_tests, junit))
    bench("ceiling", 100, "ceiling")
    chapters(CHAPTERS[:1] if tiny else CHAPTERS, "chapter", 190, 3 if tiny else None)
    bench("augment", 60, "augment")
    bench("recipe", 90, "recipe", "--seeds", "1")
    torchrun(1, "")
    torchrun(2, "2 processes on 1 GPU" if cuda and gpus() == 1 else "")
    if tiny:
        bench("throughput", 60, "throughput", "--mode", "eager")
    else:
        fast = ("--precision", "bfloat16", "--layout", "channels_last") if cuda else ()
        names = ("resnet50", "resnet18", "alexnet_2014", "alexnet", "googlenet_bn", "googlenet")
        networks = [word for name in (*names, "vgg16") for word in ("--model", name)]
        modes = ("--mode", "eager", "--mode", "graph") if cuda else ("--mode", "eager")
        bench("throughput", 90, "throughput", *networks, *fast, *modes)
        compiled = ("--model", "resnet18", "--model", "resnet50", "--mode", "compile")
        bench("throughput compiled", 120, "throughput", *compiled, *fast)
        chapters(SOLUTIONS, "solution", 120, None)
    return parts


def gpus() -> int:
    """Return how many GPUs a process here would see."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# ------------------------------------------------------------------------- what they have found


def rows_of_bench(file: Path, printed: str) -> list[dict]:
    return json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []


def rows_of_notebook(file: Path, printed: str) -> list[dict]:
    return [json.loads(file.read_text(encoding="utf-8"))] if file.exists() else []


def rows_of_tests(file: Path, printed: str) -> list[dict]:
    if file.exists():
        (suite,) = ElementTree.parse(file).iter("testsuite")
        failed = [
            f"{case.get('classname')}::{case.get('name')}: {problem.get('message')}"[:300]
            for case in suite.iter("testcase")
            for problem in [*case.iter("failure"), *case.iter("error")]
        ]
        counted = {n: int(suite.get(n, 0)) for n in ("tests", "failures", "errors", "skipped")}
        if counted["tests"]:
            return [{**counted, "failed": failed}]
    listed = [line for line in printed.splitlines() if "::" in line]
    return [{"tests": len(listed), "note": "only listed: there is no GPU"}]


def rows_of_text(file: Path, printed: str) -> list[dict]:
    lines = [line for line in printed.splitlines() if "processes on" in line or "accuracy" in line]
    return [{"said": line.strip()} for line in lines[:3]]


# ------------------------------------------------------------------------------------ the goals


def goals(found: dict[str, dict]) -> list[dict[str, str]]:
    """Return each goal beside its figure: columns goal, figure, reached."""
    lines: list[dict[str, str]] = []

    def line(goal: str, figure: str, reached: bool | None) -> None:
        word = {True: "yes", False: "no", None: ""}[reached]
        lines.append({"goal": goal, "figure": figure, "reached": word})

    def rows(part: str) -> list[dict]:
        return found.get(part, {}).get("rows", [])

    tests = rows("tests")
    if tests and "failures" in tests[0]:
        bad = tests[0]["failures"] + tests[0]["errors"]
        line("tests on a GPU pass", f"{tests[0]['tests'] - bad} of {tests[0]['tests']}", bad == 0)
    elif tests:
        line("tests on a GPU pass", f"{tests[0]['tests']} listed, not run", None)

    for kind, limit in (("chapter", 60), ("solution", 60)):
        ran = {name: part for name, part in found.items() if name.startswith(f"{kind} ")}
        ended = [part["rows"][0]["seconds"] for part in ran.values() if part["outcome"] == "ok"]
        if ran:
            slowest = f", the slowest in {max(ended):.0f} s" if ended else ""
            figure = f"{len(ended)} of {len(ran)} ended{slowest}"
            reached = len(ended) == len(ran) and max(ended) <= limit
            line(f"every {kind} ends, in at most {limit} s", figure, reached)

    for row in rows("ceiling"):
        if "graph" in row["contender"]:
            goal = f"fit reaches 80 % of the graph: {row['network']}, batch {row['batch_size']}"
            line(goal, f"{row['ratio']:.0%}", row["ratio"] >= 0.8)

    for row in rows("augment"):
        if row["contender"].startswith("kornia"):
            goal = f"augmentation at 3 times kornia's speed: {row['task']}"
            line(goal, f"{row['ratio']:.2f} times", row["ratio"] >= 3)
        share = re.match(r"(\d+)% of the memory", row["note"])
        if share and "224 px" in row["task"]:
            goal = f"augmentation at 20 % of the memory's bandwidth: {row['task']}"
            line(goal, f"{share[1]}%", int(share[1]) >= 20)

    measured = {row["unit"]: row["value"] for row in rows("recipe")}
    if {"test accuracy", "seconds"} <= set(measured):
        accuracy, seconds = measured["test accuracy"], measured["seconds"]
        figure = f"{accuracy:.2%} in {seconds:.1f} s"
        line("94 % of Fashion-MNIST in 8 s", figure, accuracy >= 0.94 and seconds <= 8)

    for part in ("throughput", "throughput compiled"):
        for row in rows(part):
            if row["contender"] == "torchvision":
                variant = ", ".join(row[n] for n in ("network", "precision", "layout", "mode"))
                goal = f"as fast as torchvision: {variant}"
                line(goal, f"{row['ratio']:.2f} times", row["ratio"] >= 0.97)

    for row in slowdown_by_normalization(rows("throughput")):
        goal = f"AlexNet of 2012 within 1.5 times its share of operations: {row['variant']}"
        line(goal, f"{row['times']:.2f} times", row["times"] <= 1.5)

    for processes in (1, 2):
        name = f"torchrun with {count(processes, 'process')}"
        if name in found:
            part = found[name]
            said = "; ".join(row["said"] for row in part["rows"][:1]) or part["outcome"]
            line(name, said[:60], part["outcome"] == "ok")
    return lines


def slowdown_by_normalization(rows: list[dict]) -> list[dict]:
    """Return how much longer the AlexNet of 2012 takes per operation than that of 2014.

    The second one has no local response normalization.
    """
    seconds: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["contender"] == "cnnbook" and row["network"] in OPERATIONS:
            variant = ", ".join(row[name] for name in ("precision", "layout", "mode"))
            by_network = seconds.setdefault(variant, {})
            by_network[row["network"]] = 1 / row["value"] / OPERATIONS[row["network"]]
    return [
        {"variant": variant, "times": both["alexnet"] / both["alexnet_2014"]}
        for variant, both in seconds.items()
        if len(both) == 2
    ]


def print_table(lines: list[dict[str, str]]) -> None:
    if not lines:
        return
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) for name in lines[0]}
    for line in [{name: name for name in widths}, *lines]:
        print("  ".join(line[name].ljust(width) for name, width in widths.items()).rstrip())


# ---------------------------------------------------------------------------------- running them


class Day:
    """Runs parts until the time is up, and keeps what they have found."""

    def __init__(self, output: Path, minutes: float, environment: dict[str, str]):
        self.output, self.environment = output, environment
        self.deadline = time.monotonic() + 60 * minutes - RESERVE
        for folder in ("parts", "results", "logs"):
            (output / folder).mkdir(parents=True, exist_ok=True)

    def left(self) -> float:
        """Return the seconds until the time is up."""
        return self.deadline - time.monotonic()

    def kept(self, part: Part) -> dict | None:
        """Return what an earlier run found out about a part."""
        try:
            return json.loads((self.output / "parts" / f"{part.file_name}.json").read_text())
        except (OSError, ValueError):
            return None

    def run_all(self, parts: Sequence[Part], side_by_side: int) -> None:
        """Run the parts that are not done yet, those of a group side by side."""
        groups: dict[str, list[Part]] = {}
        for part in parts:
            if (self.kept(part) or {}).get("outcome") == "ok":
                print(f"{part.name}: done before", flush=True)
            else:
                groups.setdefault(part.group or part.name, []).append(part)
        for together in groups.values():
            with ThreadPoolExecutor(side_by_side) as pool:
                list(pool.map(self.attempt, together))

    def attempt(self, part: Part) -> None:
        """Run a part and write down what came of it, whatever that is."""
        if self.left() < LEAST:
            print(f"{part.name}: no time left", flush=True)
            return
        began = time.monotonic()
        try:
            found = self.run(part)
        except Exception:
            found = {"outcome": "failed", "rows": [], "error": traceback.format_exc()[-3000:]}
        seconds = round(time.monotonic() - began, 1)
        command = shlex.join(map(str, part.command))
        found = {"name": part.name, "command": command, "seconds": seconds, **found}
        text = json.dumps(found, indent=1, ensure_ascii=False)
        file = self.output / "parts" / f"{part.file_name}.json"
        file.with_suffix(".new").write_text(f"{text}\n", encoding="utf-8")
        file.with_suffix(".new").replace(file)
        print(f"{part.name}: {found['outcome']}, {seconds:.0f} s", flush=True)

    def run(self, part: Part) -> dict:
        """Run a part's command within its limit, and return outcome, rows and error."""
        part.result.unlink(missing_ok=True)
        log = self.output / "logs" / f"{part.file_name}.txt"
        environment = self.environment | part.environment
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [str(word) for word in part.command],
                cwd=self.output,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that what it starts can be stopped with it
            )
            try:
                code: int | None = process.wait(max(1, min(part.limit, self.left())))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                stop(process)
        printed = log.read_text(encoding="utf-8", errors="replace")
        rows = part.read(part.result, printed)
        if code is None:
            return {"outcome": "out of time", "rows": rows, "error": printed[-1500:]}
        ok = part.must_say in printed if part.must_say else code == 0
        if ok:
            return {"outcome": "ok", "rows": rows, "error": ""}
        wanted = f"did not say {part.must_say!r}; " if part.must_say else ""
        error = f"{wanted}exit status {code}\n{printed[-3000:]}"
        return {"outcome": "failed", "rows": rows, "error": error}


def stop(process: subprocess.Popen) -> None:
    """End a process and those that it started: politely, then at once."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def run_notebook(path: Path, result: Path, cells: int | None) -> int:
    """Run a notebook in an empty folder, write what it took, and return the exit status."""
    import tempfile

    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    if cells is not None:
        code = [n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        notebook.cells = notebook.cells[: code[cells - 1] + 1]
    peak = "import torch; print(torch.cuda.max_memory_allocated())"  # 0 without CUDA
    notebook.cells.append(nbformat.v4.new_code_cell(peak))

    def end(number: int, frame: object) -> None:
        raise TimeoutError("stopped, its time was up")

    signal.signal(signal.SIGTERM, end)
    began, error = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as empty:
        where = {"metadata": {"path": empty}}
        client = nbclient.NotebookClient(notebook, timeout=None, resources=where)
        try:
            client.execute()
        except BaseException as problem:  # a stop, too
            error = re.sub(r"\x1b\[[\d;]*m", "", f"{type(problem).__name__}: {problem}")
            pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
            if pid:  # the kernel has a session of its own
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    seconds = time.monotonic() - began
    done = [cell for cell in notebook.cells if cell.get("execution_count")]
    row = {"notebook": path.stem, "seconds": round(seconds, 1), "cells": len(done)}
    if not error:
        last = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
        row["gpu_memory_gb"] = round(int(last.split()[-1]) / 1e9, 2)
    lines = [line for line in error.splitlines() if line.strip()]
    row["error"] = lines[-6:]
    result.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    print(error[-3000:])
    sys.stdout.flush()
    # At once: threads of the client may wait for the kernel that was killed.
    os._exit(1 if error else 0)


# ------------------------------------------------------------------------------------- the wheels


def collect(folder: Path, python: str) -> None:
    """Download the wheels for a machine with this version of Python, and Fashion-MNIST."""
    from cnnbook.data.datasets import FASHION_MNIST
    from cnnbook.data.files import find

    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    pip += ["--dest", str(folder), "--python-version", python, "--implementation", "cp"]
    pip += [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run([*pip, *WANTED], check=True)
    subprocess.run([*pip, "--no-deps", *ALONE], check=True)
    for wheel in folder.glob("*.whl"):
        if distribution(wheel) in LEFT_OUT:
            wheel.unlink()
    data = folder / "data" / "fashion-mnist"
    data.mkdir(parents=True, exist_ok=True)
    for file in FASHION_MNIST:
        shutil.copy(find("fashion-mnist", file), data / file.name)
    sizes = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for path, size in sizes.items():
        print(f"{size / 1e6:6.1f} MB  {path.relative_to(folder)}")
    print(f"{sum(sizes.values()) / 1e6:6.1f} MB in all")


def distribution(wheel: Path) -> str:
    return wheel.name.partition("-")[0].lower()


def unpack(wheels: Path, site: Path) -> None:
    """Unpack the wheels of what is not installed here, which takes no pip."""
    present = {
        re.sub(r"[-_.]+", "_", name).lower()
        for each in importlib.metadata.distributions()
        if (name := each.metadata["Name"])
    }
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise FileNotFoundError(f"no wheels in {wheels}: make them with --collect {wheels}")
    site.mkdir(parents=True, exist_ok=True)
    for wheel in found:
        if distribution(wheel) not in present and not (site / wheel.stem).exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            (site / wheel.stem).touch()  # done


def versions(environment: dict[str, str]) -> dict:
    """Return the machine, as recorded runs describe it; what is wrong, if that fails."""
    command = (
        "import json; from cnnbook.results import describe_machine; "
        "print(json.dumps(describe_machine()))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if asked.returncode:
        return {"error": asked.stderr[-2000:], "device": "cpu"}
    return json.loads(asked.stdout.splitlines()[-1])


def count(number: int, singular: str) -> str:
    plural = f"{singular}es" if singular.endswith("s") else f"{singular}s"
    return f"{number} {singular if number == 1 else plural}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9, help="when to stop (default: %(default)s)")
    add("--output", type=Path, default=Path("gpu-day"), help="folder (default: %(default)s)")
    add("--wheels", type=Path, metavar="FOLDER", help="what --collect made")
    add("--data", type=Path, metavar="FOLDER", help="data sets (default: data in the wheels')")
    add("--parts", nargs="+", metavar="NAME", help="only parts whose names begin like this")
    add("--side-by-side", type=int, default=5, metavar="N", help="chapters (default: %(default)s)")
    add("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: only to rehearse")
    add("--tiny", action="store_true", help="little of everything, to check that it runs")
    add("--collect", type=Path, metavar="FOLDER", help="download what a bare machine needs")
    add("--python", default="3.12", help="with --collect: its version there (default: 3.12)")
    add("--notebook", nargs=2, type=Path, help=argparse.SUPPRESS)
    add("--cells", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.minutes <= 0 or chosen.side_by_side < 1:
        parser.error("--minutes is more than 0, and --side-by-side at least 1")
    if chosen.wheels and not chosen.wheels.is_dir():
        parser.error(f"there is no folder {chosen.wheels}; --collect makes one")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    if chosen.notebook:
        return run_notebook(*chosen.notebook, chosen.cells)
    if chosen.collect:
        sys.path.insert(0, str(ROOT))
        collect(chosen.collect, chosen.python)
        return 0
    output = chosen.output.resolve()
    path = [str(ROOT)]
    day = Day(output, chosen.minutes, {})
    if chosen.wheels:
        unpack(chosen.wheels.resolve(), output / "site")
        path.append(str(output / "site"))
    environment = dict(os.environ)
    path += [each for each in [environment.get("PYTHONPATH")] if each]
    environment |= {"PYTHONPATH": os.pathsep.join(path), "TQDM_DISABLE": "1"}
    environment.setdefault("MPLBACKEND", "agg")
    data = chosen.data or (chosen.wheels / "data" if chosen.wheels else None)
    if data:
        environment["CNNBOOK_DATA"] = str(data.resolve())
    if chosen.device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "CNNBOOK_PRESET": "cpu"}
    threads = max(1, (os.cpu_count() or 1) // chosen.side_by_side)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    day.environment = environment

    machine = versions(environment)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    if chosen.device == "cuda" and machine["device"] in ("cpu", "mps"):
        reason = machine.get("error") or "torch finds no GPU here; --device cpu rehearses without"
        print(f"try_gpu: {reason}", file=sys.stderr)
        return 2
    parts = make_parts(output, tiny=chosen.tiny, device=chosen.device)
    for start in chosen.parts or ():
        if not any(part.name.startswith(start) for part in parts):
            known = ", ".join(part.name for part in parts)
            print(f"try_gpu: no part begins with {start!r}; there are {known}", file=sys.stderr)
            return 2
    if chosen.parts:
        parts = [part for part in parts if part.name.startswith(tuple(chosen.parts))]
    try:
        day.run_all(parts, chosen.side_by_side)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    found = {part.name: kept for part in parts if (kept := day.kept(part))}
    table = goals(found)
    summary = {
        "title": "A day with a GPU",
        "command": shlex.join(["python", "tools/try_gpu.py", *(arguments or sys.argv[1:])]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine,
        "goals": table,
        "not_done": [p.name for p in parts if found.get(p.name, {}).get("outcome") != "ok"],
        "parts": list(found.values()),
    }
    file = output / "try_gpu.json"
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    file.write_text(f"{text}\n", encoding="utf-8")
    print()
    print_table(table)
    if summary["not_done"]:
        print(f"\nnot done, or failed: {', '.join(summary['not_done'])}; the same command goes on")
    print(f"\neverything is in {file}")
    return 1 if summary["not_done"] else 0


if __name__ == "__main__":
    sys.exit(main())
