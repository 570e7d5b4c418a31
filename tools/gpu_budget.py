"""Count what each notebook's training takes under the gpu preset, without a GPU.

python tools/gpu_budget.py                          # all notebooks: a table, and the limits
python tools/gpu_budget.py chapters/08-resnet.ipynb # one of them, cell by cell
python tools/gpu_budget.py --write                  # and store it in the package

Every line is executed, on the CPU, with CNNBOOK_PRESET=gpu; training is counted, and cut short
(tools/cut_training.py). cnnbook.start() prints what is stored.

python tools/gpu_budget.py --seconds

stores instead how long the notebooks in the book's cache took under the cpu preset. Run it after
`make book` on a machine that does nothing else.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path

import book

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "cnnbook" / "chapters.json"

MOST_STEPS, MOST_STEPS_ELSEWHERE = 4_000, 2_000  # in chapters; in solutions and reference pages
MOST_OPERATIONS = 2e14
MOST_MEMORY = 12.0  # GB
BESIDE = 1.0  # GB that CUDA, its libraries and their workspaces take


def name_of(notebook: Path) -> str:
    """Return a notebook's name as given to cnnbook.start: its path in chapters/, no suffix."""
    return notebook.resolve().relative_to(ROOT / "chapters").with_suffix("").as_posix()


def most_steps(name: str) -> int:
    return MOST_STEPS_ELSEWHERE if "/" in name else MOST_STEPS


def prepare(folder: Path) -> None:
    """Write what makes kernels count, and their subprocesses."""
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup.parent / "ipython_kernel_config.py").write_text('c.IPKernelApp.log_level = "ERROR"\n')
    tools = f"import os, sys\nfrom pathlib import Path\nsys.path.append({str(ROOT / 'tools')!r})\n"
    (startup / "00-count.py").write_text(
        # IPython would go on after an error, and train for hours.
        f"{tools}try:\n    import cut_training\n    cut_training.install_in_kernel()\n"
        "except BaseException as error:\n    print(repr(error), file=sys.__stderr__, flush=True)\n"
        "    os._exit(1)\ndel cut_training\n"
    )
    # Of several processes that train together, one counts.
    (folder / "sitecustomize.py").write_text(
        f"{tools}if not any('ipykernel' in word for word in sys.orig_argv):\n"
        "    if os.environ.get('RANK', '0') == '0':\n"
        "        import cut_training\n"
        "        cut_training.install(Path(os.environ['COUNTED_IN']), cut=False)\n"
    )


def count(notebook: Path) -> tuple[list[dict], float, str | None]:
    """Execute a notebook; return what was counted, the seconds it took, and its error."""
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        counted = Path(folder) / "counted"
        counted.touch()
        os.environ |= {
            "CNNBOOK_PRESET": "gpu",
            "COUNTED_IN": str(counted),
            "CUDA_VISIBLE_DEVICES": "",
            "IPYTHONDIR": folder,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([folder, str(ROOT)]),
            "TQDM_DISABLE": "1",
        }
        _, seconds, error = book.run(nbformat.read(notebook, as_version=4), timeout=300)
        lines = [json.loads(line) for line in counted.read_text().splitlines()]
    return lines, seconds, error


def total(lines: Sequence[dict]) -> dict:
    """Add up what was counted: steps, operations, operators called; the largest memory."""
    return {
        "steps": sum(line["steps"] for line in lines),
        "operations": float(f"{sum(line['operations'] for line in lines):.4g}"),
        "kernels": sum(line["kernels"] for line in lines),
        "memory_gb": round(BESIDE + max((x["memory"] for x in lines), default=0) / 1e9, 1),
    }


def count_all(notebooks: Sequence[Path]) -> tuple[dict[str, dict], dict[str, str]]:
    """Count several notebooks, one on each core; return totals and errors, by name."""
    totals, errors, detail = {}, {}, len(notebooks) == 1
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(book.cores(), spawn, max_tasks_per_child=1) as pool:
        futures = {pool.submit(count, path): name_of(path) for path in notebooks}
        for future in as_completed(futures):
            name = futures[future]
            lines, seconds, error = future.result()
            totals[name] = total(lines)
            print(f"  {seconds:5.0f} s  {name}", flush=True)
            if error:
                errors[name] = error
            if detail:
                print_by_cell(lines)
    return {name: totals[name] for name in sorted(totals, key=lambda n: ("/" in n, n))}, errors


def print_by_cell(lines: Sequence[dict]) -> None:
    for cell, what in dict.fromkeys((line["cell"], line["what"]) for line in lines):
        same = [x for x in lines if (x["cell"], x["what"]) == (cell, what)]
        one = total(same)
        print(
            f"  cell {cell:3d}: {one['steps']:7,} steps {one['operations']:8.1e} operations "
            f"{one['memory_gb']:5.1f} GB  {len(same)} × {what}"
        )


def beyond(totals: dict[str, dict]) -> list[str]:
    """Return which limits are exceeded, in words."""
    found = []
    for name, one in totals.items():
        limits = (
            ("steps", most_steps(name)),
            ("operations", MOST_OPERATIONS),
            ("memory_gb", MOST_MEMORY),
        )
        found += [
            f"{name}: {one[key]:,.4g} {key}, and at most {most:,.4g} are allowed"
            for key, most in limits
            if one[key] > most
        ]
    return found


def table(totals: dict[str, dict]) -> str:
    rows = ["| notebook | steps | operations | GPU memory |", "| --- | ---: | ---: | ---: |"]
    rows += [
        f"| {name} | {t['steps']:,} | {t['operations']:.1e} | {t['memory_gb']} GB |"
        for name, t in totals.items()
    ]
    return "\n".join(rows)


def seconds_in_cache() -> dict[str, int]:
    """Return how long the notebooks in the book's cache took, by name, in seconds."""
    import nbformat
    from jupyter_cache import get_cache

    cache = get_cache(book.CACHE)
    found = {}
    for path in book.notebooks_of_the_book():
        record = cache.match_cache_notebook(nbformat.read(path, as_version=4))
        found[name_of(path)] = round(record.data["execution_seconds"])
    return found


def store(key: str, values: dict[str, object], about: dict[str, object] | None = None) -> None:
    stored = json.loads(STORED.read_text()) if STORED.is_file() else {}
    known = stored.get(key, {}).get("notebooks", {})
    stored[key] = (about or {}) | {"notebooks": known | values}
    STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="store the counts in the package")
    parser.add_argument("--seconds", action="store_true", help="store the seconds of the last book")
    arguments = parser.parse_args()
    if arguments.seconds:
        machine = f"{book.cores()} cores, {book.platform.machine()}"
        about = {"machine": machine, "date": date.today().isoformat()}
        store("cpu", seconds_in_cache(), about)
        return 0
    began = time.monotonic()
    notebooks = arguments.notebooks or book.notebooks_of_the_book()
    totals, errors = count_all(notebooks)
    print(f"\n{table(totals)}\n\nin {time.monotonic() - began:.0f} s")
    if arguments.write and not errors:
        store("gpu", totals)
    for name, error in errors.items():
        print(f"\n----- {name}\n{error}", file=sys.stderr)
    exceeded = beyond(totals)
    print(*exceeded, sep="\n", file=sys.stderr)
    return 1 if errors or exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
