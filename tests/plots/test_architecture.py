import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
import torchvision
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from matplotlib.text import Text
from torch import nn

from cnnbook import analysis, models, plots
from cnnbook.plots.style import WIDTH


def meta(make, *args, **options):
    with torch.device("meta"):
        return make(*args, **options)


def ours(name):
    return meta(models.create, name)


def theirs(name):
    return meta(getattr(torchvision.models, name))


DRAWINGS = {
    "lenet5": lambda: plots.architecture(models.lenet5(), (1, 32, 32)),
    "alexnet": lambda: plots.architecture(ours("alexnet"), (3, 227, 227)),
    "vgg16": lambda: plots.architecture(ours("vgg16"), (3, 224, 224)),
    "googlenet": lambda: plots.architecture(ours("googlenet"), (3, 224, 224)),
    "inception": lambda: plots.architecture(ours("googlenet").inception3a, (192, 28, 28)),
    "inception 2": lambda: plots.architecture(
        ours("googlenet").inception3a, (192, 28, 28), depth=2
    ),
    "resnet50, blocks": lambda: plots.architecture(ours("resnet50"), (3, 224, 224), depth=2),
    "resnet18, layers": lambda: plots.architecture(ours("resnet18"), (3, 224, 224), depth=3),
    "projection": lambda: plots.architecture(ours("resnet18").conv3_x[0], (64, 56, 56)),
    "bottleneck": lambda: plots.architecture(theirs("resnet50").layer2[1], (512, 28, 28)),
    "mobilenet": lambda: plots.architecture(theirs("mobilenet_v3_small"), (3, 224, 224), depth=2),
    "densenet": lambda: plots.architecture(theirs("densenet121"), (3, 224, 224), depth=2),
    "dense block": lambda: plots.architecture(
        theirs("densenet121").features.denseblock1, (64, 56, 56)
    ),
    "gate": lambda: plots.architecture(
        theirs("mobilenet_v3_small").features[4], (24, 28, 28), depth=3
    ),
    "convnext block": lambda: plots.architecture(
        theirs("convnext_tiny").features[1][0], (96, 56, 56), depth=2
    ),
    "vectors": lambda: plots.architecture(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), (4,)),
    "one layer": lambda: plots.architecture(nn.Conv2d(3, 8, 3), (3, 9, 9)),
}


@pytest.fixture(params=DRAWINGS, scope="module")
def drawing(request):
    finished = DRAWINGS[request.param]()
    finished.figure.canvas.draw()
    return finished


def of_kind(drawing, kind):
    return [patch for patch in drawing.axes[0].patches if type(patch) is kind]


def texts(drawing):
    return [t for t in drawing.figure.findobj(Text) if t.get_text()]


@pytest.mark.slow
def test_fits_the_page_and_can_be_read(drawing):
    width, height = drawing.figure.get_size_inches()
    assert width <= WIDTH
    scale = drawing.figure.dpi_scale_trans.inverted()
    boxes = [t.get_window_extent().transformed(scale) for t in texts(drawing)]
    for box, text in zip(boxes, texts(drawing), strict=True):
        assert text.get_fontsize() >= 9
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01, text.get_text()
    for (a, one), (b, other) in combinations(zip(boxes, texts(drawing), strict=True), 2):
        # Boxes of text reach a little beyond the letters.
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 0.01 or high < 0.03, (one.get_text(), other.get_text())


@pytest.mark.slow
def test_arrows_pass_no_block_and_no_name(drawing):
    faces = [patch.get_path() for patch in of_kind(drawing, Polygon)]
    scale = drawing.axes[0].transData.inverted()
    labels = [t.get_window_extent().transformed(scale) for t in texts(drawing) if t.get_size() < 10]
    for arrow in of_kind(drawing, FancyArrowPatch):
        corners = arrow._path_original.vertices
        steps = [
            a + (b - a) * share for a, b in pairwise(corners) for share in np.linspace(0, 1, 50)
        ]
        way = [p for p in steps if min(math.dist(p, e) for e in (corners[0], corners[-1])) > 0.02]
        for face in faces:
            assert not face.contains_points(way).any()
        for box in labels:
            assert not any(
                box.x0 < x < box.x1 and box.y0 + 0.02 < y < box.y1 - 0.02 for x, y in way
            )


@pytest.mark.slow
def test_has_a_text_alternative_and_looks_the_same_every_time(drawing, request):
    assert drawing.alt.startswith("Drawing of ")
    again = DRAWINGS[request.node.callspec.params["drawing"]]()
    assert drawing.svg() == again.svg()


def arrows(drawing):
    """Return where arrows start and end."""
    return [
        (tuple(a._path_original.vertices[0]), tuple(a._path_original.vertices[-1]))
        for a in of_kind(drawing, FancyArrowPatch)
    ]


def test_branches_start_at_the_input_and_end_at_the_concatenation():
    found = arrows(DRAWINGS["inception"]())
    starts, ends = ([way[side] for way in found] for side in (0, 1))
    assert len(found) == 8
    assert sorted(map(starts.count, set(starts))) == [1, 1, 1, 1, 4]
    assert sorted(map(ends.count, set(ends))) == [1, 1, 1, 1, 4]
    alt = DRAWINGS["inception"]().alt
    assert "concat of branch1 and branch3 and branch5 and branch_pool 256×28×28" in alt


