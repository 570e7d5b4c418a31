"""Local response normalization: torch's results, in less time and memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from cnnbook import analysis, models
from cnnbook.models._response_norm import LocalResponseNorm

OPTIONS = {"alpha": 5e-4, "beta": 0.75, "k": 2.0}
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def with_gradient(layer, x, grad):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(grad)
    return y.detach(), x.grad


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 30])
def test_values_and_gradients_are_those_of_torch(size, layout):
    torch.manual_seed(0)
    x = (torch.randn(2, 12, 5, 4) * 30).contiguous(memory_format=layout)
    grad = torch.randn_like(x)
    expected = with_gradient(nn.LocalResponseNorm(size, **OPTIONS), x, grad)
    ours = with_gradient(LocalResponseNorm(size, **OPTIONS), x, grad)
    for a, b in zip(ours, expected, strict=True):
        assert (a - b).abs().max() <= 3e-7 * b.abs().max()
        assert a.is_contiguous(memory_format=layout)
    # without gradients, other operations compute it
    assert (LocalResponseNorm(size, **OPTIONS)(x) - expected[0]).abs().max() < 1e-6 * x.abs().max()


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [4, 5])
def test_gradients_are_exact_once_and_twice(size, groups, beta):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 2, 1, dtype=torch.float64, requires_grad=True)
    layer = LocalResponseNorm(size, alpha=0.5, beta=beta, k=1.5, groups=groups)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 3, 2, 4)])
def test_one_and_three_dimensions(shape):
    x = torch.rand(shape) * 9
    expected = with_gradient(nn.LocalResponseNorm(3), x, torch.ones_like(x))
    torch.testing.assert_close(with_gradient(LocalResponseNorm(3), x, torch.ones_like(x)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_computed_with_in_32_bits(dtype):
    torch.manual_seed(0)
    # Their squares would be infinite in float16.
    x = (torch.randn(2, 16, 4, 4) * 1000).to(dtype)
    y, grad = with_gradient(LocalResponseNorm(5, **OPTIONS), x, torch.ones_like(x))
    wide = with_gradient(LocalResponseNorm(5, **OPTIONS), x.float(), torch.ones(x.shape))
    assert y.dtype == grad.dtype == dtype
    assert torch.equal(y, wide[0].to(dtype))
    assert torch.equal(grad, wide[1].to(dtype))
    with torch.no_grad():  # evaluation gives what training gave
        alone = LocalResponseNorm(5, **OPTIONS)(x)
    assert alone.dtype == dtype
    torch.testing.assert_close(alone, y)
    with torch.autocast("cpu", torch.bfloat16):
        under = with_gradient(LocalResponseNorm(5, **OPTIONS), x.float(), torch.ones(x.shape))
    assert torch.equal(under[0], wide[0])
    assert torch.equal(under[1], wide[1])


def test_wrong_channels_are_refused():
    with pytest.raises(ValueError, match=r"divisible by 2, got \(1, 3, 4, 4\)"):
        LocalResponseNorm(5, groups=2)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="at least three dimensions"):
        LocalResponseNorm(5)(torch.zeros(4, 3))


@pytest.mark.parametrize("options", [{"size": 0}, {"size": -3}, {"size": 5, "groups": 0}])
def test_sizes_are_at_least_one(options):
    with pytest.raises(ValueError, match="size and groups are at least 1"):
        LocalResponseNorm(**options)


def test_less_is_kept_for_the_backward_pass():
    def kept(layer):
        sizes = {}
        x = torch.rand(2, 8, 6, 6, requires_grad=True)

        def note(t):
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            y = layer(x)
        return sum(sizes.values()) / y.untyped_storage().nbytes()

    assert kept(LocalResponseNorm(5)) == 2  # its input and the sums
    assert kept(nn.LocalResponseNorm(5)) > 4


def test_analysis_follows_it():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), LocalResponseNorm(5, groups=2), nn.ReLU())
    field = analysis.receptive_field(net, (1, 12, 12), "2")
    assert (field.size, field.jump) == ((3, 3), (1, 1))
    assert "LocalResponseNorm" in str(analysis.summary(net, (1, 12, 12)))
    assert repr(net[1]) == "LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0, groups=2)"


def test_networks_that_have_it_train_as_with_torchs():
    torch.manual_seed(0)
    net = models.create("alexnet", 10, 3, stem="small", width=1 / 12)
    x = torch.rand(2, 3, 32, 32)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.LocalResponseNorm)]
    assert len(norms) == 2
    net.eval()(x).sum().backward()
    ours = [p.grad.clone() for p in net.parameters()]
    for layer in norms:
        whole = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
        layer.forward = lambda x, norm=whole: torch.cat([norm(t) for t in x.chunk(2, 1)], 1)
    net.zero_grad()
    net(x).sum().backward()
    for a, p in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_traced_exported_and_batched():
    layer, x = LocalResponseNorm(5, groups=2), torch.rand(2, 8, 4, 4, requires_grad=True)
    expected = layer(x)
    torch.testing.assert_close(torch.jit.trace(layer, x)(x), expected)
    exported = torch.export.export(layer, (x.detach(),)).module()
    torch.testing.assert_close(exported(x.detach()), expected.detach())
    single = torch.func.vmap(lambda one: layer(one[None])[0])(x.detach())
    torch.testing.assert_close(single, expected.detach())
    grads = torch.func.vmap(torch.func.grad(lambda one: layer(one[None]).square().sum()))
    alone = torch.autograd.grad(expected.square().sum(), x)[0]
    torch.testing.assert_close(grads(x.detach()), alone)
    _, pull = torch.func.vjp(layer, x.detach())
    torch.testing.assert_close(pull(2 * expected.detach())[0], alone)
    _, push = torch.func.jvp(layer, (x.detach(),), (torch.ones_like(x),))
    slope = (2 * expected.detach() * push).sum()
    torch.testing.assert_close(slope, alone.sum())
    one = x.detach()[:1, :, :1, :1]
    second = torch.func.hessian(lambda one: layer(one).sum())(one).view(8, 8)
    torch.testing.assert_close(second, second.T)


INTERPRETED = """
import torch
from torch import nn
from cnnbook.models import _response_norm_gpu as gpu

