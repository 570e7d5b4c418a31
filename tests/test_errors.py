"""Wording of the errors that several modules raise."""

import numpy as np
import pytest
from torch import nn

from cnnbook._errors import no_tensor, unknown


@pytest.mark.parametrize(
    ("given", "allowed", "message"),
    [
        (
            "rleu",
            ["relu", "tanh"],
            "unknown thing 'rleu'. Did you mean 'relu'? Use one of: relu, tanh.",
        ),
        ("zzz", ["relu", "tanh"], "unknown thing 'zzz'; use one of: relu, tanh."),
        (7, [1, 2], "unknown thing 7; use one of: 1, 2."),
        ("a", [], "unknown thing 'a'; there are none"),
    ],
)
def test_short_lists_are_given_whole(given, allowed, message):
    assert str(unknown("thing", given, allowed)) == message


def test_of_long_lists_the_suggestion_comes_first_and_ten_names():
    names = [f"layer{i}.conv" for i in range(170)]
    error = str(unknown("layer", "layer169.cnov", names, see="model.named_modules()"))
    assert error.startswith("unknown layer 'layer169.cnov'. Did you mean 'layer169.conv'? Use one ")
    assert error.endswith("layer9.conv, … (170 in all; see model.named_modules()).")
    assert "layer10.conv" not in error
    assert str(unknown("layer", "x", names)).endswith("layer9.conv, … (170 in all).")


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
