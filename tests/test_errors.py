"""Wording of the errors that several modules raise."""

import pytest

from cnnbook._errors import counted, unknown


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
    ("number", "noun", "text"),
    [(1, "image", "1 image"), (2500, "image", "2,500 images"), (0, "class", "0 classes")],
)
def test_what_is_counted_has_its_plural(number, noun, text):
    assert counted(number, noun) == text
