import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbook import analysis


def random_kernel(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(
    channels=st.lists(st.integers(1, 3), min_size=2, max_size=4),
    sides=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=3, max_size=3),
    seed=st.integers(0, 100),
)
def test_the_composed_kernel_computes_what_the_stack_does(channels, sides, seed):
    weights = [
        random_kernel(n_out, n_in, *side, seed=seed + i)
        for i, (n_in, n_out, side) in enumerate(
            zip(channels[:-1], channels[1:], sides, strict=False)
        )
    ]
    x = random_kernel(2, channels[0], 9, 8, seed=seed)
    through = x
    for weight in weights:
        through = F.conv2d(through, weight)
    torch.testing.assert_close(F.conv2d(x, analysis.compose_kernels(*weights)), through)


def test_two_layers_of_a_foreign_network_as_one():
    torch.manual_seed(0)
    block = torchvision.models.resnet18().double().layer1[0]
    kernel = analysis.compose_kernels(block.conv1.weight, block.conv2.weight).detach()
    assert kernel.shape == (64, 64, 5, 5)
    x = torch.randn(1, 64, 8, 8, dtype=torch.float64)
    inner = block.conv2(block.conv1(x))[:, :, 2:-2, 2:-2]  # where no padding is seen
    torch.testing.assert_close(F.conv2d(x, kernel), inner)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((), "at least one kernel"),
        ((torch.ones(3, 3),), r"\(out, in, h, w\), got \(3, 3\)"),
        ((torch.ones(4, 1, 3, 3), torch.ones(2, 3, 3, 3)), "kernel 2 takes 3 channels.* outputs 4"),
    ],
)
def test_composition_errors(weights, message):
    with pytest.raises(ValueError, match=message):
        analysis.compose_kernels(*weights)


def by_descent(kernel, starts=12):
    """Minimize the residual over both factors at once, with L-BFGS."""
    residuals = []
    for seed in range(starts):
        factors = [
            random_kernel(1, 1, 3, 3, seed=1000 + 2 * seed + i).requires_grad_() for i in (0, 1)
        ]
        optimizer = torch.optim.LBFGS(factors, max_iter=500, line_search_fn="strong_wolfe")

        def closure(factors=factors, optimizer=optimizer):
            optimizer.zero_grad()
            product = F.conv2d(
                F.pad(factors[0], (2, 2, 2, 2)), factors[1].flip(2, 3)
            )  # full convolution, written out
            loss = (product[0, 0] - kernel).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        residuals.append((closure().sqrt() / kernel.norm()).item())
    return min(residuals)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_best_factors_of_a_5x5_kernel(seed):
    kernel = random_kernel(5, 5, seed=seed)
    found = analysis.factorize_kernel(kernel)
    assert found.first.shape == found.second.shape == (1, 1, 3, 3)
    product = torch.zeros(5, 5, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            product[i : i + 3, j : j + 3] += found.first[0, 0, i, j] * found.second[0, 0]
    torch.testing.assert_close(found.product[0, 0], product)
    assert found.residual == pytest.approx(((kernel - product).norm() / kernel.norm()).item())
    assert found.residual == pytest.approx(by_descent(kernel), abs=1e-4)
    assert found.residual > 0.1  # 17 free numbers cannot make 25
    assert found.first.norm() == pytest.approx(found.second.norm())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_two_channels_between_suffice_for_a_generic_5x5_kernel(seed):
    assert analysis.factorize_kernel(random_kernel(5, 5, seed=seed), 2).residual < 1e-9


def test_what_one_channel_can_express():
    a, b = random_kernel(1, 1, 3, 3), random_kernel(1, 1, 3, 3, seed=1)
    assert analysis.factorize_kernel(analysis.compose_kernels(a, b)).residual < 1e-6
    # A polynomial of degree 4 with real coefficients has two real factors of degree 2, so any
    # single row is a product, and with it any column times a row.
    row = torch.zeros(5, 5)
    row[2] = torch.tensor([3.0, 0.0, 1.0, 0.0, 2.0])
    assert analysis.factorize_kernel(row).residual < 1e-6
    column = random_kernel(5, 1, seed=2)
    assert analysis.factorize_kernel(column * random_kernel(1, 5, seed=3)).residual < 1e-6


@pytest.mark.slow
def test_kernels_with_channels_and_other_sizes():
    weight = torchvision.models.squeezenet1_1().features[0].weight  # 64×3×3×3
    exact = analysis.factorize_kernel(weight[:2], 6, size=1)
    # One 1×1 layer that mixes nothing, and the kernel itself.
    assert exact.residual < 1e-9
    assert exact.second.shape == (2, 6, 3, 3)
    seven = random_kernel(2, 2, 7, 7)
    residuals = [
        analysis.factorize_kernel(seven, m, restarts=2, steps=60).residual for m in (1, 2, 4)
    ]
    assert residuals == sorted(residuals, reverse=True)
    assert analysis.factorize_kernel(seven, 2, size=3, restarts=1).second.shape == (2, 2, 5, 5)


@pytest.mark.slow
def test_factors_are_the_same_each_time():
    kernel, state = random_kernel(5, 5), torch.get_rng_state()
    a, b = (analysis.factorize_kernel(kernel, 2, seed=4) for _ in range(2))
    assert torch.equal(a.first, b.first)
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(analysis.factorize_kernel(kernel)).startswith("<1×1×5×5 ≈ 1×1×3×3 then 1×1×3×3:")


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        (torch.ones(5, 4), {}, r"\(K, K\) or .*got \(5, 4\)"),
        (torch.zeros(5, 5), {}, "zero everywhere"),
        (torch.ones(5, 5), {"channels": 0}, "channels must be at least 1, got 0"),
        (torch.ones(5, 5), {"size": 6}, "from 1 to the kernel's side 5, got 6"),
    ],
)
def test_factorization_errors(kernel, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.factorize_kernel(kernel, **options)
