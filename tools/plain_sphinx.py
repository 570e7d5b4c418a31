"""Build the same book with Sphinx and MyST-NB, without Jupyter Book.

python tools/plain_sphinx.py                   build _build/sphinx/html
python tools/plain_sphinx.py --conf conf.py    only write the configuration, permanently

The configuration is the one that `jupyter-book config sphinx .` writes from `_config.yml` and
`_toc.yml`, without the extensions that only Jupyter Book needs. Notebooks come from the cache that
`make book` fills. CONTRIBUTING.md says what else it takes to leave Jupyter Book.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build" / "sphinx"

# Loaded by Jupyter Book for every book; this one uses none of them.
LEFT_OUT = (
    "jupyter_book",
    "sphinx.ext.intersphinx",
    "sphinx_comments",
    "sphinx_jupyterbook_latex",
    "sphinx_multitoc_numbering",
    "sphinx_thebe",
)
# Their settings, and those of a builder that is not used.
UNKNOWN = ("comments_config", "latex_engine", "use_jupyterbook_latex", "use_multitoc_numbering")


def configuration(folder: Path) -> dict[str, object]:
    """Return the settings of a `conf.py` in `folder`, by name."""
    from jupyter_book.config import get_final_config

    # What its command line adds.
    added = {"external_toc_path": "_toc.yml", "external_toc_exclude_missing": True}
    found, _ = get_final_config(
        user_yaml=ROOT / "_config.yml",
        sourcedir=ROOT,
        cli_config=added | {"latex_individualpages": False},
    )
    found = {name: value for name, value in found.items() if name not in UNKNOWN}
    found["extensions"] = [name for name in found["extensions"] if name not in LEFT_OUT]

    def from_there(path: str) -> str:  # Sphinx resolves paths from conf.py's folder
        return Path(os.path.relpath(ROOT / path, folder)).as_posix()

    for name in ("bibtex_bibfiles", "html_static_path"):
        found[name] = [from_there(path) for path in found[name]]
    found["html_favicon"] = from_there(found["html_favicon"])
    # Jupyter Book sets this folder when it builds.
    found["nb_execution_cache_path"] = "_build/.jupyter_cache"
    return found


def write_configuration(path: Path) -> None:
    """Write a `conf.py` that builds the book from the root of the repository."""
    local = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["local_extensions"]
    lines = ["# How Sphinx builds the book, from the root of the repository.\n", "import sys\n"]
    lines += [f"sys.path.append({folder!r})" for folder in sorted(set(local.values()))]
    lines += [f"{name} = {value!r}" for name, value in sorted(configuration(path.parent).items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build() -> int:
    """Build the pages, and return 0 if there was no error or warning."""
    write_configuration(BUILD / "conf.py")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "-n", "--keep-going"]
    command += ["-E", "-c", BUILD, "-d", BUILD / ".doctrees", ROOT, BUILD / "html"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conf", type=Path, help="write this file, and build nothing")
    conf = parser.parse_args().conf
    if conf is None:
        return build()
    write_configuration(conf.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
