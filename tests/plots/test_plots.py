import base64
import html
import re
from xml.etree import ElementTree

import matplotlib.colors
import numpy as np
import pytest
import torch
from matplotlib.text import Text

from cnnbook import analysis, plots
from cnnbook.plots import style
from cnnbook.tables import Table
from cnnbook.training import History

SVG = "{http://www.w3.org/2000/svg}"


def history(*accuracy):
    return History(val_accuracy=list(accuracy))


def gradients(column, labels, layers):
    return Table(
        [
            {column: label, "layer": f"{i}.weight", "number": i + 1, "gradient": 10.0**-i}
            for label in labels
            for i in range(layers)
        ]
    )


def statistics(layers):
    row = {"mean": 0.5, "standard_deviation": 1.0, "zeros": 0.4, "units": 8}
    return Table([{"layer": f"layer {i}"} | row | {"dead": i or None} for i in range(layers)])


def probes(layers):
    return Table(
        [
            {"layer": f"layer {i}", "train_accuracy": 0.9, "test_accuracy": 0.5 + 0.01 * i}
            for i in range(layers)
        ]
    )


def surface(scale):
    a = torch.linspace(-1, 1, 5)
    loss = scale * (0.1 + a[:, None] ** 2 + a**2)
    loss[0, 0] = torch.inf
    return analysis.LossSurface(a, a, loss)


def maximized(channels=1, units=(3, 5)):
    images = torch.rand(len(units), channels, 12, 12)
    return analysis.MaximizedUnits("c", tuple(units), images, torch.rand(4, len(units)))


def patches(channels=1, k=4):
    return analysis.TopPatches(
        "c",
        (3, 5),
        torch.randn(2, k, channels, 6, 6),
        torch.arange(2 * k).view(2, k),
        torch.zeros(2, k, 2, dtype=torch.int64),
        torch.rand(2, k).sort(descending=True).values,
    )


