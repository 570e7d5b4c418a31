"""What the ResNet chapter says, and what it printed when the book was built."""

import math
import re
import statistics
from pathlib import Path

import pytest
from executed import column, facts, printed, row, rows, table
from prose import above, percent, points, text_of, unsourced

from cnnbook import experiments
from cnnbook.experiments import learning

CHAPTER = Path(__file__).parents[2] / "chapters" / "08-resnet.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name


DEEP_LONGER = "plain-56, 2 times the steps"


def without_one(arm: experiments.ArmResult) -> tuple[str, str, str]:
    """Return the test error of the whole network, without the median block, and the worst."""
    removed = arm.values("removed")
    blocks = zip(*(run["errors"] for run in removed), strict=True)
    errors = [statistics.fmean(block) for block in blocks]
    whole = statistics.fmean(run["whole"] for run in removed)
    found = (whole, statistics.median(errors), max(errors))
    return tuple(f"{100 * value:.1f} %" for value in found)


def tuned_for(times: int) -> int:
    """Return in runs of how many steps the learning rates were chosen."""
    runs = experiments.degradation.SIZES["desk"].tuning
    return times * runs["epochs"] * math.ceil(runs["images"] / learning.BATCH_SIZE)


def live_steps() -> int:
    live = experiments.degradation.SIZES["live"].settings
    return live["epochs"] * live["images"] // learning.BATCH_SIZE


def recorded() -> list[str]:
    record = experiments.load("degradation")

    def train(name: str) -> str:
        return percent(record[name], "train_error")

    def change(first: str, second: str, key: str = "train_error") -> experiments.Interval:
        return above(record[first], record[second], key)

    deep, shallow, longer = record["plain-56"], record["plain-20"], record[DEEP_LONGER]
    assert min(deep.tried, key=deep.tried.get) == f"{deep.lr}"
    assert min(longer.tried, key=longer.tried.get) == f"{longer.lr}"
    tried = record["residual-56"].tried
    assert min(tried, key=tried.get) == f"{deep.lr}" == f"{record['residual-56'].lr}"
    taken = [arm.values("steps")[0] for arm in (deep, longer)]
    less = change(DEEP_LONGER, "plain-56")
    assert not less.excludes_zero
    assert less.mean < 0
    gain, interval = points(less).split(" (95 % interval ")
    worse, still = change("plain-56", "plain-20"), change(DEEP_LONGER, "plain-20")
    assert worse.low > 0
    assert still.low > 0
    for key in ("train_error", "test_error"):  # too small for three seeds
        assert not change("residual-56", "residual-20", key).excludes_zero
    whole, median, worst = without_one(record["residual-56"])
    plain_whole, plain_median, _ = without_one(deep)
    longer_whole, longer_median, _ = without_one(longer)
    trained = [train(name) for name in ("plain-56", "plain-20", "residual-56", "residual-20")]
    return [
        # The opening, and the answer to the first claim.
        f"20 plain layers end with a training error of {trained[1]}, 56 plain layers with "
        f"{train(DEEP_LONGER)}, even after twice the steps, and 56 residual layers with "
        f"{trained[2]}",
        f"20 plain layers end with a training error of {trained[1]}, and 56, after twice as many "
        f"steps, with {train(DEEP_LONGER)}",
        f"Plain-20 ends with a training error of {trained[1]}. Plain-56 has {train(DEEP_LONGER)} "
        f"even after twice the steps, {points(still)} more",
        f"After as many steps as plain-20, it has {trained[0]}, {points(worse)} more.",
        f"trial runs of {tuned_for(1)} steps chose {deep.lr} (as for residual-56), and those of "
        f"{tuned_for(2)} steps, for the longer run, {longer.lr}.",
        f"is lower by {gain} on average, but three seeds do not establish this (95 % interval of "
        f"the change: {interval}",
        "take {:.0f} to {:.0f} times as many steps".format(*(n / live_steps() for n in taken)),
        f"{percent(longer)} with twice the steps and {percent(deep)} without, "
        f"against {percent(shallow)} for plain-20",
        "56 layers end with a training error of {2}, 20 layers with {3}".format(*trained),
        f"residual-56 has {percent(record['residual-56'])} and residual-20 has "
        f"{percent(record['residual-20'])}",
        f"rises from {whole} to {median} for the median block",
        f"the error is {worst} on average over three networks",
        f"from {plain_whole} to {plain_median}, close to the 90 % of guessing; in the "
        f"plain-56 that took twice the steps, from {longer_whole} to {longer_median}.",
    ]


PAPERS = [
    "27.94 % with 18 plain layers and 28.54 % with 34",
    "34 layers had 25.03 %",
    "from 6.61 % to 7.84 %",
    "is 6.37 %",
    "a top-5 error of 3.57 %",
    "8.75 % with 20 layers to 6.97 % with 56",
    "at least 3.51 points",
    "0.84 points apart",
    "3.6 billion for 34 layers",
    "11.3 billion multiply–adds, fewer than the 15.3 billion",
    "24.52 % with 34 layers to 21.43 % with 152",
    "8.75 % with 20 layers to 6.43 % with 110",
    "mean is 6.61 %",
    "7.93 % with 1,202",
    # In the answers to the article's claims.
    "24.52 % with 34 residual layers to 21.43 % with 152",
    "24.52 % with 34 layers, 22.85 % with 50, 21.75 % with 101 and 21.43 % with 152",
    "6.43 % with 110 layers",
    "a top-1 error of 25.03 %, the plain network 28.54 %",
    "a top-1 error of 24.52 %",
    "Section 4.1)",
    "Section 5.1)",
]
EXACT = ["16.9 times fewer", "within 2 %"]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded(), PAPERS, EXACT) == []


