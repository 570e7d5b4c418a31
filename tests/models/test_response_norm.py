"""Local response normalization: torch's results, in less time and memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import func, nn
from torch.autograd import forward_ad, functional
from torch.utils.checkpoint import checkpoint

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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "5"}, "size must be an integer, got '5'"),
        ({"size": 2.5}, "size must be an integer, got 2.5"),
        ({"size": True}, "size must be an integer, got True"),
        ({"size": 5, "groups": None}, "groups must be an integer, got None"),
        ({"size": 5, "alpha": "x"}, "alpha must be a finite number, got 'x'"),
        ({"size": 5, "beta": float("nan")}, "beta must be a finite number, got nan"),
        ({"size": 5, "k": None}, "k must be a finite number, got None"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(TypeError, match=said):
        LocalResponseNorm(**options)


def square(norm):
    return lambda x: norm(x).square().sum()


def leaf(x):
    return x.clone().requires_grad_()


def gradient(norm, x, **options):
    return torch.autograd.grad(square(norm)(x), x, **options)[0]


def several_gradients(norm, x, **options):
    x = leaf(x)
    y = norm(x)
    each = torch.eye(y.numel(), dtype=y.dtype).view(-1, *y.shape)
    return torch.autograd.grad(y, x, each, is_grads_batched=True, **options)[0]


def tangent(norm, x):
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        return forward_ad.unpack_dual(norm(dual)).tangent


def gradient_of_a_tangent(norm, x):
    x = leaf(x)
    return torch.autograd.grad(tangent(norm, x).sum(), x)[0]


def tangent_of_a_gradient(norm, x):
    """Only what comes after the layer has a tangent."""
    x = leaf(x)
    y = norm(x)
    with forward_ad.dual_level():
        weight = forward_ad.make_dual(torch.full_like(x, 2), torch.ones_like(x))
        return forward_ad.unpack_dual(torch.autograd.grad((y * weight).sum(), x)[0]).tangent


def gradient_of_gradients(norm, x, times):
    x = leaf(x)
    value = square(norm)(x)
    for _ in range(times):
        value = torch.autograd.grad(value, x, create_graph=True)[0].square().sum()
    return torch.autograd.grad(value, x)[0]


def gradient_by_what_it_is_multiplied_with(norm, x):
    x, v = leaf(x), leaf(torch.ones_like(x))
    (found,) = torch.autograd.grad(norm(x), x, v, create_graph=True)
    return torch.autograd.grad(found.square().sum(), v)[0]


def after_a_change_in_place(norm, x):
    x = leaf(x)
    y = norm(x)
    y.mul_(2)
    return torch.autograd.grad(y.square().sum(), x)[0]


def in_inference_mode(norm, x):
    with torch.inference_mode():
        return norm(x.clone())


def of_a_subclass(norm, x):
    kind = type("Kind", (torch.Tensor,), {})
    y = norm(x.as_subclass(kind).requires_grad_())
    assert type(y) is kind
    return y.detach().as_subclass(torch.Tensor)


DERIVATIVES = {
    "jacobian": functional.jacobian,
    "jacobian, vectorized": lambda f, x: functional.jacobian(f, x, vectorize=True),
    "jacobian, forward": lambda f, x: functional.jacobian(
        f, x, vectorize=True, strategy="forward-mode"
    ),
    "hessian, vectorized": lambda f, x: functional.hessian(square(f), x, vectorize=True),
    "hessian, forward": lambda f, x: functional.hessian(
        square(f), x, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "jvp by double backward": lambda f, x: functional.jvp(f, x, torch.ones_like(x))[1],
    "vhp": lambda f, x: functional.vhp(square(f), x, torch.ones_like(x))[1],
    "hvp": lambda f, x: functional.hvp(square(f), x, torch.ones_like(x))[1],
    "several gradients": several_gradients,
    "several gradients, with graph": lambda f, x: several_gradients(f, x, create_graph=True),
    "tangent": tangent,
    "tangent without gradients": lambda f, x: torch.no_grad()(tangent)(f, x),
    "gradient of a tangent": gradient_of_a_tangent,
    "tangent of a gradient": tangent_of_a_gradient,
    "double backward": lambda f, x: gradient_of_gradients(f, x, 1),
    "triple backward": lambda f, x: gradient_of_gradients(f, x, 2),
    "gradient's gradient": gradient_by_what_it_is_multiplied_with,
    "changed in place": after_a_change_in_place,
    "applied twice": lambda f, x: gradient(lambda y: f(f(y)), leaf(x)),
    "checkpoint": lambda f, x: gradient(lambda y: checkpoint(f, y, use_reentrant=False), leaf(x)),
    "inference mode": in_inference_mode,
    "subclass": of_a_subclass,
    "parameter": lambda f, x: gradient(f, nn.Parameter(x)),
    "func.grad": lambda f, x: func.grad(square(f))(x),
    "func.vjp": lambda f, x: func.vjp(f, x)[1](torch.ones_like(x))[0],
    "func.jvp": lambda f, x: func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "func.linearize": lambda f, x: func.linearize(f, x)[1](torch.ones_like(x)),
    "func.jacfwd": lambda f, x: func.jacfwd(f)(x),
    "func.jacrev": lambda f, x: func.jacrev(f, chunk_size=5)(x),
    "func.hessian": lambda f, x: func.hessian(square(f))(x),
    "func.jacfwd twice": lambda f, x: func.jacfwd(func.jacfwd(square(f)))(x),
    "func.jacrev twice": lambda f, x: func.jacrev(func.jacrev(square(f)))(x),
    "vmap": lambda f, x: func.vmap(lambda one: f(one[None])[0])(x),
    "vmap of dimension 1": lambda f, x: func.vmap(f, 1, 1)(torch.stack([x, 2 * x], 1)),
    "vmap of gradients": lambda f, x: func.vmap(func.grad(lambda y: square(f)(y[None])))(x),
    "backward of vmap": lambda f, x: gradient(func.vmap(lambda one: f(one[None])[0]), leaf(x)),
}


def by_torch(size, groups, **options):
    norm = nn.LocalResponseNorm(size, **options)
    return lambda x: torch.cat([norm(part) for part in x.chunk(groups, 1)], 1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch itself
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr:UserWarning")  # of torch itself
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", DERIVATIVES)
def test_every_derivative_is_torchs(kind, groups):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 2, 1, dtype=torch.float64)
    for beta in (0.75, 1.3):
        options = {"alpha": 0.5, "beta": beta, "k": 1.5, "groups": groups}
        expected = DERIVATIVES[kind](by_torch(5, **options), x)
        found = DERIVATIVES[kind](LocalResponseNorm(5, **options), x)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


torch.manual_seed(1)
X = torch.randn(2, 6, 4, 3)
INPUTS = {
    "64 bits": X.double(),
    "channels last": X.contiguous(memory_format=torch.channels_last),
    "transposed": X.transpose(2, 3),
    "channels inside": torch.randn(2, 4, 3, 6).permute(0, 3, 1, 2),
    "strided": torch.randn(4, 12, 8, 6)[::2, ::2, ::2, ::2],
    "one image expanded": X[:1].expand(2, -1, -1, -1),
    "one channel expanded": X[:, :1].expand(-1, 6, -1, -1),
    "negative view": torch._neg_view(X),
    "no images": X[:0],
    "no rows": X[:, :, :0],
    "no channels": X[:, :0],
    "one pixel": X[:1, :, :1, :1],
    "not numbers": X.where(X < 1, torch.tensor(float("nan"))),
    "infinite": X.where(X < 1, torch.tensor(float("inf"))),
    "large": X * 1e18,
    "overflowing": X * 1e25,
    "tiny": X * 1e-30,
    "sequences": X[..., 0],
    "volumes": X[:, :, None],
    "volumes, channels last": X[:, :, None].contiguous(memory_format=torch.channels_last_3d),
    "six dimensions": X[:, :, None, None],
}


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("kind", INPUTS)
def test_every_input_gives_what_torch_gives(kind, groups):
    for size in (1, 4, 5, 13):
        options = {"size": size, "groups": groups, "alpha": 0.5, "k": 1.5}
        norms = by_torch(**options), LocalResponseNorm(**options)
        values, gradients = zip(
            *[with_gradient(norm, INPUTS[kind], torch.ones_like(INPUTS[kind])) for norm in norms],
            strict=True,
        )
        torch.testing.assert_close(*values, equal_nan=True, check_stride=False)
        torch.testing.assert_close(*gradients, equal_nan=True, check_stride=False)
        with torch.no_grad():
            values = [norm(INPUTS[kind]) for norm in norms]
        torch.testing.assert_close(*values, equal_nan=True, check_stride=False)


@pytest.mark.filterwarnings("ignore:.*[Qq]uant:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: (X * 10).long(), "floating-point numbers .* got torch.int64, .*x.float()"),
        (lambda: (X * 10).byte(), "got torch.uint8"),
        (lambda: X > 0, "got torch.bool"),
        (lambda: torch.complex(X, X), "got torch.complex64"),
        (lambda: torch.complex(X, X).requires_grad_(), "got torch.complex64"),
        (lambda: X.to(torch.float8_e4m3fn), "got torch.float8_e4m3fn"),
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.quint8), "got torch.quint8"),
        (lambda: X.to_sparse(), "got torch.float32, torch.sparse_coo"),
        (lambda: torch.nested.nested_tensor([X[0], X[1]]), "got a nested tensor"),
        (lambda: X.numpy(), "input must be a torch tensor, got a numpy array"),
        (lambda: [1.0, 2.0], "input must be a torch tensor, got a list"),
        (lambda: None, "input must be a torch tensor, got NoneType"),
    ],
)
def test_other_inputs_are_refused(make, said):
    with pytest.raises(TypeError, match=said):
        LocalResponseNorm(5)(make())


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
def test_traced_scripted_compiled_exported_and_batched():
    layer, x = LocalResponseNorm(5, groups=2), torch.rand(2, 8, 4, 4, requires_grad=True)
    expected = layer(x)
    torch.testing.assert_close(torch.jit.trace(layer, x)(x), expected)
    exported = torch.export.export(layer, (x.detach(),)).module()
    torch.testing.assert_close(exported(x.detach()), expected.detach())
    scripted = torch.jit.script(nn.Sequential(layer))
    torch.testing.assert_close(scripted(x), expected)
    assert scripted(x.half()).dtype == torch.float16
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(compiled(x.detach()), expected.detach())
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
