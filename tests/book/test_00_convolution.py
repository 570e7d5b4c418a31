"""What the opening chapter showed when the book was built, and the arithmetic in its prose."""

import math

import pytest
from executed import ROOT, facts, number, outputs, printed, row, said, table
from prose import minutes, unsourced, visible_lines

CHAPTER = ROOT / "chapters" / "00-convolution.ipynb"
SOLUTIONS = ROOT / "chapters" / "solutions" / "00-convolution.ipynb"


def test_every_number_has_a_source():
    exact = [f"about {math.log(2):.3f}", "multiplied by 0.9", "−0.2 and 0.2", "0.0005, 0.05"]
    exact += ["is above 0.4", "A probability of 99 %"]
    assert unsourced(CHAPTER, exact=exact) == []


def test_the_chapter_is_short():
    assert minutes(CHAPTER, before="## Exercises") <= 15  # as its title promises
    assert visible_lines(CHAPTER) <= 170


@pytest.mark.book
def test_the_chapter_begins_with_the_explorer():
    views = [o for o in outputs(CHAPTER) if "widget-view" in " ".join(o.get("data", {}))]
    explorer = views[0]["data"]["text/plain"]
    assert explorer == "<Explorer of 432 states (kernel: 3, stride: 2, padding: 2, position: 36)>"
    assert (
        "Position 10 of 16: − 0·1 + 9·1 − 0·1 + 9·1 − 0·1 + 9·1 = 27"
        in views[0]["data"]["text/html"]
    )


@pytest.mark.book
def test_the_loop_over_positions_equals_torch():
    assert facts(CHAPTER)["same_as_torch"] is True
    assert facts(CHAPTER)["size"] == "28×28 → 26×26"


@pytest.mark.book
def test_the_formula_gives_every_size():
    cases = table(CHAPTER, "input", "kernel", "stride", "padding")
    assert [case["formula"] for case in cases] == [case["conv2d"] for case in cases]
    assert [int(case["conv2d"]) for case in cases] == [26, 28, 14, 28, 2, 55, 112]


@pytest.mark.book
def test_softmax_and_cross_entropy():
    z = (2, 1, -1)
    total = sum(map(math.exp, z))
    for c, shown in enumerate(table(CHAPTER, "class", "score", "probability")):
        p = math.exp(z[c]) / total
        assert number(shown["probability"]) == pytest.approx(p, abs=6e-4)
        assert number(shown["loss if it is true"]) == pytest.approx(-math.log(p), abs=6e-4)
        slope = number(shown["derivative if 0 is true"].replace("−", "-"))
        assert slope == pytest.approx(p - (c == 0), abs=6e-4)


@pytest.mark.book
def test_autograd_prints_what_the_table_computes():
    assert "for w1: 12, for w2: 6" in printed(CHAPTER)


@pytest.mark.book
def test_pooling_keeps_the_largest():
    assert "[[5, 2], [2, 7]]" in printed(CHAPTER)
    assert "feature maps (1, 3, 48, 48)" in printed(CHAPTER)


@pytest.mark.book
def test_parameters_of_the_network():
    assert row(CHAPTER, "0", "Conv2d")[-1] == "208"
    assert row(CHAPTER, "3", "Conv2d")[-1] == "1,168"
    assert row(CHAPTER, "7", "Linear")[-1] == "4,010"
    assert 208 + 1168 + 4010 == 5386


@pytest.mark.book
def test_one_step_lowers_the_loss():
    before, after = facts(CHAPTER)["before"], facts(CHAPTER)["after"]
    assert before == pytest.approx(math.log(10), abs=0.1)
    assert after < before


@pytest.mark.book
def test_fit_ends_at_the_same_weights_as_the_loop_written_out():
    assert facts(CHAPTER)["largest_difference"] == 0


@pytest.mark.book
def test_the_network_learns():
    losses = [number(said(CHAPTER, f"epoch {n}: loss")) for n in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)
    assert number(said(CHAPTER, "test accuracy")) >= 75
    assert facts(CHAPTER)["mistakes_among_tops"] > 0.5
    assert facts(CHAPTER)["largest_weight"] > 2 * 0.2


@pytest.mark.book
def test_some_kernels_respond_to_changes_only_and_others_to_black_as_well():
    assert facts(CHAPTER)["respond_to_black"] >= 1
    assert facts(CHAPTER)["respond_to_even_areas"] <= 6  # "some kernels", of eight


@pytest.mark.book
def test_solutions():
    shown = facts(SOLUTIONS)
    assert shown["mirrored_with_other_signs"] is True
    assert shown["same_as_torch"] is True
    assert shown["size"] == "5×5"
    assert shown["one_kernel_is_enough"] is True
    assert shown["linear_with_relu"] is False
    assert "1 [[0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0]]" in printed(SOLUTIONS)
    assert "2 [[0.0, 0.0], [0.0, 0.0]]" in printed(SOLUTIONS)
    assert "73,856 parameters, 57,802,752 multiplications" in printed(SOLUTIONS)
    slow, good, wild = (
        number(rate["mean of the last 20 losses"])
        for rate in table(SOLUTIONS, "learning rate", "mean of the last 20 losses")
    )
    assert good < slow < math.log(10)
    assert not wild < math.log(10)  # it may not be a number
