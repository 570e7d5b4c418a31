"""What the chapter on depth says, and what it printed when the book was built."""

from pathlib import Path

import pytest
import torch
from executed import column, facts, number, row, rows, table
from prose import above, percent, points, unsourced

from cnnbook import data, experiments, models
from cnnbook.experiments.depth import build

CHAPTER = Path(__file__).parents[2] / "chapters" / "01-depth.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name


def recorded() -> list[str]:
    record = experiments.load("depth")

    def reaches(kind: str, *where: str | int) -> str:
        return percent(record[", ".join(map(str, (kind, *where)))], accuracy=True)

    def lead(task: str, images: int, ending: str = "") -> experiments.Interval:
        return experiments.depth.lead(record, task, images, ending)

    most, longer = lead("cluttered", 6_400), lead("cluttered", 6_400, ", twice the steps")
    average, regions = (
        experiments.depth.lead_with(record, head) for head in ("average", "4×4 regions")
    )
    named = {
        "one layer": "one layer, cluttered, 6400",
        "one layer, longer": "one layer, cluttered, 6400, twice the steps",
        "one layer, average": "one layer, cluttered, 6400, average",
        "six layers": "six layers, cluttered, 6400",
        "six layers, regions": "six layers, cluttered, 6400, 4×4 regions",
    }
    errors = {label: percent(record[name], "train_error") for label, name in named.items()}
    assert min(average.mean, regions.mean) > most.mean / 2  # "most of the lead remains"
    better = [
        above(record[regions], record[average], pairs=True)
        for average, regions in (
            ("six layers, cluttered, 6400", "six layers, cluttered, 6400, 4×4 regions"),
            ("one layer, cluttered, 6400, average", "one layer, cluttered, 6400"),
        )
    ]
    assert min(change.low for change in better) > 0  # "the better head for either"
    few = lead("upright", 100)
    assert few.high < 0  # the single layer leads
    assert all(lead("cluttered", n).low > 0 for n in (400, 1_600, 6_400))
    open_ones = [("cluttered", 100), *(("upright", n) for n in (400, 1_600, 6_400))]
    assert not any(lead(*where).excludes_zero for where in open_ones)
    deep, shallow = (reaches(kind, "cluttered", 6_400) for kind in ("six layers", "one layer"))
    fewer = reaches("six layers", "cluttered", 1_600)
    more_steps = reaches("one layer", "cluttered", 6_400, "twice the steps")
    assert float(fewer.split()[0]) > float(shallow.split()[0])
    return [
        f"an accuracy of {deep}; a one-layer network with about as many parameters reaches "
        f"{shallow}",
        f"an accuracy of {deep} and one layer {shallow}, a lead of {points(most)}",
        f"six layers have {fewer}",
        f"it has {more_steps}, no more than before, while its training error falls from "
        f"{errors['one layer']} to {errors['one layer, longer']}; with twice "
        f"the steps for both, the lead is {points(longer)}",
        f"(training error {errors['one layer, average']}, six layers {errors['six layers']})",
        f"than six layers ({errors['one layer'].removesuffix(' %')} against "
        f"{errors['six layers, regions']}), but generalizes worse",
        f"when both networks have the same head (last panel): {points(average)} with the average, "
        f"and {points(regions)} with the 4×4 regions",
        f"it adds {points(better[0])} to the accuracy of six layers and {points(better[1])} to "
        "that of one",
        f"the single layer leads by {points(few)}",
        # The answers to claims.
        f"an accuracy of {shallow} with 6,400 images, six layers with as many parameters {fewer}",
        f"six layers lead by {points(most)} with 6,400 images",
        f"one layer leads by {points(few)} with 100 images",
        f"the lead on cluttered clothes remains {points(average)} or {points(regions)}",
        *of_the_first_layer(),
    ]


