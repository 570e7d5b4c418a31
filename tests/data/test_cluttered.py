"""Images turned, scaled and placed at random, among fragments of others."""

import dataclasses
import hashlib
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnbook import data
from cnnbook.cli.listings import data_table
from cnnbook.data import clutter
from cnnbook.data.clutter import bounding_boxes, draw_fragments, draw_placement

needs_original = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="the original Fashion-MNIST files are not on this machine",
)
UPRIGHT = {"rotation": 0, "scale": (1, 1), "fragments": 0}


@pytest.fixture(scope="module")
def mini():
    return data.load("fashion-mini")


@pytest.fixture(scope="module")
def hard():
    return data.load("cluttered-fashion")


@pytest.fixture(scope="module")
def boxes(mini):
    return bounding_boxes(mini[0].images).double()


@pytest.fixture(scope="module")
def placement(boxes):
    return draw_placement(boxes, 64, 60, (0.8, 1.3), seed=0)


def colored(dataset):
    """The same images, with different content in three channels, 28×20 pixels."""
    gray = dataset.images[:, :, :, 4:24]
    images = torch.cat([gray, gray.flip(3), 255 - gray], 1)
    return dataclasses.replace(dataset, images=images, mean=(0.5,) * 3, std=(0.5,) * 3)


# Slow and obvious: pixel by pixel, in Python's own numbers.


def turned(image, box, angle, scale, x, y, size, *, exact):
    """One channel of one image on its canvas, as floats. `exact` rounds no point."""
    left, top, right, bottom = box
    height, width = image.shape
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    canvas = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            dx, dy = column + 0.5 - x, row + 0.5 - y
            a, b = cos / scale, sin / scale
            if not exact:
                a, b = round(a * 2**14) / 2**14, round(b * 2**14) / 2**14
            u = a * dx + b * dy + (left + right) / 2 - 0.5  # a pixel's center has a whole number
            v = a * dy - b * dx + (top + bottom) / 2 - 0.5
            if not exact:
                u, v = (math.floor(round(w * 2**14) / 2**6 + 0.5) / 2**8 for w in (u, v))
            i, j = math.floor(v), math.floor(u)
            for r, weight_r in ((i, i + 1 - v), (i + 1, v - i)):
                for c, weight_c in ((j, j + 1 - u), (j + 1, u - j)):
                    if 0 <= r < height and 0 <= c < width:
                        canvas[row, column] += image[r, c] * weight_r * weight_c
    return canvas


def slowly(dataset, count, size, rotation, scale, fragments, side, seed, *, exact=False):
    images = dataset.images.numpy()
    n, channels, height, width = images.shape
    index = torch.arange(count) % n
    boxes = []
    for image in images:
        rows, columns = np.nonzero(image.max(0))
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    at = draw_placement(torch.tensor(boxes)[index].double(), size, rotation, scale, seed)
    pieces = [
        draw_fragments(index, (n, height, width), side, size, seed, f) for f in range(fragments)
    ]
    made = np.zeros((count, channels, size, size))
    for i in range(count):
        where = [getattr(at, name)[i].item() for name in ("angle", "scale", "x", "y")]
        for channel in range(channels):
            image = images[index[i], channel].astype(float)
            canvas = turned(image, boxes[index[i]], *where, size, exact=exact)
            canvas = canvas if exact else canvas.round()
            for piece in pieces:
                row, column, top, left = (
                    int(getattr(piece, name)[i]) for name in ("row", "column", "top", "left")
                )
                cut = images[piece.source[i], channel, row : row + side, column : column + side]
                old = canvas[top : top + side, left : left + side]
                canvas[top : top + side, left : left + side] = np.maximum(old, cut)
            made[i, channel] = canvas
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gray", "color"])
def test_equal_to_a_slow_and_obvious_implementation(mini, kind):
    few = mini[0][:5] if kind == "gray" else colored(mini[0][:5])
    options = {"size": 56, "rotation": 60, "scale": (0.8, 1.3), "seed": 3}
    ours = data.cluttered(few, 7, fragments=3, fragment_size=6, **options)
    slow = slowly(few, 7, fragments=3, side=6, **options)
    different = np.abs(ours.images.numpy().astype(float) - slow)
    # A point in the middle between two multiples of 2⁻¹⁴ may be rounded up or down.
    assert different.max() <= 1
    assert (different > 0).mean() < 1e-3