FIGURES = {
    "images": lambda: plots.images(torch.rand(3, 3, 8, 8), ["a<b", "b", "c"]),
    "gray images": lambda: plots.images(torch.randint(0, 256, (12, 1, 8, 8)).byte()),
    "filters": lambda: plots.filters(torch.randn(6, 1, 5, 5)),
    "filters of several channels": lambda: plots.filters(torch.randn(2, 3, 5, 5)),
    "feature maps": lambda: plots.feature_maps(torch.randn(1, 9, 6, 6)),
    "activations": lambda: plots.activations(
        {"c": torch.randn(1, 12, 8, 8), "v": torch.rand(1, 40, 1, 1), "o": torch.randn(1, 10)},
        torch.rand(1, 16, 16),
    ),
    "curves": lambda: plots.curves({"a": [history(0.1, 0.5), history(0.2, 0.7)]}),
    "lines": lambda: plots.lines(
        torch.arange(5), {"a": torch.arange(5)}, xlabel="x", ylabel="y", alt="a line"
    ),
    "sweep": lambda: plots.sweep(
        [100, 1000], {"a": [[1, 3], [4, 8]], "b": [[2], [3]]}, xlabel="x", ylabel="y", log=True
    ),
    "bars": lambda: plots.bars(["a", "b"], torch.tensor([2.0, 0.5]), xlabel="x", reference=1.0),
    "confusion": lambda: plots.confusion_matrix(torch.tensor([[8, 2], [5, 5]]), ["cat", "dog"]),
    "confusion of many": lambda: plots.confusion_matrix(
        torch.eye(100, dtype=torch.int64) * 9 + 1, [f"kind {i}" for i in range(100)]
    ),
    "color filters": lambda: plots.filters(torch.randn(12, 3, 7, 7)),
    "many filters": lambda: plots.filters(torch.randn(30, 20, 3, 3), limit=12),
    "many feature maps": lambda: plots.feature_maps(torch.rand(100, 4, 4), limit=10),
    "activations behind a photo": lambda: plots.activations(
        {
            "conv1": torch.randn(1, 64, 48, 48),
            "layer4": torch.rand(1, 512, 3, 3),
            "pool": torch.rand(1, 512, 1, 1),
        },
        torch.randint(0, 256, (3, 96, 96)).byte(),
    ),
    "attribution": lambda: plots.attribution(torch.rand(4, 6), torch.rand(3, 16, 24)),
    "signed attributions": lambda: plots.attribution(
        torch.randn(4, 16, 16), torch.rand(4, 1, 16, 16), list("abcd"), label="drop"
    ),
    "gradient flow": lambda: plots.gradient_flow(gradients("network", ["a", "b"], 5)),
    "gradient history": lambda: plots.gradient_history(
        {"plain": gradients("step", [1, 10, 20], 8), "residual": gradients("step", [1, 10], 5)}
    ),
    "gradient history of one": lambda: plots.gradient_history(gradients("step", [1, 10], 5)),
    "activation statistics": lambda: plots.activation_statistics(statistics(30)),
    "linear probes": lambda: plots.linear_probes(probes(4)),
    "several linear probes": lambda: plots.linear_probes({"a": probes(4), "b": probes(4)}),
    "kernel factors": lambda: plots.kernel_factors(analysis.factorize_kernel(torch.randn(5, 5))),
    "kernel factors with channels": lambda: plots.kernel_factors(
        analysis.factorize_kernel(torch.randn(5, 5), 4)
    ),
    "loss surface": lambda: plots.loss_surface(surface(1)),
    "loss surfaces": lambda: plots.loss_surface({"plain": surface(1e7), "residual": surface(1)}),
    "maximized units": lambda: plots.maximized_units(maximized()),
    "top patches": lambda: plots.top_patches(patches()),
    "top patches and images": lambda: plots.top_patches(patches(3, k=8), maximized(3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_put_on_a_page(name, tmp_path, monkeypatch):
    figure = FIGURES[name]()
    monkeypatch.setenv("CNNBOOK_BOOK", "1")
    page, _ = figure._repr_mimebundle_()
    # Not the same text: each drawing moves what is laid out by a fraction of a pixel.
    assert re.sub(r"<svg.*</svg>", "", page["text/html"], flags=re.S).count("<") == 2
    named = f'role="img" aria-label="{html.escape(figure.alt)}"'
    forms = re.findall(r"<svg [^>]*>", page["text/html"])  # two, if a phone has its own
    assert all(named in form for form in forms)
    assert len(forms) in (1, 2)
    monkeypatch.delenv("CNNBOOK_BOOK")
    bundle, metadata = figure._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/plain"}
    assert set(page) == {"text/html", "text/plain"}
    width = figure.figure.get_figwidth() * 96
    assert metadata["image/png"]["width"] == pytest.approx(width, abs=1)
    svg = ElementTree.fromstring(figure.svg())
    assert svg.tag == SVG + "svg"
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == figure.alt
    assert len(figure.alt) > 5
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert figure.alt in bundle["text/plain"]

    text = figure.svg()
    assert style.INK not in text
    assert "currentColor" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert reference in ids

    for suffix in ("png", "svg"):
        figure.save(tmp_path / f"f.{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.png", "f.svg"]


def test_words_added_to_a_figure_have_the_color_of_the_page():
    with style.new_figure(4, 3) as figure:
        figure.add_subplot().plot([1, 2], label="a line")
    drawn = plots.Figure(figure, "A line.")
    before = drawn.svg().count("currentColor")
    drawn.axes[0].legend(loc="upper left")
    drawn.axes[0].set_title("A title", color=(1.0, 0.0, 0.0))
    drawn.axes[0].set_xlabel("x", color=np.array([0.0, 1.0, 0.0]))
    assert drawn.svg().count("currentColor") == before + 1
    assert "#ff0000" in drawn.svg()


def test_words_of_a_figure_that_stacks_are_looked_at_once(monkeypatch):
    with style.new_figure(4, 2) as figure:
        for axes in figure.subplots(1, 3):
            axes.text(0.5, 0.5, "added", color="black")
    looked, find = [], figure.findobj
    monkeypatch.setattr(figure, "findobj", lambda kind: looked.append(kind) or find(kind))
    text = plots.Figure(figure, "three", stacks=True).svg()
    assert looked == [Text]
    assert text.count("<svg") == 3
    assert "#000000" not in text


@pytest.mark.slow
def test_same_figure_same_bytes_and_other_figures_share_no_id():
    a, b, c = (
        plots.confusion_matrix(torch.tensor([[8, n], [5, 5]]), ["cat", "dog"]).svg()
        for n in (2, 2, 3)
    )
    assert a == b
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (a, c)]
    assert not ids[0] & ids[1]


@pytest.mark.slow
def test_nothing_is_drawn_outside_the_picture():
    for make in FIGURES.values():
        figure = make().figure
        figure.canvas.draw()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 > -0.02
        assert box.y0 > -0.02
        assert box.x1 < width + 0.02
        assert box.y1 < height + 0.02


def luminance(color):
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in matplotlib.colors.to_rgb(color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", style.COLORS)
@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_data_colors_stand_out_on_light_and_dark_pages(color, page):
    low, high = sorted([luminance(color), luminance(page)])
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.1, 1.4.11


@pytest.mark.slow
def test_text_is_at_least_nine_points():
    for make in FIGURES.values():
        for text in make().figure.findobj(Text):
            if text.get_text():
                assert text.get_fontsize() >= 9


def test_signed_values_share_a_scale_centered_on_zero():
    figure = plots.feature_maps(torch.tensor([[[-1.0, 0.0], [0.0, 3.0]]])).figure
    shown = figure.axes[0].images[0]
    assert shown.get_clim() == (-3, 3)
    positive = plots.feature_maps(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])).figure
    assert positive.axes[0].images[0].get_clim() == (0, 3)


def test_band_reaches_from_lowest_to_highest():
    axes = FIGURES["curves"]().axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([15, 60])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(10)
    assert band[:, 1].max() == pytest.approx(70)


def test_what_a_figure_says_is_said_as_one_reads_it():
    figure = plots.sweep([1, 8], {"a": [[2000], [0.00123]]}, xlabel="layers", ylabel="ReLUs")
    assert figure.alt == "ReLUs for layers from 1 to 8; means: a from 2,000 to 0.00123."


def test_sweep_shows_mean_range_and_every_measurement():
    figure = FIGURES["sweep"]()
    axes = figure.axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([2, 6])
    assert sorted(axes.lines[1].get_ydata()) == [1, 3, 4, 8]
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1, 8)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "1,000"]
    assert "a from 2 to 6; b from 2 to 3" in figure.alt


