"""The kernel for GPUs, run by Triton's interpreter on a CPU, against torch's operations."""

import importlib.util
import sys
import warnings
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnbook.data
from cnnbook.data import Augment, _fused
from cnnbook.data import augment as module

pytestmark = [
    pytest.mark.skipif(_fused.triton is None, reason="Triton is not installed"),
    pytest.mark.may_skip("torch for Windows and macOS comes without Triton"),
]

MEAN, STD = (0.3, 0.4, 0.5, 0.6, 0.7), (0.2, 0.3, 0.1, 0.25, 0.4)
EVERYTHING = {
    "rotate": 20, "translate": 0.1, "scale": (0.8, 1.2), "shear": 5, "crop": 0.8, "flip": 0.5,
    "contrast": 0.3, "brightness": 0.3, "erase": 0.5, "fill": 50,
}  # fmt: skip


@contextmanager
def on_stand_in(**changes):
    """Take the GPU's path on a CPU: the kernel is run by Triton's interpreter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        spec = importlib.util.spec_from_file_location("interpreted", _fused.__file__)
        interpreted = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "interpreted", interpreted)  # Triton reads its source
        spec.loader.exec_module(interpreted)
        runs = []
        real = interpreted.transform
        interpreted.transform = lambda *args, **options: runs.append(1) or real(*args, **options)
        interpreted.usable = lambda device: not interpreted._broken
        for name, value in changes.items():
            setattr(interpreted, name, value)
        patch.setattr(cnnbook.data, "_fused", interpreted)
        patch.setattr(module, "_on_gpu", lambda images: True)
        yield runs


def both(augment, images, **options):
    """Return the result of torch's operations and that of the kernel."""
    channels = images.shape[1]
    options = {"seed": 3, "mean": MEAN[:channels], "std": STD[:channels]} | options
    plain = augment(images, **options)
    with on_stand_in() as runs:
        fused = augment(images, **options)
    assert runs or not len(images)
    assert fused.dtype == plain.dtype
    assert fused.is_contiguous()
    return plain, fused


def as_bytes(*shape):
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(4)
    )


# In float32 a coordinate of 0 … W is known to W · 6e-8, and between black and white neighbors, that
# times 1 / std is a difference in the result.
def tolerance(images):
    return 1e-5 + max(images.shape[2:]) * 2.5e-7 / min(STD)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    channels=st.sampled_from([1, 3, 4, 5]),
    augment=st.builds(
        Augment,
        rotate=st.sampled_from([0, 15, 180]),
        translate=st.sampled_from([0, 0.1, 1]),
        scale=st.sampled_from([(1.0, 1.0), (0.7, 1.4), (0.01, 0.02)]),
        shear=st.sampled_from([0, 20]),
        crop=st.sampled_from([1, 0.5]),
        flip=st.sampled_from([0, 0.5]),
        contrast=st.sampled_from([0, 0.9]),
        brightness=st.sampled_from([0, 0.9]),
        erase=st.sampled_from([0, 0.7]),
        fill=st.sampled_from([0, 77.5, "edge", "reflect"]),
    ),
    seed=st.integers(0, 1000),
)
def test_any_transform_of_any_image(sides, channels, augment, seed):
    images = as_bytes(2, channels, *sides)
    plain, fused = both(augment, images, seed=seed)
    # With a scale of 0.01, coordinates are thousands of pixels from the center.
    close = tolerance(images) if augment.scale[0] > 0.1 else 1
    far = (plain - fused).abs() > close
    # A coordinate that falls on the other side of a multiple of the width is reflected otherwise.
    assert far.double().mean() <= (0.02 if close == 1 else 0)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [0, 77, "edge", "reflect"])
def test_everything_at_once(fill):
    images = as_bytes(3, 3, 19, 35)
    plain, fused = both(Augment(**(EVERYTHING | {"fill": fill})), images)
    torch.testing.assert_close(fused, plain, atol=tolerance(images), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [9, "edge", "reflect"])
def test_nearest(fill):
    images = as_bytes(3, 3, 19, 32)
    augment = Augment(rotate=20, translate=0.3, fill=fill, interpolation="nearest")
    plain, fused = both(augment, images)
    torch.testing.assert_close(fused, plain, atol=1e-6, rtol=0)


