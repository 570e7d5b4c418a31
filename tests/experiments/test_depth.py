"""One layer and six: equal where it is claimed, and what is concluded."""

import pytest
import torch

from cnnbook import analysis, data, experiments
from cnnbook.experiments import depth

AT_30 = {"test_error": [0.30, 0.31, 0.32], "val_error": [0.3] * 3, "train_error": [0.2] * 3}


def errors(middle):
    return {"test_error": [middle - 0.01, middle, middle + 0.01]}


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_parameters_are_equal_within_one_percent_whatever_the_head(size):
    width = experiments.get("depth").sizes[size].settings["width"]
    deep, *others = (
        sum(p.numel() for p in depth.build(kind, width, head=head).parameters())
        for kind in depth.HEADS
        for head in depth.HEADS.values()
    )
    if size == "live":  # it has no control, and few feature maps to choose from
        others = others[-1:]
    assert others == pytest.approx([deep] * len(others), rel=0.01)


@pytest.mark.slow
def test_parameters_of_the_desk_size_and_multiply_adds_that_the_text_names():
    found = {}
    for kind, own in depth.HEADS.items():
        for head in depth.HEADS.values():
            net = depth.build(kind, 16, head=head)
            parameters = sum(p.numel() for p in net.parameters())
            found[kind, head] = parameters, analysis.summary(net, (1, 32, 32)).total_macs
            if head == own:
                assert str(net) == str(depth.build(kind, 16))
    assert found == {
        ("six layers", "average"): (72_666, 6_046_336),
        ("six layers", "4×4 regions"): (72_940, 5_331_840),
        ("one layer", "average"): (72_628, 4_233_684),
        ("one layer", "4×4 regions"): (72_741, 2_031_328),
    }


@pytest.mark.parametrize("head", depth.HEADS.values())
def test_there_are_six_convolutions_and_one(head):
    for kind, count in (("six layers", 6), ("one layer", 1)):
        net = depth.build(kind, 8, head=head)
        assert sum(isinstance(m, torch.nn.Conv2d) for m in net) == count
        assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
        assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 10)


def test_the_average_alone_ignores_where_something_is():
    """A rolled image of stride 4 or less, compared where no edge interferes."""
    image = torch.zeros(1, 1, 64, 64)
    image[..., 24:32, 24:32] = torch.rand(8, 8)
    for kind in depth.HEADS:
        for head in depth.HEADS.values():
            net = depth.build(kind, 8, head=head).eval()
            with torch.no_grad():
                scores, moved = net(image), net(image.roll((8, 8), (2, 3)))
            assert torch.allclose(scores, moved, atol=1e-5) == (head == "average")


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_networks_are_compared_in_pairs_that_differ_in_nothing_else(size):
    spec = experiments.get("depth")
    arms = spec.arms(spec.sizes[size].settings)
    without_kind = [{k: v for k, v in a.options.items() if k not in ("kind", "head")} for a in arms]
    assert without_kind[::2] == without_kind[1::2]
    assert {a.options["kind"] for a in arms[::2]} == {"six layers"}
    assert {a.options["kind"] for a in arms[1::2]} == {"one layer"}
    if size == "live":
        assert not any("head" in a.options for a in arms)
        return
    assert all(len(a.rates) >= 3 for a in arms)
    assert [a.options["steps"] for a in arms[-4:]] == [2, 2, 1, 1]
    assert [a.options.get("head") for a in arms[-4:]] == [None, None, "4×4 regions", "average"]


def test_an_arm_is_trained_with_its_head(monkeypatch):
    """Otherwise the control would repeat what it is compared with."""
    spec, built = experiments.get("depth"), []
    digits, _ = data.load("digits")
    monkeypatch.setattr(depth, "images_of", lambda *_: (digits, digits, digits))
    monkeypatch.setattr(depth, "learn", lambda net, *_, **__: built.append(net) or {})
    settings = spec.sizes["desk"].settings
    for arm in spec.arms(settings)[-2:]:
        depth.train(arm.options, settings, 0.1, 0)
    wanted = ("six layers", "4×4 regions"), ("one layer", "average")
    assert [str(net) for net in built] == [str(depth.build(k, 16, head=h)) for k, h in wanted]


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


