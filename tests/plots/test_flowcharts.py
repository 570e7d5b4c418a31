import re
from collections import Counter
from itertools import combinations

import pytest
import torch
import torchvision
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text
from torch import nn

from cnnbook import analysis, models, plots
from cnnbook.models.resnet import BasicBlock, Bottleneck
from cnnbook.plots.style import COLORS, WIDTH

PHOTO = (3, 224, 224)


def meta(make, *args, **options):
    with torch.device("meta"):
        return make(*args, **options)


def googlenet(**options):
    return meta(models.create, "googlenet", **options)


def heads_of_googlenet():
    found = {}
    for title, head in (("average", "gap"), ("flatten", "fc")):
        net = googlenet(head=head)
        found[title] = nn.Sequential(net.head, net.output)
    return found


def blocks():
    return {
        "identity block": meta(BasicBlock, 64, 64, 1, "B", "v1"),
        "convolution block": meta(BasicBlock, 64, 128, 2, "B", "v1"),
    }


DRAWINGS = {
    "googlenet": lambda: plots.flowchart(googlenet(), PHOTO, columns=2, training=True),
    "resnet34": lambda: plots.flowchart(meta(models.ResNet, 34), PHOTO, columns=4),
    "resnet20": lambda: plots.flowchart(meta(models.ResNet, 20), (3, 32, 32), columns=3),
    "vgg16": lambda: plots.flowchart(meta(models.create, "vgg16"), PHOTO, columns=3),
    "theirs": lambda: plots.flowchart(meta(torchvision.models.resnet18), PHOTO, columns=3),
    "inception": lambda: plots.flowchart(googlenet().inception3a, (192, 28, 28)),
    "block": lambda: plots.residual_block(meta(models.ResNet, 34).conv3_x[1], (128, 28, 28)),
    "blocks": lambda: plots.residual_block(blocks(), (64, 56, 56)),
    "bottleneck": lambda: plots.residual_block(
        {
            "two 3×3": meta(BasicBlock, 256, 256, 1, "B", "v1"),
            "bottleneck": meta(Bottleneck, 256, 64, 1, "B", "v1"),
        },
        (256, 28, 28),
    ),
    "heads": lambda: plots.heads(heads_of_googlenet(), (1024, 7, 7)),
    "towers": lambda: plots.towers(meta(models.create, "alexnet"), (3, 227, 227)),
    "two devices": lambda: plots.towers(
        models.AlexNetTwoDevices(devices=("meta", "meta")), (3, 227, 227)
    ),
    "upright towers": lambda: plots.Figure(DRAWINGS["towers"]().narrow, "towers, upright"),
}


@pytest.fixture(params=DRAWINGS, scope="module")
def drawing(request):
    finished = DRAWINGS[request.param]()
    finished.figure.canvas.draw()
    return finished


def texts(drawing):
    return [t.get_text() for t in drawing.figure.findobj(Text) if t.get_text()]


def patches(drawing, kind):
    return [p for axes in drawing.axes for p in axes.patches if type(p) is kind]


