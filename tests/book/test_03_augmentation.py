"""The chapter on augmentation: what it says in numbers, and what it showed when it was built."""

import pytest
from executed import ROOT, facts, number, printed, row, table
from prose import above, percent, points, unsourced

from cnnbook import data, experiments
from cnnbook.experiments.augmentation import HALF_TURN, LONGER, NOTHING, TOGETHER

CHAPTER = ROOT / "chapters" / "03-augmentation.ipynb"
SOLUTIONS = CHAPTER.parent / "solutions" / CHAPTER.name

book = pytest.mark.book

TURNED, SHIFTED = "turned by up to 15°", "shifted by up to 10 %"
ALONE = ("scaled by 0.9 to 1.1", "mirrored")


def change(
    task: str, images: int, what: str = TOGETHER, key: str = "test_error", control: str = LONGER
) -> experiments.Interval:
    """By how much a change lowers the error, against a control that the prose names."""
    record = experiments.load("augmentation")
    first, second = (record[f"{task}, {images}: {arm}"] for arm in (control, what))
    return above(first, second, key, pairs=True)


def both(task: str, images: int, what: str = TOGETHER) -> tuple[experiments.Interval, ...]:
    """The change against either control: what is called shown has to be so against both."""
    return tuple(change(task, images, what, control=control) for control in (NOTHING, LONGER))


def lost_by_seed(key: str) -> list[float]:
    """By how much turning digits by up to 180° raises each seed's error."""
    record = experiments.load("augmentation")
    turned, straight = (record[f"digits, 500: {a}"].values(key) for a in (HALF_TURN, LONGER))
    return [a - b for a, b in zip(turned, straight, strict=True)]


def recorded() -> list[str]:
    record = experiments.load("augmentation")

    def accuracy(task: str, images: int, what: str, key: str = "test_error") -> str:
        return percent(record[f"{task}, {images}: {what}"], key, accuracy=True)

    def wrong(task: str, images: int, what: str) -> str:
        return percent(record[f"{task}, {images}: {what}"], "train_error")

    def signed(task: str, images: int, what: str = TOGETHER, control: str = LONGER) -> str:
        found = change(task, images, what, control=control)
        mean, interval = str(found).split(" ", 1)
        sign = "" if mean.startswith("−") else "+"
        return f"{sign}{mean} points (95 % interval {interval[1:]}"

    def half_turn(key: str) -> str:
        return points(change("digits", 500, HALF_TURN, key))

    pair, others = half_turn("pair_error"), half_turn("others_error")
    upright = points(change("upright", 500, HALF_TURN))
    contrast = experiments.of_pairs(*(lost_by_seed(key) for key in ("pair_error", "others_error")))
    assert contrast.low > 0
    real = [accuracy("upright", images, NOTHING) for images in (100, 2500)]
    from_cluttered = [accuracy("cluttered", 500, what) for what in (LONGER, TOGETHER)]
    from_digits = [accuracy("digits", 500, what) for what in (LONGER, TOGETHER)]
    return [
        f"Trained with these changes, they classify {from_cluttered[1]} of new images correctly, "
        f"and {from_cluttered[0]} without; from 500 handwritten digits, {from_digits[1]} and "
        f"{from_digits[0]}",
        f"no gain was detected: {signed('upright', 500, control=NOTHING)} after equally many",
        f"from the control with twice the steps is {signed('upright', 500)}, but at equal steps "
        f"it is {signed('upright', 500, control=NOTHING)}",
        f"turned by up to 180°, the accuracy on 6 and 9 falls by {points(contrast)} more",
        f"is largest: {signed('cluttered', 100)} with 100 images, {signed('cluttered', 500)} with "
        f"500, {signed('cluttered', 2500)} with 2,500",
        f"2,500 without, which reach {accuracy('cluttered', 2500, LONGER)}",
        f"On digits, the gain is {signed('digits', 100)} with 100 images, "
        f"{signed('digits', 500)} with 500",
        f"detected: {signed('upright', 100)} and {signed('upright', 2500)}",
        f"from {real[0]} with 100 to {real[1]} with 2,500",
        f"still misclassifies {wrong('cluttered', 2500, TOGETHER)} of its own training images",
        f"the training images falls, to {accuracy('upright', 500, TOGETHER, 'train_error')}",
        f"shifts gain most, {signed('cluttered', 500, SHIFTED)}",
        f"Turning gains {signed('cluttered', 500, TURNED)}",
        f"turning by up to 15° costs {points(change('upright', 500, TURNED))}",
        f"Turning by up to 180° costs {upright}, although",
        f"misclassifies {wrong('upright', 500, HALF_TURN)} of its own training images, "
        "even unturned",
        f"turning by up to 15°, {signed('digits', 500, TURNED)}. Turning by up to 90° costs "
        f"{points(change('digits', 500, 'turned by up to 90°'))}",
        f"this training costs {pair} on 6 and 9, and {others} on the other eight digits, so 6 "
        f"and 9 lose {points(contrast)} more",
        f"classifies {accuracy('digits', 500, HALF_TURN, 'pair_error')} of sixes and nines",
        f"upright clothes by {signed('upright', 500, 'mirrored')}",
        # In the answers to claims.
        f"went from {real[0]} with 100 images to {real[1]} with 2,500",
        f"from {accuracy('digits', 100, NOTHING)} with 100 digits to "
        f"{accuracy('digits', 500, NOTHING)} with 500, and from "
        f"{accuracy('cluttered', 100, NOTHING)} with 100 cluttered clothes to "
        f"{accuracy('cluttered', 2500, NOTHING)} with 2,500",
        f"gained {signed('cluttered', 100)} with 100 images, and with 2,500 still "
        f"{signed('cluttered', 2500)}",
        f"not even with 100 images: {signed('upright', 100)}",
        f"fell by {pair} on 6 and 9, and by {others} on the others; on upright clothes it fell by "
        f"{upright}",
    ]