@pytest.mark.slow
def test_points_are_rounded_without_consequence(mini):
    options = {"size": 64, "rotation": 180, "scale": (0.8, 1.3), "seed": 4, "fragments": 0}
    ours = data.cluttered(mini[0][:6], **options).images.numpy().astype(float)
    exact = slowly(mini[0][:6], 6, side=1, exact=True, **options)
    # A neighbor differs by 255 at most, and a point is off by 1/512 of a pixel in x and in y.
    assert np.abs(ours - exact).max() < 2
    assert np.abs(ours - exact).mean() < 0.2


def test_upright_images_of_true_size_on_a_canvas_that_just_fits(mini):
    # Boxes of 28 pixels and half a pixel around them, on 29: in whole pixels, they are shifted by
    # half a pixel, which averages neighbors.
    whole = mini[0][bounding_boxes(mini[0].images).eq(torch.tensor([0, 0, 28, 28])).all(1)][:20]
    made = data.cluttered(whole, size=29, **UPRIGHT).images[:, 0].double()
    wide = torch.nn.functional.pad(whole.images[:, 0].double(), (1, 1, 1, 1))
    mean = (wide[:, 1:, 1:] + wide[:, 1:, :-1] + wide[:, :-1, 1:] + wide[:, :-1, :-1]) / 4
    assert torch.equal(made, mean.round())


def test_angles_cover_all_between_minus_and_plus_60_degrees(placement):
    shares = placement.angle.histc(12, -60, 60) / len(placement.angle)
    assert shares.sum() == pytest.approx(1)
    assert (shares - 1 / 12).abs().max() < 0.012  # four standard deviations of 10,000 draws
    assert (placement.angle.min() < -59.5) & (placement.angle.max() > 59.5)


def test_scales_cover_all_between_smallest_and_largest(placement):
    shares = placement.scale.histc(10, 0.8, 1.3) / len(placement.scale)
    assert shares.sum() == pytest.approx(1)
    assert (shares - 0.1).abs().max() < 0.012


def test_positions_are_uniform_where_the_box_is_inside(placement, boxes):
    cos, sin = (f(torch.deg2rad(placement.angle)).abs() for f in (torch.cos, torch.sin))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    # With the half pixel to which interpolation spreads.
    half_x = placement.scale / 2 * ((width + 1) * cos + (height + 1) * sin)
    half_y = placement.scale / 2 * ((height + 1) * cos + (width + 1) * sin)
    for center, half in ((placement.x, half_x), (placement.y, half_y)):
        assert (center - half).min() > -1e-9
        assert (center + half).max() < 64 + 1e-9
        share = (center - half) / (64 - 2 * half)
        assert (share.histc(10, 0, 1) / len(share) - 0.1).abs().max() < 0.012
    columns = torch.stack([placement.angle, placement.scale, placement.x, placement.y])
    related = torch.corrcoef(columns) - torch.eye(4)
    assert related.abs().max() < 0.05


@pytest.mark.slow
def test_garments_reach_every_part_of_the_canvas(mini):
    made = data.cluttered(mini[0], fragments=0).images
    reached = made.amax(0)[0] > 0
    assert reached[2:-2, 2:-2].double().mean() > 0.99
    for edge in (reached[0], reached[-1], reached[:, 0], reached[:, -1]):
        assert edge.any()


