"""Networks whose weights are shared, computed or masked are trained, averaged, saved, resumed."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from cnnbook import data, training

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def layers():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )


def wrapped(wrap, **options):
    def make():
        net = layers()
        for number in (0, 4):
            wrap(net[number], **options)
        return net

    return make


def masked(layer):
    prune.l1_unstructured(layer, "weight", amount=0.5)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(self.b(self.a(x.flatten(1)).relu()).relu())


class Shared(nn.Module):
    """One block, with batch norm, that is called twice and has two names."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.b, self.out = self.a, nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.b(self.a(x.flatten(1))))


class Keeps(nn.Module):
    """Keeps what it has computed from its weights, for others to look at."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.seen = nn.Linear(64, 10), []

    def forward(self, x):
        scores = self.fc(x.flatten(1))
        self.seen, self.last = [scores], {"scores": scores}
        return scores


KINDS = {
    "tied weights": Tied,
    "shared layers": Shared,
    "kept outputs": Keeps,
    "weight norm, old": wrapped(nn.utils.weight_norm),
    "weight norm": wrapped(parametrizations.weight_norm),
    "spectral norm, old": wrapped(nn.utils.spectral_norm),
    "spectral norm": wrapped(parametrizations.spectral_norm),
    "orthogonal": wrapped(parametrizations.orthogonal),
    "pruned": wrapped(masked),
}


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:50]


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_trained_averaged_saved_and_resumed(digits, tmp_path, make):
    def run(*callbacks, path):
        net = make()
        net(torch.rand(2, 1, 8, 8))  # so that there are computed tensors when training begins
        history = training.fit(
            net, *digits, epochs=3, lr=0.02, ema_decay=0.8, checkpoint=path, checkpoint_every=1,
            callbacks=[training.EarlyStopping(patience=9), *callbacks], device="cpu",
            progress=False,
        )  # fmt: skip
        return net, history

    whole, expected = run(path=tmp_path / "whole")
    assert expected.train_loss[-1] < expected.train_loss[0]
    run(SimpleNamespace(on_step=lambda run: run.step == 3 and run.stop()), path=tmp_path / "parts")
    resumed, history = run(path=tmp_path / "parts")
    assert history.step_loss == expected.step_loss
    assert history.val_loss == expected.val_loss
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    fresh = training.load_weights(make(), tmp_path / "whole")
    for net in (whole, fresh):
        assert training.evaluate(net, digits[1], device="cpu").loss == pytest.approx(
            min(expected.val_loss), rel=1e-5
        )


def test_what_is_pruned_stays_zero(digits):
    net = KINDS["pruned"]()
    masks = [net[0].weight_mask.clone(), net[4].weight_mask.clone()]
    training.fit(net, digits[0], epochs=2, ema_decay=0.9, device="cpu", progress=False)
    with torch.no_grad():
        net(torch.rand(1, 1, 8, 8))
    for layer, mask in zip((net[0], net[4]), masks, strict=True):
        assert torch.equal(layer.weight_mask, mask)
        assert torch.equal(layer.weight == 0, mask == 0)


@pytest.mark.parametrize("kind", ["spectral norm", "spectral norm, old"])
def test_averaged_weights_have_spectral_norm_one(digits, kind):
    """The vectors of the power iteration are not averaged: a mean of unit vectors is shorter."""
    net = KINDS[kind]()
    training.fit(net, digits[0], epochs=3, lr=0.05, ema_decay=0.9, device="cpu", progress=False)
    vectors = [value for name, value in net.state_dict().items() if name[-2:] in ("_u", "_v")]
    assert len(vectors) == 4
    for vector in vectors:
        assert vector.norm() == pytest.approx(1, abs=1e-5)


def test_a_copy_shares_nothing(digits):
    net = KINDS["weight norm, old"]()
    ema = training.EMA(0.5)
    training.fit(net, digits[0], epochs=1, callbacks=[ema], device="cpu", progress=False)
    own = {p.data_ptr() for p in net.parameters()}
    assert not own & {p.data_ptr() for p in ema.average.parameters()}


def test_vectors_and_signals_are_no_images():
    """Networks without two-dimensional convolutions take inputs of other shapes."""

    class Source:
        batch_size = images_per_epoch = 8

        def __init__(self, *shape):
            torch.manual_seed(0)
            self.batch = torch.rand(8, *shape), torch.arange(8) % 3

        def __len__(self):
            return 1

        def epoch(self, number, start=0):
            yield self.batch

    options = {"epochs": 1, "device": "cpu", "progress": False}
    signals = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Flatten(), nn.Linear(18, 3))
    volumes = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(16, 3))
    for net, shape in ((nn.Linear(6, 3), (6,)), (signals, (2, 10)), (volumes, (1, 4, 4, 4))):
        source = Source(*shape)
        history = training.fit(net, source, source, **options)
        assert history.val_loss[0] == training.evaluate(net, source, device="cpu").loss