torch.manual_seed(0)
for size, groups, layout, shape in (
    (5, 1, torch.contiguous_format, (2, 12, 5, 11)),
    (5, 2, torch.channels_last, (2, 12, 5, 11)),
    (4, 3, torch.channels_last, (3, 12, 3, 3)),
    (2, 1, torch.contiguous_format, (2, 6, 7)),
):
    x = torch.randn(shape) * 30
    if len(shape) == 4:
        x = x.contiguous(memory_format=layout)
    grad = torch.randn(shape)  # in another layout than x
    norm = nn.LocalResponseNorm(size, 5e-4, 0.75, 2.0)
    leaf = x.clone().requires_grad_()
    expected = torch.cat([norm(part) for part in leaf.chunk(groups, 1)], 1)
    expected.backward(grad)
    options = (size, 5e-4, 0.75, 2.0, groups)
    y = gpu.normalize(x, *options)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gpu.gradient(x, grad, *options), leaf.grad, rtol=1e-5, atol=1e-5)
    assert y.stride() == x.stride()
    half = gpu.normalize(x.bfloat16(), *options)
    torch.testing.assert_close(half.float(), expected.detach(), rtol=2e-2, atol=2e-2)
print("equal")
"""


@pytest.mark.slow
def test_the_gpus_kernel_in_tritons_interpreter():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr


def test_what_follows_the_operations_sees_torchs():
    ours = nn.Sequential(nn.Conv2d(3, 8, 3), LocalResponseNorm(5))
    torchs = nn.Sequential(ours[0], nn.LocalResponseNorm(5))
    x = torch.rand(2, 3, 9, 9)
    names = [
        [step.name for step in analysis.trace(net, (3, 9, 9)).operations if step.name != "cat"]
        for net in (ours, torchs)
    ]
    assert [name for name in names[0] if name != "split"] == names[1]
    with torch.no_grad():
        assert torch.equal(ours(x), torchs(x))
