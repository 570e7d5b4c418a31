import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnnbook import analysis


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_confusion_matrix_against_a_loop(pairs):
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for label, prediction in pairs:
        expected[label, prediction] += 1
    labels, predictions = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    assert torch.equal(analysis.confusion_matrix(labels, predictions, 4).counts, expected)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1], [0], "one shape"),
        ([0, 4], [0, 1], r"labels must lie in 0 … 3, got 0 … 4"),
        ([0, 1], [-1, 1], r"predictions must lie in 0 … 3, got -1"),
    ],
)
def test_confusion_matrix_errors(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        analysis.confusion_matrix(torch.tensor(labels), torch.tensor(predictions), 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_small_integer_types_do_not_overflow(dtype):
    labels = torch.tensor([19, 18], dtype=dtype)
    matrix = analysis.confusion_matrix(labels, labels, 20)
    assert matrix.counts.nonzero().tolist() == [[18, 18], [19, 19]]


def test_classes_are_named_or_numbered():
    labels, predictions = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])
    named = analysis.confusion_matrix(labels, predictions, ["shirt", "coat"])
    assert named.classes == ("shirt", "coat")
    assert "coat taken for shirt (1 images)" in named.plot().alt
    numbered = analysis.confusion_matrix(labels, predictions, 2)
    assert numbered.classes == ("0", "1")
    assert torch.equal(numbered.counts, named.counts)
    assert repr(named) == "<ConfusionMatrix of 2 classes: 2 of 3 images on the diagonal>"


def test_scores_and_floats_are_no_classes():
    labels, scores = torch.tensor([0, 1]), torch.rand(2, 3)
    with pytest.raises(ValueError, match=r"predictions\.argmax\(1\) are the classes"):
        analysis.confusion_matrix(labels, scores, 3)
    with pytest.raises(TypeError, match="labels must be class numbers, integers, got torch"):
        analysis.confusion_matrix(labels.float(), labels, 3)
