"""Plain and residual networks: equal layers, what is said of them, and blocks taken away."""

import pytest
import torch

from cnnbook import analysis, data, experiments, models
from cnnbook.experiments import degradation
from cnnbook.experiments.experiment import _code

EQUAL = {
    "train_error": [0.10, 0.11, 0.12],
    "val_error": [0.15, 0.16, 0.17],
    "test_error": [0.15, 0.16, 0.17],
}
WORSE = {"train_error": [0.30, 0.31, 0.32]}
BETTER = {"train_error": [0.05, 0.06, 0.07]}


@pytest.mark.parametrize("size", ["live", "desk", pytest.param("full", marks=pytest.mark.slow)])
def test_plain_and_residual_networks_of_one_depth_have_equal_parameters(size):
    settings = experiments.get("degradation").sizes[size].settings
    counts = {}
    for arm in degradation.arms(settings):
        with torch.device("meta"):
            net = degradation.build(arm.options, settings, 10, 1)
        counts[arm.name] = sum(p.numel() for p in net.parameters())
    for depth in settings["depths"]:
        assert counts[f"plain-{depth}"] == counts[f"residual-{depth}"]
    if size != "live":  # the paper's 0.27 and 0.85 million, and batch norm
        assert (counts["plain-20"], counts["plain-56"]) == (269_434, 852_730)
    if size == "full":
        assert counts["residual-110"] == 1_727_674
        assert counts["residual-20, option B"] == 269_434 + 16 * 32 + 32 * 64 + 2 * (32 + 64)
        assert {arm.name for arm in degradation.arms(settings) if arm.seeds == 1} == {
            "plain-110",
            "residual-110",
        }


def test_shortcuts_are_all_that_differs():
    settings = {"width": 1}
    plain, residual = (
        degradation.build({"depth": 20, "plain": plain}, settings, 10, 1).eval()
        for plain in (True, False)
    )
    residual.load_state_dict(plain.state_dict())
    macs = [analysis.summary(net, (1, 28, 28)).total_macs for net in (plain, residual)]
    assert macs[0] == macs[1] == 30_821_248
    x = torch.randn(2, 1, 28, 28)
    assert not torch.allclose(plain(x), residual(x))
    for net in (plain, residual):  # where both branches of a block are nothing but the shortcut
        for block in net.modules():
            if hasattr(block, "shortcut"):
                block.shortcut = None
    assert torch.equal(plain(x), residual(x))


def test_longer_arm_takes_as_many_times_the_steps(monkeypatch):
    asked = []
    monkeypatch.setattr(degradation, "build", lambda *_: None)
    monkeypatch.setattr(degradation, "learn", lambda net, *_, **how: asked.append(how) or {})
    settings = {**experiments.get("degradation").sizes["desk"].settings, "remove": 0}
    settings |= {"data": "fashion-mini", "images": 100, "val_images": 100}
    found = degradation.arms(settings)
    for arm in found:
        degradation.train(arm.options, settings, 0.1, 3)
    epochs = {arm.name: how["epochs"] for arm, how in zip(found, asked, strict=True)}
    assert epochs == dict.fromkeys(("plain-20", "residual-20", "plain-56", "residual-56"), 6) | {
        "plain-56, 2 times the steps": 12
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"plain-56": WORSE, "residual-56": BETTER, "plain-56, 2 times the steps": WORSE},
            "Compared with plain-20, the training error of plain-56 is 20.0 points higher (17.7 to "
            "22.3) even after twice the steps, and 20.0 points higher (17.7 to 22.3) after equally "
            "many. Compared with residual-20, that of residual-56 is 5.0 points lower (2.7 to 7.3) "
            "after equally many. With twice the steps, the training error of plain-56 is not shown "
            "to differ (0.0 points, −2.3 to 2.3) compared with plain-56 itself after as many as "
            "the others (95 % intervals).",
        ),
        (
            {},
            "Compared with plain-20, the training error of plain-56 is not shown to differ (0.0 "
            "points, −2.3 to 2.3) after twice the steps, and not shown to differ (0.0 points, −2.3 "
            "to 2.3) after equally many. Compared with residual-20, that of residual-56 is not "
            "shown to differ (0.0 points, −2.3 to 2.3) after equally many. With twice the steps, "
            "the training error of plain-56 is not shown to differ (0.0 points, −2.3 to 2.3) "
            "compared with plain-56 itself after as many as the others (95 % intervals).",
        ),
        (
            {"plain-56": BETTER, "residual-56": WORSE, "plain-56, 2 times the steps": BETTER},
            "Compared with plain-20, the training error of plain-56 is 5.0 points lower (2.7 to "
            "7.3) after twice the steps, and 5.0 points lower (2.7 to 7.3) after equally many. "
            "Compared with residual-20, that of residual-56 is 20.0 points higher (17.7 to 22.3) "
            "after equally many. With twice the steps, the training error of plain-56 is not shown "
            "to differ (0.0 points, −2.3 to 2.3) compared with plain-56 itself after as many as "
            "the others (95 % intervals).",
        ),
    ],
)
def test_verdict_tells_degradation_from_slowness(make_result, changes, said):
    assert make_result("degradation", changes, **EQUAL).verdict == said


