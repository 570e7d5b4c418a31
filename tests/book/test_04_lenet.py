"""The chapter on LeNet: what it says in numbers, and what it showed when the book was built."""

import ast
import math

import pytest
from executed import ROOT, facts, number, printed, row, rows, table
from prose import above, percent, points, unsourced

from cnnbook import analysis, experiments, models

CHAPTER = ROOT / "chapters" / "04-lenet.ipynb"
SOLUTIONS = ROOT / "chapters" / "solutions" / "04-lenet.ipynb"
LENET = models.lenet5()

book = pytest.mark.book


def shares():
    """Return the shares of C5 in the parameters, and of C1 and C3 in the operations, as prose."""
    layers = {row["layer"]: row for row in analysis.summary(LENET, (1, 32, 32)).rows}
    total = {key: sum(row[key] for row in layers.values()) for key in ("parameters", "macs")}
    assert total == {"parameters": 61_706, "macs": 416_520}
    c5 = layers["c5"]["parameters"]
    early = layers["c1"]["macs"] + layers["c3"]["macs"]
    return [
        f"{c5:,} of the 61,706 parameters, {c5 / total['parameters']:.0%}".replace("%", " %"),
        f"{early:,} of the 416,520 multiply–adds, {early / total['macs']:.0%}".replace("%", " %"),
    ]


def recorded() -> list[str]:
    record = experiments.load("activation")

    def reaches(name: str, start: str = "own start") -> str:
        return percent(record[f"{name}, {start}"].compared)

    def more(*names: str) -> experiments.Interval:
        """By how much the first network's test error is above the second's."""
        return above(*(record[name].compared for name in names))

    own = {name: f"{name}, own start" for name in ("logistic sigmoid", "tanh", "ReLU")}
    sigmoid, tanh, relu = own.values()
    torchs = "torch's start"
    start = more(f"logistic sigmoid, {torchs}", sigmoid)
    assert min(more(sigmoid, relu).low, more(sigmoid, tanh).low, start.low) > 0
    assert more(tanh, relu).low > 0
    assert not more(f"tanh, {torchs}", f"ReLU, {torchs}").excludes_zero
    guessing = [tried for _, tried in record[f"logistic sigmoid, {torchs}"].tried.items()]
    assert len(guessing) == 4
    assert min(guessing) > 0.89  # too short to leave guessing
    assert record[relu].tried["0.3"] == 1
    assert record[f"ReLU, {torchs}"].tried["0.3"] > 0.89
    others = [record[f"{name}, own start"].compared for name in ("tanh", "scaled tanh", "ReLU")]
    assert all(0.045 < arm.interval("train_error").mean < 0.055 for arm in others)
    for arm in record:
        lost = [len(arm.runs) - len(arm.compared.runs), len(arm.runs)]
        assert lost == [int(arm.name == relu), 5]
    return [
        f"its test error is {reaches('logistic sigmoid')}, against {reaches('tanh')} with tanh, "
        f"{reaches('scaled tanh')} with the scaled tanh of 1998 and {reaches('ReLU')} with ReLU, "
        "where four of five runs survived",
        f"The sigmoid's error is {points(more(sigmoid, relu))} higher than ReLU's",
        f"and {points(more(sigmoid, tanh))} higher than tanh's",
        f"ends another {points(start)} higher",
        f"among the runs that survived, ReLU leads by {points(more(tanh, relu))}",
        f"the best of four had an error of {100 * min(guessing):.1f} %",
        f"a training error of {percent(record[sigmoid], 'train_error')}, the others about 5 %",
        "higher learning rate, 0.3, had",
        f"all five survived, with a test error of {reaches('ReLU', torchs)}",
        # The answer to a claim.
        f"a test error of {reaches('logistic sigmoid')}, against {reaches('scaled tanh')}",
    ]


def test_every_number_has_a_source():
    papers = ["0.95 %", "12.0 %", "4.7 %"]  # LeCun and others 1998, Figure 9
    assert unsourced(CHAPTER, recorded(), papers, shares()) == []


def test_the_run_that_died():
    arm = experiments.load("activation")["ReLU, own start"]
    (curves,) = (run["curves"] for run in arm.runs if run["test_error"] > 0.8)
    assert curves["train_loss"][2] < 0.5 < 2 < curves["train_loss"][3]  # "in its fourth epoch"
    assert min(curves["train_error"][3:]) > 0.89


