"""Explorers: what is drawn, how it is joined, and what is refused."""

import base64
import io
import itertools
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from cnnbook import plots, widgets
from cnnbook.tables import Table
from cnnbook.widgets.compact import compact, definitions

ipywidgets = pytest.importorskip("ipywidgets")


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def say(**state):
    return " ".join(f"{name}={value}" for name, value in state.items())


def text(markup: str) -> str:
    return re.sub("<[^>]*>", "", markup)


def shown(explorer) -> str:
    """Follow the stacks to the visible picture, as a browser does."""
    widget = explorer.children[-1]
    while isinstance(widget, ipywidgets.Stack):
        widget = widget.children[widget.selected_index]
    return widget.value


def links(explorer) -> dict:
    """Return the stacks that each selector moves, from the link widgets themselves."""
    joined = {}
    everything = ipywidgets.Widget._instances if hasattr(ipywidgets.Widget, "_instances") else {}
    for widget in list(everything.values() or ipywidgets.widgets.widget._instances.values()):
        if isinstance(widget, ipywidgets.widgets.widget_link.Link):
            (source, attribute), (target, index) = widget.source, widget.target
            assert (attribute, index) == ("index", "selected_index")
            joined.setdefault(source.model_id, []).append(target)
    return {name: joined[s.model_id] for name, s in explorer.selectors.items()}


def choose(explorer, **indices):
    """Set selectors and carry the links out, which is the browser's work."""
    moved = links(explorer)
    for name, index in indices.items():
        explorer.selectors[name].index = index
        for stack in moved[name]:
            stack.selected_index = index


def test_every_state_is_reached_through_the_links():
    choices = {"size": [1, 3, 5], "kind": ["a", "b"], "on": [False, True], "name": list("vwxyz")}
    explorer = widgets.explore(say, **choices)
    for indices in itertools.product(*(range(len(v)) for v in choices.values())):
        choose(explorer, **dict(zip(choices, indices, strict=True)))
        expected = {n: v[i] for (n, v), i in zip(choices.items(), indices, strict=True)}
        assert text(shown(explorer)) == say(**expected)


def test_each_state_is_drawn_once():
    calls = []
    widgets.explore(lambda **state: calls.append(state) or "x", a=[1, 2], b=["p", "q", "r"])
    assert len(calls) == 6
    assert len({tuple(call.items()) for call in calls}) == 6


@pytest.mark.parametrize(
    ("choice", "kind", "labels"),
    [
        (range(3), "SelectionSlider", ("0", "1", "2")),
        ([0.5, 1.0], "SelectionSlider", ("0.5", "1")),
        ([7], "Dropdown", ("7",)),
        (["a", "b"], "ToggleButtons", ("a", "b")),
        (list("abcd"), "ToggleButtons", tuple("abcd")),
        (list("abcde"), "Dropdown", tuple("abcde")),
        ([False, True], "ToggleButtons", ("no", "yes")),
        ({"small": 3, "large": 5}, "ToggleButtons", ("small", "large")),
    ],
)
def test_selector_follows_the_type_of_choice(choice, kind, labels):
    selector = widgets.explore(say, layer_size=choice).selectors["layer_size"]
    assert type(selector).__name__ == kind
    assert selector.options == labels
    assert selector.description == "layer size"


def test_a_mapping_gives_values_by_label():
    explorer = widgets.explore(say, kernel={"small": 3, "large": 5}, first={"kernel": "large"})
    assert text(shown(explorer)) == "kernel=5"


def test_first_state_is_shown_by_widgets_and_without_them():
    explorer = widgets.explore(say, a=[1, 2, 3], b=[False, True], first={"a": 2, "b": True})
    assert text(shown(explorer)) == "a=2 b=True"
    bundle = explorer._repr_mimebundle_()
    assert "a: 2" in text(bundle["text/html"])
    assert "b: yes" in text(bundle["text/html"])
    assert "a=2 b=True" in text(bundle["text/html"])
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == explorer.model_id
    assert explorer.states()[0] == {"a": "1", "b": "no"}
    assert "6 states" in bundle["text/plain"]


def test_figures_tables_and_texts_can_be_drawn():
    def draw(n):
        figure = plots.bars(["a"], torch.tensor([float(n)]), xlabel="x", alt=f"bar {n} & <b>")
        return [figure, Table([{"n": n}]), f"{n} < 7 & so on"]

    explorer = widgets.explore(draw, n=[1, 2])
    assert "aria-label='bar 1 &amp; &lt;b&gt;'" in shown(explorer)
    assert "cnnbook-table" in shown(explorer)
    assert "1 &lt; 7 &amp; so on" in shown(explorer)


def test_equal_pictures_are_one_widget():
    explorer = widgets.explore(lambda a, b: f"{a}", a=[1, 2], b=[1, 2, 3])
    leaves = {leaf.model_id for stack in explorer.children[-1].children for leaf in stack.children}
    assert len(leaves) == 2


def photo_figure(flip: bool, extra: str = ""):
    torch.manual_seed(0)
    photo = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), 120, mode="bicubic")
    photo = photo.clamp(0, 1)
    pictures = torch.cat([photo, photo.flip(3) if flip else photo])
    return plots.images(pictures, ["the photograph", f"flipped {flip}{extra}"], columns=2)