def test_confusion_alt_names_the_commonest_mistake():
    assert "65% lie on the diagonal" in FIGURES["confusion"]().alt
    assert "dog taken for cat (5 images)" in FIGURES["confusion"]().alt


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.images(torch.rand(3, 8, 8)), r"got \(3, 8, 8\)"),
        (lambda: plots.images(200 * torch.ones(1, 1, 2, 2)), r"float .* to 200: divide by 255"),
        (lambda: plots.images(torch.tensor([[[[0, 99]]]])), r"int64 .* to 99: divide by 255"),
        (lambda: plots.images(-torch.ones(1, 3, 2, 2)), "from -1 to -1: undo the normalization"),
        (
            lambda: plots.attribution(torch.rand(4, 4), 9 * torch.ones(1, 4, 4)),
            r"images must lie in 0…1; they reach from 9 to 9: divide by 255",
        ),
        (lambda: plots.images(torch.rand(3, 1, 8, 8), ["a"]), "1 titles for 3 pictures"),
        (lambda: plots.filters(torch.rand(3, 8)), r"got \(3, 8\)"),
        (lambda: plots.feature_maps(torch.rand(2, 3, 8, 8)), r"got \(2, 3, 8, 8\)"),
        (lambda: plots.curves({"a": []}), "no history for 'a'"),
        (lambda: plots.curves({"a": [history(1)]}, "val_acc"), "Did you mean 'val_accuracy'"),
        (
            lambda: plots.sweep([1, 2], {"a": [[1]]}, xlabel="x", ylabel="y"),
            r"2 values of x; got 1 of lengths \[1\]",
        ),
        (
            lambda: plots.sweep([0, 2], {"a": [[1], [2]]}, xlabel="x", ylabel="y", log=True),
            r"positive values, got x=\[0, 2\]",
        ),
        (lambda: plots.confusion_matrix(torch.ones(2, 3), ["a", "b"]), r"got \(2, 3\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.images(np.zeros((1, 1, 2, 2))), r"use torch\.from_numpy\(pictures\)"),
        (
            lambda: plots.attribution(torch.rand(4, 4), np.zeros((1, 4, 4))),
            "images must be a torch",
        ),
        (lambda: plots.feature_maps(np.zeros((1, 4, 4))), "maps must be a torch tensor"),
        (lambda: plots.filters(np.zeros((1, 1, 4, 4))), "weight must be a torch tensor"),
        (lambda: plots.filters(torch.nn.Conv2d(1, 1, 3)), r"Conv2d: conv\.weight, not conv"),
        (lambda: plots.curves(history(1)), r"\{'my network': \[history\]\}, got a History"),
        (lambda: plots.bars(["a"], np.ones(1), xlabel="x"), "values must be a torch tensor"),
        (lambda: plots.confusion_matrix(np.eye(2), ["a", "b"]), "matrix must be a torch tensor"),
        (
            lambda: plots.lines(np.ones(2), {}, xlabel="x", ylabel="y", alt="a"),
            "x must be a torch tensor",
        ),
        (
            lambda: plots.activations({"c1": np.zeros((1, 2, 2, 2))}, torch.zeros(1, 4, 4)),
            r"maps\['c1'\] must be a torch tensor",
        ),
        (lambda: plots.gradient_flow(torch.nn.ReLU()), "table must be a table .* got a ReLU"),
        (lambda: plots.linear_probes(torch.nn.ReLU()), "table must be a table .* got a ReLU"),
        (lambda: plots.gradient_history(torch.nn.ReLU()), "table must be a table .* got a ReLU"),
        (lambda: plots.layer_costs(torch.nn.ReLU()), "table must be a table .* got a ReLU"),
        (lambda: plots.curves({"a": history(1)}), r"\[history\], got a History"),
    ],
)
def test_what_is_of_another_type_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_pixels_may_exceed_their_range_by_rounding():
    assert plots.images(torch.tensor([[[[-1e-6, 1 + 1e-6]]]])).alt == "1 images."


def test_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    figure, path = FIGURES["lines"](), tmp_path / "f.png"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(figure.figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        figure.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_bars_show_their_numbers():
    figure = plots.bars(["one", "two"], torch.tensor([1.0, 25.25]), xlabel="times", reference=1)
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [1.0, 25.25]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "25.2"]
    assert "two 25.2" in figure.alt
    with pytest.raises(ValueError, match="one value for each label"):
        plots.bars(["one"], torch.zeros(2), xlabel="times")


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plots.images(torch.rand(0, 1, 8, 8)), "nothing to draw in a tensor of shape"),
        (lambda: plots.images(torch.rand(2, 1, 8, 8), columns=0), "columns must be at least 1"),
        (lambda: plots.images(torch.rand(2, 1, 8, 8).to("meta")), "must be a dense tensor"),
        (lambda: plots.images(torch.rand(2, 1, 8, 8) + 0j), "pictures must be real numbers"),
        (lambda: plots.filters(torch.rand(0, 1, 3, 3)), "nothing to draw"),
        (lambda: plots.feature_maps(torch.rand(0, 3, 3)), r"of one image, got \(0, 3, 3\)"),
    ],
)
def test_what_has_no_picture_is_refused(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()
