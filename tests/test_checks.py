"""Checks that every room shares: what they let pass, and how they refuse the rest."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from cnnbook._checks import (
    as_numbers,
    check_count,
    check_dense,
    check_finite,
    check_fits,
    check_fraction,
    check_positive,
    check_whole,
    is_index,
    is_number,
    no_tensor,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [0, -1.5, INF, Fraction(1, 3), np.float32(2), np.int64(3)])
def test_real_numbers_are_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, "1", None, 1j, torch.tensor(1.0), np.ones(1)], ids=repr)
def test_nothing_else_is_a_number(value):
    assert not is_number(value)
    for check in (check_positive, check_fraction, check_whole):
        with pytest.raises(
            TypeError, match=f"^x must be a number, got x=.* {type(value).__name__}"
        ):
            check("x", value)


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (3, True),
        (np.int8(3), True),
        (torch.tensor(3), True),
        (True, False),
        (torch.tensor(True), False),
        (torch.tensor(3.0), False),
        (torch.tensor([3]), False),
        (3.0, False),
    ],
)
def test_integers_of_any_kind_are_indices(value, index):
    assert is_index(value) is index


@pytest.mark.parametrize(
    ("check", "right", "wrong", "message"),
    [
        (check_positive, [1e-9, 5, np.float32(1)], [0, -1, INF, NAN], "x must be positive and fin"),
        (check_fraction, [0, 0.5, 1], [-0.1, 1.1, INF, NAN], "x is a fraction from 0 to 1, got x="),
        (check_count, [1, np.int8(2)], [0, -1, 2**63], "x must be (at least 1|less than 2.*63), "),
    ],
)
def test_numbers_outside_a_range_are_refused(check, right, wrong, message):
    for value in right:
        check("x", value)
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{message}"):
            check("x", value)


def test_whole_numbers_may_be_negative():
    check_whole("x", -1)
    check_whole("x", np.int64(0))
    with pytest.raises(TypeError, match=r"^x is a whole number, got x=1\.0$"):
        check_whole("x", 1.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2), "x must be a torch tensor, got a numpy array; use torch.from_numpy(x)"),
        (nn.Conv2d(1, 1, 1), "x must be a torch tensor, got a layer Conv2d; pass x=layer.weight"),
        ([1], "x must be a torch tensor, got a list; torch.stack or torch.tensor makes one"),
        ("a", "x must be a torch tensor, got str"),
    ],
)
def test_what_is_no_tensor_is_named_with_a_cure(value, message):
    error = no_tensor("x", value)
    assert isinstance(error, TypeError)
    assert str(error) == message


@pytest.mark.parametrize("check", [check_dense, check_finite])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1.0], TypeError, "x must be a torch tensor, got a list"),
        (torch.ones(2, device="meta"), ValueError, "x must be a dense tensor, got one without val"),
        (torch.ones(2).to_sparse(), ValueError, "x must be a dense tensor, got torch.sparse_coo; "),
    ],
)
def test_what_is_no_dense_tensor_is_refused(check, value, error, message):
    with pytest.raises(error, match=f"^{message}"):
        check("x", value)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_values_that_are_not_finite_are_refused(value):
    values = torch.tensor([0.0, value])
    check_dense("x", values)
    check_finite("x", torch.tensor([0, 1]))
    for check in (check_finite, lambda name, x: as_numbers(name, x, torch.zeros(()))):
        with pytest.raises(ValueError, match=r"^x must be finite, got "):
            check("x", values)


def test_numbers_get_the_type_of_a_tensor():
    like = torch.zeros((), dtype=torch.float64)
    assert as_numbers("x", [1, 2], like).dtype == torch.float64
    with pytest.raises(TypeError, match=r"^x must be a number, or one for each .*got"):
        as_numbers("x", "a", like)


def test_what_is_larger_than_the_memory_is_refused():
    check_fits("two images", 8)
    with pytest.raises(
        ValueError, match=r"^two images take 1,000,000,000\.0 GB, this machine has "
    ):
        check_fits("two images", 10**18)
