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
from PIL import Image
from torch import nn

from cnnbook import analysis, data, models, plots, widgets
from cnnbook.tables import Table
from cnnbook.widgets.compact import compact, definitions, inlined

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
    """Return the stacks that each selector switches, from the link widgets themselves."""
    joined = {}
    everything = ipywidgets.Widget._instances if hasattr(ipywidgets.Widget, "_instances") else {}
    for widget in list(everything.values() or ipywidgets.widgets.widget._instances.values()):
        if isinstance(widget, ipywidgets.widgets.widget_link.Link):
            (source, attribute), (target, index) = widget.source, widget.target
            assert (attribute, index) == ("index", "selected_index")
            joined.setdefault(source.model_id, []).append(target)
    return {name: joined[s.model_id] for name, s in explorer.selectors.items()}


def choose(explorer, **indices):
    """Set selectors and carry the links out, as the browser does."""
    linked = links(explorer)
    for name, index in indices.items():
        explorer.selectors[name].index = index
        for stack in linked[name]:
            stack.selected_index = index


def test_every_state_is_reached_through_the_links():
    choices = {
        "size": [1, 3, 5],
        "kind": ["a", "b"],
        "on": [False, True],
        "name": [15 * x for x in "vwxyz"],
    }
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
        (iter(["a", "b"]), "ToggleButtons", ("a", "b")),
        (list("abcd"), "ToggleButtons", tuple("abcd")),
        (list("abcdefghijkl"), "ToggleButtons", tuple("abcdefghijkl")),
        (list("abcdefghijklm"), "Dropdown", tuple("abcdefghijklm")),
        (["a" * 28, "b" * 28], "ToggleButtons", ("a" * 28, "b" * 28)),
        (["a" * 28, "b" * 29], "Dropdown", ("a" * 28, "b" * 29)),
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


def test_first_state_is_shown_by_widgets_and_without_them(monkeypatch):
    monkeypatch.setenv("CNNBOOK_BOOK", "1")
    explorer = widgets.explore(say, a=[1, 2, 3], b=[False, True], first={"a": 2, "b": True})
    assert text(shown(explorer)) == "a=2 b=True"
    bundle, _ = explorer._repr_mimebundle_()
    assert "a: 2" in text(bundle["text/html"])
    assert "b: yes" in text(bundle["text/html"])
    assert "a=2 b=True" in text(bundle["text/html"])
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == explorer.model_id
    assert explorer.states()[0] == {"a": "1", "b": "no"}
    assert "6 states" in bundle["text/plain"]


def test_outside_the_book_a_bitmap_stands_in_for_the_widget(monkeypatch):
    monkeypatch.delenv("CNNBOOK_BOOK", raising=False)

    def draw(n):
        return [photo_figure(n > 1), f"n is {n}.", [Table([{"n": n}])]]

    shown = {}
    for first in (1, 2):
        explorer = widgets.explore(draw, n=[1, 2], first={"n": first})
        data, metadata = explorer._repr_mimebundle_()
        assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
        shown[first] = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        alone = photo_figure(first > 1)
        alone.svg()  # as the explorer does first; constrained layout takes more than one drawing
        figure = Image.open(io.BytesIO(alone.png(dpi=192))).convert("RGB")
        assert shown[first].width == figure.width
        assert metadata["image/png"]["width"] == pytest.approx(figure.width / 2, abs=1)
        # Its figure is below the choices: find it, pixel by pixel.
        pixels, wanted = np.asarray(shown[first]), np.asarray(figure)
        tops = range(len(pixels) - len(wanted) + 1)
        assert any(np.array_equal(pixels[y : y + len(wanted)], wanted) for y in tops)
    assert shown[1].size == shown[2].size
    assert shown[1].tobytes() != shown[2].tobytes()


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