def of_the_first_layer() -> list[str]:
    record = experiments.load("first_layer")

    def ahead(task: str, source: str) -> experiments.Interval:
        """By how much filters from one photograph are ahead of others."""
        return above(record[f"{task}: {source}"], record[f"{task}: one photograph"], pairs=True)

    clear = {
        (task, source): change
        for task in record.settings["sets"]
        for source in record.settings["sources"]
        if source != "one photograph" and (change := ahead(task, source)).excludes_zero
    }
    assert len(record.settings["sets"]) * (len(record.settings["sources"]) - 1) == 10
    trained, many, blurred, many_upright = (
        clear.pop(pair)
        for pair in (
            *(("cluttered", "the same few labels"), ("cluttered", "many labels")),
            *(("upright", "blurred random numbers"), ("upright", "many labels")),
        )
    )
    assert clear == {}
    assert max(trained.high, many.high, blurred.high, many_upright.high) < 0
    own = percent(record["cluttered: one photograph"], accuracy=True)
    edges = ahead("cluttered", "random numbers")
    assert edges.low < 0 < 3 < 100 * edges.high  # "a gain of a few points is not excluded"
    few_upright = above(
        record["upright: one photograph"], record["upright: the same few labels"], pairs=True
    )
    assert not few_upright.excludes_zero  # "no gain"
    return [
        f"reaches an accuracy of {own} with them",
        f"the measured lead over random filters is {points(edges)}",
        f"is trained too is {points(trained)} ahead of the edges, one from many labels "
        f"{points(many)}",
        "not even training the first layer on the same few labels shows a gain over the edges: "
        f"{points(few_upright)}",
        f"Blurred random filters are {points(blurred)} ahead of the edges, a layer from many "
        f"labels {points(many_upright)}",
        f"reaches an accuracy of {own} on cluttered clothes, not shown to differ",
        f"a small network was {points(trained)} less accurate",
        f"A first layer that is trained too is {points(trained)} ahead",
    ]


PAPERS: list[str] = []
EXACT = [
    "1.28 million",
    # Of the trained network and the photograph, which do not change: the notebook shows them.
    "above 95 % of its values",
    "the 95 % confidence interval of a difference",
    "of ten 95 % intervals",
    "0.82 times as far",
    "measured by the last stage, 0.22 times",
    "1.74",
    "it is 2.20",
    "0.16 in stage 7, and is 0.22 in stage 9",
    "at most 0.13 in stage 1",
    "at 0.15 to 0.33",
    "at most 0.17, and 0.00 for the mirrored cat",
    "within 0.33",
    "get 91 to 98 %",
    "only 1 to 29 %, and in tiles of 16×16 pixels 0 %",
    "72.7 % for pixels to 85.0 % in stage 5, then falls to 70.7 % in stage 9",
    "78.3 %",
    "accuracy falls to 16.0 %",
    "edges make up 24 %",
    "about 42 %",
    # 1.96 standard errors of a share of 0.7 to 0.85 among 300 images.
    "by about 5 points",
    "spots make up 32 %",
    "chance gives 11 %",
    "and edges 20 %",
    "7.7 and 2.8 on average, with standard deviations of 2.4 and 1.6",
    "a standard deviation of 7 points",
    # A definition.
    "2.98 times",
    "1.43 times",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded(), PAPERS, EXACT) == []


def test_costs_of_both_networks():
    """Parameters nearly equal, and three times the multiply–adds, or less with equal heads."""
    deep, shallow = build("six layers", 16), build("one layer", 16)
    count = [sum(p.numel() for p in net.parameters()) for net in (deep, shallow)]
    assert count == [72_666, 72_741]
    w, sides = 16, (32, 16, 16, 8, 8, 8)
    pairs = ((1, w), (w, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w))
    macs = sum(9 * a * b * side**2 for (a, b), side in zip(pairs, sides, strict=True)) + 640
    kernels = shallow[0].out_channels
    assert macs == 6_046_336
    assert (one := kernels * (121 * 8**2 + 16 * 10)) == 2_031_328
    assert f"{macs / one:.2f}" == "2.98"
    kernels = build("one layer", 16, head="average")[0].out_channels
    assert f"{macs / (kernels * (121 * 8**2 + 10)):.2f}" == "1.43"


@pytest.mark.slow
def test_shares_of_the_first_kernels():
    net = models.create("efficientnet_lite0", weights="imagenet")
    kernels = net.stage1[0][1].weight.detach().sum(1)
    i, j = torch.meshgrid(*[torch.arange(-1.0, 2)] * 2, indexing="ij")
    spot = i**2 + j**2 - 4 / 3
    found = [
        sum(((kernels * s / s.norm()).sum((1, 2)) ** 2).sum() for s in shapes)
        / kernels.square().sum()
        for shapes in ([spot], [i, j])
    ]
    assert [f"{share:.0%}" for share in found] == ["32%", "20%"]
    slopes = sum(((kernels * s / s.norm()).sum((1, 2)) ** 2) for s in (i, j))
    each = slopes / kernels.square().sum((1, 2))
    assert [len(each), int((each >= 1 / 3).sum()), int((each > 1 / 2).sum())] == [32, 8, 3]


