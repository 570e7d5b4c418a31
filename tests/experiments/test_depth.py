"""One layer and six: equal where it is claimed, and what is concluded."""

import pytest
import torch

from cnnbook import analysis, experiments
from cnnbook.experiments import depth

AT_30 = {"test_error": [0.30, 0.31, 0.32], "val_error": [0.3] * 3, "train_error": [0.2] * 3}


def errors(middle):
    return {"test_error": [middle - 0.01, middle, middle + 0.01]}


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_parameters_are_equal_within_one_percent(size):
    width = experiments.get("depth").sizes[size].settings["width"]
    deep, shallow = (
        sum(p.numel() for p in depth.build(kind, width).parameters())
        for kind in ("six layers", "one layer")
    )
    assert shallow == pytest.approx(deep, rel=0.01)


@pytest.mark.slow
def test_parameters_of_the_desk_size_and_multiply_adds_that_the_text_names():
    found = {}
    for kind in ("six layers", "one layer"):
        net = depth.build(kind, 16)
        found[kind] = (
            sum(p.numel() for p in net.parameters()),
            analysis.summary(net, (1, 32, 32)).total_macs,
        )
    assert found == {"six layers": (72_666, 6_046_336), "one layer": (72_741, 2_031_328)}


def test_there_are_six_convolutions_and_one():
    for kind, count in (("six layers", 6), ("one layer", 1)):
        net = depth.build(kind, 8)
        assert sum(isinstance(m, torch.nn.Conv2d) for m in net) == count
        assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
        assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_networks_are_compared_in_pairs_that_differ_in_nothing_else(size):
    spec = experiments.get("depth")
    arms = spec.arms(spec.sizes[size].settings)
    without_kind = [{k: v for k, v in a.options.items() if k != "kind"} for a in arms]
    assert without_kind[::2] == without_kind[1::2]
    assert {a.options["kind"] for a in arms[::2]} == {"six layers"}
    if size != "live":
        assert all(len(a.rates) >= 3 for a in arms)
        assert [a.options["steps"] for a in arms[-2:]] == [2, 2]


@pytest.mark.slow
def test_both_networks_see_the_same_images_and_each_seed_others(monkeypatch):
    settings = {**experiments.get("depth").sizes["live"].settings, "sets": {"upright": "digits"}}
    settings |= {"val_images": 100, "test_images": 50}
    first, _, test = depth.images_of("upright", 100, settings, seed=0)
    again, _, _ = depth.images_of("upright", 100, settings, seed=0)
    other, _, same = depth.images_of("upright", 100, settings, seed=1)
    assert first.images.shape == (100, 1, 32, 32)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(test.images, same.images)


def result_of(make_result, cluttered, upright):
    """Six layers at 30 %, one layer higher by what is given for 100, 400, 1,600 and 6,400."""
    changes = {}
    for task, leads in (("cluttered", cluttered), ("upright", upright)):
        for n, more in zip((100, 400, 1_600, 6_400), leads, strict=True):
            changes[f"one layer, {task}, {n}"] = {
                "test_error": errors(0.31 + more)["test_error"][::-1]
            }
            changes[f"six layers, {task}, {n}"] = errors(0.31)
    return make_result("depth", changes, **AT_30)


def test_verdict_tells_where_depth_pays_where_not_and_where_nothing_is_shown(make_result):
    result = result_of(make_result, (0, 0.1, 0.2, 0.3), (-0.1, 0, 0, 0))
    assert result.verdict == (
        "On cluttered clothes, six layers are more accurate than one layer of as many parameters "
        "with 400, 1,600 and 6,400 training images (by up to 30.0 (25.0 to 35.0), with 6,400), and "
        "no difference is shown with 100 training images (0.0 (−5.0 to 5.0)), and six layers with "
        "100 images are more accurate than one with 6,400; on upright clothes, one layer is more "
        "accurate than six of as many parameters with 100 training images (by 10.0 (5.0 to 15.0)), "
        "and no difference is shown with 400, 1,600 and 6,400 training images (at most 0.0 (−5.0 "
        "to 5.0)); after twice as many steps, the difference with 6,400 cluttered images is 0.0 "
        "(0.0 to 0.0) (percentage points, 95 % intervals)."
    )


def test_verdict_the_other_way_round(make_result):
    told = result_of(make_result, (-0.1,) * 4, (-0.1,) * 4).verdict
    assert "six layers are more accurate" not in told
    assert told.count("one layer is more accurate than six") == 2


@pytest.mark.slow
def test_figure_names_both_networks_sets_and_the_control(make_result):
    text = str(result_of(make_result, (0,) * 4, (0,) * 4).plot())
    for name in ("six layers", "one layer", "cluttered", "upright", "twice the steps"):
        assert name in text


@pytest.mark.slow
def test_live():
    result = experiments.run("depth", progress=False)
    assert [arm.runs[0]["steps"] for arm in result] == [250] * 4
    at = {arm.name: sum(arm.values("test_error")) / 3 for arm in result}
    assert at["six layers, cluttered, 2000"] < at["one layer, cluttered, 2000"] - 0.03
    assert at["six layers, cluttered, 2000"] < at["six layers, cluttered, 200"]