@pytest.mark.slow
def test_parts_in_common_are_stored_once():
    explorer = widgets.explore(photo_figure, flip=[False, True], extra=["", "!", "!!"])
    stored = explorer.children[-2].value + "".join(
        leaf.value for stack in explorer.children[-1].children for leaf in stack.children
    )
    # one photograph, and its mirror image
    assert stored.count("data:image/") == 2
    alone = sum(len(photo_figure(f, e).svg()) for f in (False, True) for e in ("", "!", "!!"))
    assert len(stored) < alone / 10


@pytest.mark.slow
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


def test_what_a_definition_refers_to_stays_a_definition():
    parts = {
        "letter": "<path id='letter' d='M0 0'/>",
        "word": "<g id='word'><use href='#letter'/></g>",
        "once": "<g id='once'/>",
    }
    words = "<use href='#word'/><use href='#word'/>"
    page = inlined(f"<svg><use href='#letter'/>{words}<use href='#once'/></svg>", parts)
    assert page.count("id='letter'") == page.count("id='word'") == 1
    assert page.count("href='#letter'") == 2
    assert "once" not in page


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
            lambda: widgets.explore(say, a=range(91), b=range(11)),
            ValueError,
            "1 to 1000 combinations of choices, got 1001: a has 91, b has 11",
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