def test_edges_among_random_kernels():
    """Two of nine equal parts: the share has the distribution Beta(1, 7/2)."""
    chances = [(1 - share) ** 3.5 for share in (1 / 3, 1 / 2)]
    assert " and ".join(f"{32 * p:.1f}" for p in chances) == "7.7 and 2.8"
    assert " and ".join(f"{(32 * p * (1 - p)) ** 0.5:.1f}" for p in chances) == "2.4 and 1.6"
    # Of eight kernels together: Beta(8, 28).
    eight = torch.distributions.Beta(8.0, 28.0)
    assert f"{eight.mean:.0%} ± {eight.stddev:.0%}" == "22% ± 7%"


def test_edges_of_the_photograph():
    gray = data.photo("cat").double().mean(0)
    # The slopes of Prewitt: differences of sums over three pixels, two pixels apart.
    down = sum((gray[2:] - gray[:-2])[:, k : gray.shape[1] - 2 + k] for k in range(3)) / 6
    across = sum((gray[:, 2:] - gray[:, :-2])[k : gray.shape[0] - 2 + k] for k in range(3)) / 6
    slope = torch.hypot(down, across)
    assert slope.numel() == 133_802
    assert int((slope > 10).sum()) == pytest.approx(21_954, abs=3)


@pytest.mark.book
def test_the_network_is_its_stages_and_says_cat():
    found = facts(CHAPTER)
    assert found["same_scores"] is True
    assert found["best_three"] == ["Egyptian cat", "tiger cat", "tabby"]


@pytest.mark.book
def test_eyes_stand_out_in_the_trained_network():
    """The counts of the prose; another version of torch may move one across a limit."""
    for network, expected in {"trained": (55, 32, 17, 3), "untrained": (18, 37, 4, 4)}.items():
        found = [int(cell) for cell in row(CHAPTER, network)[1:]]
        assert found == pytest.approx(expected, abs=2)
    assert max(facts(CHAPTER)["at_other_pairs_of_positions"]) <= 10


@pytest.mark.book
def test_faces_are_found_by_the_units_whose_images_show_them():
    found = facts(CHAPTER)
    assert found["squares_of_the_cat"] == 6
    assert sorted(found["squares_for_451"]) == [0, 1, 2, 3, 4, 5]
    first, then = found["squares_for_1156"][:3], found["squares_for_1156"][3:5]
    assert max(first) < 6
    assert sorted(then) == [10, 11]  # the portrait's, with eyes
    assert sum(number < 6 for number in found["squares_for_1060"][1:3]) == 0
    assert found["cat_squares_among_the_six_untrained"] == pytest.approx([0, 2, 0], abs=1)


@pytest.mark.book
def test_only_strides_and_missing_padding_shrink():
    assert ("3×3, padded by 1", "28", "28", "28") in rows(CHAPTER)
    assert ("3×3, not padded", "26", "24", "8") in rows(CHAPTER)
    assert ("3×3, padded, stride 2", "14", "7", "1") in rows(CHAPTER)


@pytest.mark.book
def test_light_matters_less_with_depth_and_the_mean_does_the_rest():
    changes = ("in half the light", "turned by 20°", "shifted by 28 pixels", "mirrored")
    found = {change: [float(cell) for cell in row(CHAPTER, change)[1:]] for change in changes}
    pixels, color, first, *between, last, _ = found["in half the light"]
    assert pixels == pytest.approx(0.82, abs=0.005)
    assert last == pytest.approx(0.22, abs=0.01)
    assert between[-1] == pytest.approx(0.16, abs=0.01)
    assert first == pytest.approx(1.74, abs=0.01)
    assert color == pytest.approx(2.2, abs=0.01)
    assert sorted([first, *between], reverse=True)[:3] == [first, *between][:3]
    assert max(values[6] for values in found.values()) == pytest.approx(0.33, abs=0.01)
    for values in found.values():
        assert values[7] > 0.9
    moved = [values for change, values in found.items() if change != "in half the light"]
    assert all(
        values[1] < 0.175 and values[2] < 0.135 and values[6] > values[2] for values in moved
    )
    lasts = [values[6] for values in moved]
    assert [min(lasts), max(lasts)] == pytest.approx([0.15, 0.33], abs=0.01)
    assert found["mirrored"][1] == 0


