"""Build the book, or serve the built one on this machine.

python tools/book.py build
python tools/book.py serve
"""

import argparse
import hashlib
import http.server
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import webbrowser
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
FINGERPRINT = BUILD / "executed-with"
LOOKS = BUILD / "pages-made-with"


def hash_of(parts: list[str], folders: list[str]) -> str:
    """Return a hash of some texts, and of the files in some folders of the book."""
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
    # Sphinx does not read an unchanged page again, so it would not repeat its warnings.
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)


def build() -> int:
    """Execute what changed, build the HTML, and return 0 if there was no error or warning."""
    now = fingerprint()
    if not FINGERPRINT.is_file() or FINGERPRINT.read_text() != now:
        # Outputs of another package or environment are worth nothing.
        shutil.rmtree(BUILD / ".jupyter_cache", ignore_errors=True)
        forget_pages()
    looks = hash_of([], ["_static", "tools"])
    if not LOOKS.is_file() or LOOKS.read_text() != looks:
        # Sphinx copies style sheets and scripts only along with pages it writes.
        forget_pages()
    BUILD.mkdir(exist_ok=True)
    FINGERPRINT.write_text(now)
    LOOKS.write_text(looks)
    shutil.rmtree(HTML / "reports", ignore_errors=True)

    # A progress bar moves; on a printed page it would only be noise.
    environment = os.environ | {"TQDM_DISABLE": "1"}
    jupyter_book = Path(sys.executable).parent / "jupyter-book"
    command = [jupyter_book, "build", ".", "-W", "-n", "--keep-going"]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
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
    serving = commands.add_parser("serve", help="serve the built book on 127.0.0.1")
    serving.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    return build() if arguments.command == "build" else serve(arguments.port)


if __name__ == "__main__":
    sys.exit(main())