def test_shortcut_passes_over_the_block_into_the_addition():
    finished = DRAWINGS["bottleneck"]()
    (circle,) = of_kind(finished, Circle)
    x, y = circle.center
    ends = [end for _, end in arrows(finished)]
    assert ends.count((x, y + circle.radius)) == 1  # from above
    assert (x - circle.radius, y) in [(pytest.approx(a), pytest.approx(b)) for a, b in ends]
    assert len(ends) == 5
    assert "addition of conv3 and input 512×28×28" in finished.alt


def test_boxes_are_to_scale():
    net = nn.Sequential(nn.Conv2d(4, 16, 1), nn.MaxPool2d(4), nn.Conv2d(16, 64, 1))
    fronts = [
        patch.get_xy()
        for patch in of_kind(plots.architecture(net, (4, 32, 64)), Polygon)
        if patch.get_facecolor()[3] == 0  # outlines, not fillings
    ][::3]
    sizes = [np.ptp(front, axis=0) for front in fronts]
    thickness, height = np.array(sizes).T
    assert thickness / thickness[0] == pytest.approx([1, 2, 2, 4])
    assert height / height[0] == pytest.approx([1, 1, 0.5, 0.5])


def label(drawing):
    return [text.get_text() for text in texts(drawing)]


@pytest.mark.slow
def test_labels():
    found = label(DRAWINGS["lenet5"]())
    assert found[:5] == ["input", "1×32×32", "c1", "conv 5×5", "6×28×28"]
    assert {"s2", "pool 2×2 /2", "f6", "84", "convolution", "pooling", "fully connected"} <= set(
        found
    )
    assert "other" not in found
    vgg = label(DRAWINGS["vgg16"]())
    assert vgg[vgg.index("block3") :][:4] == ["block3", "3 conv 3×3", "pool 2×2 /2", "256×28×28"]


def fronts(drawing):
    """Return lower left and upper right corners of the boxes' front sides."""
    outlines = [p.get_xy() for p in of_kind(drawing, Polygon) if p.get_facecolor()[3] == 0]
    return [
        (tuple(xy[0]), tuple(xy[2]))
        for xy in outlines
        if xy[0][1] == xy[1][1] and xy[1][0] == xy[2][0]
    ]


def test_vgg_is_drawn_layer_by_layer_in_one_row():
    finished, net = DRAWINGS["vgg16"](), ours("vgg16")
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.Linear)]
    heights = [high[1] - low[1] for low, high in fronts(finished)]
    assert len(heights) == 1 + len(layers) == 1 + 13 + 5 + 3
    sides = [224]
    for module in layers[:-3]:
        sides.append(sides[-1] // 2 if isinstance(module, nn.MaxPool2d) else sides[-1])
    wanted = [math.sqrt(side / 224) for side in sides]
    assert [h / heights[0] for h in heights[:-3]] == pytest.approx(wanted)
    ends = arrows(finished)
    assert len(ends) == 8
    assert len({round(y, 6) for way in ends for _, y in way}) == 1


def test_activations_and_flattening_belong_to_the_layer_before():
    conv, relu, norm = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)
    net = nn.Sequential(conv, norm, relu, nn.Flatten(), nn.Linear(144, 2))
    assert plots.architecture(net, (1, 8, 8)).alt == (
        "Drawing of Sequential, boxes to scale: input 1×8×8, 0 4×6×6, 4 2."
    )


def test_an_activation_that_only_one_path_takes_is_drawn():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.second = nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            x = self.first(x)
            return x + self.second(self.act(x))

    alt = plots.architecture(Block(), (2, 4, 4)).alt
    assert "first 2×4×4, act 2×4×4, second 2×4×4, addition of first and second 2×4×4" in alt


@pytest.mark.slow
def test_equal_blocks_of_long_networks_are_drawn_as_one():
    alt = DRAWINGS["resnet50, blocks"]().alt
    assert "conv4_x.0 1024×14×14, 5 blocks conv4_x.1–5 1024×14×14, conv5_x.0" in alt
    assert "(5 equal)" in label(DRAWINGS["resnet50, blocks"]())
    # Same shape and class, other widths inside.
    assert "inception4b 512×14×14, inception4c 512×14×14" in DRAWINGS["googlenet"]().alt


def test_channels_are_found_where_they_are():
    # Inside a ConvNeXt block they are the last dimension.
    finished = DRAWINGS["convnext block"]()
    assert "block.3 56×56×384" in finished.alt
    fronts = [p.get_xy() for p in of_kind(finished, Polygon) if p.get_facecolor()[3] == 0][::3]
    widths = [np.ptp(front, axis=0)[0] for front in fronts]
    assert widths[2] / widths[0] == pytest.approx(2)  # 384 and 96 channels


def test_errors():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(1, 3)

    with pytest.raises(ValueError, match="nothing in Constant depends on its input"):
        plots.architecture(Constant(), (3, 8, 8))
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        plots.architecture(models.lenet5(), (1, 32, 32), depth=0)
    with pytest.raises(ValueError, match="input_shape must be"):
        plots.architecture(models.lenet5(), ())
    with pytest.raises(TypeError, match="input_shape is missing"):
        plots.architecture(models.lenet5())
    found = analysis.trace(models.lenet5(), (1, 32, 32))
    with pytest.raises(TypeError, match="pass the trace alone"):
        plots.architecture(found, (1, 32, 32))