def test_too_many_different_pictures_are_refused_early(monkeypatch):
    monkeypatch.setattr(sys.modules["cnnbook.widgets.explore"], "MAX_STATES", 3)
    widgets.explore(lambda a: min(a, 2) * "x", a=range(20))
    with pytest.raises(ValueError, match=r"up to 3 different .* more of these 20 are: a has 20"):
        widgets.explore(lambda a: min(a, 3) * "x", a=range(20))


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def values(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


@pytest.fixture
def captured(monkeypatch):
    """Give the drawing function and the choices of an explorer, instead of drawing them all."""
    for name in ("networks", "experiments", "stacking"):
        module = sys.modules[f"cnnbook.widgets.{name}"]
        monkeypatch.setattr(module, "explore", lambda draw, **choices: (draw, choices))
    for name in ("filters", "sliding"):
        module = sys.modules[f"cnnbook.widgets.{name}"]
        monkeypatch.setattr(
            module,
            "explored",
            lambda draw, first, choices, own: (draw, {"first": first, **choices}),
        )


@pytest.mark.slow
def test_convolution_shows_every_product_of_every_setting(captured):
    kernels = {"mine": [[1, 0, -2], [0.5, 3, 0], [-1, 0, 1]], "mean": [[1 / 9] * 3] * 3}
    draw, choices = widgets.convolution(
        torch.rand(1, 6, 6), kernels, strides=(1, 2, 3), dilations=(1, 2)
    )
    longest = 0
    for stride, padding, dilation in itertools.product((1, 2, 3), (0, 1), (1, 2)):
        side = (6 + 2 * padding - 2 * dilation - 1) // stride + 1
        longest = max(longest, side**2)
        for kernel, position in itertools.product(kernels, (1, side**2, side**2 + 5)):
            chosen = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
            figure, words = draw(position, **chosen)
            position = min(position, side**2)
            assert words.startswith(f"Position {position} of {side**2}:")
            products, _, value = words.partition(": ")[2].rpartition(" = ")
            terms = re.findall(r"[+-]? ?\d+\*[\d./]+", products.replace("·", "*").replace("−", "-"))
            value = eval(value.replace("−", "-"))
            assert sum(map(eval, terms)) == pytest.approx(value, rel=0.05)
            assert f"output {side}×{side}" in titles(figure)
    assert list(choices["position"]) == list(range(1, longest + 1))


def titles(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_convolution_agrees_with_torch(captured):
    pixels = torch.tensor([[0, 1, 9], [3, 4, 5], [6, 7, 2]]) / 9
    draw, choices = widgets.convolution(
        pixels[None], {"mine": [[1, -1], [2, 0]]}, strides=(1,), paddings=(0,)
    )
    assert list(choices) == ["first", "position"]  # one value of the others: nothing to choose
    figure, words = draw(4)
    #  4·1 - 5·1 + 7·2
    assert words.endswith("= 13")
    assert "13" in titles(figure)
    fixed, moving = figure.axes
    whole, feature_map, pixels, kernel = (i.get_array().tolist() for i in fixed.images)
    assert whole == pixels == [[0, 1, 9], [3, 4, 5], [6, 7, 2]]
    assert kernel == [[1, -1], [2, 0]]
    seen, products, output = (i.get_array().tolist() for i in moving.images)
    assert (seen, products) == ([[4, 5], [7, 2]], [[4, -5], [14, 0]])
    assert output == feature_map == [[5, 0], [11, 13]]


def test_convolution_shows_only_what_has_been_computed(captured):
    draw, _ = widgets.convolution()
    output = draw(2, kernel="vertical edges", stride=1, padding=0)[0].axes[1].images[2].get_array()
    assert output.mask.sum() == 14
    assert output[0, :2].tolist() == [0, 22]


def test_frames_of_a_convolution_are_where_the_kernel_is(captured):
    draw, _ = widgets.convolution()
    figure, _ = draw(6, kernel="blur", stride=2, padding=1)  # row 2, column 3 of 3×3
    fixed, moving = figure.axes
    x, right, bottom, y = fixed.images[2].get_extent()  # 8×8 with padding
    frame = next(p for p in moving.patches if p.get_linewidth() > 2)
    cell = (right - x) / 8
    assert frame.get_x() == pytest.approx(x + 4 * cell)
    assert frame.get_y() + frame.get_height() == pytest.approx(y - 2 * cell)
    assert frame.get_width() == pytest.approx(3 * cell)
    assert bottom == pytest.approx(y - 8 * cell)


def test_stacking_counts_what_a_gradient_counts(captured):
    draw, choices = widgets.stacking({"mixed": (3, 5, 2), "one": (7,)}, side=9)
    assert list(choices["unit"]) == list(range(1, 10))
    figure, words = draw("mixed", 2)
    x = pixels = torch.zeros(1, 1, 9, 9, requires_grad=True)
    layers = [x]
    for k in (3, 5, 2):
        x = torch.nn.functional.conv2d(x, torch.ones(1, 1, k, k))
        layers.append(x)
    counts = torch.autograd.grad(x[0, 0, 0, 1], [pixels, *layers[1:]])
    moving = figure.axes[1]
    for image, count in zip(moving.images, counts, strict=True):
        assert image.get_array().filled(0).tolist() == count[0, 0].tolist()
    assert [patch.get_linewidth() > 2 for patch in moving.patches].count(True) == 4
    assert "on 2×2 units and through them on 6×6 units and through them on 8×8 pixels" in words
    assert "38 weights; 900 paths, " in words
    # The last unit stays the last one in a smaller output.
    assert draw("one", 9) is draw("one", 9)
    assert "49 weights; 49 paths, one from every pixel" in draw("one", 9)[1]


def test_grids_of_stacking_stay_where_they_are(captured):
    draw, _ = widgets.stacking()
    pixels, outputs = set(), set()
    for kernels in ("one 5×5", "two 3×3"):
        images = draw(kernels, 1)[0].axes[1].images
        pixels.add(tuple(images[0].get_extent()))
        outputs.add(tuple(round(edge, 9) for edge in images[-1].get_extent()))
    assert len(pixels) == len(outputs) == 1


def test_kernels_keep_brightness_or_see_differences_only():
    kernels = sys.modules["cnnbook.widgets.filters"].KERNELS
    sums = {name: round(sum(map(sum, kernel)), 6) for name, kernel in kernels.items()}
    edges = {"vertical edges", "horizontal edges", "all edges"}
    assert {name for name, value in sums.items() if value == 0} == edges
    assert all(value == 1 for name, value in sums.items() if name not in edges)


def test_filters_are_correlations_with_the_kernel(captured):
    picture = torch.rand(1, 7, 6)
    draw, choices = widgets.filters(picture, {"mine": [[0, 0, 0], [0, 0, 2], [0, 0, -1]]})
    assert choices["filter"] == ["mine"]
    before, _, after = (values(axes) for axes in draw("mine", 1).axes)
    assert before == pytest.approx(picture[0].numpy())
    expected = 2 * picture[0, 2, 3] - picture[0, 3, 3]
    assert after[2, 2] == pytest.approx(expected.clamp(0, 1).item())
    once, twice = (values(draw("mine", n).axes[2]) for n in (1, 2))
    assert not np.allclose(once, twice)


@pytest.mark.parametrize(("layers", "kernel", "stride"), [(1, 3, 1), (3, 5, 1), (4, 3, 2)])
def test_receptive_field_of_equal_layers(captured, layers, kernel, stride):
    draw, _ = widgets.receptive_field(data.photo("cat", 96))
    _, words = draw(layers, kernel, stride)
    size = 1 + sum((kernel - 1) * stride**i for i in range(layers))
    assert f"receptive field of {size}×{size} pixels on an image of 96×96" in words
    assert f"neighbors are {stride**layers} pixel" in words


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 4, 3))
    model.add_module("relu", nn.ReLU())
    model.add_module("pool", nn.MaxPool2d(2))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(36, 5))
    return model


