"""One address of the repository, wherever it is written."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import make_epub
import make_pdf
import pytest
import set_repository as tool
import yaml

ROOT = Path(__file__).parents[2]

OURS = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
# In pieces: on its way back, the tool would take it for the address to replace.
OTHER = "https://github.com/" + "Someone-Else/another.book"


def first_cell(notebook: str) -> str:
    cells = json.loads(notebook)["cells"]
    return "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])


def addresses(root: Path) -> dict[str, str]:
    """Return the address of the repository wherever one is written, by where."""
    readme = (root / "README.md").read_text()
    metadata = (root / "pyproject.toml").read_text().split("[project.urls]\n")[1].split("\n\n")[0]
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    hub = re.search(r'hub\.load\("(.+?)"', (root / "hubconf.py").read_text())[1]
    badge = re.search(r"colab\.research\.google\.com/github/([\w-]+/[\w.-]+)/blob/", readme)[1]
    binder = re.search(r"mybinder\.org/v2/gh/([\w-]+/[\w.-]+)/v", readme)[1]
    picture = re.search(r"raw\.githubusercontent\.com/([\w-]+/[\w.-]+)/main/", readme)[1]
    found = {
        "_config.yml": tool.current(root),
        "CITATION.cff": citation["repository-code"],
        "hubconf.py": f"https://github.com/{hub}",
        "README, Colab's badge": f"https://github.com/{badge}",
        "README, Binder's badge": f"https://github.com/{binder}",
        "README, picture": f"https://github.com/{picture}",
        "README, pip": re.search(r"git\+(https://[^\s@]+)", readme)[1],
        "index.md": re.search(r"git clone (\S+)", (root / "chapters" / "index.md").read_text())[1],
    }
    for line in metadata.splitlines():
        key, value = line.split(" = ")
        if "github.com" in value:
            address = re.match(r'"(https://github\.com/[\w-]+/[\w.-]+)', value)[1]
            found[f"pyproject.toml, {key}"] = address
    for path in (root / "chapters").rglob("*.ipynb"):
        address = re.search(r"git\+(https://[^\s@]+)", first_cell(path.read_text()))[1]
        found[str(path.relative_to(root))] = address
    return found


def published_books(root: Path) -> set[str]:
    """Return every book on GitHub Pages that the files which name ours link to a page of."""
    names = ("README.md", "pyproject.toml", "CITATION.cff", "_config.yml")
    text = "\n".join((root / name).read_text() for name in names)
    links = re.findall(r"https://[\w-]+\.github\.io[\w./-]*", text)
    volumes = f"/({re.escape(make_pdf.PDF.name)}|{re.escape(make_epub.EPUB.name)})$"
    books = (re.sub(volumes, "", link).split("/chapters/")[0] for link in links)
    return {book.rstrip("/") for book in books}


def test_all_addresses_agree():
    assert {where: said for where, said in addresses(ROOT).items() if said != OURS} == {}
    assert published_books(ROOT) == {tool.pages(OURS)}


@pytest.fixture
def copy(tmp_path):
    for path in tool.files(ROOT):
        if tool.text_of(path) is not None:
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def test_a_fork_sets_its_address_everywhere_and_back(copy):
    before = {path: path.read_bytes() for path in tool.files(copy)}
    changed = tool.set_repository(OTHER + ".git", copy)
    assert set(addresses(copy).values()) == {OTHER}
    assert published_books(copy) == {tool.pages(OTHER)}
    assert "git clone " + OTHER + "\ncd another.book\n" in (copy / "chapters/index.md").read_text()
    slug = "/".join(tool.owner_and_name(OURS))
    for path in tool.files(copy):
        text = path.read_text()
        assert not re.search(rf"{tool.BEFORE}{re.escape(slug)}\b(?!-)", text), path
        assert tool.pages(OURS) not in text, path
    tool.set_repository(OURS, copy)
    assert {path: path.read_bytes() for path in tool.files(copy)} == before
    assert copy / "_config.yml" in changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "pip install git+https://github.com/a/b.git",
            "pip install git+https://github.com/c/d.git",
        ),
        ("https://raw.githubusercontent.com/a/b/main/x.png", None),
        ("https://colab.research.google.com/github/a/b/blob/main/x.ipynb", None),
        ("https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/chapters/x.ipynb", None),
        ("git@github.com:a/b.git", None),
        ('torch.hub.load("a/b", name)', 'torch.hub.load("c/d", name)'),
        ("https://a.github.io/b/chapters/", "https://c.github.io/d/chapters/"),
        ("git clone https://github.com/a/b\ncd b\n", "git clone https://github.com/c/d\ncd d\n"),
    ],
)
def test_every_form_is_rewritten(before, after):
    after = before.replace("a/b", "c/d") if after is None else after
    assert tool.replaced(before, "https://github.com/a/b", "https://github.com/c/d") == after


@pytest.mark.parametrize(
    "text", ["https://github.com/a/bc", "https://github.com/za/b", "src/a/b", "github.com/a/b-c"]
)
def test_other_addresses_stay(text):
    assert tool.replaced(text, "https://github.com/a/b", "https://github.com/c/d") == text


def test_where_the_book_is_shown():
    assert tool.pages("https://github.com/Ann/a.book") == "https://ann.github.io/a.book"
    assert tool.pages("https://github.com/Ann/ann.github.io") == "https://ann.github.io"


@pytest.mark.parametrize("address", ["cnnbook", "https://gitlab.com/a/b", "https://github.com/a"])
def test_what_is_no_address_is_refused_and_changes_nothing(copy, address):
    before = {path: path.read_bytes() for path in tool.files(copy)}
    with pytest.raises(ValueError, match="not the address of a repository"):
        tool.set_repository(address, copy)
    assert {path: path.read_bytes() for path in tool.files(copy)} == before
