"""Build the book, execute single notebooks, or serve the built book on this machine.

python tools/book.py build
python tools/book.py execute chapters/04-lenet.ipynb
python tools/book.py serve
"""

import argparse
import contextlib
import hashlib
import http.server
import importlib.metadata
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
FINGERPRINT = BUILD / "executed-with"
LOOKS = BUILD / "pages-made-with"
CACHE = BUILD / ".jupyter_cache"
SECONDS = BUILD / "seconds.json"  # what each notebook took when it last ran
STORED = ROOT / "cnnbook" / "chapters.json"  # what each took on an idle machine
MEMORY_OF_A_NOTEBOOK = 4 * 2**30  # bytes; the most that a chapter may take


def hash_of(parts: list[str], folders: list[str]) -> str:
    """Return a hash of some strings, and of the files in some folders of the book."""
    parts = list(parts)
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            parts += [str(path.relative_to(ROOT)), hashlib.sha256(path.read_bytes()).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint() -> str:
    """Return a hash of everything besides a chapter's own code that its outputs depend on."""
    parts = [platform.python_version(), os.environ.get("CNNBOOK_PRESET", "")]
    parts += sorted(f"{d.name}=={d.version}" for d in importlib.metadata.distributions())
    return hash_of(parts, ["cnnbook"])


def forget_pages() -> None:
    """Force every page to be read and written again.

    Cause: Sphinx 7.4.7 does not read an unchanged page again, so it would not repeat its warnings,
      and copies style sheets and scripts only along with pages that it writes.
    Delete when: it does both.
    """
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)


def use_own_ipython_folder() -> None:
    """Start kernels without the user's own settings, which could change outputs.

    They also print no messages about traffic that does not leave this machine.
    """
    folder = BUILD / "ipython"
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text('c.IPKernelApp.log_level = "ERROR"\n')
    os.environ["IPYTHONDIR"] = str(folder)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def notebooks_at_once() -> int:
    """Return how many notebooks to execute at once: one per core, if memory allows."""
    if os.environ.get("CNNBOOK_PRESET") == "gpu" or shutil.which("nvidia-smi"):
        return 1  # they would share the GPU, and so distort each other's timings
    memory = cores() * MEMORY_OF_A_NOTEBOOK  # if the system does not say
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores(), memory // MEMORY_OF_A_NOTEBOOK))


def end(worker: int) -> None:
    """End a worker, given its process id, and its kernel with it.

    A kernel has a session of its own, so neither Ctrl-C nor a signal to the build reaches it.
    """
    import psutil  # which every kernel needs

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(worker)
        if worker != os.getpid():
            process.suspend()  # so that it starts no further kernel
        for started in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error):
                started.kill()


def end_with_the_build() -> None:
    """Make this worker end when the build has been killed, instead of executing what is left."""
    build = multiprocessing.parent_process()
    assert build is not None

    def watch() -> None:
        multiprocessing.connection.wait([build.sentinel])
        end(os.getpid())

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the build, too, which ends this


@contextlib.contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that execute notebooks; at an error or a signal, end them at once."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=end_with_the_build) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                if worker.pid is not None:
                    end(worker.pid)
            raise


def run(notebook, timeout: int):
    """Execute a notebook in an empty folder; return it, the seconds it took, and its error."""
    from jupyter_cache.executors.utils import single_nb_execution

    with tempfile.TemporaryDirectory() as empty:
        result = single_nb_execution(notebook, cwd=empty, timeout=timeout, allow_errors=False)
    return result.nb, result.time, result.exc_string


def read(path: Path):
    """Return a page as a notebook: a notebook file, or a Markdown page whose code is executed."""
    import nbformat
    from myst_nb.core.read import myst_nb_reader_plugin

    if path.suffix == ".md":
        return myst_nb_reader_plugin(path)
    return nbformat.read(path, as_version=4)


def seconds_before() -> dict[str, float]:
    """Return how many seconds each notebook took when it last ran, by its path in the book."""
    if not SECONDS.is_file():
        return {}
    return json.loads(SECONDS.read_text())


def seconds_stored() -> dict[str, float]:
    """Return how many seconds each notebook took when it was measured, by its path in the book."""
    found = json.loads(STORED.read_text())["cpu"]["notebooks"]
    return {f"chapters/{name}.ipynb": seconds for name, seconds in found.items()}


def longest_first(paths: Iterable[Path], seconds: Mapping[str, float]) -> list[Path]:
    """Return notebooks in the order in which to start them, so that none runs alone at the end.

    One that has never run comes before those that have; among several, the larger file.
    """

    def expected(path: Path) -> tuple[float, int]:
        known = seconds.get(path.relative_to(ROOT).as_posix(), math.inf)
        return known, path.stat().st_size

    return sorted(paths, key=expected, reverse=True)