def test_feature_maps_are_the_activations(captured, net):
    x = torch.randn(2, 1, 8, 8)
    draw, choices = widgets.feature_maps(net, x, channels=3)
    assert choices == {
        "layer": ["conv", "relu", "pool"],
        "channel": range(1, 4),
        "image": range(1, 3),
    }
    drawn = draw(layer="pool", channel=3, image=2).axes[1]
    assert values(drawn) == pytest.approx(analysis.activations(net, x)["pool"][1, 2].numpy())
    assert drawn.images[0].get_clim()[0] == 0
    signed = draw(layer="conv", channel=1, image=1).axes[1].images[0].get_clim()
    assert signed[0] == -signed[1]


def test_architecture_names_shapes_and_parameters(captured, net):
    draw, choices = widgets.architecture(net, torch.randn(1, 1, 8, 8), channels=2)
    assert choices["block"] == ["conv", "relu", "pool", "flatten", "fc"]
    figure, words = draw("conv")
    assert words.startswith(
        "conv (Conv2d): 1×8×8 in, 4×6×6 out. 40 parameters, 1,296 multiply–adds"
    )
    assert "receptive field 3 pixels" in words
    assert "first 2 feature maps" in figure.alt
    assert "36 in, 5 out. 185 parameters, 180 multiply–adds" in draw("fc")[1]


@pytest.mark.slow
def test_architecture_knows_what_each_block_reads(captured):
    class Branched(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 3, 3)
            self.drop, self.c = nn.Dropout(), nn.Conv2d(5, 4, 1)

        def forward(self, x):
            return self.c(self.drop(torch.cat([self.a(x), self.b(x)], 1)))

    draw, _ = widgets.architecture(Branched(), torch.randn(1, 1, 8, 8))
    read = {block: draw(block)[1].split(": ")[1].split(" in,")[0] for block in "abc"}
    assert read == {"a": "1×8×8", "b": "1×8×8", "c": "5×6×6"}
    assert "5×6×6 in, 5×6×6 out" in draw("drop")[1]  # only passed on in evaluation


def test_augmentation_is_what_training_uses(captured):
    picture = data.photo("cat", 24)
    draw, choices = widgets.augmentation(picture, {"mirror": data.Augment(flip=1)}, strengths=[1.0])
    assert choices["transform"] == ["mirror"]
    figure = draw("mirror", 1.0)
    expected = picture.flip(2).permute(1, 2, 0) / 255
    tiles = figure.axes[0].images
    assert len(tiles) == 3
    for tile in tiles:
        assert np.asarray(tile.get_array()) == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize(("channels", "between", "kernel"), [(192, 16, 5), (64, 56, 3)])
