"""Every figure refuses what it cannot draw: in a sentence that says what it takes and what came."""

import pytest
import torch
from torch import nn

from cnnbook import analysis, plots

IMAGE = torch.zeros(3, 8, 8)
ON_AXES = {"xlabel": "x", "ylabel": "y"}

# What a figure is made from, and a call with that left open.
TAKES = {
    "Figure": ("figure", lambda x: plots.Figure(x, "alt")),
    "activation_statistics": ("table", plots.activation_statistics),
    "activations": ("maps", lambda x: plots.activations(x, IMAGE)),
    "architecture": ("model", lambda x: plots.architecture(x, (3, 8, 8))),
    "attribution": ("maps", lambda x: plots.attribution(x, IMAGE)),
    "bars": ("labels", lambda x: plots.bars(x, torch.ones(4), xlabel="x")),
    "confusion_matrix": ("matrix", plots.confusion_matrix),
    "curves": ("runs", plots.curves),
    "effective_receptive_field": ("found", plots.effective_receptive_field),
    "feature_maps": ("maps", plots.feature_maps),
    "filters": ("weight", plots.filters),
    "flowchart": ("model", lambda x: plots.flowchart(x, (3, 8, 8))),
    "gradient_flow": ("table", plots.gradient_flow),
    "gradient_history": ("table", plots.gradient_history),
    "heads": ("modules", lambda x: plots.heads(x, (3, 8, 8))),
    "images": ("pictures", plots.images),
    "kernel_factors": ("factors", plots.kernel_factors),
    "layer_costs": ("table", plots.layer_costs),
    "linear_probes": ("table", plots.linear_probes),
    "lines": ("ys", lambda x: plots.lines(IMAGE, x, **ON_AXES, alt="alt")),
    "loss_surface": ("surfaces", plots.loss_surface),
    "maximized_units": ("found", plots.maximized_units),
    "receptive_fields": ("fields", lambda x: plots.receptive_fields(IMAGE, x)),
    "residual_block": ("model", lambda x: plots.residual_block(x, (3, 8, 8))),
    "sheets": ("seen", plots.sheets),
    "sweep": ("values", lambda x: plots.sweep([1, 2], x, **ON_AXES)),
    "top_patches": ("found", plots.top_patches),
    "towers": ("model", lambda x: plots.towers(x, (3, 8, 8))),
}
# The same for what is inside of that, or beside it.
PARTS = {
    "a history": (r"runs\['net'\]", lambda x: plots.curves({"net": x})),
    "one of several histories": (r"runs\['net'\]", lambda x: plots.curves({"net": [x]})),
    "one of several surfaces": (r"surfaces\['net'\]", lambda x: plots.loss_surface({"net": x})),
    "one of several heads": (r"modules\['GAP'\]", lambda x: plots.heads({"GAP": x}, (3, 8, 8))),
    "one of several networks": ("model", lambda x: plots.flowchart({"net": x}, (3, 8, 8))),
    "one of several tables": ("table", lambda x: plots.linear_probes({"net": x})),
    "one of several fields": ("field", lambda x: plots.receptive_fields(IMAGE, [x])),
    "shape of feature maps": ("input_shape", lambda x: plots.heads({}, x)),
    "abscissas": ("x", lambda x: plots.sweep(x, {}, **ON_AXES)),
    "text alternative": ("alt", lambda x: plots.Figure(plots.bars(
        ["a"], torch.ones(1), xlabel="x").figure, x)),
}  # fmt: skip


def test_every_figure_is_tried():
    assert list(TAKES) == plots.__all__


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (name, given)
        for name in (*TAKES, *PARTS)
        for given in ("text", None, 7)
        if not (name == "text alternative" and given == "text")  # that is what it takes
    ],
)
def test_a_wrong_type_is_named_beside_what_is_needed(name, given):
    argument, call = (TAKES | PARTS)[name]
    with pytest.raises(TypeError, match=rf"^{argument} must be .*, got ") as caught:
        call(given)
    words = str(caught.value)
    assert any(shown in words for shown in (repr(given), type(given).__name__, "others")), words