def test_parts_in_common_are_stored_once():
    explorer = widgets.explore(photo_figure, flip=[False, True], extra=["", "!", "!!"])
    stored = explorer.children[-2].value + "".join(
        leaf.value for stack in explorer.children[-1].children for leaf in stack.children
    )
    # one photograph, and its mirror image
    assert stored.count("data:image/") == 2
    alone = sum(len(photo_figure(f, e).svg()) for f in (False, True) for e in ("", "!", "!!"))
    assert len(stored) < alone / 10


def test_every_reference_has_one_target():
    explorer = widgets.explore(photo_figure, flip=[False, True], extra=["", "!"])
    for stack in explorer.children[-1].children:
        for leaf in stack.children:
            page = explorer.children[-2].value + leaf.value
            ids = re.findall(r"\bid='([^']+)'", page)
            assert len(ids) == len(set(ids))
            used = re.findall(r"(?:href='#|url\(#)([^')]+)", page)
            assert used
            assert set(used) <= set(ids)


def test_small_bitmaps_lose_nothing_and_photographs_shrink():
    from PIL import Image

    torch.manual_seed(0)
    small = torch.randint(0, 256, (1, 3, 30, 40)).byte()
    _, parts = compact(plots.images(small).svg())
    (url,) = re.findall(r"href='data:image/\w+;base64,([^']+)'", "".join(parts.values()))
    pixels = Image.open(io.BytesIO(base64.b64decode(url))).convert("RGB")
    assert (np.array(pixels).transpose(2, 0, 1) == small[0].numpy()).all()

    svg = photo_figure(False).svg()
    body, parts = compact(svg)
    assert len(body) + len("".join(parts.values())) < len(svg) / 3


def test_compact_pictures_are_well_formed():
    body, parts = compact(photo_figure(True).svg())
    assert ElementTree.fromstring(body).get("role") == "img"
    for name, part in parts.items():
        assert ElementTree.fromstring(part).get("id") == name
    hidden = ElementTree.fromstring(definitions(parts))
    assert hidden.get("aria-hidden") == "true"
    assert hidden.get("width") == hidden.get("height") == "0"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: widgets.explore(say), ValueError, "got 1: none given"),
        (
            lambda: widgets.explore(say, a=range(30), b=range(11)),
            ValueError,
            "1 to 300 combinations of choices, got 330: a has 30, b has 11",
        ),
        (lambda: widgets.explore(say, a=[]), ValueError, "choice 'a' has no values"),
        (lambda: widgets.explore(say, a=[1, 2, 1]), ValueError, "label '1' more than once"),
        (
            lambda: widgets.explore(say, kernel=[1, 2], first={"kernl": 1}),
            ValueError,
            "unknown choice in first 'kernl'.*Did you mean 'kernel'",
        ),
        (
            lambda: widgets.explore(say, kernel=[1, 3], first={"kernel": 2}),
            ValueError,
            "unknown value of 'kernel' in first '2'; use one of: 1, 3",
        ),
        (lambda: widgets.explore(lambda a: None, a=[1]), TypeError, "NoneType for {'a': 1}"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_too_many_bytes_are_refused_early(monkeypatch):
    monkeypatch.setattr(sys.modules["cnnbook.widgets.explore"], "MAX_BYTES", 10_000)
    calls = []

    def long(a):
        calls.append(a)
        return f"{a} " * 1000

    with pytest.raises(ValueError, match=r"first 5 of 9 pictures .* than the 0\.01 MB .* a has 9"):
        widgets.explore(long, a=range(9))
    assert len(calls) == 5
    # equal ones count once
    widgets.explore(lambda a: "x" * 9000, a=range(9))


def test_an_error_while_drawing_reaches_the_caller():
    def broken(a):
        return 1 / (2 - a)

    with pytest.raises(ZeroDivisionError):
        widgets.explore(broken, a=[2])


def test_without_stacks_the_kernel_exchanges_the_picture(monkeypatch):
    # ipywidgets 7, as Colab has it
    monkeypatch.delattr(ipywidgets, "Stack")
    explorer = widgets.explore(say, a=[1, 2], b=["x", "y"], first={"b": "y"})
    picture = explorer.children[-1]
    assert text(picture.value) == "a=1 b=y"
    explorer.selectors["a"].index = 1
    assert text(picture.value) == "a=2 b=y"


def test_without_ipywidgets_says_what_to_install():
    code = """
import sys
sys.modules["ipywidgets"] = None  # importing it fails from now on
import cnnbook
try:
    cnnbook.widgets.explore(str, a=[1])
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip().endswith("pip install ipywidgets"), result.stderr


def test_a_notebook_stores_the_view_and_all_states():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    code = """
from cnnbook import widgets
widgets.explore(lambda a, b: f"{a} and {b}", a=range(3), b=["x", "y"])
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    view = output.data["application/vnd.jupyter.widget-view+json"]
    state = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert state[view["model_id"]]["model_name"] == "VBoxModel"
    stored = json.dumps(state)
    for a, b in itertools.product(range(3), "xy"):
        assert f"{a} and {b}" in stored
    kinds = [model["model_name"] for model in state.values()]
    assert kinds.count("StackModel") == 4
    assert kinds.count("LinkModel") == 4