def test_reduction_cost_agrees_with_the_operations_counted(captured, channels, between, kernel):
    draw, choices = widgets.reduction_cost()
    assert choices["first"] == {"in_channels": 192, "reduced": 16, "kernel": 5}
    _, words = draw(channels, between, kernel)
    padding = kernel // 2
    direct = nn.Sequential(nn.Conv2d(channels, 32, kernel, padding=padding))
    small = nn.Sequential(
        nn.Conv2d(channels, between, 1), nn.Conv2d(between, 32, kernel, padding=padding)
    )
    totals = [
        sum(row["macs"] for row in analysis.summary(net, (channels, 28, 28)).rows)
        for net in (direct, small)
    ]
    assert f"= {totals[0]:,};" in words
    assert f"= {totals[1]:,}," in words
    assert ("times fewer" in words) == (totals[1] < totals[0])


def test_reduction_cost_of_inception_3a(captured):
    _, words = widgets.reduction_cost()[0](192, 16, 5)
    assert "120,422,400" in words
    assert "12,443,648" in words


def test_shortcut_gradients_compare_the_same_weights(captured):
    x, y = torch.randn(4, 1, 12, 12), torch.tensor([0, 1, 2, 0])
    torch.manual_seed(5)
    draw, choices = widgets.shortcut_gradients(x, y, depths=(8, 14), width=0.25)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after

    assert choices["depth"] == (8, 14)
    torch.manual_seed(0)
    plain = models.ResNet(14, 3, 1, plain=True, width=0.25)
    torch.manual_seed(0)
    residual = models.ResNet(14, 3, 1, width=0.25)
    for a, b in zip(plain.parameters(), residual.parameters(), strict=True):
        assert a.equal(b)
    lines = {line.get_label(): line.get_ydata() for line in draw(14)[0].axes[0].lines}
    for label, net in (("plain", plain), ("with shortcuts", residual)):
        expected = list(analysis.gradient_norms(net, x, y).values())
        assert len(expected) == 14
        assert lines[label] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: widgets.convolution(torch.rand(5, 5)), r"got \(5, 5\)"),
        (lambda: widgets.convolution(torch.rand(1, 2, 20)), "3 to 8 pixels, got 2"),
        (lambda: widgets.convolution(window=(0, 0, 9)), "3 to 8 pixels, got 9"),
        (lambda: widgets.convolution(window=(23, 0, 6)), r"leaves the picture of 28×28"),
        (lambda: widgets.convolution(kernels={"a": [[1, 2]]}), r"'a' must be \(k, k\)"),
        (lambda: widgets.convolution(dilations=[4]), "dilation 4 spans 9 pixels: more than 6"),
        (lambda: widgets.stacking(side=13), "3 to 12 pixels, got 13"),
        (lambda: widgets.stacking({"a": (3, 3)}, side=4), r"'a' .* 4×4 pixels, got \(3, 3\)"),
        (lambda: widgets.filters(kernels={"even": [[1, 2], [3, 4]]}), "'even' must be .* odd k"),
        (lambda: widgets.receptive_field(torch.rand(2, 9, 9)), r"got \(2, 9, 9\)"),
        (lambda: widgets.feature_maps(nn.Conv2d(1, 1, 3), torch.rand(1, 9, 9)), r"\(1, 9, 9\)"),
        (
            lambda: widgets.feature_maps(nn.Sequential(nn.Flatten()), torch.rand(1, 1, 9, 9)),
            "no layer returns feature maps",
        ),
        (lambda: widgets.architecture(nn.Flatten(), torch.rand(2, 1, 9, 9)), r"\(2, 1, 9, 9\)"),
        (lambda: widgets.shortcut_gradients(x=torch.rand(1, 1, 9, 9)), "both x and y"),
    ],
)
def test_errors_of_ready_made_explorers(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_text_of_ready_made_explorers_is_at_least_nine_points(captured, net):
    import matplotlib.text

    drawn = [
        widgets.convolution()[0](9, kernel="blur", stride=1, padding=1)[0],
        widgets.stacking()[0]("three 3×3", 4)[0],
        widgets.filters()[0]("blur (Gaussian)", 2),
        widgets.receptive_field()[0](3, 3, 2)[0],
        widgets.feature_maps(net, torch.randn(1, 1, 8, 8))[0]("conv", 1),
        widgets.architecture(net, torch.randn(1, 1, 8, 8))[0]("fc")[0],
        widgets.augmentation()[0]("crop", 1.0),
        widgets.reduction_cost()[0](480, 8, 5)[0],
    ]
    for figure in drawn:
        figure.figure.draw_without_rendering()
        width, height = figure.figure.get_size_inches()
        box = figure.figure.get_tightbbox()
        assert min(box.x0, box.y0) > -0.02
        assert box.x1 < width + 0.02
        assert box.y1 < height + 0.02
        for text in figure.figure.findobj(matplotlib.text.Text):
            if text.get_text():
                assert text.get_fontsize() >= 9


def test_architecture_of_a_network_with_parameters_of_its_own():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x):
            return self.conv(x) * self.scale

    explorer = widgets.architecture(Scaled(), torch.zeros(1, 1, 8, 8))
    assert list(explorer.selectors["block"].options) == ["conv"]


