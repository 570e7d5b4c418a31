"""Networks that return dicts, tuples or objects are trained and evaluated by their scores."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training

OPTIONS = {"epochs": 2, "device": "cpu", "progress": False}
Pair = namedtuple("Pair", "scores hidden")


@dataclass
class Result:
    logits: Any
    hidden: Any = None


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:50]


class Returns(nn.Module):
    """A linear classifier whose scores come in some form."""

    def __init__(self, form=lambda scores, hidden: scores):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.form = nn.Linear(64, 10), form

    def forward(self, x):
        return self.form(self.fc(x.flatten(1)), x.flatten(1))


# Forms, how the scores are chosen, and how a loss of one's own finds them.
FORMS = {
    "dict out": (lambda s, h: {"out": s, "aux": h}, None, lambda o: o["out"]),
    "dict logits": (lambda s, h: OrderedDict(hidden=h, logits=s), None, lambda o: o["logits"]),
    "dict by key": (lambda s, h: {"h": h, "mine": s}, "mine", lambda o: o["mine"]),
    "tuple": (lambda s, h: (s, h), None, lambda o: o[0]),
    "list": (lambda s, h: [s, h], None, lambda o: o[0]),
    "tuple by index": (lambda s, h: (h, s), 1, lambda o: o[1]),
    "named tuple": (Pair, None, lambda o: o.scores),
    "named tuple by name": (lambda s, h: Pair(s, h), "scores", lambda o: o.scores),
    "object by name": (Result, "logits", lambda o: o.logits),
    "by function": (lambda s, h: {"a": [h, s]}, lambda o: o["a"][1], lambda o: o["a"][1]),
    "tuple with None": (lambda s, h: (s, None), None, lambda o: o[0]),
}


@pytest.mark.parametrize(("form", "output", "find"), FORMS.values(), ids=FORMS.keys())
def test_the_form_of_the_output_changes_nothing(digits, form, output, find):
    expected = training.fit(Returns(), *digits, ema_decay=0.5, **OPTIONS)
    for loss in (None, lambda o, y: F.cross_entropy(find(o), y), nn.CrossEntropyLoss()):
        net = Returns(form)
        history = training.fit(net, *digits, loss=loss, output=output, ema_decay=0.5, **OPTIONS)
        assert history.step_loss == expected.step_loss
        assert history.train_accuracy == expected.train_accuracy
        assert history.val_loss == pytest.approx(expected.val_loss)
        assert history.val_accuracy == expected.val_accuracy
        # In three batches, too.
        how = {} if loss is None else {"loss": loss}
        result = training.evaluate(
            net, digits[1], output=output, batch_size=20, device="cpu", **how
        )
        assert result.loss == pytest.approx(expected.val_loss[-1], rel=1e-5)
        assert result.accuracy == expected.val_accuracy[-1]


def test_a_loss_of_ones_own_gets_what_the_network_returns(digits):
    seen = set()

    def loss(output, labels):
        seen.add(type(output))
        return F.cross_entropy(output["a"], labels) + F.mse_loss(output["b"], output["b"] * 0)

    net = Returns(lambda s, h: {"a": s, "b": h})
    training.fit(net, *digits, loss=loss, output="a", **OPTIONS)
    assert seen == {dict}


@pytest.mark.parametrize(
    "loss",
    [partial(F.cross_entropy, label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1)],
)
def test_torchs_losses_get_the_scores(digits, loss):
    net, plain = Returns(lambda s, h: {"logits": s, "h": h}), Returns()
    history = training.fit(net, *digits, loss=loss, **OPTIONS)
    expected = training.fit(plain, *digits, loss=lambda s, y: loss(s, y), **OPTIONS)
    assert history.step_loss == expected.step_loss
    assert history.val_loss == pytest.approx(expected.val_loss)


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        (lambda s, h: {"a": s, "b": h}, None, r"dict with the entries 'a', 'b'; output= says"),
        (
            lambda s, h: {"a": s, "b": h},
            "c",
            "dict with the entries 'a', 'b', which has no part 'c'",
        ),
        (lambda s, h: (s,), 1, "tuple of Tensor, which has no part 1"),
        (Result, None, "an object of type Result; output= says"),
        (lambda s, h: [], None, "list of nothing"),
        (lambda s, h: {"out": s.tolist()}, "out", r"output='out' is list; output= says"),
    ],
)
def test_scores_that_are_not_found_are_asked_for(digits, form, output, message):
    for call in (
        lambda: training.fit(Returns(form), digits[0], output=output, **OPTIONS),
        lambda: training.evaluate(Returns(form), digits[1], output=output, device="cpu"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize(
    "form", [lambda s, h: (s, s * 2), lambda s, h: {"out": s, "aux": s * 2}, lambda s, h: [s, s, s]]
)
def test_auxiliary_scores_are_not_silently_left_out(digits, form):
    with pytest.raises(ValueError, match=r"several tensors of scores, .* pass a loss= .*output="):
        training.fit(Returns(form), digits[0], **OPTIONS)
    chosen = training.fit(Returns(form), digits[0], output=lambda o: next(iter(
        o.values() if isinstance(o, dict) else o)), **OPTIONS)  # fmt: skip
    assert chosen.step_loss == training.fit(Returns(), digits[0], **OPTIONS).step_loss


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_networks_return_what_is_in_them(digits, wrap):
    net = wrap(Returns(lambda s, h: {"logits": s, "h": h}))
    history = training.fit(net, *digits, ema_decay=0.9, **OPTIONS)
    plain = Returns()
    expected = training.fit(plain, *digits, ema_decay=0.9, **OPTIONS)
    assert history.step_loss == pytest.approx(expected.step_loss)
    assert history.val_accuracy == expected.val_accuracy
    assert training.evaluate(net, digits[1], device="cpu").accuracy == expected.val_accuracy[-1]


def test_evaluate_takes_what_load_returns(digits):
    class Trained:
        network = Returns()

    result = training.evaluate(Trained(), digits[1], device="cpu")
    assert torch.equal(result.scores, training.evaluate(Returns(), digits[1], device="cpu").scores)
    with pytest.raises(TypeError, match=r"Trained; pass its \.network"):
        training.fit(Trained(), digits[0])
