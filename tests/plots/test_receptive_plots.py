import pytest
import torch
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from torch import nn

from cnnbook import plots
from cnnbook.analysis import EffectiveReceptiveField, ReceptiveField, receptive_field
from cnnbook.tables import Table


def field(size, *, side=20, start=0, jump=1, positions=9):
    pair = [(n, n) for n in (size, jump, start, positions, side)]
    return ReceptiveField(f"size {size}", *pair)


def effective(effect, unit=(4, 4)):
    return EffectiveReceptiveField("conv", unit, effect)


EFFECT = torch.zeros(20, 20)
EFFECT[6:14, 2:10] = 1

TABLE = Table(
    [
        {"layer": "conv", "parameters": 1500, "macs": 3_000_000},
        {"layer": "bn", "parameters": 500, "macs": 0},
        {"layer": "fc", "parameters": 998_000, "macs": 1_000_000},
    ]
)

FIGURES = {
    "fields": lambda: plots.receptive_fields(
        torch.rand(3, 20, 20), [field(3), field(12, start=-2)]
    ),
    "fields beyond a gray image": lambda: plots.receptive_fields(
        torch.randint(0, 256, (1, 20, 20)).byte(), [field(90, start=-35)]
    ),
    "effect": lambda: plots.effective_receptive_field(effective(EFFECT)),
    "effect on an image": lambda: plots.effective_receptive_field(
        effective(EFFECT), torch.rand(1, 20, 20), field(12)
    ),
    "costs": lambda: plots.layer_costs(TABLE),
    "many costs": lambda: plots.layer_costs(
        Table([{**TABLE[0], "layer": f"features.block{i}.conv"} for i in range(40)])
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_and_text_is_readable(name):
    finished = FIGURES[name]()
    figure = finished.figure
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.02
    texts = [t for t in figure.findobj(Text) if t.get_text()]
    assert texts
    assert min(text.get_fontsize() for text in texts) >= 9
    assert finished.svg().startswith("<div" if finished.stacks else "<svg")


def rectangles(figure):
    return [
        (p.get_x(), p.get_y(), p.get_width(), p.get_height())
        for p in figure.axes[0].patches
        if isinstance(p, Rectangle)
    ]


def test_boxes_lie_on_the_pixels_the_units_see():
    figure = FIGURES["fields"]()
    found = rectangles(figure)
    assert found.count((4, 4, 3, 3)) == 2  # unit 4 of 9: pixels 4 … 6; inside and outside
    assert found.count((2, 2, 12, 12)) == 2
    corner = plots.receptive_fields(torch.rand(3, 20, 20), [field(3)], unit=(0, 1))
    assert (8, 0, 3, 3) in rectangles(corner)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["size 12", "12 pixels", "size 3", "3 pixels"]
    assert "size 3 3×3, size 12 12×12" in figure.alt


@pytest.mark.slow
def test_square_stands_around_the_effect():
    found = effective(EFFECT, unit=(1, 2))
    figure = plots.effective_receptive_field(found, torch.rand(1, 20, 20), field(12))
    effect, theory = rectangles(figure)
    # 62 of 64 equal pixels hold 95.45 %; their middle is the pixel border (10, 6).
    assert effect == pytest.approx((6 - 62**0.5 / 2, 10 - 62**0.5 / 2, 62**0.5, 62**0.5))
    assert theory == (2, 1, 12, 12)
    assert "square of 8×8 pixels" in figure.alt
    assert "theoretical field has 12×12" in figure.alt


def test_image_shines_through_where_there_is_no_effect():
    image = torch.full((1, 20, 20), 0.5)
    shown = plots.effective_receptive_field(effective(EFFECT), image).axes[0].images[0].get_array()
    assert shown[0, 0].tolist() == pytest.approx([0.5] * 3)
    assert shown[10, 5].tolist() != pytest.approx([0.5] * 3, abs=0.1)


def test_bars_have_the_tables_numbers():
    figure = FIGURES["costs"]()
    parameters, macs = figure.axes
    assert [bar.get_width() for bar in parameters.patches] == [1.5, 0.5, 998]
    assert [bar.get_width() for bar in macs.patches] == [3, 0, 1]
    assert [t.get_text() for t in macs.texts] == ["3 M  75%", "0", "1 M  25%"]
    assert [t.get_text() for t in parameters.texts] == ["1.5 k  <1%", "500  <1%", "998 k  100%"]
    assert parameters.get_xlabel() == "parameters (thousands)"
    assert "most parameters are in fc, 100%" in figure.alt
    assert "most MACs are in conv, 75%" in figure.alt


@pytest.mark.slow
def test_results_draw_themselves():
    image = torch.rand(1, 20, 20)
    assert (
        field(3).plot(image, unit=(0, 1)).svg()
        == plots.receptive_fields(image, [field(3)], unit=(0, 1)).svg()
    )
    found = effective(EFFECT)
    drawn = found.plot(image, field(12), alt="Effect.")
    assert (
        drawn.svg() == plots.effective_receptive_field(found, image, field(12), alt="Effect.").svg()
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.receptive_fields(torch.rand(8, 8), [field(3)]), r"got \(8, 8\)"),
        (lambda: plots.receptive_fields(torch.rand(3, 8, 8), []), "no receptive fields"),
        (
            lambda: plots.receptive_fields(torch.rand(3, 8, 8), [field(3)]),
            r"'size 3' is for images of \(20, 20\), not of \(8, 8\)",
        ),
        (lambda: effective(torch.zeros(8, 8)).plot(), "zero everywhere"),
        (
            lambda: effective(torch.ones(8, 8)).plot(torch.rand(1, 9, 8)),
            r"one size, got \(9, 8\) and \(8, 8\)",
        ),
        (lambda: effective(torch.ones(8, 8)).plot(field=field(3)), "for images"),
        (lambda: plots.layer_costs(Table([])), "no layers"),
        (lambda: plots.layer_costs(Table([{"layer": 1}])), "unknown column 'parameters'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_layers_without_cost_are_left_out():
    free = {"layer": "relu", "parameters": 0, "macs": 0}
    panels = plots.layer_costs(Table([TABLE[0], free, TABLE[1]])).axes
    assert [len(axes.patches) for axes in panels] == [2, 2]
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == ["conv", "bn"]
    assert len(plots.layer_costs(Table([free])).axes[0].patches) == 1


def test_uneven_units_are_drawn_with_their_own_boxes():
    # Pooling 10 pixels to 4 positions: windows of 3, from 0, 2, 5 and 7; 6 to 4 columns: of 2.
    net = nn.Sequential(nn.AdaptiveAvgPool2d((4, 4)), nn.Conv2d(1, 1, (2, 1)))
    found = receptive_field(net, (1, 10, 6), "1")
    assert [found.box(i, 0)[0] for i in range(3)] == [(0, 5), (2, 8), (5, 10)]
    image = torch.rand(1, 10, 6)
    for unit, row, box in [(0, 0, (0, 0, 2, 5)), (0.5, 1, (0, 2, 2, 6)), (1, 2, (0, 5, 2, 5))]:
        figure = plots.receptive_fields(image, found, unit=(unit, 0))
        assert rectangles(figure).count(box) == 2
        assert f"{box[3]}×2." in figure.alt
        assert f"{box[3]}×2 pixels" in [text.get_text() for text in figure.axes[0].texts]
        effect = torch.zeros(10, 6)
        effect[box[1], box[0]] = 1
        seen = plots.effective_receptive_field(effective(effect, (row, 0)), field=found)
        assert box in rectangles(seen)
        assert f"theoretical field has {box[3]}×2." in seen.alt


def test_a_unit_is_given_by_fractions():
    with pytest.raises(ValueError, match=r"unit must be two fractions .* got \(1, 3\)"):
        plots.receptive_fields(torch.rand(3, 20, 20), [field(3)], unit=(1, 3))
