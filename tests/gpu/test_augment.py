"""The kernel of augmentation on a GPU, against torch's operations there and on the CPU."""

import warnings

import pytest
import torch

from cnnbook.data import Augment, AugmentParams, _fused
from cnnbook.data import augment as module

pytestmark = pytest.mark.gpu

EVERYTHING = {
    "rotate": 20, "translate": 0.1, "scale": (0.8, 1.2), "shear": 5, "crop": 0.8, "flip": 0.5,
    "contrast": 0.3, "brightness": 0.3, "erase": 0.5,
}  # fmt: skip
NAMES = ("matrix", "contrast", "brightness", "box")
HOW = {"mean": (0.3, 0.4, 0.5), "std": (0.2, 0.3, 0.25)}


def as_bytes(*shape):
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(4)
    )


def test_there_is_a_kernel_and_it_compiles():
    assert _fused.usable(torch.device("cuda"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Augment(**EVERYTHING)(as_bytes(2, 3, 8, 8).cuda())
    assert _fused.usable(torch.device("cuda"))


@pytest.mark.parametrize("fill", [0, 77, "edge", "reflect"])
@pytest.mark.parametrize("shape", [(64, 1, 28, 28), (9, 3, 97, 131), (5, 5, 224, 224)])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float16])
def test_a_gpu_agrees_with_the_cpu(kind, shape, fill):
    images = as_bytes(*shape)
    images = images if kind == torch.uint8 else (images / 255).to(kind)
    augment = Augment(**EVERYTHING, fill=fill)
    expected, result = augment(images, seed=1), augment(images.cuda(), seed=1)
    assert result.dtype == expected.dtype
    # Coordinates are rounded otherwise, by up to 224 · 6e-8 pixels, and so are the weights.
    close = 1e-3 if kind == torch.float16 else 1e-4
    torch.testing.assert_close(result.cpu(), expected, atol=close, rtol=0)


def test_the_nearest_pixel_is_the_same_but_for_ties():
    images = as_bytes(16, 3, 96, 96)
    augment = Augment(rotate=30, scale=(0.8, 1.2), interpolation="nearest")
    different = augment(images, seed=1) != augment(images.cuda(), seed=1).cpu()
    assert different.double().mean() < 1e-3


def test_images_of_any_strides():
    images = as_bytes(8, 3, 40, 50).cuda()
    expected = Augment(**EVERYTHING)(images, **HOW)
    for other in (
        images.contiguous(memory_format=torch.channels_last),
        images.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        result = Augment(**EVERYTHING)(other, **HOW)
        assert result.is_contiguous()
        assert torch.equal(result, expected)


def test_more_pixels_than_32_bits_count():
    count = 2**31 // (3 * 224 * 224) + 2
    last = as_bytes(2, 3, 224, 224).cuda()
    images = torch.zeros(1, dtype=torch.uint8, device="cuda").expand(count, 3, 224, 224).clone()
    images[-2:] = last
    augment = Augment(rotate=10)
    params = augment.draw(count, (224, 224)).to("cuda")
    result = augment(images, params)  # 8.6 GB
    expected = augment(last, params[-2:])
    assert torch.equal(result[-2:], expected)


def test_nothing_waits_for_the_gpu():
    images, augment = as_bytes(64, 3, 32, 32).cuda(), Augment(**EVERYTHING)
    augment(images, seed=0, **HOW)  # compiles, and makes what is kept
    torch.cuda.set_sync_debug_mode("error")
    try:
        for seed in range(3):
            augment(images, seed=seed, **HOW)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_parameters_are_copied_whole():
    drawn = Augment(**EVERYTHING).draw(100, (28, 28))
    moved = drawn.to("cuda")
    for name in NAMES:
        there = getattr(moved, name)
        assert there.is_cuda
        assert torch.equal(there.cpu(), getattr(drawn, name))
    assert moved.to("cpu").matrix.device.type == "cpu"


def test_it_can_be_recorded_in_a_graph():
    images, augment = as_bytes(32, 1, 28, 28).cuda(), Augment(**EVERYTHING)
    held = augment.draw(32, (28, 28), 0).to("cuda")
    held = AugmentParams(*(getattr(held, name).clone() for name in NAMES))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        augment(images, held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = augment(images, held)
    for seed in (1, 2):
        new = augment.draw(32, (28, 28), seed).to("cuda")
        for name in NAMES:
            getattr(held, name).copy_(getattr(new, name))
        graph.replay()
        assert torch.equal(result, augment(images, new))


def test_another_stream_is_used():
    images, augment = as_bytes(64, 3, 96, 96).cuda(), Augment(**EVERYTHING)
    expected = augment(images, seed=1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = images.clone()
        result = augment(late, seed=1)
    stream.synchronize()
    assert torch.equal(result, expected)


def test_without_the_kernel_the_result_is_the_same(monkeypatch):
    images, augment = as_bytes(16, 3, 40, 50).cuda(), Augment(**EVERYTHING)
    fused = augment(images, seed=1, **HOW)
    monkeypatch.setattr(module, "_on_gpu", lambda images: False)
    torch.testing.assert_close(augment(images, seed=1, **HOW), fused, atol=1e-4, rtol=0)


def test_gradients():
    images = (as_bytes(2, 3, 8, 8) / 255).cuda().requires_grad_()
    Augment(rotate=20)(images).sum().backward()
    assert images.grad.abs().sum() > 0
