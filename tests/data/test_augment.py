"""Batched augmentation against torchvision's transforms, one image at a time."""

import dataclasses
import inspect
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from cnnbook.data import Augment, AugmentParams, Batches, load
from cnnbook.data.augment import _images_at_once

N, C, H, W = 12, 3, 20, 31


@pytest.fixture(scope="module")
def images():
    return torch.randint(
        0, 256, (N, C, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


def undo(params: AugmentParams) -> torch.Tensor:
    """The matrices from the old image to the new one."""
    square = torch.cat([params.matrix, torch.tensor([[[0.0, 0, 1]]]).expand(N, 1, 3)], 1)
    return torch.linalg.inv(square)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_affine_changes_are_those_of_torchvision(images, mode):
    augment = Augment(
        rotate=40, translate=0.2, scale=(0.7, 1.5), shear=20, fill=77, interpolation=mode
    )
    params = augment.draw(N, (H, W), seed=1)
    ours = augment(images, params)
    for image, forward, result in zip(images, undo(params), ours, strict=True):
        # Rotation times shear times scale, taken apart again.
        grow = forward[:2, :2].det().sqrt()
        angle = math.degrees(math.atan2(forward[1, 0], forward[0, 0]))
        turned = math.radians(angle)
        a, b = forward[0, 1] / grow, forward[1, 1] / grow
        slope = -(a * math.cos(turned) + b * math.sin(turned))
        # torchvision weights the border by its fill value twice; with zero as fill it does not.
        theirs = tv.affine(
            image.float() / 255 - 77 / 255,
            angle=angle,
            translate=forward[:2, 2].tolist(),
            scale=grow.item(),
            shear=[math.degrees(math.atan(slope)), 0.0],
            interpolation=InterpolationMode(mode),
        )
        different = (result - theirs - 77 / 255).abs() > 2e-4
        # Where a point lies midway between two pixels, either is the nearest.
        assert different.double().mean() <= (0.01 if mode == "nearest" else 0)


def test_ranges_are_kept_and_used():
    n = 4000
    augment = Augment(rotate=30, scale=(0.5, 2), flip=0.25, contrast=0.3, brightness=0.4)
    params = augment.draw(n, (H, W))
    det = params.matrix[:, :, :2].det()
    assert (det < 0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    grow = det.abs() ** -0.5
    assert 0.5 <= grow.min() < 0.52
    assert 1.98 < grow.max() <= 2.0001
    flipped = torch.where(det < 0, -1, 1)
    angle = torch.atan2(params.matrix[:, 0, 1] * flipped, params.matrix[:, 1, 1]).rad2deg()
    assert 29 < angle.abs().max() <= 30.001
    assert params.contrast.min() >= 0.7
    assert params.contrast.max() <= 1.3
    assert 1.38 < params.brightness.max() <= 1.4


def test_the_matrix_is_the_product_of_its_parts():
    augment = Augment(rotate=30, translate=0.2, scale=(0.5, 2), shear=20, crop=0.6, flip=0.5)
    one = torch.ones(N)
    eye = torch.eye(3).expand(N, 3, 3)
    product = eye
    # Each alone draws what it draws among the others.
    for name in ("crop", "flip", "scale", "shear", "rotate", "translate"):
        alone = Augment(**{name: getattr(augment, name)}).draw(N, (H, W), seed=1).matrix
        product = product @ torch.cat([alone, eye[:, 2:]], 1)
    params = augment.draw(N, (H, W), seed=1)
    torch.testing.assert_close(params.matrix, product[:, :2], atol=1e-5, rtol=0)
    assert torch.equal(params.contrast, one)
    assert torch.equal(params.brightness, one)
    assert not params.box.any()


def test_flip_mirrors_exactly(images):
    result = Augment(flip=1)(images)
    torch.testing.assert_close(result, images.flip(3) / 255, atol=1e-5, rtol=0)


def test_nothing_changes_nothing(images):
    torch.testing.assert_close(Augment()(images), images / 255, atol=1e-5, rtol=0)


def test_brightness_and_contrast_are_those_of_torchvision(images):
    augment = Augment(contrast=0.8, brightness=0.6)
    params = augment.draw(N, (H, W), seed=2)
    for i, result in enumerate(augment(images, params)):
        theirs = tv.adjust_contrast(images[i] / 255, params.contrast[i].item())
        theirs = tv.adjust_brightness(theirs, params.brightness[i].item())
        torch.testing.assert_close(result, theirs, atol=1e-5, rtol=0)


def test_erasing_is_that_of_torchvision(images):
    augment = Augment(erase=0.7, erase_area=(0.1, 0.3), fill=50)
    params = augment.draw(N, (H, W), seed=4)
    erased = 0
    for image, (left, top, right, bottom), result in zip(
        images, params.box.int().tolist(), augment(images, params), strict=True
    ):
        assert 0 <= left <= right <= W
        assert 0 <= top <= bottom <= H
        theirs = tv.erase(
            image / 255, top, left, bottom - top, right - left, torch.tensor(50 / 255)
        )
        torch.testing.assert_close(result, theirs, atol=1e-5, rtol=0)
        erased += right > left
    assert 0 < erased < N


def test_crop_is_a_window_enlarged(images):
    augment = Augment(crop=0.4, fill="edge")
    params = augment.draw(N, (H, W), seed=5)
    corners = torch.tensor([[-W / 2, -H / 2, 1], [W / 2, H / 2, 1]])
    windows = torch.einsum("nij,kj->nki", params.matrix, corners)
    assert (windows[:, 0] >= torch.tensor([-W / 2, -H / 2]) - 1e-4).all()
    assert (windows[:, 1] <= torch.tensor([W / 2, H / 2]) + 1e-4).all()
    # A window of whole pixels, inside the image, is torchvision's crop and resize.
    matrix = torch.tensor([[[0.5, 0, -2.0], [0, 0.5, 1.0]]])
    one = AugmentParams(matrix, torch.ones(1), torch.ones(1), torch.zeros(1, 4))
    image = torch.rand(1, 1, 20, 32).mul(255).to(torch.uint8)
    theirs = tv.resized_crop(image / 255, 6, 6, 10, 16, [20, 32], antialias=False)
    torch.testing.assert_close(
        augment(image, one)[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-5, rtol=0
    )


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_batches_do_not_matter(sizes, seed):
    images = torch.randint(0, 256, (sum(sizes), 3, 17, 19), dtype=torch.uint8)
    augment = Augment(
        rotate=20, translate=0.1, scale=(0.8, 1.2), shear=5, crop=0.8, flip=0.5,
        contrast=0.3, brightness=0.3, erase=0.5,
    )  # fmt: skip
    params = augment.draw(len(images), (17, 19), seed)
    whole = augment(images, params, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.1))
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        alone = augment(images[part], params[part], mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.1))
        assert torch.equal(alone, whole[part])
        start += size


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_groups_are_alike_and_hold_as_many_images_for_each_thread(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for n, channels, side in [(64, 1, 28), (2048, 1, 28), (16, 3, 224), (1, 3, 500), (0, 1, 28)]:
        group = _images_at_once(n, channels, side * side)
        assert 0 < group <= max(1, n)
        groups = -(-n // group)
        assert n - (groups - 1) * group >= group - groups  # the last is hardly smaller
        if groups > 1:
            assert group >= threads or n < threads * groups


def test_what_takes_gradients_gets_them(images):
    pixels = (images / 255).requires_grad_()
    Augment(flip=1)(pixels)[:, 0].sum().backward()
    torch.testing.assert_close(pixels.grad[:, 0], torch.ones(N, H, W), atol=1e-4, rtol=0)
    assert not pixels.grad[:, 1:].any()


def test_after_inference_mode_images_can_be_trained_with(images):
    with torch.inference_mode():
        Augment(rotate=9)(images, mean=(0.11,) * 3, std=(0.12,) * 3)
    pixels = (images / 255).requires_grad_()
    Augment(rotate=9)(pixels, mean=(0.11,) * 3, std=(0.12,) * 3).sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_switching_one_transform_on_changes_no_other():
    plain, more = Augment(rotate=20), Augment(rotate=20, brightness=0.5, erase=1)
    assert torch.equal(plain.draw(9, (8, 8), 3).matrix, more.draw(9, (8, 8), 3).matrix)


def test_batches_augment_each_epoch_anew_whatever_their_size():
    train, _ = load("fashion-mini")
    train = train[:200]
    options = {"augment": Augment(rotate=20, flip=0.5), "seed": 1, "device": "cpu"}
    small, large = Batches(train, 32, **options), Batches(train, 150, **options)
    a, b = (torch.cat([x for x, _ in source.epoch(2)]) for source in (small, large))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.cat([x for x, _ in small.epoch(3)]))
    rest = torch.cat([x for x, _ in small.epoch(2, start=3)])
    assert torch.equal(rest, a[96:])


def test_strength():
    augment = Augment(rotate=20, scale=(0.5, 2), flip=0.5, crop=0.8)
    assert augment.scaled(0) == Augment()
    assert augment.scaled(1) == augment
    assert augment.scaled(3).flip == 1
    with pytest.raises(ValueError, match="0 or more, got -1"):
        augment.scaled(-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": 200}, "rotate must lie in 0 … 180, got 200"),
        ({"crop": 0}, "crop must lie in"),
        ({"flip": 1.5}, "flip must lie in 0 … 1"),
        ({"scale": (2, 1)}, "smallest ≤ largest"),
        ({"erase_area": (0, 2)}, "erase_area"),
        ({"fill": 300}, "fill must lie in"),
        ({"fill": "white"}, "unknown fill 'white'"),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augment(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": "yes"}, r"flip must be a number, got flip='yes'"),
        ({"flip": True}, "flip must be a number, got flip=True"),
        ({"rotate": (-10, 10)}, r"rotate must be a number, got rotate=\(-10, 10\)"),
        ({"fill": None}, "fill must lie in 0 … 255, got None"),
        ({"scale": 0.8}, r"scale must be 2 values .*, got scale=0.8"),
        ({"scale": ("a", 1)}, "scale must be two numbers, .* such as"),
        ({"erase_area": (0.1, 0.2, 0.3)}, "erase_area must be 2 values"),
    ],
)
def test_options_of_the_wrong_kind(options, message):
    with pytest.raises(ValueError, match=message):
        Augment(**options)


def test_values_without_names_are_checked_too():
    with pytest.raises(ValueError, match="rotate must lie in 0 … 180, got 'much'"):
        Augment("much")


def test_unknown_options_are_named_with_the_nearest():
    message = "unknown option of Augment 'hflip'. Did you mean 'flip'\\? Use one of: rotate, "
    with pytest.raises(ValueError, match=message):
        Augment(hflip=0.5)
    with pytest.raises(ValueError, match="Did you mean 'rotate'"):
        dataclasses.replace(Augment(), rotation=10)
    assert list(inspect.signature(Augment).parameters)[:2] == ["rotate", "translate"]
    assert pickle.loads(pickle.dumps(Augment(flip=0.5))) == Augment(flip=0.5)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_are_transformed_as_bytes_are(images, kind):
    augment = Augment(
        rotate=20, translate=0.1, scale=(0.8, 1.2), shear=5, crop=0.8, flip=0.5,
        contrast=0.3, brightness=0.3, erase=0.5, fill=50,
    )  # fmt: skip
    how = {"seed": 3, "mean": (0.3, 0.4, 0.5), "std": (0.2, 0.3, 0.1)}
    result = augment((images / 255).to(kind), **how)
    assert result.dtype == kind
    close = 5e-5 if kind in (torch.float32, torch.float64) else 0.1
    torch.testing.assert_close(result.float(), augment(images, **how), atol=close, rtol=0)


def test_floats_beyond_a_pixels_range(images):
    normalized = images / 255 * 4 - 2
    for augment in (Augment(contrast=0.1), Augment(brightness=0.1)):
        with pytest.raises(ValueError, match=r"pixels of 0 … 1, these images hold -2 … 2\. If"):
            augment(normalized)
    # What only moves pixels moves these, too, and changes no value.
    torch.testing.assert_close(Augment(flip=1)(normalized), normalized.flip(3), atol=1e-5, rtol=0)
    assert Augment(brightness=0.1)(normalized[:0]).shape == (0, C, H, W)


def test_images_are_not_changed_themselves(images):
    for pixels in (images, images / 255):
        before = pixels.clone()
        Augment(contrast=0.5, brightness=0.5, rotate=10, erase=1)(pixels)
        assert torch.equal(pixels, before)


def test_bad_images(images):
    with pytest.raises(ValueError, match=r"uint8 of shape .* got torch.int64"):
        Augment()(images.long())
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(3, 20, 31\); add"):
        Augment()(images[0] / 255)
    with pytest.raises(TypeError, match=r"got a numpy array; use torch.from_numpy\(images\)"):
        Augment()(images.numpy())
    with pytest.raises(ValueError, match="parameters for 1 image, but 12 images"):
        Augment()(images, Augment().draw(1, (H, W)))
    with pytest.raises(ValueError, match="parameters for 3 images, but 12 images"):
        Augment()(images, Augment().draw(3, (H, W)))