def execute(paths: Sequence[Path]) -> int:
    """Execute the notebooks that are not in the cache, several at once, and put them there.

    The cache is the one that Jupyter Book reads.

    Cause: myst-nb 1.4.0 executes one notebook after another while it reads them, each with a thread
      for every core, from which small networks hardly benefit.
    Delete when: MyST-NB can execute notebooks side by side before it reads them.
    """
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    cache = get_cache(CACHE)
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"]
    waiting = {}
    for path in paths:
        notebook = read(path)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            waiting[path] = notebook
    if not waiting:
        return 0

    # The number of threads changes the last digits of sums, so it must not depend on how many
    # notebooks are waiting.
    at_once = notebooks_at_once()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // at_once)))

    failures = 0
    began = time.monotonic()
    print(f"executing {len(waiting)} notebooks, up to {at_once} at once", flush=True)
    with workers(at_once) as pool:
        seconds_of = seconds_before()
        order = longest_first(waiting, seconds_stored() | seconds_of)
        futures = {pool.submit(run, waiting[path], timeout): path for path in order}
        for future in as_completed(futures):
            path = futures[future]
            notebook, seconds, error = future.result()
            print(f"  {seconds:6.1f} s  {path.relative_to(ROOT)}", flush=True)
            if error:
                failures += 1
                error = re.sub(r"\x1b\[[\d;]*m", "", error)  # colors, useless in a log
                print(f"\n----- {path.relative_to(ROOT)}\n{error}", file=sys.stderr)
                continue
            seconds_of[path.relative_to(ROOT).as_posix()] = round(seconds, 1)
            SECONDS.write_text(json.dumps(seconds_of, indent=1, sort_keys=True) + "\n")
            bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    print(f"executed in {time.monotonic() - began:.0f} s", flush=True)
    return failures


def notebooks_of_the_book() -> list[Path]:
    """Return the notebooks in the table of contents, in order."""
    return pages_of_the_book(".ipynb")


def executed_pages() -> list[Path]:
    """Return the Markdown pages in the table of contents whose code is executed, in order."""
    from myst_nb.core.read import is_myst_markdown_notebook

    pages = pages_of_the_book(".md")
    return [path for path in pages if is_myst_markdown_notebook(path.read_text(encoding="utf-8"))]


def pages_of_the_book(suffix: str) -> list[Path]:
    """Return the sources with a suffix of the pages in the table of contents, in order."""
    from sphinx_external_toc.parsing import parse_toc_yaml

    files = [(ROOT / page).with_suffix(suffix) for page in parse_toc_yaml(ROOT / "_toc.yml")]
    return [path for path in files if path.is_file()]


def build() -> int:
    """Execute what changed, build the HTML, and return 0 if there was no error or warning."""
    now = fingerprint()
    if not FINGERPRINT.is_file() or FINGERPRINT.read_text() != now:
        # Outputs from another package version or environment are worthless.
        shutil.rmtree(CACHE, ignore_errors=True)
        forget_pages()
    looks = hash_of([], ["_static", "tools/sphinx"])
    if not LOOKS.is_file() or LOOKS.read_text() != looks:
        forget_pages()
    BUILD.mkdir(exist_ok=True)
    FINGERPRINT.write_text(now)
    LOOKS.write_text(looks)
    shutil.rmtree(HTML / "reports", ignore_errors=True)

    if execute(notebooks_of_the_book() + executed_pages()):
        print("\nThe book was NOT built: see the errors above.", file=sys.stderr)
        return 1
    jupyter_book = Path(sys.executable).parent / "jupyter-book"
    command = [jupyter_book, "build", ".", "-W", "-n", "--keep-going"]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        forget_pages()
        for report in sorted((HTML / "reports").rglob("*.log")):
            name = report.relative_to(HTML / "reports")
            print(f"\n----- {name}\n{report.read_text()}", file=sys.stderr)
        print("\nThe book was NOT built: see the errors above.", file=sys.stderr)
        return status
    print(
        f"\nThe book is built. Open it with `make serve`, or at\n  {(HTML / 'index.html').as_uri()}"
    )
    return 0


def serve(port: int) -> int:
    """Serve the built book on the loopback address and open it in a browser."""
    if not (HTML / "index.html").is_file():
        print(f"there is no built book in {HTML}; run `make book` first", file=sys.stderr)
        return 1
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=HTML)
    for candidate in range(port, port + 20):
        try:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", candidate), handler)
            break
        except OSError:
            continue
    else:
        print(f"ports {port} to {port + 19} are all in use; pass --port", file=sys.stderr)
        return 1
    url = f"http://127.0.0.1:{server.server_port}/"
    print(f"The book is at {url} (Ctrl-C ends)", flush=True)
    webbrowser.open(url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="execute changed chapters and build the HTML")
    executing = commands.add_parser("execute", help="execute notebooks into the book's cache")
    executing.add_argument("notebooks", nargs="+", type=Path)
    serving = commands.add_parser("serve", help="serve the built book on 127.0.0.1")
    serving.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    # As an exception, like Ctrl-C, so that what was started is ended.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    os.environ["TQDM_DISABLE"] = "1"  # on a page, a progress bar would only be noise
    os.environ["CNNBOOK_BOOK"] = "1"  # figures and explorers for a page, not for a notebook
    use_own_ipython_folder()
    if arguments.command == "execute":
        return execute([path.resolve() for path in arguments.notebooks])
    return build() if arguments.command == "build" else serve(arguments.port)


if __name__ == "__main__":
    sys.exit(main())