def test_the_receptive_fields_drawn_lie_within_each_other():
    inner = None
    for layer in ("c1", "s2", "c3", "s4", "c5"):
        field = analysis.receptive_field(LENET, (1, 32, 32), layer)
        unit = [round(0.45 * (n - 1)) for n in field.positions]
        box = field.box(*unit)
        if inner is not None:
            for (low, high), (low_inside, high_inside) in zip(box, inner, strict=True):
                assert low <= low_inside < high_inside <= high
        inner = box


def test_exact_statements_of_the_prose():
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in LENET.named_children()}
    features = sum(sizes[name] for name in ("c1", "s2", "c3", "s4"))
    assert (features, sum(sizes.values()) - features) == (2_572, 59_134)
    assert round(1.7159 * math.tanh(2 / 3), 4) == 1
    assert 151_600 + 189_308 == 340_908
    assert f"{151_600 / 340_908:.0%} {241_600 / (241_600 + 189_308):.0%}" == "44% 56%"


@book
def test_numbers_agree_with_the_paper():
    text = printed(CHAPTER)
    assert "DIFFERS" not in text
    assert text.count("agrees") == 7
    assert "61,706 parameters in all" in text
    assert ("sum", "60,000", "340,908") in rows(CHAPTER)
    assert "1516 parameters instead of 2416" in text
    # Table I of the paper: the maps of C3 that the first map of S2 feeds
    assert "0 | × · · · × × × · · × × × × · × ×" in text


@book
def test_the_seven_layers_are_the_network_that_one_draws_on():
    assert facts(CHAPTER)["same_scores"] is True
    assert facts(CHAPTER)["answer"] == "0"


@book
def test_sharing_saves_parameters_and_maps_shift_with_the_image():
    found = facts(CHAPTER)
    assert (found["shared"], found["fully_connected"]) == (156, 1024 * 4704 + 4704)
    assert found["largest_difference"] < 1e-5


@book
def test_c5_is_a_convolution_that_equals_a_fully_connected_layer():
    assert facts(CHAPTER)["same_as_fully_connected"] is True
    assert facts(CHAPTER)["output_on_a_line"] == [1, 120, 1, 33]


@book
def test_training_gives_kernels_a_direction():
    found = facts(CHAPTER)
    assert found["ramp_before"] < 0.15
    assert found["ramp_after"] > 2 * found["ramp_before"]


@book
def test_patches_of_a_row_are_alike_and_mostly_so_before_training():
    trained, untrained = (
        [number(cell.replace("−", "-")) for cell in row(CHAPTER, name)[1:]]
        for name in ("trained", "untrained")
    )
    assert trained[0] > trained[1] + 0.2
    assert untrained[0] > untrained[1] + 0.2
    assert untrained[0] > trained[0] / 2


@book
def test_learned_features_are_worth_more_than_pixels():
    found = facts(CHAPTER)
    assert found["test_accuracy"] > 0.8
    assert found["mistakes_within_tops_or_shoes"] > 0.75
    # and by less than the 11 points on handwritten digits
    assert found["from_pixels"] + 0.01 < found["from_learned_features"] < found["from_pixels"] + 0.1
    assert found["from_untrained_features"] + 0.02 < found["from_learned_features"]


@book
def test_hardly_any_gradient_passes_a_sigmoid_network():
    sigmoid, tanh, relu = map(number, row(CHAPTER, "c1.0.weight")[1:])
    assert 30 * sigmoid < relu < tanh


@book
def test_the_sigmoid_needs_its_start():
    alts = [line for line in printed(CHAPTER).splitlines() if "Validation error by epoch" in line]
    _, alt = alts  # recorded, and run on the page
    own, torchs = alt.split("orch's initial weights: ")
    sigmoid, *others = [float(part.split()[0]) for part in own.split(" ends at ")[1:]]
    assert len(others) == 3
    assert max(others) < sigmoid < 50 < 80 < number(torchs.split(" ends at ")[1])


@book
def test_solutions():
    text = printed(SOLUTIONS)
    assert "61,706 parameters" in text
    assert "1998: 151,600 connections, 44% of all" in text
    assert "full: 241,600 connections, 56% of all" in text
    assert "f(1) = 1.0000" in text
    positions = text.split("those of the five images: ")[1].splitlines()[0]
    assert ast.literal_eval(positions) == [[0], [8], [16], [24], [32]]
    (alt,) = [line for line in text.splitlines() if "Test accuracy against shift" in line]
    without, far = [float(part.split("%")[0].split()[-1]) for part in alt.split(" without, ")]
    assert without > 75
    assert far < 50
    assert len(table(SOLUTIONS, "pooling")) == 2
