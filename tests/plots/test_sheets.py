"""A network as overlapping sheets: what is drawn, at which scale, and what is refused."""

import pytest
import torch
from matplotlib.patches import Polygon, Rectangle
from matplotlib.text import Text

from cnnbook import analysis, models, plots

NAMES = [f"kind {i}" for i in range(10)]


@pytest.fixture(scope="module")
def seen():
    torch.manual_seed(0)
    return analysis.activations(models.lenet5(), torch.randn(2, 1, 32, 32))


def test_every_map_is_a_sheet_at_one_scale(seen):
    figure = plots.sheets(seen, windows={"c1": 5, "s2": 2}, classes=NAMES, index=1)
    (axes,) = figure.figure.axes
    pictures = axes.get_images()
    assert len(pictures) == 1 + 6 + 6 + 16 + 16 + 3
    sides = [im.get_extent()[1] - im.get_extent()[0] for im in pictures[:-3]]
    pixel = sides[0] / 32
    expected = [32] + [28] * 6 + [14] * 6 + [10] * 16 + [5] * 16
    assert sides == pytest.approx([pixel * n for n in expected])
    for number, picture in enumerate(pictures[1:7]):
        assert torch.equal(torch.as_tensor(picture.get_array().data), seen["c1"][1, number])
    assert torch.equal(torch.as_tensor(pictures[-1].get_array().data), seen["output"][1][:, None])
    assert sum(type(patch) is Polygon for patch in axes.patches) == 2
    windows = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_zorder() == 99]
    assert [w.get_width() / pixel for w in windows] == pytest.approx([5, 2])


def test_sheets_keep_within_the_figure_and_text_is_readable(seen):
    figure = plots.sheets(
        seen, titles={"c1": "C1\n6@28×28"}, steps={"output": "linear"}, classes=NAMES
    ).figure
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.02
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert {"C1\n6@28×28", "linear", *NAMES} <= {text.get_text() for text in texts}
    assert min(text.get_fontsize() for text in texts) >= 9


def test_unknown_layers_and_other_classes_are_named(seen):
    with pytest.raises(ValueError, match="unknown layer 'c9'"):
        plots.sheets(seen, titles={"c9": "C9"})
    with pytest.raises(ValueError, match="3 classes do not fit the last layer, 'output': 10"):
        plots.sheets(seen, classes=NAMES[:3])