def test_first_takes_values_as_well_as_labels():
    for first in ("two", 2):
        explorer = widgets.explore(str, object={"one": 1, "two": 2}, first={"object": first})
        assert explorer.selectors["object"].index == 1


def test_first_prefers_labels_and_takes_arrays():
    swapped = widgets.explore(str, object={"a": "b", "b": "a"}, first={"object": "b"})
    assert swapped.selectors["object"].index == 1
    arrays = {"zero": np.zeros(3), "one": np.ones(3)}
    explorer = widgets.explore(str, object=arrays, first={"object": arrays["one"]})
    assert explorer.selectors["object"].index == 1
    assert widgets.explore(str, object=arrays).selectors["object"].index == 0


def test_receptive_field_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    widgets.receptive_field(layers=(1, 2), kernels=(3,), strides=(1,))
    assert torch.rand(1) == expected


# Networks that a page computes; tests/book/test_widgets_page.py compares what it computes.


def noise(channels=1, side=12, classes=("a", "b", "</script>")):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (9, channels, side, side), dtype=torch.uint8)
    labels = torch.arange(9) % len(classes)
    return data.Dataset("noise", images, labels, classes, [0.5] * channels, [0.3] * channels)


def exported(net, images) -> list[dict]:
    return widgets.live_network(mine=(net, images)).content["networks"][0]["steps"]


def test_a_live_network_is_followed_through_modules_and_functions():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU())
            self.conv2 = nn.Conv2d(4, 6, 3, bias=False)
            self.norm = nn.BatchNorm2d(6)
            self.drop = nn.Dropout()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            x = torch.max_pool2d(self.block(x), 2)
            x = torch.tanh(self.norm(self.conv2(x)))
            x = nn.functional.adaptive_avg_pool2d(self.drop(x), output_size=1)
            return self.fc(x.view(len(x), -1))

    net = Net()
    net.norm.running_var.fill_(4)
    steps = exported(net, noise())
    assert [(s["kind"], s["name"], s["activation"], s["shape"]) for s in steps] == [
        ("conv", "block", "relu", (4, 12, 12)),
        ("max", "max_pool2d", "none", (4, 6, 6)),
        ("conv", "conv2", "tanh", (6, 4, 4)),
        ("avg", "adaptive_avg_pool2d", "none", (6, 1, 1)),
        ("linear", "fc", "none", (3, 1, 1)),
    ]
    assert net.training
    weights = [np.frombuffer(base64.b64decode(s["weight"]), "<f4") for s in steps if "weight" in s]
    assert weights[0].tolist() == net.block[0].weight.flatten().tolist()
    # Batch normalization, which divides by two, is part of the kernel.
    expected = net.conv2.weight.flatten() / (4 + net.norm.eps) ** 0.5
    assert weights[1] == pytest.approx(expected.detach().numpy())


