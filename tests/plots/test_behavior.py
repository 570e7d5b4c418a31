"""Figures of what a network computes: what they show of the numbers given."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cnnbook import analysis, data, plots
from cnnbook.models import lenet5
from cnnbook.plots.style import ON_LIGHT, line_style
from cnnbook.tables import Table
from cnnbook.training import History


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.slow
def test_color_filters_are_gray_at_zero_and_share_a_scale():
    weight = torch.zeros(2, 3, 1, 2)
    weight[0, 0, 0, 0], weight[1, 1, 0, 1] = 2.0, -1.0
    figure = plots.filters(weight)
    first, second = (np.asarray(image.get_array()) for image in figure.axes[0].images)
    assert first[0].tolist() == [[1, 0.5, 0.5], [0.5, 0.5, 0.5]]
    assert second[0].tolist() == [[0.5, 0.5, 0.5], [0.5, 0.25, 0.5]]
    grid = plots.filters(weight, color=False)
    assert len(texts(grid)) == 6
    with pytest.raises(ValueError, match="color needs 3 input channels, the kernels have 1"):
        plots.filters(torch.ones(2, 1, 3, 3), color=True)


def test_titles_of_filters_take_the_place_of_numbers():
    figure = plots.filters(torch.randn(2, 1, 3, 3), titles=["before", "after"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["before", "after"]
    with pytest.raises(ValueError, match="2 tiles need as many titles, got 1"):
        plots.filters(torch.randn(2, 1, 3, 3), titles=["before"])


@pytest.mark.slow
def test_of_many_tiles_evenly_chosen_ones_are_shown_and_the_figure_says_so():
    figure = plots.feature_maps(torch.rand(101, 4, 4), limit=5)
    assert texts(figure) == ["map 0", "map 25", "map 50", "map 75", "map 100"]
    assert figure.axes[-1].get_xlabel() == "activation  (5 of 101 feature maps)"
    assert "5 of 101 are shown" in figure.alt
    grid = plots.filters(torch.randn(10, 20, 3, 3), limit=16)
    assert texts(grid)[:5] == ["0, 0", "0, 6", "0, 13", "0, 19", "3, 0"]
    assert "4 of 10 filters" in grid.alt


def test_maps_of_zeros_are_marked():
    maps = torch.ones(2, 4, 4)
    maps[1] = 0
    assert texts(plots.feature_maps(maps)) == ["map 0", "1: all 0"]


def test_every_pixel_has_one_size_through_depth():
    image = torch.rand(3, 96, 96)
    model = torchvision.models.resnet18()
    seen = analysis.activations(model, image[None], ["conv1", "layer1", "layer3", "avgpool"])
    figure = seen.plot(image=image)
    picture, *mosaics = figure.axes[0].images
    for shown, count, side in zip(mosaics, (4, 16, 144), (48, 24, 6), strict=False):
        left, right, bottom, top = shown.get_extent()
        array = shown.get_array()
        assert (right - left, bottom - top) == pytest.approx(array.shape[::-1])
        assert (~array.mask).sum() == count * side**2
    left, right, *_ = picture.get_extent()
    assert right - left == pytest.approx(96)
    assert texts(figure)[1:4] == ["conv1\n4 of 64", "layer1\n16 of 64", "layer3\n144 of 256"]
    assert "layer3: 256×6×6" in figure.alt


def test_a_mosaic_shows_every_value_where_it_belongs():
    maps = torch.arange(1, 25.0).view(1, 6, 2, 2)
    figure = plots.activations({"c": maps}, torch.rand(1, 8, 8), rows=4)
    array = figure.axes[0].images[1].get_array()
    assert array.shape == (4 * 2 + 3 * 3, 2 * 2 + 3)
    assert array[5:7, 0:2].tolist() == maps[0, 1].tolist()
    assert array[0:2, 5:7].tolist() == maps[0, 4].tolist()
    assert array.mask[2:5].all()


def test_headings_do_not_overlap():
    image = torch.rand(1, 28, 28)
    maps = {
        "a layer with a long name": torch.rand(1, 2, 4, 4),
        "another long name": torch.rand(1, 9),
    }
    figure = plots.activations(maps, image)
    figure.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for one, other in pairwise(boxes):
        assert one.x1 < other.x0


def test_curves_of_runs_that_ended_early():
    runs = [History(val_accuracy=values) for values in ([0.2, 0.4, 0.9], [0.4])]
    axes = plots.curves({"a": runs}).axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([30, 40, 90])
    with pytest.raises(ValueError, match="'a' has no val_loss; were validation images given"):
        plots.curves({"a": runs}, "val_loss")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "numbers", "names"), [(10, 10, 10), (20, 20, 20), (100, 0, 25)]
)
def test_confusion_of_few_and_many_classes(classes, numbers, names):
    matrix = 7 * torch.eye(classes, dtype=torch.int64)
    figure = plots.confusion_matrix(matrix, [f"kind {i}" for i in range(classes)])
    assert len(texts(figure)) == numbers
    assert len(figure.axes[0].get_xticklabels()) == names


def test_numbers_on_light_cells_are_dark_on_every_page():
    figure = plots.confusion_matrix(torch.tensor([[8, 2], [5, 5]]), ["cat", "dog"])
    written = figure.svg()
    cells = figure.axes[0].texts
    assert {cell.get_text() for cell in cells if cell.get_color() == "white"} == {"80"}
    assert {cell.get_color() for cell in cells} == {"white", ON_LIGHT}
    assert written.count(ON_LIGHT) == 3


def test_attribution_blends_by_the_maps_value():
    image = torch.full((1, 4, 4), 0.5)
    values = torch.zeros(4, 4)
    values[1, 2] = -1.0
    figure = plots.attribution(values, image)
    overlay = np.asarray(figure.axes[1].images[0].get_array())
    assert overlay[0, 0] == pytest.approx([0.5] * 3)  # zero: the image itself
    assert not np.allclose(overlay[1, 2], 0.5, atol=0.05)
    assert figure.axes[2].get_xlim() == (-1, 1)
    positive = plots.attribution(values.abs(), image)
    assert positive.axes[2].get_xlim() == (0, 1)
    assert "62% from the left and 38% from the top" in positive.alt


def test_small_maps_are_enlarged_over_the_image():
    figure = plots.attribution(torch.rand(2, 2, 3), torch.rand(2, 3, 8, 12), ["a", "b"])
    assert figure.axes[2].images[0].get_array().shape == (8, 12, 3)
    assert titles(figure) == ["a", "b"]


def test_heatmaps_may_each_have_their_own_scale():
    image, values = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 4, 4)
    values[0, 1, 1], values[1, 1, 1] = 100.0, 1.0
    common, own = (plots.attribution(values, image, common_scale=c) for c in (True, False))
    overlays = [
        [np.asarray(f.axes[i].images[0].get_array()) for i in (2, 3)] for f in (common, own)
    ]
    assert not np.allclose(*overlays[0])
    assert np.allclose(*overlays[1])
    assert own.axes[4].get_xlim() == (0, 1)
    assert "share of each image's largest" in own.axes[4].get_xlabel()


def gradients(label, layers, column="network"):
    return [
        {column: label, "layer": name, "number": i, "gradient": value}
        for i, (name, value) in enumerate(layers.items(), start=1)
    ]


def test_gradient_flow_has_a_line_per_network_in_the_order_of_the_layers():
    table = Table(gradients("a", {"x": 1.0, "y": 0.1}) + gradients("b", {"x": 2.0, "y": 0.0}))
    axes = plots.gradient_flow(table).axes[0]
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert axes.lines[0].get_xdata().tolist() == [1, 2]
    assert axes.lines[0].get_ydata().tolist() == [1.0, 0.1]
    assert np.isnan(axes.lines[1].get_ydata()[1])  # zero has no logarithm


def test_gradient_flow_aligns_layers_by_name():
    table = Table(
        gradients("short", {"x": 1.0, "z": 3.0}) + gradients("long", {"x": 1.0, "y": 2.0, "z": 3.0})
    )
    assert plots.gradient_flow(table).axes[0].lines[0].get_xdata().tolist() == [1, 2]
    aligned = plots.gradient_flow(table, align=True)
    assert aligned.axes[0].lines[0].get_xdata().tolist() == [1, 3]
    other = Table(gradients("short", {"w": 1.0}) + gradients("long", {"x": 1.0, "y": 2.0}))
    with pytest.raises(ValueError, match="w of 'short' is not among those"):
        plots.gradient_flow(other, align=True)


def test_gradient_history_shows_layers_by_steps_on_one_scale():
    tables = {
        "a": Table([r for s in (1, 5) for r in gradients(s, {"x": 1.0, "y": 0.1 * s}, "step")]),
        "b": Table([r for s in (1, 5) for r in gradients(s, {"x": 10.0, "y": 0.0}, "step")]),
    }
    figure = plots.gradient_history(tables)
    first, second = (axes.images[0] for axes in figure.axes[:2])
    assert first.get_array().tolist() == [[1.0, 1.0], [0.1, 0.5]]
    assert first.get_clim() == second.get_clim() == (0.1, 10.0)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "5"]


@pytest.mark.slow
def test_surfaces_share_their_levels_and_leave_infinite_losses_blank():
    a = torch.linspace(-1, 1, 3)
    low, high = torch.full((3, 3), 2.0), torch.full((3, 3), 50.0)
    low[1, 1], high[0, 2] = 0.5, torch.nan
    surfaces = {n: analysis.LossSurface(a, a, g) for n, g in (("low", low), ("high", high))}
    figure = plots.loss_surface(surfaces)
    one, other = (axes.collections[0] for axes in figure.axes[:2])
    assert one.get_clim() == other.get_clim() == (0.5, 50.0)
    assert one.levels.tolist() == other.levels.tolist()
    assert "low: 0.5 at the network, up to 2" in figure.alt
    clipped = plots.loss_surface(surfaces, highest=5.0)
    assert clipped.axes[0].collections[0].get_clim() == (0.5, 5.0)
    assert clipped.axes[-1].get_ylabel() == "loss  (up to 5)"


@pytest.mark.slow
def test_factorization_shows_the_numbers_of_each_row_on_one_scale():
    factors = analysis.factorize_kernel(torch.eye(5) + 0.1, 2)
    figure = plots.kernel_factors(factors)
    images = figure.axes[0].images
    for row in (images[:3], images[3:]):
        largest = max(abs(np.asarray(image.get_array())).max() for image in row)
        assert {image.get_clim() for image in row} == {(-largest, largest)}
    assert figure.axes[1].get_ylabel() == "upper row"
    assert figure.axes[2].get_ylabel() == "lower row"
    kernel, product, difference, *pairs = (np.asarray(i.get_array()) for i in images)
    assert kernel - product == pytest.approx(difference, abs=1e-9)
    assert [tile.shape for tile in pairs] == [(3, 3)] * 4
    assert texts(figure).count("∗") == 2
    with pytest.raises(ValueError, match="one input, one output and up to 4 channels"):
        plots.kernel_factors(analysis.factorize_kernel(torch.randn(2, 1, 5, 5)))


def test_statistics_leave_out_what_has_no_meaning():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    table = analysis.activation_statistics(model, torch.randn(2, 1, 6, 6))
    dead = plots.activation_statistics(table).axes[1].lines[1].get_ydata()
    assert np.isnan(dead[0])
    assert dead[1] == 100 * table[1]["dead"] / 4


def test_patches_stand_in_rows_of_units_behind_the_images_made_for_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3))
    found = analysis.top_patches(model, torch.rand(9, 1, 8, 8), "0", [2, 0], 6)
    made = analysis.maximize_activation(model, "0", [2, 0], shape=(1, 8, 8), steps=2)
    figure = plots.top_patches(found, made)
    assert len(figure.axes) == 2 * 7
    assert [axes.get_ylabel() for axes in figure.axes[::7]] == ["unit 2", "unit 0"]
    maps = found.plot(made, kind="map")
    assert [axes.get_ylabel() for axes in maps.axes[::7]] == ["map 2", "map 0"]
    assert "Activations, map 2: " in maps.alt
    assert titles(figure)[1] == f"{found.activation[0, 0]:.3g}"
    other = analysis.maximize_activation(model, "0", [1, 0], shape=(1, 8, 8), steps=1)
    with pytest.raises(ValueError, match=r"holds units \[1, 0\] of '0', the patches"):
        plots.top_patches(found, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.activations({}, torch.rand(2, 8, 8)), r"got \(2, 8, 8\)"),
        (lambda: plots.activations({"c": torch.rand(1, 3, 4, 4)}), "need the image"),
        (
            lambda: plots.activations({"c": torch.rand(3, 4, 4)}, torch.rand(1, 8, 8)),
            r"output of 'c' must be .* got \(3, 4, 4\)",
        ),
        (
            lambda: plots.activations({"c": torch.rand(2, 3, 4, 4)}, torch.rand(1, 8, 8), index=2),
            r"N > index = 2, got \(2, 3, 4, 4\)",
        ),
        (lambda: plots.attribution(torch.rand(4, 4), torch.rand(2, 4, 4)), r"got \(1, 2, 4, 4\)"),
        (lambda: plots.attribution(torch.rand(4, 4)), "need the images"),
        (lambda: plots.attribution(torch.rand(9, 4, 4), torch.rand(9, 3, 4, 4)), "N up to 8"),
        (
            lambda: plots.attribution(torch.rand(2, 4, 4), torch.rand(3, 4, 4)),
            r"\(1, h, w\) for 1",
        ),
        (
            lambda: plots.attribution(torch.rand(4, 4), torch.rand(3, 4, 4), ["a", "b"]),
            "2 titles",
        ),
        (lambda: plots.gradient_flow(Table([{"layer": "a"}])), "needs rows with the columns layer"),
        (lambda: plots.gradient_history({}), "one to four tables, got 0"),
        (lambda: plots.activation_statistics(Table([])), "it has 0 rows with none"),
        (lambda: plots.linear_probes(Table([{"layer": "a"}])), "train_accuracy"),
        (lambda: plots.loss_surface({}), "one to three surfaces, got 0"),
        (
            lambda: plots.loss_surface(
                {"a": analysis.LossSurface(torch.zeros(1), torch.zeros(1), torch.zeros(1, 1))}
            ),
            "choose a smaller span",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_probes_of_different_layers_cannot_be_drawn_together():
    row = {"train_accuracy": 0.5, "test_accuracy": 0.5}
    tables = {name: Table([{"layer": name} | row]) for name in "ab"}
    with pytest.raises(ValueError, match=r"different layers: \['a'\] and \['b'\]"):
        plots.linear_probes(tables)


@pytest.mark.slow
def test_one_line_per_figure_of_a_foreign_network():
    """What analysis returns is what plots take, for a network neither was written for."""
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=4)
    photo = data.photo("cat", size=64)
    x, y = torch.stack([photo, photo.flip(2)]) / 255, torch.tensor([0, 1])
    layers = ["features.1", "features.12"]
    made = analysis.maximize_activation(model, layers[0], 3, shape=(3, 64, 64), steps=1)
    figures = [
        plots.filters(model.features[0][0].weight),
        plots.activations(analysis.activations(model, x[:1], layers), photo),
        plots.attribution(analysis.grad_cam(model, x, layers[1]).maps[0], photo),
        plots.attribution(analysis.occlusion(model, x, patch=32), x),
        plots.gradient_flow(analysis.gradient_flow({"mobilenet": model}, x, y)),
        plots.activation_statistics(analysis.activation_statistics(model, x, layers)),
        plots.maximized_units(made),
        plots.top_patches(analysis.top_patches(model, x, layers[0], 3, 2), made),
    ]
    assert all(isinstance(figure, plots.Figure) and figure.alt for figure in figures)


@pytest.mark.slow
def test_one_line_per_figure_of_our_own():
    train, test = data.load("fashion-mini", size=32)
    model = lenet5()
    plots.linear_probes(analysis.linear_probes(model, train[:40], test[:20], max_features=64))
    plots.loss_surface({"lenet": analysis.loss_surface(model, test[:10], steps=3)})
    x, y = next(data.Batches(train[:8], 8, device="cpu").epoch(0))
    recorder = analysis.GradientRecorder(x, y)
    recorder.norms[1] = analysis.gradient_norms(model, x, y)
    assert "lenet, first layer" in plots.gradient_history({"lenet": recorder}).alt


def test_lines_differ_in_color_or_dashes():
    looks = {(style["color"], style["linestyle"]) for style in map(line_style, range(36))}
    assert len(looks) == 36
    ys = {f"line {i}": torch.full((3,), float(i)) for i in range(7)}
    figure = plots.lines(torch.arange(3), ys, xlabel="x", ylabel="y", alt="level lines")
    first, *_, last = figure.axes[0].lines
    assert first.get_color() == last.get_color()
    assert first.get_linestyle() != last.get_linestyle()


def test_confusion_without_a_mistake_says_so():
    alt = plots.confusion_matrix(torch.tensor([[3, 0], [0, 2]]), ["shirt", "shoe"]).alt
    assert alt == "Confusion matrix of 2 classes. 100% lie on the diagonal; there is no mistake."


def test_a_surface_without_a_finite_loss_is_named():
    a = torch.linspace(-1, 1, 3)
    grids = {"good": torch.ones(3, 3), "lost": torch.full((3, 3), torch.nan)}
    surfaces = {name: analysis.LossSurface(a, a, grid) for name, grid in grids.items()}
    with pytest.raises(ValueError, match="'lost' has no finite positive loss"):
        plots.loss_surface(surfaces)