def test_a_block_that_is_taken_away_leaves_its_input():
    torch.manual_seed(0)
    net = degradation.build({"depth": 14, "plain": False}, {"width": 0.25}, 10, 1)
    _, test = data.load("fashion-mini")
    # Six blocks, two of which halve the feature maps.
    blocks = ["conv2_x.0", "conv2_x.1", "conv3_x.1", "conv4_x.1"]
    with torch.no_grad():
        net.get_submodule("conv3_x.1.conv2.1").weight.zero_()  # F = 0
    found = degradation.errors_without_blocks(net, test[:100])
    assert found["blocks"] == blocks
    assert found["errors"][2] == found["whole"]
    assert len(set(found["errors"])) > 1
    assert all(type(net.get_submodule(block)) is models.resnet.BasicBlock for block in blocks)


def test_figures_name_every_arm(make_result):
    result = make_result("degradation", {"plain-56": WORSE, "residual-56": BETTER}, **EQUAL)
    figure = result.plot()
    texts = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    kinds = ("validation error", "training error")
    assert [text.replace("\n", " ") for text in texts] == [
        *("20 layers", "56 layers", "56 layers, twice the steps", *kinds),
        *("20 layers", "56 layers", *kinds),
    ]
    assert "Plain: 20 layers ends at 16.0 % (training error 11.0 %); 56" in figure.alt
    assert "56 layers ends at 16.0 % (training error 31.0 %)" in figure.alt

    removed = [{"blocks": ["a", "b"], "errors": [e, e + 0.1], "whole": 0.1} for e in (0.2, 0.3)]
    result = make_result(
        "degradation",
        {f"{kind}-56": {"removed": removed} for kind in ("plain", "residual")},
        **{key: values[:2] for key, values in EQUAL.items()},
    )
    assert "on the first 500 test images" in degradation.plot_removed(result).caption
    assert degradation.plot_removed(result).alt == (
        "Test error without one block: plain-56 10.0 % whole, 30.0 % without one (median); "
        "residual-56 10.0 % whole, 30.0 % without one (median)."
    )


def test_shortcut_options_are_drawn_where_they_were_trained(make_result):
    full = make_result("degradation", {}, "full", **EQUAL)
    assert "C: projections everywhere 16.0 %" in degradation.plot_shortcuts(full).alt
    with pytest.raises(ValueError, match="not trained in size 'desk'"):
        degradation.plot_shortcuts(make_result("degradation", {}, **EQUAL))


def test_figures_and_phrases_do_not_make_a_record_stale():
    code = _code(degradation, {"arms", "train"})
    assert "errors_without_blocks" in code
    for reading in ("plot_removed", "plot_shortcuts", "compared with plain"):
        assert reading not in code


@pytest.mark.slow
def test_live_size_shows_that_depth_harms_plain_networks():
    result = experiments.run("degradation", progress=False)
    errors = {arm.name: arm.interval("train_error").mean for arm in result}
    assert errors["plain-44"] > errors["plain-8"] + 0.05
    assert errors["plain-44"] > errors["residual-44"] + 0.05
    assert "plain networks is" in result.verdict
    assert "higher" in result.verdict.split(";")[0]
    assert not result.is_stale
    assert len(result["residual-44"].runs[0]["removed"]["errors"]) == 19
    result.plot()
    degradation.plot_removed(result)