def test_a_live_network_shows_what_its_surroundings_can_show(monkeypatch):
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    live = widgets.live_network(mine=(net, noise()))
    assert repr(live) == "<LiveNetwork mine: 1>"
    monkeypatch.setenv("CNNBOOK_BOOK", "1")
    bundle, _ = live._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "<svg" in bundle["text/html"]
    # The name of a class does not end the script.
    assert bundle["text/html"].count("</script>") == 2
    monkeypatch.delenv("CNNBOOK_BOOK")
    bundle, _ = live._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain", "image/png"}
    assert f'<img src="data:image/png;base64,{bundle["image/png"]}"' in bundle["text/html"]


class Added(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(144, 3)

    def forward(self, x):
        return self.fc((x + self.conv(x)).flatten(1))


class Aside(Added):
    def forward(self, x):
        self.conv(x)
        return self.fc(x.flatten(1))


def flat(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Added(), "this network calls 'add'"),
        (Aside(), "this network is no chain"),
        (flat(nn.Linear(144, 3), nn.GELU()), "this network calls 'gelu'"),
        (flat(nn.Linear(144, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Linear(9, 3)), "normalizes"),
        (nn.Sequential(nn.MaxPool2d(5, ceil_mode=True), flat(nn.Linear(9, 3))), "ceil_mode"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(5), flat(nn.Linear(25, 3))), "unequal windows"),
        (flat(nn.Linear(144, 4)), r"each of 3 classes, got \(3, 4\) for 3 images"),
        (flat(nn.Linear(144, 2000), nn.Linear(2000, 3)), "more than the 1 MB"),
        (
            nn.Sequential(
                nn.Conv2d(1, 3000, 7, padding=3), nn.MaxPool2d(12), flat(nn.Linear(3000, 3))
            ),
            "multiply–adds for an image",
        ),
    ],
)
def test_networks_that_a_page_cannot_compute_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        widgets.live_network(mine=(net, noise()))


def test_live_networks_need_pairs_and_pictures():
    with pytest.raises(ValueError, match="give a network"):
        widgets.live_network()
    with pytest.raises(TypeError, match=r"mine must be a pair \(network, data.Dataset\)"):
        widgets.live_network(mine=nn.Flatten())
    with pytest.raises(ValueError, match="got 2 channels and 3 classes"):
        widgets.live_network(mine=(flat(nn.Linear(288, 3)), noise(channels=2)))


NET, PICTURE = nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 8, 8)
TAKES = {
    "explore: function": ("draw", lambda x: widgets.explore(x, a=[1, 2])),
    "explore: values": ("a", lambda x: widgets.explore(say, a=x)),
    "feature_maps: network": ("model", lambda x: widgets.feature_maps(x, PICTURE)),
    "feature_maps: images": ("images", lambda x: widgets.feature_maps(NET, x)),
    "feature_maps: channels": (
        "channels",
        lambda x: widgets.feature_maps(NET, PICTURE, channels=x),
    ),
    "architecture: network": ("model", lambda x: widgets.architecture(x, PICTURE)),
    "architecture: image": ("image", lambda x: widgets.architecture(NET, x)),
    "augmentation: transforms": ("transforms", lambda x: widgets.augmentation(None, x)),
    "filters: kernels": ("kernels", lambda x: widgets.filters(None, x)),
    "convolution: kernels": ("kernels", lambda x: widgets.convolution(None, x)),
    "stacking": ("stacks", widgets.stacking),
    "live_network": ("net", lambda x: widgets.live_network(net=x)),
}
PICTURES = {
    "augmentation": widgets.augmentation,
    "convolution": widgets.convolution,
    "filters": widgets.filters,
    "receptive_field": widgets.receptive_field,
}


@pytest.mark.parametrize("given", ["text", None, 7.5], ids=repr)
@pytest.mark.parametrize("name", TAKES)
def test_a_wrong_type_is_named_beside_what_is_needed(name, given):
    argument, call = TAKES[name]
    with pytest.raises(
        TypeError, match=rf"^{argument} must be .*, got (a )?({given!r}|str$|float$)"
    ):
        call(given)


@pytest.mark.parametrize("given", ["text", 7, [1]], ids=repr)
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_a_tensor(name, given):
    with pytest.raises(TypeError, match=r"^picture must be a torch tensor, got"):
        PICTURES[name](given)