@pytest.mark.slow
def test_nothing_is_cut_off(mini):
    train = mini[0][:2000]
    boxes = bounding_boxes(train.images).double()
    at = draw_placement(boxes, 64, 60, (0.8, 1.3), seed=0)
    shifted = dataclasses.replace(at, x=at.x + 8, y=at.y + 8)
    matrix = clutter._matrix(shifted, boxes, (32, 32))
    made = clutter._placed(train.images, matrix, 80, (32, 32))
    inside = made[:, :, 8:-8, 8:-8].clone()
    assert torch.equal(inside.byte(), data.cluttered(train, fragments=0).images)
    made[:, :, 8:-8, 8:-8] = 0
    assert made.max() == 0
    # Brightness grows with the area, so nothing is missing.
    sums = train.images.double().sum((1, 2, 3)) * at.scale**2
    assert (inside.double().sum((1, 2, 3)) / sums - 1).abs().max() < 0.15


@pytest.mark.slow
def test_share_of_pixels_that_are_not_black(mini, hard):
    lit = (hard[0].images > 0).double().mean().item()
    garments = (data.cluttered(mini[0], fragments=0).images > 0).double().mean().item()
    assert 0.10 < garments < 0.20
    assert 0.16 < lit < 0.26
    # Six squares have 6 · 81 / 4096 = 12 % of the canvas, if nothing of them is black.
    assert 0.03 < lit - garments < 6 * 81 / 4096


@pytest.mark.slow
def test_fragments_hide_a_tenth_of_a_garment_at_most_on_average(mini, hard):
    alone = data.cluttered(mini[0], fragments=0).images
    garment = alone > 0
    changed = (hard[0].images > alone) & garment
    share = changed.sum((1, 2, 3)) / garment.sum((1, 2, 3))
    assert 0.02 < share.mean() < 0.1
    assert (hard[0].images >= alone).all()  # they never darken it
    assert share.quantile(0.99) < 0.4


def test_fragments_come_from_other_garments_of_all_classes_and_positions(mini):
    train, _ = mini
    index = torch.arange(30_000) % len(train)
    for number in range(6):
        piece = draw_fragments(index, (len(train), 28, 28), 9, 64, seed=0, number=number)
        assert (piece.source != index).all()
        assert (piece.source.min(), piece.source.max()) < (3, len(train))
        classes = train.labels[piece.source].bincount() / len(index)
        assert (classes - 0.1).abs().max() < 0.01
        same = train.labels[piece.source] == train.labels[index]
        assert same.double().mean() == pytest.approx(0.1, abs=0.01)
        for corner, last in ((piece.row, 19), (piece.column, 19), (piece.top, 55)):
            counts = corner.bincount()
            assert len(counts) == last + 1
            expected = len(index) / (last + 1)
            assert (counts / expected - 1).abs().max() < 5 / expected**0.5
    two = draw_fragments(torch.arange(50) % 2, (2, 28, 28), 9, 64, seed=0, number=0)
    assert torch.equal(two.source, 1 - torch.arange(50) % 2)


def test_a_fragment_is_a_square_of_another_image(mini):
    ones = mini[0][:3].images.clone()
    ones[0] = 0
    ones[0, 0, 14, 14] = 1  # nearly nothing: what is seen are the fragments
    few = dataclasses.replace(mini[0][:3], images=ones)
    made = data.cluttered(few, 1, fragments=1, seed=5).images[0, 0]
    piece = draw_fragments(torch.zeros(1).long(), (3, 28, 28), 9, 64, 5, 0)
    source, row, column, top, left = (
        int(getattr(piece, field.name)) for field in dataclasses.fields(piece)
    )
    assert source in (1, 2)
    square = few.images[source, 0, row : row + 9, column : column + 9]
    assert square.max() > 0
    assert torch.equal(made[top : top + 9, left : left + 9].clamp(min=1), square.clamp(min=1))
    made[top : top + 9, left : left + 9] = 0
    assert made.max() <= 1