PAPERS = ["Section 4.2", "from 1.6 % to 1.1 %", "to 0.7 %", "from 39.0 % to 37.5 %"]
EXACT = [
    "shifted by up to 10 % and scaled by 0.9 to 1.1",
    "fifteen 95 % intervals",
    "guesses would be right 10 % of the time",
    "36 times by 10°",
    "resample the photograph 36 times",
]


def test_every_number_has_a_source():
    assert unsourced(CHAPTER, recorded(), PAPERS, EXACT) == []


def test_what_is_shown_and_what_is_not():
    for images in (100, 500, 2500):
        assert min(found.low for found in both("cluttered", images)) > 0
        assert not change("upright", images, control=NOTHING).excludes_zero
        assert change("upright", images).excludes_zero == (images == 500)
    assert min(found.low for images in (100, 500) for found in both("digits", images)) > 0
    plans = experiments.load("augmentation").settings["sets"]
    intervals = {
        (task, what): both(task, 500, what)
        for task, plan in plans.items()
        for what in plan["changes"]
    }
    assert len(intervals) == 15
    helps = {key for key, pair in intervals.items() if min(found.low for found in pair) > 0}
    harms = {key for key, pair in intervals.items() if max(found.high for found in pair) < 0}
    assert helps == {("cluttered", what) for what in (TURNED, SHIFTED)}
    assert harms == {("upright", HALF_TURN), ("upright", TURNED), ("digits", HALF_TURN)}
    # Shown against one control: which, the prose says of digits.
    partly = {key for key, (equal, longer) in intervals.items() if equal.low > 0 > longer.low}
    assert partly == {("cluttered", "scaled by 0.9 to 1.1")}
    partly = {key for key, (equal, longer) in intervals.items() if longer.low > 0 > equal.low}
    assert partly == {("cluttered", "mirrored")}
    equal, longer = intervals["digits", "turned by up to 90°"]
    assert longer.high < 0 < equal.high


def test_what_is_equal_in_the_recorded_run():
    record = experiments.load("augmentation")
    for arm in record:
        steps = {1: 657, 2: 1_314}[arm.options["steps"]]
        assert {run["steps"] for run in arm.runs} == {steps}
        if arm.name.endswith(f", 500: {NOTHING}"):
            assert max(arm.values("train_error")) == 0  # the network knows all its images
        if arm.name.endswith(f", 500: {LONGER}"):
            same = record[f"{arm.options['set']}, {arm.options['images']}: {NOTHING}"]
            assert not above(same, arm, pairs=True).excludes_zero
    most, few = (record[f"cluttered, {arm}"] for arm in (f"2500: {LONGER}", f"500: {TOGETHER}"))
    assert few.interval("test_error").mean < most.interval("test_error").mean


