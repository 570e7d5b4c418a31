"""Imports go one way: between rooms, and between files, inside functions too.

Every file counts, those under ``tools/`` as well. What stands under ``if TYPE_CHECKING`` does not
run, and does not count.
"""

import ast
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Paper → model → experiment → figure: what a room may import beside itself and the leaves.
MAY_IMPORT = {
    "models": set(),
    "data": set(),
    "training": {"models", "data"},
    "analysis": {"models", "data"},
    "plots": {"analysis"},
    "widgets": {"models", "data", "analysis", "plots"},
    "results": set(),
}
MAY_IMPORT["experiments"] = set(MAY_IMPORT)
MAY_IMPORT["bench"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}

LEAVES = {
    "",
    "_checks",
    "_download",
    "_draw",
    "_errors",
    "_files",
    "_frames",
    "_networks",
    "_notebook",
    "_pictures",
    "_progress",
    "_stderr",
    "_versions",
    "settings",
    "tables",
}

# Where modules are imported by a name made at run time, which no file's text shows. The first two
# load what is above them when it is first used; `cnnbook --import MODULE` loads the user's module;
# the reference's pages load what they document.
BY_NAME = {"", "_draw", "cli", "tools"}


def modules(root: Path) -> dict[str, Path]:
    """Return every file of the package and of the tools, by the name it is imported under."""
    found = {}
    for path in sorted((root / "cnnbook").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    # Their folders are all on the path.
    for path in [*sorted((root / "tools").rglob("*.py")), *root.glob("hubconf.py")]:
        assert path.stem not in found, f"{path} and {found[path.stem]} have one name"
        found[path.stem] = path
    return found


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below one, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from running(other)
        else:
            yield child
            yield from running(child)


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, or reaches through `import cnnbook`."""
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "cnnbook":
            yield f"cnnbook.{node.attr}"


def graph(root: Path) -> dict[str, set[str]]:
    """Return which files of ours each file imports."""
    known = modules(root)
    edges = {}
    for name, path in known.items():
        edges[name] = set()
        for target in imported(path):
            while target and target not in known:  # a name inside a module
                target = target.rpartition(".")[0]
            if target:
                edges[name].add(target)
    return edges


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Return circles of imports, at least one through every file that is part of any."""
    found = {}
    for start in sorted(edges):
        ways = deque([(start,)])
        seen = set()
        while ways:
            way = ways.popleft()
            if start in edges[way[-1]]:
                found.setdefault(frozenset(way), " → ".join((*way, start)))
                break
            for target in edges[way[-1]] - seen:
                seen.add(target)
                ways.append((*way, target))
    return list(found.values())


def room(name: str) -> str:
    """Return the part of the package that a module belongs to, "tools" if it is outside."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "cnnbook" else "tools"


def against_the_direction(edges: dict[str, set[str]]) -> list[str]:
    """Return the imports that no room, leaf or tool may have."""
    found = []
    for name, targets in edges.items():
        here = room(name)
        for target in sorted(targets):
            there = room(target)
            if here == "tools":
                allowed = True
            elif here in LEAVES:
                allowed = there in LEAVES
            else:
                allowed = there in MAY_IMPORT.get(here, set()) | LEAVES | {here}
            if not allowed:
                found.append(f"{name} imports {target}")
    return found


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    return graph(ROOT)


def test_every_file_has_its_room():
    assert {room(name) for name in modules(ROOT)} == set(MAY_IMPORT) | LEAVES | {"tools"}


def test_no_circle(edges):
    assert circles(edges) == []


def test_imports_go_one_way(edges):
    assert against_the_direction(edges) == []


def test_no_other_file_imports_by_name():
    found = {
        room(name)
        for name, path in modules(ROOT).items()
        for node in running(ast.parse(path.read_text()))
        if getattr(node, "attr", getattr(node, "id", "")) in ("import_module", "__import__")
    }
    assert "" in found
    assert found <= BY_NAME


def tree(root: Path, files: dict[str, str]) -> Path:
    files = {"cnnbook/__init__.py": "", "cnnbook/tables.py": "", "tools/book.py": ""} | files
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        (
            {
                "cnnbook/data/a.py": "from cnnbook.data import b",
                "cnnbook/data/b.py": "import cnnbook.data.a",
            },
            "cnnbook.data.a → cnnbook.data.b → cnnbook.data.a",
        ),
        (  # inside a function, through a third file
            {
                "cnnbook/data/a.py": "from cnnbook.data.b import x",
                "cnnbook/data/b.py": "def f():\n    from cnnbook.data.c import y",
                "cnnbook/data/c.py": "try:\n    import cnnbook.data.a as z\nexcept E: pass",
            },
            "cnnbook.data.a → cnnbook.data.b → cnnbook.data.c → cnnbook.data.a",
        ),
        (  # a part that imports its own package
            {
                "cnnbook/data/__init__.py": "from cnnbook.data.a import load",
                "cnnbook/data/a.py": "from cnnbook.data import load",
            },
            "cnnbook.data → cnnbook.data.a → cnnbook.data",
        ),
        (  # `import cnnbook` alone loads a room when it is used
            {
                "cnnbook/bench/__init__.py": "import cnnbook\nx = cnnbook.experiments.y",
                "cnnbook/experiments.py": "from cnnbook.bench import z",
            },
            "cnnbook.bench → cnnbook.experiments → cnnbook.bench",
        ),
        (
            {"tools/book.py": "import claims", "tools/sphinx/claims.py": "from book import ROOT"},
            "book → claims → book",
        ),
    ],
)
def test_a_circle_is_found(tmp_path, files, circle):
    assert circles(graph(tree(tmp_path, files))) == [circle]


def test_what_only_type_checkers_read_is_no_circle(tmp_path):
    typing = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cnnbook.data import b"
    files = {"cnnbook/data/a.py": typing, "cnnbook/data/b.py": "from cnnbook.data import a"}
    assert circles(graph(tree(tmp_path, files))) == []
    files["cnnbook/data/a.py"] += "\nelse:\n    import cnnbook.data.b"
    assert len(circles(graph(tree(tmp_path, files)))) == 1


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("analysis/a.py", "from cnnbook import training", "cnnbook.training"),
        ("training/a.py", "def f():\n    import cnnbook.analysis", "cnnbook.analysis"),
        ("plots/a.py", "from cnnbook.widgets import x", "cnnbook.widgets"),
        ("results/a.py", "from cnnbook.models import x", "cnnbook.models"),
        ("experiments/a.py", "from cnnbook.bench import x", "cnnbook.bench"),
        ("bench/a.py", "from cnnbook.cli import x", "cnnbook.cli"),
        ("tables.py", "from cnnbook.data import x", "cnnbook.data"),
        ("__init__.py", "from cnnbook.data import x", "cnnbook.data"),
        ("cli/a.py", "import book", "book"),
    ],
)
def test_an_import_against_the_direction_is_found(tmp_path, file, text, found):
    rooms = {f"cnnbook/{r}/__init__.py": "" for r in MAY_IMPORT if not r.startswith("_")}
    edges = graph(tree(tmp_path, rooms | {f"cnnbook/{file}": text}))
    name = ".".join(["cnnbook", *Path(file).with_suffix("").parts]).removesuffix(".__init__")
    assert against_the_direction(edges) == [f"{name} imports {found}"]


def test_what_may_be_imported_is_no_finding(tmp_path):
    files = {
        "cnnbook/training/__init__.py": "from cnnbook import models\nimport cnnbook.tables, torch",
        "cnnbook/models/__init__.py": "from cnnbook.models.a import x",
        "cnnbook/models/a.py": "import cnnbook\nprint(cnnbook.__version__)",
        "tools/book.py": "import cnnbook.training",
    }
    edges = graph(tree(tmp_path, files))
    assert edges["cnnbook.training"] == {"cnnbook.models", "cnnbook.tables"}
    assert edges["book"] == {"cnnbook.training"}
    assert against_the_direction(edges) == circles(edges) == []