def test_halves_are_rounded_to_even_numbers():
    images = as_bytes(1, 1, 4, 8)
    params = Augment().draw(1, (4, 8))
    params.matrix[0, 0, 2] = 0.5  # every pixel lies midway between two
    plain, fused = both(Augment(interpolation="nearest"), images, params=params)
    assert torch.equal(plain, fused)
    expected = (images[0, 0, :, [0, 2, 2, 4, 4, 6, 6]] / 255 - MEAN[0]) / STD[0]
    torch.testing.assert_close(fused[0, 0, :, :7], expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats(kind):
    images = (as_bytes(2, 3, 9, 20) / 255).to(kind)
    plain, fused = both(Augment(**EVERYTHING), images)
    assert fused.dtype == kind
    close = {torch.float16: 8e-3, torch.bfloat16: 6e-2}.get(kind, tolerance(images))
    torch.testing.assert_close(fused, plain, atol=close, rtol=0)


@pytest.mark.slow
def test_images_of_any_strides():
    images = as_bytes(4, 3, 9, 20)
    expected = both(Augment(**EVERYTHING), images)[1]
    spread = torch.zeros(4, 3, 18, 40, dtype=torch.uint8)
    spread[:, :, ::2, ::2] = images
    for other in (
        images.contiguous(memory_format=torch.channels_last),
        images.transpose(2, 3).contiguous().transpose(2, 3),
        spread[:, :, ::2, ::2],
    ):
        assert not other.is_contiguous()
        assert torch.equal(both(Augment(**EVERYTHING), other)[1], expected)
    same = both(Augment(**EVERYTHING), images[:1].expand(4, -1, -1, -1))[1]
    assert torch.equal(same[0], expected[0])


@pytest.mark.slow
def test_parameters_of_any_strides():
    images, augment = as_bytes(6, 1, 9, 20), Augment(**EVERYTHING)
    params = augment.draw(6, (9, 20))
    whole = both(augment, images, params=params)[1]
    table = torch.zeros(6, 20)  # as AugmentParams.to makes it for a GPU, with gaps
    table[:, :6] = params.matrix.flatten(1)
    table[:, 6], table[:, 7], table[:, 8:12] = params.contrast, params.brightness, params.box
    views = type(params)(
        table[:, :6].unflatten(1, (2, 3)), table[:, 6], table[:, 7], table[:, 8:12]
    )
    assert torch.equal(both(augment, images, params=views)[1], whole)
    assert torch.equal(both(augment, images[1::2], params=views[1::2])[1], whole[1::2])
    apart = torch.zeros(6, 2, 6)[..., ::2].copy_(params.matrix)
    views = type(params)(apart, params.contrast, params.brightness, params.box)
    assert torch.equal(both(augment, images, params=views)[1], whole)


def test_more_blocks_than_a_grid_holds():
    images, augment = as_bytes(3, 1, 4, 5), Augment(rotate=30)
    whole = both(augment, images)[1]
    with on_stand_in(_MOST_BLOCKS=2) as runs:
        assert torch.equal(augment(images, seed=3, mean=MEAN[:1], std=STD[:1]), whole)
    assert runs
    assert _fused._MOST_BLOCKS == 2**31 - 1


def test_no_images():
    plain, fused = both(Augment(**EVERYTHING), as_bytes(0, 3, 4, 5))
    assert plain.shape == fused.shape == (0, 3, 4, 5)


def test_gradients_take_the_other_way():
    images = torch.rand(1, 1, 4, 5, requires_grad=True)
    with on_stand_in() as runs:
        (gradient,) = torch.autograd.grad(Augment(rotate=30)(images, seed=1).sum(), images)
        assert not runs
        with torch.no_grad():
            Augment(rotate=30)(images, seed=1)
        assert runs
    assert gradient.shape == images.shape
    assert gradient.abs().sum() > 0


def test_a_kernel_that_cannot_be_made_is_reported_once():
    def fails(*values, **options):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    images, augment = as_bytes(2, 1, 4, 5), Augment(rotate=30)
    plain = augment(images, seed=3)
    with on_stand_in(transform=fails):
        with pytest.warns(UserWarning, match="“Failed to find C compiler.”. It needs a C compiler"):
            assert torch.equal(augment(images, seed=3), plain)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(augment(images, seed=3), plain)


def test_want_of_memory_is_not_hidden():
    def full(*values, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with (
        on_stand_in(transform=full),
        pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"),
    ):
        Augment(rotate=30)(as_bytes(2, 1, 4, 5))


def test_which_gpus_can_run_it(monkeypatch):
    capability = (7, 0)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert _fused.usable(torch.device("cuda"))
    capability = (6, 1)
    assert not _fused.usable(torch.device("cuda"))
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert _fused.usable(torch.device("cuda"))
    monkeypatch.setattr(_fused, "triton", None)
    assert not _fused.usable(torch.device("cuda"))