@pytest.mark.slow
def test_fits_the_page_and_can_be_read(drawing):
    assert drawing.figure.get_figwidth() <= WIDTH
    scale = drawing.figure.dpi_scale_trans.inverted()
    for axes in drawing.axes:
        found = [t for t in axes.texts if t.get_text()]
        inside = axes.get_window_extent().transformed(scale)
        boxes = [t.get_window_extent().transformed(scale) for t in found]
        for box, text in zip(boxes, found, strict=True):
            assert text.get_fontsize() >= 9
            assert box.x0 > inside.x0 - 0.01, text.get_text()
            assert box.x1 < inside.x1 + 0.01, text.get_text()
            assert box.y0 > inside.y0 - 0.02, text.get_text()
            assert box.y1 < inside.y1 + 0.02, text.get_text()
        for (a, one), (b, other) in combinations(zip(boxes, found, strict=True), 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 0.01 or high < 0.03, (one.get_text(), other.get_text())


@pytest.mark.slow
def test_looks_the_same_every_time_and_has_unique_ids(drawing, request):
    text = drawing.svg()
    assert text == DRAWINGS[request.node.callspec.params["drawing"]]().svg()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_panels_stack_on_a_narrow_page():
    figure = DRAWINGS["blocks"]()
    text = figure.svg()
    assert text.count("<svg") == len(figure.axes) == 2
    assert text.count('role="img"') == 1
    assert "flex-wrap:wrap" in text
    widths = [int(w) for w in re.findall(r"width:(\d+)px", text)]
    # On a phone of 390 pixels, 350 of them beside the margins, text of 9 points has 11 pixels.
    assert max(widths) <= 350 * (9 / 72 * 96) / 11
    assert all(axes.get_visible() for axes in figure.axes)


def test_two_towers_stand_upright_on_a_narrow_page():
    figure = DRAWINGS["towers"]()
    text = figure.html()
    assert text.count("<svg") == 2
    wide, narrow = re.findall(r'<svg class="cnnbook-(?:wide|narrow)"[^>]*style="([^"]*)"', text)
    assert "display:block" in wide
    assert "display:none" in narrow  # until a style sheet knows that the page is narrow
    assert int(re.search(r"^width:(\d+)px", narrow)[1]) <= 350
    assert "min-width" not in narrow
    upright = plots.Figure(figure.narrow, "towers")
    each = [t for t in texts(upright) if t != "input"]
    assert Counter(t for t in each if "slant" not in t and "thick" not in t) == Counter(
        t for t in texts(figure) if t != "input" and "slant" not in t
    )
    arrows = patches(upright, FancyArrowPatch)
    crossing = [a for a in arrows if to_rgb(a.get_edgecolor()) == to_rgb(COLORS[1])]
    assert len(crossing) == 2 * 4
    assert len(arrows) == len(crossing) + 2 * 7
    assert all(a._path_original.vertices[-1][1] < a._path_original.vertices[0][1] for a in arrows)


def test_four_towers_are_too_wide_to_stand_beside_each_other():
    grouped = nn.Conv2d(128, 128, 3, groups=4)
    figure = plots.towers(nn.Sequential(nn.Conv2d(3, 128, 3), grouped, grouped), (3, 99, 99))
    assert figure.narrow is None
    assert figure.html().count("<svg") == 1


def label_of(conv, channels_only):
    k = conv.kernel_size[0]
    step = f", /{conv.stride[0]}" if conv.stride[0] > 1 else ""
    if channels_only:
        return f"{k}×{k} {conv.out_channels}"
    return f"{k}×{k} conv, {conv.out_channels}{step}"


def test_googlenet_has_every_layer_of_the_module():
    net, figure = googlenet(), DRAWINGS["googlenet"]()
    convs = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    wanted = Counter(
        label_of(m, channels_only=n.startswith(("inception", "aux"))) for n, m in convs.items()
    )
    found = Counter(t for t in texts(figure) if t in wanted)
    assert found == wanted
    assert sum(wanted.values()) == 57 + 2  # the main path, and one for each head
    modules = [n for n in net._modules if n.startswith("inception")]
    drawn = [t.split()[0] for t in texts(figure) if t.startswith("inception")]
    assert drawn == modules
    assert len(modules) == 9
    assert texts(figure).count("4a") == texts(figure).count("4d") == 1
    assert texts(figure).count("A") == 2  # where the first column ends and the second begins


def test_1x1_convolutions_have_a_color_of_their_own():
    net, figure = googlenet().inception3a, DRAWINGS["inception"]()
    ones = sum(m.kernel_size == (1, 1) for m in net.modules() if isinstance(m, nn.Conv2d))
    faces = [p.get_facecolor() for axes in figure.axes[:1] for p in axes.patches]
    assert sum(c[:3] == to_rgb(COLORS[3]) and c[3] > 0 for c in faces) == ones == 4
    assert sum(c[:3] == to_rgb(COLORS[0]) and c[3] > 0 for c in faces) == 2


def test_heads_run_only_in_training():
    text = plots.flowchart(googlenet(), PHOTO).alt
    assert "5×5 avg pool" not in text
    assert "5×5 avg pool, /3 of inception4a" in DRAWINGS["googlenet"]().alt
    net = googlenet().eval()
    names = [block.name for block in analysis.trace(net, PHOTO, training=True).blocks()]
    assert {"auxiliary_4a", "auxiliary_4d"} <= set(names)
    assert not any(module.training for module in net.modules())
    names = [block.name for block in analysis.trace(net.train(), PHOTO).blocks()]
    assert not {"auxiliary_4a", "auxiliary_4d"} & set(names)


def test_resnet34_has_16_shortcuts_of_which_three_are_dashed():
    figure = DRAWINGS["resnet34"]()
    joins = [t for t in texts(figure) if t == "+"]
    net = meta(models.ResNet, 34)
    projections = sum(
        isinstance(m.shortcut, nn.Sequential) for m in net.modules() if hasattr(m, "shortcut")
    )
    arrows = patches(figure, FancyArrowPatch)
    dashed = [a for a in arrows if a.get_linestyle() == "--"]
    assert len(joins) == sum(isinstance(m, BasicBlock) for m in net.modules()) == 16
    assert len(dashed) == projections == 3
    circles = [c.center for axes in figure.axes for c in axes.patches if isinstance(c, Circle)]
    assert len(circles) == 16 + 6  # and the letters at which columns continue
    assert texts(figure).count("3×3 conv, 512") == 5
    assert texts(figure).count("3×3 conv, 512, /2") == 1


def test_residual_block_is_labeled_as_in_the_paper():
    figure, block = DRAWINGS["block"](), meta(models.ResNet, 34).conv3_x[1]
    found = texts(figure)
    for text in ("$F(x)$", "$x$", "identity", "$H(x) = F(x) + x$", "+"):
        assert found.count(text) == 1, text
    assert found.count("weight layer") == found.count("ReLU") == 2
    assert found.count("3×3 conv, 128, batch norm") == 2
    count = sum(p.numel() for p in block.parameters())
    assert f"{count:,} parameters" in found
    macs = analysis.trace(block, (128, 28, 28)).calls[0].macs
    assert f"{macs:,} multiply–adds" in found
    # x to conv1, conv1 to conv2, conv2 to the sum, x to the sum, and out
    arrows = [a._path_original.vertices for a in patches(figure, FancyArrowPatch)]
    assert len(arrows) == 5
    (circle,) = patches(figure, Circle)
    x, y = circle.center
    assert sum(tuple(a[-1]) == (x + circle.radius, y) for a in arrows) == 1  # the shortcut


def test_a_projection_is_a_box_on_the_shortcut():
    found = texts(DRAWINGS["blocks"]())
    assert found.count("1×1 conv, 128, /2") == 1
    assert found.count("$H(x) = F(x) + W_s x$") == found.count("$H(x) = F(x) + x$") == 1
    assert found.count("identity") == 1
    assert found.count("128×28×28") == 4  # after three convolutions and the sum
    assert {"identity block", "convolution block"} <= set(found)


def test_a_block_with_functions_instead_of_layers():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

        def forward(self, x):
            return torch.relu(self.two(torch.relu(self.one(x))) + x)

    assert plots.residual_block(Block(), (4, 8, 8)).alt == (
        "Residual block Block: input 4×8×8; 3×3 conv, 4, ReLU; 3×3 conv, 4; addition of "
        "(3×3 conv, 4) and (input): 4×8×8, ReLU. 296 parameters, 18,432 multiply–adds."
    )


def test_heads_are_counted_from_the_modules():
    found = texts(DRAWINGS["heads"]())
    for module in heads_of_googlenet().values():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                assert f"{sum(p.numel() for p in layer.parameters()):,} parameters" in found
    assert {"1024×7×7", "1,024 mean values", "50,176 values", "1,024 units"} <= set(found)
    assert found.count("1,000 scores") == 2


def shapes_of_towers():
    net = models.AlexNetTwoDevices(devices=("meta", "meta"))
    return Counter(
        "×".join(map(str, block.shape))
        for block in analysis.trace(net, (3, 227, 227)).blocks()
        if block.name and "pool" not in block.name
    )


@pytest.mark.parametrize("name", ["towers", "two devices"])
def test_towers_are_two_rows_that_cross_at_conv3_and_the_fully_connected_layers(name):
    figure = DRAWINGS[name]()
    found = Counter(texts(figure))
    for shape, count in shapes_of_towers().items():
        assert found[shape] == count, shape
    assert found["GPU 1"] == found["GPU 2"] == 1
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        assert found[layer] == 1
    assert found["11×11 /4"] == 1
    assert found["max pool"] == found["3×3 /2"] == 3
    arrows = patches(figure, FancyArrowPatch)
    crossing = [a for a in arrows if to_rgb(a.get_edgecolor()) == to_rgb(COLORS[1])]
    assert len(crossing) == 2 * 4  # in both directions before conv3, fc6 and fc7; from both to fc8
    assert len(arrows) == len(crossing) + 2 * 7  # each row's own, from the input to fc7
    assert "conv4 (3×3) 192×13×13;" in figure.alt
    assert figure.alt.count("reading both GPUs") == 4
    heights = {round(a._path_original.vertices[-1][1], 3) for a in arrows}
    assert len(heights) == 5  # two rows, where crossing arrows end, and fc8: no third row


def test_columns_break_where_one_tensor_continues():
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        plots.flowchart(models.lenet5(), (1, 32, 32), columns=0)
    with pytest.raises(ValueError, match="cannot be divided into columns=9"):
        plots.flowchart(googlenet().inception3a, (192, 28, 28), columns=9)
    found = texts(plots.flowchart(models.lenet5(), (1, 32, 32), columns=3))
    assert found.count("A") == found.count("B") == 2


def test_errors_say_what_is_needed():
    plain = models.ResNet(20, plain=True).conv2_x[0]
    with pytest.raises(ValueError, match="BasicBlock has 0 additions, not one: a residual block"):
        plots.residual_block(plain, (16, 32, 32))
    with pytest.raises(ValueError, match="Sequential has 3 additions"):
        plots.residual_block(models.ResNet(20).conv2_x, (16, 32, 32))
    with pytest.raises(ValueError, match="AlexNet has no convolution in groups; a network of tow"):
        plots.towers(meta(models.AlexNet, towers=1), (3, 227, 227))
    with pytest.raises(ValueError, match=r"x has 3×3 conv, 4; a head takes feature maps"):
        plots.heads({"x": nn.Conv2d(2, 4, 3)}, (2, 8, 8))
    with pytest.raises(ValueError, match=r"input_shape must be \(C, H, W\), got \(8,\)"):
        plots.heads({"x": nn.Linear(8, 2)}, (8,))
    for draw in (plots.flowchart, plots.residual_block, plots.towers):
        with pytest.raises(TypeError, match="input_shape is missing"):
            draw(models.lenet5())
        found = analysis.trace(models.lenet5(), (1, 32, 32))
        with pytest.raises(TypeError, match="pass the trace alone"):
            draw(found, (1, 32, 32))
    with pytest.raises(ValueError, match="no module is given"):
        plots.flowchart({}, (1, 32, 32))