@pytest.mark.book
def test_shuffling_matters_more_from_stage_to_stage():
    for side in (56, 28):
        name = f"{(224 // side) ** 2} tiles of {side}×{side}"
        (values,) = (
            [float(c) for c in r[1:]] for r in rows(CHAPTER) if r[0] == name and len(r) == 9
        )
        stages = values[2:7]
        assert stages == sorted(stages)
        (chance,) = (r for r in rows(CHAPTER) if r[0] == name and len(r) == 3)
        lowest, highest = map(number, chance[1:])
        expected = (91, 98) if side == 56 else (1, 29)
        assert (lowest, highest) == pytest.approx(expected, abs=2)


@pytest.mark.book
def test_training_is_what_makes_the_class_readable():
    found = facts(CHAPTER)
    values = {
        **{"pixels": 0.727, "trained_best": 0.85, "trained_last": 0.707},
        **{"untrained_best": 0.783, "untrained_last": 0.16},
    }
    assert {key: found[key] for key in values} == pytest.approx(values, abs=0.01)
    assert found["trained_best_at"] == "stage5"
    assert found["trained_best"] > found["pixels"] + 0.05
    assert found["trained_best"] > found["trained_last"]
    assert found["untrained_best_at"] in ("stage1", "stage3")
    assert found["untrained_last"] < found["pixels"] - 0.1


@pytest.mark.book
def test_training_makes_edges_in_the_small_network():
    before, trained = (
        column(CHAPTER, f"small, {when}", "part", "random kernels")
        for when in ("before", "trained")
    )
    assert max(trained, key=trained.get) == "edges"
    assert trained["edges"] == pytest.approx(42, abs=4)
    assert before["edges"] == 24
    names = ("kernels", "edges_a_third_or_more", "edges_more_than_half")
    assert [facts(CHAPTER)[name] for name in names] == [32, 8, 3]
    assert facts(CHAPTER)["parameters"] == 18_482


@pytest.mark.book
def test_depth_pays_on_cluttered_clothes_in_the_live_run():
    assert facts(CHAPTER)["six_layers_lead_in_every_run"] is True


@pytest.mark.book
def test_edges_are_counted():
    found = facts(CHAPTER)
    assert found["edges"] == pytest.approx(21_954, abs=3)
    assert found["positions"] == 133_802


@pytest.mark.book
def test_solutions_are_right():
    found = facts(SOLUTIONS)
    assert found["agree"] is True
    assert found["sees"] == 13
    assert [r["by code"] for r in table(SOLUTIONS, "convolution", "field")] == ["agrees"] * 6
    assert found["all_learned_beat_all_random"] is True
    assert found["freezing_all_costs"] is True
    shares = column(SOLUTIONS, "share", "filters from")
    assert min(shares["cat"], shares["rocket"]) > max(shares["noise"], shares["random"])


@pytest.mark.book
def test_the_cat_needs_no_eyes():
    found = column(SOLUTIONS, "a cat", "picture")
    assert found["without its eyes"] > found["the cat"] - 2
    expected = {"the cat": 88, "without its eyes": 92, "nothing but its eyes": 10}
    assert found == pytest.approx(expected, abs=3)


@pytest.mark.book
def test_six_layers_lead_with_either_head_in_the_solution():
    found = {
        (r["layers"], r["head"]): number(r["accuracy"]) for r in table(SOLUTIONS, "layers", "head")
    }
    for head in ("average", "4×4"):
        assert found["six layers", head] > found["one layer", head]


@pytest.mark.book
def test_accuracies_with_frozen_layers_in_the_solution():
    found = facts(SOLUTIONS)
    (two, two_random), (six, six_random) = found["two_frozen"], found["six_frozen"]
    none = found["none_frozen"]
    assert abs(two - two_random) < 6
    assert six - six_random > 15
    assert max(six, six_random) < none < two
    assert found["images_learned_from"] == [5_000, 1_000]