def result_of(make_result, cluttered, upright, heads=(0.0, 0.0)):
    """Six layers at 31 %, one layer higher by what is given for 100, 400, 1,600 and 6,400.

    `heads` is what exchanging them adds to the errors of six layers and of one, with 6,400 images.
    """
    changes = {}
    for task, leads in (("cluttered", cluttered), ("upright", upright)):
        for n, more in zip((100, 400, 1_600, 6_400), leads, strict=True):
            changes[f"one layer, {task}, {n}"] = {
                "test_error": errors(0.31 + more)["test_error"][::-1]
            }
            changes[f"six layers, {task}, {n}"] = errors(0.31)
    changes["six layers, cluttered, 6400, 4×4 regions"] = errors(0.31 + heads[0])
    changes["one layer, cluttered, 6400, average"] = errors(0.31 + cluttered[-1] + heads[1])
    return make_result("depth", changes, **AT_30)


def test_verdict_tells_where_depth_pays_where_not_and_where_nothing_is_shown(make_result):
    result = result_of(make_result, (0, 0.1, 0.2, 0.3), (-0.1, 0, 0, 0), (0.05, -0.1))
    assert result.verdict == (
        "With cluttered clothes, six layers are more accurate than one with as many "
        "parameters when trained on 400, 1,600 and 6,400 images, by up to 30.0 (25.0 to 35.0) with "
        "6,400; no difference is shown when both are trained on 100 images: 0.0 (−5.0 to 5.0); six "
        "layers trained on 100 images are more accurate than one on 6,400. With upright clothes, "
        "one layer is more accurate than six with as many parameters when trained on 100 "
        "images, by 10.0 (5.0 to 15.0); no difference is shown when both are trained on 400, 1,600 "
        "and 6,400 images: at most 0.0 (−5.0 to 5.0). With 6,400 cluttered images, the difference "
        "is 0.0 (0.0 to 0.0) after twice as many steps; after as many as before, it is 20.0 (20.0 "
        "to 20.0) if the average follows both networks, and 25.0 (20.0 to 30.0) if 4×4 regions "
        "follow both (percentage points, 95 % intervals)."
    )


def test_verdict_says_that_one_layer_does_not_fit_its_images_behind_the_average(make_result):
    result = result_of(make_result, (0, 0, 0, 0.3), (0,) * 4)
    assert "fit" not in result.verdict
    for run in result["one layer, cluttered, 6400, average"].runs:
        run["train_error"] = 0.62
    (own,) = {
        f"{100 * run['train_error']:.0f}" for run in result["six layers, cluttered, 6400"].runs
    }
    assert (
        " (one layer then does not fit its training images: training error 62 against "
        f"{own} %), and 30.0 (25.0 to 35.0) if 4×4 regions"
    ) in result.verdict


def test_caption_has_multiply_adds_of_both_networks_with_either_head():
    assert (
        " Multiply–adds per image of cluttered clothes: six layers 6.0 million (5.3 with 4×4 "
        "regions), one layer 2.0 million (4.2 with the average). "
    ) in experiments.load("depth").conditions


def test_verdict_the_other_way_round(make_result):
    told = result_of(make_result, (-0.1,) * 4, (-0.1,) * 4).verdict
    assert "six layers are more accurate" not in told
    assert told.count("one layer is more accurate than six") == 2


@pytest.mark.slow
def test_figure_names_both_networks_sets_and_the_controls(make_result):
    text = str(result_of(make_result, (0, 0, 0, 0.3), (0,) * 4, (0.05, -0.1)).plot())
    assert "cluttered clothes: six layers from 69.0 to 69.0 %; one layer from 69.0 to 39.0" in text
    assert "upright clothes" in text
    assert (
        "controls: cluttered clothes, 6,400 images: own heads: six layers 69.0 %, one layer 39.0 %;"
        " own heads, twice the steps: six layers 69.0 %, one layer 69.0 %; average in both: six "
        "layers 69.0 %, one layer 49.0 %; 4×4 regions in both: six layers 64.0 %, one layer 39.0 %"
    ) in text


@pytest.mark.slow
def test_live():
    result = experiments.run("depth", progress=False)
    assert [arm.runs[0]["steps"] for arm in result] == [250] * 4
    at = {arm.name: sum(arm.values("test_error")) / 3 for arm in result}
    assert at["six layers, cluttered, 2000"] < at["one layer, cluttered, 2000"] - 0.03
    assert at["six layers, cluttered, 2000"] < at["six layers, cluttered, 200"]