@pytest.mark.slow
def test_interpolation_is_exact(mini):
    few = mini[0][:3]
    boxes = bounding_boxes(few.images).double()
    matrix = clutter._matrix(draw_placement(boxes, 64, 180, (0.8, 1.3), 1), boxes, (32, 32))
    made = clutter._placed(few.images, matrix, 64, (32, 32))
    for i, ((a, b, c), (d, e, f)) in enumerate(matrix.tolist()):
        image = few.images[i, 0].tolist()
        for row in range(64):
            for column in range(64):
                # In 256ths of a pixel, from the center of the upper left pixel.
                u = ((a * column + b * row + c) >> 6) + 256 * 16 - 128
                v = ((d * column + e * row + f) >> 6) + 256 * 16 - 128
                total = 0
                for r in (v >> 8, (v >> 8) + 1):
                    for k in (u >> 8, (u >> 8) + 1):
                        if 0 <= r < 28 and 0 <= k < 28:
                            weight = (256 - abs(v - 256 * r)) * (256 - abs(u - 256 * k))
                            total += image[r][k] * weight
                assert made[i, 0, row, column] == round(Fraction(total, 256**2))


def sha256(dataset):
    return hashlib.sha256(dataset.images.numpy().tobytes()).hexdigest()[:16]


# Recorded results depend on these bytes. If torch ever draws other random numbers from a seed,
# what was recorded is to be recorded again.


def test_the_same_bytes_on_every_machine(mini):
    assert sha256(data.cluttered(mini[0][:100])) == "17842b3f981789a7"


@pytest.mark.slow
def test_the_whole_set_has_the_same_bytes_on_every_machine(hard):
    assert [sha256(part) for part in hard] == ["84664216017d353e", "56b04d8d5162dcd4"]


