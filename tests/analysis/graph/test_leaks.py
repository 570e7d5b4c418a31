"""What depends on the image although no operation of torch shows it."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import analysis
from cnnbook.analysis.graph import operations


@torch.library.custom_op("cnnbook_tests::blur_into", mutates_args=("out",))
def blur_into(x: Tensor, out: Tensor) -> None:
    out.copy_(F.avg_pool2d(x, 5, 1, 2))


@blur_into.register_fake
def _(x, out):
    return None


@torch.library.custom_op("cnnbook_tests::largest", mutates_args=())
def largest(x: Tensor) -> float:
    return float(x.numpy().max())


class Network(nn.Module):
    """Something between two convolutions."""

    def __init__(self, function):
        super().__init__()
        self.before, self.after = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.function = function

    def forward(self, x):
        return self.after(self.function(self.before(x)))


SHAPE = (1, 16, 16)


def blur(x):
    return F.avg_pool2d(x, 5, 1, 2)


def blurred(x):
    out = torch.empty_like(x)
    torch.ops.cnnbook_tests.blur_into(x, out)
    return out


def added(x):
    torch._foreach_add_([x], [blur(x)])
    return x


def by_storage(x):
    y = x.clone()
    y.untyped_storage().copy_(blur(x).untyped_storage())
    return y


def by_array(x):
    return torch.from_numpy(np.roll(x.numpy(), 5, axis=2).copy())


def read_only_if_true(x):
    return x if x.sum() > 0 else -x


UNSEEN = {
    "written to": (blurred, "nothing is known about the operation 'cnnbook_tests::blur_into'"),
    "written to by torch": (added, "nothing is known about the operation '_foreach_add'"),
    "item": (lambda x: x / (1 + x.abs().max().item()), "read .* by 'item'"),
    "float": (lambda x: x * float(x.std()), "read .* by '__float__'"),
    "truth": (read_only_if_true, "read .* by '__bool__'"),
    "chosen": (lambda x: [x, blur(x)][int(x.sum() > 0)], "read .* by '__int__'"),
    "argument": (
        lambda x: torch.full_like(x, x.max()),
        "read as numbers, by '_local_scalar_dense'",
    ),
    "equal": (lambda x: x + torch.equal(x, x.flip(2)), "read as numbers, by 'equal'"),
    "of a library": (lambda x: x + largest(x), "read as numbers, by 'cnnbook_tests::largest'"),
    "numpy": (by_array, "read .* by 'numpy'"),
    "array": (lambda x: x + float(np.asarray(x).max()), "read .* by '__array__'"),
    "list": (lambda x: torch.tensor(x.tolist()).flip(2), "read .* by 'tolist'"),
    "list of tensors": (
        lambda x: x + torch.tensor([x.max(), x.min()]).sum(),
        "read one by one, by 'tensor'",
    ),
    "dlpack": (lambda x: torch.from_dlpack(blur(x)), "read .* by '__dlpack__'"),
    "storage": (by_storage, "read .* by 'untyped_storage'"),
    "mask": (lambda x: x * len(x[x > 0]), "decide how much 'index' returns"),
    "nonzero": (lambda x: x * len((x > 0).nonzero()), "decide how much 'nonzero' returns"),
}


@pytest.mark.parametrize("kind", UNSEEN)
def test_what_is_not_seen_gives_no_number(kind):
    function, message = UNSEEN[kind]
    net = Network(function)
    with pytest.raises(ValueError, match=f"'after' cannot be followed: .*{message}"):
        analysis.receptive_field(net, SHAPE, "after")
    assert analysis.receptive_field(net, SHAPE, "before").size == (3, 3)
    table = analysis.summary(net, SHAPE)
    assert [row["receptive_field"] for row in table][:2] == [3, None]


def given_data(x):
    y = torch.zeros_like(x)
    y.data = blur(x)
    return y


def read_data(x):
    return blur(x.data)


@pytest.mark.parametrize("function", [given_data, read_data, lambda x: copy.deepcopy(blur(x))])
def test_values_that_are_passed_on_are_followed(function):
    assert analysis.receptive_field(Network(function), SHAPE, "after").size == (9, 9)


def test_data_that_are_replaced_by_constants_depend_on_nothing():
    def constant(x):
        x.data = torch.zeros_like(x)
        return x

    with pytest.raises(ValueError, match="'after' does not depend on the image"):
        analysis.receptive_field(Network(constant), SHAPE, "after")


def test_what_is_written_to_is_followed_by_a_function_and_drawn(monkeypatch):
    net = Network(blurred)
    assert [block.inputs for block in analysis.trace(net, SHAPE).blocks()] == [(-1,), (0,)]
    assert analysis.trace(net, SHAPE).plot().alt.endswith("before 4×16×16, after 4×16×16.")
    monkeypatch.setattr(operations, "_KNOWN", dict(operations._KNOWN))

    @analysis.operation("cnnbook_tests::blur_into")
    def follow(call):
        return call.x.windows(call.shape, kernel=5, padding=2)

    assert analysis.receptive_field(net, SHAPE, "after").size == (9, 9)


def printed(x):
    print(x.mean(), f"{x.mean():.2f}")
    return x


def test_what_is_only_printed_changes_nothing():
    assert analysis.receptive_field(Network(printed), SHAPE, "after").size == (5, 5)


def checked(x):
    if not bool(x.isfinite().all()):
        raise ValueError("not finite")
    return x


def test_a_network_that_checks_its_values_is_drawn():
    found = analysis.trace(Network(checked), SHAPE)
    plain = analysis.trace(Network(lambda x: x), SHAPE)
    assert found.plot().alt == plain.plot().alt
    assert [call.macs for call in found.calls] == [call.macs for call in plain.calls]
    assert [call.channels_last for call in found.calls] == [False] * 3


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(3)
        self.end = nn.ReLU()

    def forward(self, x, factor):
        return self.end(self.pool(x) * factor.item())


def test_numbers_of_another_input_may_be_read():
    inputs = ((1, 12, 12), torch.ones(1))
    assert analysis.receptive_field(Scaled(), inputs, "end").size == (3, 3)
