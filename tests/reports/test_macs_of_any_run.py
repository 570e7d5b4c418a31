"""Multiply–adds do not depend on how a network is run: without values, or on real numbers."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis


class Layer(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.inner)


class Looks(nn.Module):
    """Needs values, so that the network cannot run without them."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        assert not bool(x.isnan().any())
        return self.inner(x)


class Normalize(nn.Module):
    """Constants as plain tensors, neither parameters nor buffers."""

    def __init__(self):
        super().__init__()
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)

    def forward(self, x):
        return x - self.mean


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def sdpa(**options):
    def attend(x, linear):
        q, k, v = (part[:, None] for part in linear(tokens(x)).chunk(3, -1))
        if "enable_gqa" in options:
            q = q.expand(-1, 4, -1, -1)
        return F.scaled_dot_product_attention(q, k, v, **options)

    return attend


# Each: the network, the shape of its input, and what it multiplies. T tokens, C channels.
T, C = 16, 8
SDPA = T * C * 3 * C + 2 * T * T * C
MHA = T * 4 * C * C + 2 * T * T * C
NETWORKS = {
    "attention": (
        Layer(
            lambda x, m: m(tokens(x), tokens(x), tokens(x), need_weights=False)[0],
            nn.MultiheadAttention(C, 2, batch_first=True),
        ),
        (C, 4, 4),
        MHA,
    ),
    "attention with weights": (
        Layer(
            lambda x, m: m(tokens(x), tokens(x), tokens(x))[0],
            nn.MultiheadAttention(C, 2, batch_first=True),
        ),
        (C, 4, 4),
        MHA,
    ),
    "sdpa": (Layer(sdpa(), nn.Linear(C, 3 * C)), (C, 4, 4), SDPA),
    "causal": (Layer(sdpa(is_causal=True), nn.Linear(C, 3 * C)), (C, 4, 4), SDPA),
    "masked": (
        Layer(
            lambda x, m: sdpa(attn_mask=torch.ones(T, T, dtype=torch.bool))(x, m),
            nn.Linear(C, 3 * C),
        ),
        (C, 4, 4),
        SDPA,
    ),
    "grouped queries": (
        Layer(sdpa(enable_gqa=True), nn.Linear(C, 3 * C)),
        (C, 4, 4),
        T * C * 3 * C + 4 * 2 * T * T * C,
    ),
    "encoder": (
        Layer(
            lambda x, e: e(tokens(x)),
            nn.TransformerEncoder(nn.TransformerEncoderLayer(C, 2, 32, batch_first=True), 2),
        ),
        (C, 4, 4),
        2 * (MHA + 2 * T * C * 32),
    ),
    "transformer": (
        Layer(
            lambda x, t: t(tokens(x), tokens(x)),
            nn.Transformer(C, 2, 1, 1, 32, batch_first=True),
        ),
        (C, 4, 4),
        3 * MHA + 4 * T * C * 32,
    ),
    "lstm": (
        Layer(lambda x, r: r(tokens(x))[0], nn.LSTM(C, 6, batch_first=True)),
        (C, 4, 4),
        T * 4 * 6 * (C + 6),
    ),
    "lstm, two layers, two directions": (
        Layer(
            lambda x, r: r(tokens(x))[0],
            nn.LSTM(C, 6, 2, batch_first=True, bidirectional=True),
        ),
        (C, 4, 4),
        T * 2 * 4 * 6 * (C + 6) + T * 2 * 4 * 6 * (12 + 6),
    ),
    "lstm with projection": (
        Layer(lambda x, r: r(tokens(x))[0], nn.LSTM(C, 6, batch_first=True, proj_size=3)),
        (C, 4, 4),
        T * (4 * 6 * (C + 3) + 6 * 3),
    ),
    "gru": (
        Layer(lambda x, r: r(tokens(x))[0], nn.GRU(C, 6, batch_first=True)),
        (C, 4, 4),
        T * 3 * 6 * (C + 6),
    ),
    "rnn": (
        Layer(lambda x, r: r(tokens(x))[0], nn.RNN(C, 6, batch_first=True)),
        (C, 4, 4),
        T * 6 * (C + 6),
    ),
    "linear on tokens": (Layer(lambda x, m: m(tokens(x)), nn.Linear(C, 5)), (C, 4, 4), T * C * 5),
    "conv1d": (nn.Conv1d(C, 4, 3), (C, 10), 8 * 4 * C * 3),
    "conv3d": (nn.Conv3d(2, 4, 3), (2, 5, 5, 5), 27 * 4 * 2 * 27),
    "grouped": (nn.Conv2d(C, 4, 3, groups=2), (C, 6, 6), 16 * 4 * (C // 2) * 9),
    "depthwise": (nn.Conv2d(C, C, 3, groups=C), (C, 6, 6), 16 * C * 9),
    "transposed": (nn.ConvTranspose2d(C, 4, 2, 2), (C, 5, 5), 25 * C * 4 * 4),
    "bilinear": (
        Layer(lambda x, b: b(x[..., :4], x[..., 4:]), nn.Bilinear(4, 5, 3)),
        (9,),
        3 * 4 * 5 + 3 * 5,
    ),
    "matrix and vector": (Layer(lambda x: x @ torch.ones(10)), (7, 10), 70),
    "scalar product": (Layer(lambda x: x.flatten() @ x.flatten()), (7, 10), 70),
    "einsum": (
        Layer(lambda x: torch.einsum("bchw,bcgw->bhgw", x, x)),
        (C, 4, 5),
        5 * 4 * 4 * C,
    ),
    "baddbmm": (
        Layer(lambda x: torch.baddbmm(x, x, x.transpose(1, 2) @ x)),
        (4, 4),
        64 + 64,
    ),
    "no products": (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(C)), (C, 4, 4), 0),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["without values", "on zeros"])
def test_multiply_adds_are_those_of_hand_arithmetic(name, wrapped):
    model, shape, expected = NETWORKS[name]
    found = analysis.trace(Looks(model) if wrapped else model, shape).calls[0]
    assert found.macs == expected


def test_words_cost_nothing():
    net = nn.Sequential(nn.Embedding(50, 6), nn.Linear(6, 3))
    found = analysis.trace(net, torch.tensor([[1, 2, 3]]))
    assert [call.macs for call in found.calls] == [54, 0, 54]


@pytest.mark.slow
def test_vision_transformer_after_a_normalization_that_holds_plain_tensors():
    # torchvision: 17.564 GMACs.
    net = nn.Sequential(Normalize(), torchvision.models.vit_b_16())
    assert round(analysis.summary(net, (3, 224, 224)).total_macs / 1e9, 3) == 17.564


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch._int_mm(x.to(torch.int8)[0, 0], x.to(torch.int8)[0, 0].t()).float(),
        lambda x: torch.ops.cnnbook_reports.mixed(x, x),
    ],
)
def test_products_that_are_not_counted_are_not_said_to_be_none(function):
    found = analysis.trace(Layer(function), (1, 32, 32)).calls[0]
    assert found.macs in (None, 32 * 32 * 32)


@torch.library.custom_op("cnnbook_reports::mixed", mutates_args=())
def mixed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


@mixed.register_fake
def _(x, weight):
    return x @ weight