def test_error_on_turned_digits_was_still_falling():
    for curve in experiments.load("augmentation")[f"digits, 500: {HALF_TURN}"].curves("val_error"):
        assert curve[-1] < min(curve[:-1])


def test_counts_of_the_prose():
    assert (2 * 4 + 1) ** 2 * 2 == 162
    _, test = data.load("fashion-mini")
    shoes = [test.classes.index(name) for name in ("Ankle boot", "Sneaker", "Sandal")]
    assert sum(int((test.labels == shoe).sum()) for shoe in shoes) == 600


@book
def test_a_seed_repeats_the_draw_and_each_image_has_its_own():
    found = facts(CHAPTER)
    assert found["same_seed_same_images"] is True
    assert found["other_seed_other_images"] is True
    assert found["different_pictures_of_eight"] == 8
    assert found["different_pictures_by_torchvision"] == 1


@book
def test_matrices_of_the_transforms():
    def matrix(name):
        return [number(cell) for cell in row(CHAPTER, name)[1:]]

    assert matrix("turned by 30°") == [0.866, -0.5, 0, 0.5, 0.866, 0]
    assert matrix("scaled by 1.5") == [1.5, 0, 0, 0, 1.5, 0]
    # The order matters: the shift is turned along (32 cos 30° and 32 sin 30°).
    assert matrix("turned, then shifted") == [0.866, -0.5, 32, 0.5, 0.866, 0]
    assert matrix("shifted, then turned") == [0.866, -0.5, 27.71, 0.5, 0.866, 16]


@book
def test_resampling_again_and_again_blurs_and_our_warp_is_that_of_the_package():
    found = facts(CHAPTER)
    assert found["detail_left_after_36_steps"] < 0.6
    assert found["detail_left_after_one"] > 0.99
    assert found["largest_difference_from_the_package"] < 1e-3


@book
def test_a_turned_six_is_nearest_to_nine_and_shoes_point_to_the_left():
    found = facts(CHAPTER)
    assert found["nearest_to_a_turned_six"] == 9
    assert (found["test_shoes"], found["nearer_to_the_mirror_image"]) == (600, 17)


@book
def test_few_digits_gain_and_broken_labels_cost_most_on_six_and_nine():
    (alt,) = [text for text in printed(CHAPTER).splitlines() if "for 50 to 500 images" in text]
    without, changed = (
        number(alt.split(f"{name} from ")[1].split(" to ")[0]) for name in (NOTHING, TOGETHER)
    )
    assert without < changed
    pair, others = (
        number(alt.split(f"{HALF_TURN}, {name}: ")[1].split(" (")[0].replace("−", "-"))
        for name in ("6 and 9", "other digits")
    )
    assert pair < others - 5


@book
def test_turned_digits_teach_invariance_at_a_price():
    found = facts(CHAPTER)
    upright, turned = (
        (found[f"trained_{how}_tested_upright"], found[f"trained_{how}_tested_at_90_degrees"])
        for how in ("upright", "at_any_angle")
    )
    assert upright[1] < 0.4
    assert turned[1] > turned[0] - 0.1
    assert turned[0] < upright[0]


@book
def test_the_mean_of_copies_makes_up_for_most_of_what_one_copy_loses():
    found = facts(CHAPTER)
    one, many, plain = (
        found[f"accuracy_{key}"]
        for key in ("on_one_changed_copy", "of_the_mean_of_16", "on_unchanged_images")
    )
    assert one < (one + plain) / 2 < many <= plain


@book
def test_solutions():
    text, found = printed(SOLUTIONS), facts(SOLUTIONS)
    assert (found["pictures"], found["unchanged"]) == (50, 1)
    assert "(3, 0) goes to (4.0, 3.0)" in text
    assert "(4, 5) takes its color from (5.0, 0.0)" in text
    assert "the point stays where it is: True" in text
    assert "2×2 part of turn(30): True" in text
    assert found["six_called_nine"] > 0.5
    assert found["same_loss"] is True
    assert found["labels_add_up_to_one"] is True
    assert len(table(SOLUTIONS, "copies")) == 5
