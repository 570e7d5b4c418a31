"""What `import cnnbook` promises."""

import ast
import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_origin

import pytest

import cnnbook

PACKAGE = Path(cnnbook.__file__).parent


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


def test_import_is_cheap():
    heavy = "torch numpy matplotlib torchvision ipywidgets IPython tqdm"
    code = f"import sys, cnnbook; print([m for m in {heavy.split()} if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"


@pytest.mark.slow
def test_no_warning_in_a_notebook_without_ipywidgets():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    code = """
import sys
sys.modules["ipywidgets"] = None  # importing it fails from now on
import cnnbook
train, _ = cnnbook.data.load("fashion-mini", size=32)
cnnbook.training.fit(cnnbook.models.lenet5(), train[:64], epochs=1, progress=False)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    streams = [o for o in notebook.cells[0].outputs if o.output_type == "stream"]
    assert streams == []


@pytest.mark.slow
def test_works_without_jupyter_and_matplotlib():
    code = """
import sys
for name in ("matplotlib", "ipywidgets", "IPython", "jupyter_core"):
    sys.modules[name] = None  # importing it fails from now on
import cnnbook
train, test = cnnbook.data.load("fashion-mini", size=32)
net = cnnbook.models.lenet5()
print(cnnbook.training.fit(net, train[:64], test[:10], epochs=1, progress=False))
print(cnnbook.analysis.summary(net, (1, 32, 32)))
"""
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert "validation accuracy" in result.stdout


@pytest.mark.parametrize("name", cnnbook.__all__)
def test_every_public_name_exists(name):
    thing = getattr(cnnbook, name)
    if inspect.ismodule(thing):
        assert thing.__name__ == f"cnnbook.{name}"
    elif name != "__version__":
        assert thing.__name__ == name
        assert thing.__module__.startswith(f"cnnbook.{cnnbook._FUNCTIONS[name]}")
    assert name in dir(cnnbook)


def test_type_checkers_see_every_public_name():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname for node in block.body for alias in node.names}
    assert seen == {*cnnbook.__all__} - {"__version__"}


def public() -> dict[str, object]:
    """Return every function and class that a user is meant to call, by its full name."""
    found = {
        f"cnnbook.{room}.{name}": getattr(cnnbook, name)
        for name, room in cnnbook._FUNCTIONS.items()
    }
    for name in (*cnnbook._SUBMODULES, "tables"):
        module = importlib.import_module(f"cnnbook.{name}")
        names = getattr(module, "__all__", None) or [
            n for n, o in vars(module).items() if getattr(o, "__module__", "") == module.__name__
        ]
        found |= {f"cnnbook.{name}.{n}": getattr(module, n) for n in names if n[0] != "_"}
    # The alias of a type can be called, too, but is not meant to be.
    return {n: thing for n, thing in found.items() if callable(thing) and not get_origin(thing)}


def test_every_public_name_has_an_example():
    # pytest runs them, being told to look into docstrings.
    bare = [name for name, thing in public().items() if ">>> " not in (inspect.getdoc(thing) or "")]
    assert bare == []


def test_public_functions_say_what_they_take_and_return():
    for name, thing in public().items():
        if not inspect.isclass(thing):
            signature = inspect.signature(thing)
            assert signature.return_annotation is not inspect.Signature.empty, name
            for parameter in signature.parameters.values():
                options = parameter.kind is inspect.Parameter.VAR_KEYWORD
                assert options or parameter.annotation is not inspect.Parameter.empty, name


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="models"):
        cnnbook.model  # noqa: B018


FIRST_CELL = """
import sys
sys.path.insert(0, "")
try:
    import cnnbook

    cnnbook.require("{wanted}")
except ImportError as error:
    print(type(error).__name__)
    from pathlib import Path  # what %pip install would do
    Path("cnnbook").mkdir(exist_ok=True)
    Path("cnnbook", "__init__.py").write_text('__version__ = "{wanted}"')
    import cnnbook

print(cnnbook.__version__)
"""


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        ("1.2.0", "1.2.0", ["1.2.0"]),
        ("1.10.0", "1.9.5", ["1.10.0"]),
        ("1.2.0.dev1", "1.2.0", ["1.2.0.dev1"]),
        ("1.9.5", "1.10.0", ["ImportError", "1.10.0"]),
        (None, "1.2.0", ["ModuleNotFoundError", "1.2.0"]),
    ],
)
def test_a_first_cell_replaces_an_older_package(tmp_path, found, wanted, said):
    if found:
        (tmp_path / "cnnbook").mkdir()
        shutil.copy(PACKAGE / "_versions.py", tmp_path / "cnnbook")
        text = f'from cnnbook._versions import require\n__version__ = "{found}"\n'
        (tmp_path / "cnnbook" / "__init__.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", FIRST_CELL.format(wanted=wanted)],  # no packages
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == said, done.stderr


def test_an_older_package_in_use_needs_a_restart():
    code = "import cnnbook; cnnbook.settings; cnnbook.require('99.0.0')"
    done = run(code)
    assert "RuntimeError: this notebook needs cnnbook 99.0.0" in done.stderr
    assert "Restart the kernel" in done.stderr
    with pytest.raises(ValueError, match="is three numbers"):
        cnnbook.require("new")