def test_a_seed_is_one_set(mini):
    few = mini[0][:40]
    one, again, other = (data.cluttered(few, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(one.images, again.images)
    assert (one.images != other.images).flatten(1).any(1).all()
    assert not torch.equal(data.cluttered(few, seed=10**30).images, one.images)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    data.cluttered(few)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_and_groups_do_not_matter(mini, monkeypatch):
    few = mini[0][:50]
    one = data.cluttered(few, 70).images
    for memory in (1, 700_000, 10**9):
        monkeypatch.setitem(clutter._BYTES_AT_ONCE, "cpu", memory)
        assert torch.equal(data.cluttered(few, 70).images, one)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(data.cluttered(few, 70).images, one)
    finally:
        torch.set_num_threads(threads)


def test_another_default_type_does_not_matter(mini):
    one = data.cluttered(mini[0][:5]).images
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(data.cluttered(mini[0][:5]).images, one)
    finally:
        torch.set_default_dtype(torch.float32)


def test_more_images_begin_with_the_fewer(mini):
    few = mini[0][:30]
    assert torch.equal(data.cluttered(few, 100).images[:45], data.cluttered(few, 45).images)


def test_fewer_fragments_are_the_first_ones(mini):
    none, some, more = (data.cluttered(mini[0][:50], fragments=n).images for n in (0, 2, 6))
    assert (none <= some).all()
    assert (some <= more).all()
    assert not torch.equal(some, more)


def test_more_images_than_garments_show_each_again_with_its_label(mini):
    few = mini[0][:25]
    made = data.cluttered(few, 70, fragments=0)
    assert made.labels.tolist() == (few.labels.tolist() * 3)[:70]
    assert not torch.equal(made.images[:25], made.images[25:50])
    counts = made.labels.bincount(minlength=10)
    assert counts.max() - counts.min() <= 3
    # Image 25 + i shows garment i: with the placement undone, its brightness is the garment's.
    index = torch.arange(70) % 25
    at = draw_placement(bounding_boxes(few.images).double()[index], 64, 60, (0.8, 1.3), seed=0)
    area = made.images.double().sum((1, 2, 3)) / at.scale**2
    assert (area / few.images.double().sum((1, 2, 3))[index] - 1).abs().max() < 0.15


@pytest.mark.slow
def test_loaded_by_name(mini, hard):
    for part, source, name in zip(hard, mini, ("train", "test"), strict=True):
        assert part.images.shape == (len(source), 1, 64, 64)
        assert torch.equal(part.labels, source.labels)
        assert part.classes == source.classes
        assert part.name == f"cluttered-fashion {name}"
    assert torch.equal(hard[0].images, data.cluttered(mini[0]).images)


@pytest.mark.slow
def test_the_test_part_is_made_of_test_garments_at_other_places(mini, hard):
    train, test = mini
    expected = data.cluttered(test, seed=1, normalize_as=hard[0])
    assert torch.equal(hard[1].images, expected.images)
    # Without the training garments, the test part is the same; nothing of it depends on them.
    blank = dataclasses.replace(train, images=train.images // 2)
    alone = data.cluttered(test, seed=1, normalize_as=data.cluttered(blank, 100)).images
    assert torch.equal(alone, hard[1].images)
    placements = [
        draw_placement(bounding_boxes(test.images).double(), 64, 60, (0.8, 1.3), seed)
        for seed in (0, 1)
    ]
    assert (placements[0].angle - placements[1].angle).abs().min() > 1e-5
    seen = {bytes(image) for image in hard[0].images.flatten(1).numpy()}
    assert not any(bytes(image) in seen for image in hard[1].images.flatten(1).numpy())


@pytest.mark.slow
def test_mean_and_standard_deviation_are_those_of_the_new_training_images(hard):
    pixels = hard[0].images.double() / 255
    for part in hard:
        assert part.mean[0] == pytest.approx(pixels.mean().item(), rel=1e-10)
        assert part.std[0] == pytest.approx(pixels.std(correction=0).item(), rel=1e-8)
    x, _ = next(data.Batches(hard[0], 10_000, device="cpu").epoch(0))
    assert x.mean().item() == pytest.approx(0, abs=1e-4)
    assert x.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_in_color_and_on_larger_squares(hard):
    train, _ = data.load("cluttered-fashion", size=70, channels=3)
    assert train.images.shape == (10_000, 3, 70, 70)
    assert torch.equal(train.images[:, 1, 3:-3, 3:-3], hard[0].images[:, 0])
    assert train.mean == hard[0].mean * 3
    with pytest.raises(ValueError, match="size=32 would crop images of 64×64"):
        data.load("cluttered-fashion", size=32)


def test_listed_with_what_they_are_made_from():
    rows = {row["name"]: row for row in data_table().to_dicts()}
    assert rows["cluttered-fashion"]["where"] == "made from fashion-mini, in the package"
    assert rows["cluttered-fashion"]["bytes"] is None
    where = rows["cluttered-fashion-mnist"]["where"]
    assert where == f"made from fashion-mnist, {rows['fashion-mnist']['where']}"
    with pytest.raises(ValueError, match="Did you mean 'cluttered-fashion'"):
        data.load("clutered-fashion")


@pytest.mark.slow
@needs_original
def test_from_the_whole_fashion_mnist():
    train, test = data.load("cluttered-fashion-mnist", download=False)
    whole, _ = data.load("fashion-mnist")
    assert repr(train) == "<cluttered-fashion-mnist train: 60,000 images of 1×64×64, 10 classes>"
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.mean == test.mean
    assert torch.equal(train.images[:50], data.cluttered(whole, 50).images)


def test_without_the_whole_fashion_mnist(monkeypatch):
    from cnnbook.data import files

    monkeypatch.setattr(files, "search_folders", lambda name: [Path("nowhere")])
    with pytest.raises(data.DataError, match=r"fashion-mnist: no train-images.*download=False"):
        data.load("cluttered-fashion-mnist", download=False)


def test_boxes():
    images = torch.zeros(3, 2, 5, 7, dtype=torch.uint8)
    images[0, 0, 1, 2] = images[0, 1, 3, 5] = 1
    images[1, 1, 4, 6] = 255
    assert bounding_boxes(images).tolist() == [[2, 1, 6, 4], [6, 4, 7, 5], [0, 0, 7, 5]]


def test_blank_images_and_one_image(mini):
    blank = dataclasses.replace(mini[0][:2], images=torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    assert data.cluttered(blank, 5, normalize_as=mini[0]).images.max() == 0
    assert data.cluttered(mini[0][:1], 3, fragments=0).images.shape == (3, 1, 64, 64)


def test_small_images_of_another_kind():
    digits, _ = data.load("digits")
    made = data.cluttered(digits, 2_000, size=20, fragments=2, fragment_size=3)
    assert repr(made) == "<cluttered digits train: 2,000 images of 1×20×20, 10 classes>"


def test_refuses_a_canvas_without_room(mini, boxes):
    with pytest.raises(
        ValueError, match=r"size=40 has no room .* 60° and scaled by up to 1.3, one"
    ):
        data.cluttered(mini[0], size=40)
    # Exactly as much as is needed: the largest garment, level or with its diagonal level.
    needed = data.cluttered(mini[0], 10, size=29, **UPRIGHT)
    assert needed.images.shape[-1] == 29
    with pytest.raises(ValueError, match=r"one takes 29 pixels. Choose size=29"):
        data.cluttered(mini[0], 10, size=28, **UPRIGHT)
    diagonal = math.ceil(29 * 2**0.5)
    turned = UPRIGHT | {"rotation": 60}
    data.cluttered(mini[0], 10, size=diagonal, **turned)
    with pytest.raises(ValueError, match=f"Choose size={diagonal} or more"):
        data.cluttered(mini[0], 10, size=diagonal - 1, **turned)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"count": 2.5}, TypeError, "count must be an integer, got 2.5"),
        ({"size": "64"}, TypeError, "size must be an integer, got '64'"),
        ({"size": 5000}, ValueError, "size must be at most 4096, got 5000"),
        ({"rotation": 181}, ValueError, "rotation must lie in 0 … 180 degrees, got 181"),
        ({"rotation": float("nan")}, ValueError, "rotation must lie in"),
        ({"rotation": None}, ValueError, "rotation must lie in .* got None"),
        ({"scale": 1.2}, ValueError, r"scale must be two numbers, .* \(0.8, 1.3\), got 1.2"),
        ({"scale": (1.3, 0.8)}, ValueError, r"0.1 ≤ smallest ≤ largest ≤ 10, got \(1.3, 0.8\)"),
        ({"scale": (0.0, 1.0)}, ValueError, "0.1 ≤ smallest"),
        ({"fragments": -1}, ValueError, "fragments must lie in 0 … 1000, got -1"),
        ({"fragments": 1.5}, TypeError, "fragments must be an integer, got 1.5"),
        ({"fragments": True}, TypeError, "fragments must be an integer, got True"),
        ({"fragment_size": 29}, ValueError, "=29 is more than there is; choose 28 or less"),
        ({"fragment_size": 0}, ValueError, "fragment_size must be at least 1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        ({"normalize_as": 3}, TypeError, "normalize_as must be a data.Dataset, got int"),
        ({"colour": 3}, TypeError, "colour"),
    ],
)
def test_refuses_bad_options(mini, options, error, message):
    with pytest.raises(error, match=message):
        data.cluttered(mini[0][:10], **options)


def test_refuses_what_is_no_data_set_of_several_images(mini):
    with pytest.raises(TypeError, match=r"must be a data.Dataset, in memory, got Tensor"):
        data.cluttered(mini[0].images)
    with pytest.raises(ValueError, match=r"0 images .* has no images to place"):
        data.cluttered(mini[0][:0])
    with pytest.raises(ValueError, match="cut from other images, and there is only one"):
        data.cluttered(mini[0][:1])
    with pytest.raises(ValueError, match="normalize_as has 3 channels, the images have 1"):
        data.cluttered(mini[0][:9], normalize_as=colored(mini[0][:9]))