NET = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))
X = torch.rand(2, 1, 8, 8)
GRID = torch.linspace(-1, 1, 5)
BOWL = analysis.LossSurface(GRID, GRID, torch.ones(5, 5))
BAR = plots.bars(["a"], torch.ones(1), xlabel="x")


@pytest.fixture(scope="module")
def seen():
    return analysis.activations(NET, X)


@pytest.fixture(scope="module")
def field():
    return analysis.receptive_field(NET, (1, 8, 8), "0")


# How it is drawn: the argument, and a call with that left open.
NUMBERS = {
    "images": ("columns", lambda x, _: plots.images(X, columns=x)),
    "filters": ("columns", lambda x, _: plots.filters(NET[0].weight, columns=x)),
    "filters, limit": ("limit", lambda x, _: plots.filters(NET[0].weight, limit=x)),
    "feature_maps": ("limit", lambda x, _: plots.feature_maps(X[:, 0], limit=x)),
    "activations": ("rows", lambda x, seen: plots.activations(seen, rows=x)),
    "activations, index": ("index", lambda x, seen: plots.activations(seen, index=x)),
    "sheets": ("index", lambda x, seen: plots.sheets(seen, index=x)),
    "architecture": ("depth", lambda x, _: plots.architecture(NET, (1, 8, 8), depth=x)),
    "flowchart": ("columns", lambda x, _: plots.flowchart(NET, (1, 8, 8), columns=x)),
    "loss_surface": ("levels", lambda x, _: plots.loss_surface(BOWL, levels=x)),
    "loss_surface, highest": ("highest", lambda x, _: plots.loss_surface(BOWL, highest=x)),
    "lines": (
        "height",
        lambda x, _: plots.lines(GRID, {"a": GRID}, **ON_AXES, alt="a", height=x),
    ),
    "png": ("dpi", lambda x, _: BAR.png(dpi=x)),
}
LISTS = {
    "images": ("titles", lambda x, _: plots.images(X, x)),
    "attribution": ("titles", lambda x, _: plots.attribution(X[:, 0], X, x)),
    "activations": ("titles", lambda x, seen: plots.activations(seen, titles=x)),
    "sheets": ("titles", lambda x, seen: plots.sheets(seen, titles=x)),
    "sheets, steps": ("steps", lambda x, seen: plots.sheets(seen, steps=x)),
    "sheets, windows": ("windows", lambda x, seen: plots.sheets(seen, windows=x)),
    "sheets, classes": ("classes", lambda x, seen: plots.sheets(seen, classes=x)),
    "confusion_matrix": ("classes", lambda x, _: plots.confusion_matrix(torch.ones(2, 2), x)),
    "sweep": (r"values\['a'\]", lambda x, _: plots.sweep([1, 2], {"a": x}, **ON_AXES)),
    "sweep, entry": (
        r"an entry of values\['a'\]",
        lambda x, _: plots.sweep([1], {"a": [x]}, **ON_AXES),
    ),
}


@pytest.mark.parametrize("given", ["text", [1.5]], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_a_number(name, given, seen):
    argument, call = NUMBERS[name]
    with pytest.raises(TypeError, match=rf"^{argument} must be .*, got "):
        call(given, seen)


@pytest.mark.parametrize("given", ["text", 7.5], ids=repr)
@pytest.mark.parametrize("name", LISTS)
def test_several_are_a_list_or_a_mapping(name, given, seen):
    argument, call = LISTS[name]
    with pytest.raises(TypeError, match=rf"^{argument} must be a .*, got {given!r}"):
        call(given, seen)


@pytest.mark.parametrize(
    ("unit", "kind"), [("text", TypeError), (7.5, TypeError), ([0.5], ValueError),
                       ((0.5, "a"), ValueError), ((0.5, 2), ValueError)]
)  # fmt: skip
def test_the_unit_of_a_receptive_field_is_two_fractions(unit, kind, field):
    with pytest.raises(kind, match=r"^unit must be two fractions from 0 to 1 .*, got "):
        plots.receptive_fields(X[0], field, unit=unit)