def test_numbers_that_follow_from_others():
    assert f"{28.54 - 25.03:.2f} {25.03 - 24.19:.2f}" == "3.51 0.84"
    two_convolutions, bottleneck = (
        784 * 2 * 9 * 256**2,
        784 * (2 * 256 * 64 + 9 * 64**2),
    )
    assert (two_convolutions, bottleneck) == (924_844_032, 54_591_488)
    assert 784 * 2 * 9 * 64**2 == 57_802_752
    assert f"{two_convolutions / bottleneck:.1f}" == "16.9"


def test_lengths_of_the_live_runs_are_as_said():
    text = CHAPTER.read_text()
    assert f"and {live_steps()} steps" in text_of(CHAPTER)
    images, epochs, batch = (
        int(re.search(pattern, text)[1])
        for pattern in (
            r"train, test = halved\(train\)\[:(\d+)\]",
            r'"epochs\\": cnnbook.choose\(cpu=(\d+)',
            r'"batch_size\\": cnnbook.choose\(cpu=(\d+)',
        )
    )
    assert f"take only {epochs * math.ceil(images / batch)} steps" in text_of(CHAPTER)
    assert "a quarter of the paper's width" in text_of(CHAPTER)
    assert "width = cnnbook.choose(cpu=0.25, gpu=1)" in text


@pytest.mark.book
def test_networks_of_the_notebook_equal_those_of_the_package():
    found = facts(CHAPTER)
    assert found["identical_outputs"] is True
    assert found["parameters"] == 295_424
    assert {r["MACs of each"] for r in table(CHAPTER, "output", "convolutions")} == {"2,359,296"}


@pytest.mark.book
def test_published_networks_have_the_papers_numbers():
    family = {
        ("18", "BasicBlock", "5", "3", "11,689,512"),
        ("34", "BasicBlock", "13", "3", "21,797,672"),
        ("50", "Bottleneck", "12", "4", "25,557,032"),
        ("101", "Bottleneck", "29", "4", "44,549,160"),
        ("152", "Bottleneck", "46", "4", "60,192,808"),
    }
    assert family <= {cells[:5] for cells in rows(CHAPTER)}
    for r in table(CHAPTER, "layers", "block"):
        ours, theirs = float(r["billion MACs"]), float(r["in the paper"])
        assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.book
def test_identities_are_exact():
    found = facts(CHAPTER)
    assert found["largest_difference"] == 0  # of a deep network with added identities
    assert found["zero_start_before_training"] == 0


@pytest.mark.book
def test_deep_plain_networks_are_worse_in_the_live_run():
    assert facts(CHAPTER)["deep_plain_is_worse_than_shallow_plain"] is True
    assert facts(CHAPTER)["deep_plain_is_worse_than_deep_residual"] is True


@pytest.mark.book
def test_training_moves_away_from_zero_and_not_to_it():
    found = facts(CHAPTER)
    assert found["zero_start_smallest_after_training"] > 0.02
    assert found["usual_start_smallest_after_training"] > 0.2
    assert found["usual_start_share_that_shrank"] > 0.5


@pytest.mark.book
def test_shortcuts_lift_singular_values_but_not_all_above_one():
    alone, lifted, whole = (
        [float(cell.rstrip("%")) for cell in row(CHAPTER, name)[1:]]
        for name in ("F′ alone", "F′ + I, with the shortcut", "the whole block")
    )
    for a, b, c in zip(alone, lifted, whole, strict=True):
        assert 10 < b < c < a


@pytest.mark.book
def test_gradients_vanish_only_without_normalization():
    def gradient(network: str) -> tuple[float, float]:
        shallow, deep = row(CHAPTER, network)[1:]
        return float(shallow), float(deep)

    plain, residual = gradient("plain"), gradient("residual")
    assert plain[1] > 10 * residual[1]  # it grows, and more than the residual one's
    assert plain[1] > 10 * plain[0]
    vanishing, kept = gradient("plain, not normalized"), gradient("residual, not normalized")
    assert vanishing[1] < 1e-12
    assert 0.1 < kept[1] / kept[0] < 10
    he = {n: gradient(f"{n}, not normalized, He's weights") for n in ("plain", "residual")}
    assert he["plain"][1] > 1e6 * vanishing[1]
    assert he["residual"][1] > 10 * he["residual"][0]


@pytest.mark.book
def test_gradients_of_the_deep_plain_network_are_shattered():
    one, five = (
        column(CHAPTER, name, "network", "after 1 step")
        for name in ("after 1 step", "after 5 steps")
    )
    plain, residual = "plain, 8 layers", "residual, 8 layers"
    assert one[residual] > one[plain] > 0.7  # "the direction changes slowly"
    assert five[residual] > five[plain] > 0.25  # "still far from zero"
    for cosine in (one, five):
        assert abs(cosine["plain, 44 layers"]) < 0.15
    assert 0.25 < one["residual, 44 layers"] < one[plain]
    assert abs(five["residual, 44 layers"]) < 0.15  # "a narrow band"


@pytest.mark.book
def test_solutions_are_right():
    text, found = printed(SOLUTIONS), facts(SOLUTIONS)
    assert "DIFFERS" not in text
    assert text.count("agrees") == 2
    assert "pre-activation: identity True" in text
    assert "of the chapter: identity False" in text
    assert "of the chapter: relu(x) True" in text
    assert found["option_c_is_nearer_to_plain"] is True
    assert found["residual_rises_step_by_step"] is True
    at_first = "rise_of_{}_at_the_first_block"
    assert found[at_first.format("plain")] > found[at_first.format("residual")]
