"""The training loop against a slower, obvious one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training
from cnnbook.models import GoogLeNet, googlenet_loss, lenet5
from cnnbook.training.device import suits_channels_last


@pytest.fixture(scope="module")
def sets():
    train, test = data.load("fashion-mini", size=32)
    return train[:300], test[:100]


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, 10))


def test_fit_takes_the_same_steps_as_a_plain_loop(sets):
    train, _ = sets
    model = lenet5()
    plain = lenet5()
    plain.load_state_dict(model.state_dict())
    options = {"epochs": 2, "batch_size": 64, "seed": 5, "progress": False, "device": "cpu"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    history = training.fit(model, train, optimizer=optimizer, **options)

    losses, right = [], 0
    batches = data.Batches(train, 64, seed=5, device="cpu")
    for epoch in range(2):
        for x, y in batches.epoch(epoch):
            scores = plain(x)
            loss = F.cross_entropy(scores, y)
            plain.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in plain.parameters():
                    parameter -= 0.03 * parameter.grad
            losses.append(loss.item())
            right += (scores.argmax(1) == y).sum().item() if epoch == 1 else 0

    assert history.step_loss == pytest.approx(losses, rel=1e-6)
    assert history.train_accuracy[1] == right / 300
    weights = [64] * 4 + [44]
    mean = sum(w * v for w, v in zip(weights, losses[5:], strict=True)) / 300
    assert history.train_loss[1] == pytest.approx(mean, rel=1e-6)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_compiled_network_takes_the_same_steps(sets, monkeypatch):
    # Inductor's code generation is torch's business, and takes half a minute.
    compile_, backends = torch.compile, []

    def traced(network):
        def backend(graph, _inputs):
            backends.append(graph)
            return graph.forward

        return compile_(network, backend=backend)

    monkeypatch.setattr(torch, "compile", traced)

    def run(**options):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 20), nn.ReLU(), nn.Linear(20, 10))
        history = training.fit(net, *sets, epochs=2, device="cpu", progress=False, **options)
        return history.step_loss, history.test_accuracy

    plain = run()
    assert backends == []
    assert run(compile=True) == plain  # 300 images: the last batch of an epoch is smaller
    assert backends


@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.02), ("float16", 0.004)])
def test_mixed_precision_stays_near_full_precision(sets, precision, error):
    def run(precision):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 5, stride=2), nn.Tanh(), nn.Flatten())
        net.append(nn.Linear(784, 10))
        history = training.fit(
            net, sets[0], epochs=2, lr=0.02, precision=precision, device="cpu", progress=False
        )
        assert all(p.dtype == torch.float32 for p in net.parameters())
        return torch.tensor(history.step_loss)

    full, mixed = run("float32"), run(precision)
    assert not torch.equal(mixed, full)  # it did compute with fewer digits
    assert ((mixed - full).abs() / full).max() < error


def test_same_seed_same_numbers_other_seed_others(sets):
    def run(seed):
        history = training.fit(tiny(), *sets, epochs=2, seed=seed, progress=False)
        return history.step_loss, history.test_accuracy

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_callers_random_state_is_left_alone(sets):
    model = tiny()
    torch.manual_seed(9)
    expected = torch.rand(4)
    torch.manual_seed(9)
    training.fit(model, *sets, epochs=1, progress=False)
    assert torch.equal(torch.rand(4), expected)


def test_default_recipe_learns(sets):
    history = training.fit(tiny(), *sets, epochs=8, lr=0.01, progress=False)
    assert history.train_loss[-1] < 0.7 * history.train_loss[0]
    assert history.test_accuracy[-1] > 0.5
    assert len(history.seconds) == 8
    assert history.seconds == sorted(history.seconds)
    assert len(history.step_loss) == 8 * 5


def test_scheduler_steps_with_every_batch(sets):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    training.fit(model, sets[0], epochs=2, optimizer=optimizer, scheduler=scheduler, progress=False)
    assert optimizer.param_groups[0]["lr"] == 0.5**10


def test_epochs_follow_the_preset(sets, monkeypatch):
    monkeypatch.setenv("CNNBOOK_PRESET", "cpu")
    assert len(training.fit(tiny(), sets[0][:10], progress=False).train_loss) == 10


def test_a_network_with_auxiliary_classifiers(sets):
    torch.manual_seed(0)
    train, test = sets
    net = GoogLeNet(10, 1, stem="small", width=0.05, auxiliary=True)
    history = training.fit(net, train[:64], test, epochs=1, loss=googlenet_loss, progress=False)
    # 1.6 times ln 10 at the start of training; the test loss is the main classifier's alone.
    assert history.step_loss[0] == pytest.approx(1.6 * 2.3026, rel=0.05)
    assert history.test_loss[0] == training.evaluate(net, test).loss
    assert 0 <= history.train_accuracy[0] <= 1


def test_infinite_loss_stops_and_names_the_step(sets):
    model = tiny()

    def loss(scores, labels):
        loss.calls += 1
        return F.cross_entropy(scores, labels) * (float("nan") if loss.calls == 3 else 1)

    loss.calls = 0
    with pytest.raises(FloatingPointError, match=r"became nan at step 3 \(epoch 1\)"):
        training.fit(model, sets[0], epochs=2, loss=loss, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"lr": -0.1}, "lr=-0.1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_bad_options(sets, options, message):
    with pytest.raises(ValueError, match=message):
        training.fit(tiny(), sets[0], progress=False, **options)


def test_scheduler_without_its_optimizer(sets):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="pass optimizer="):
        training.fit(model, sets[0], scheduler=scheduler, progress=False)


def test_history_prints_a_row_per_epoch(sets):
    history = training.fit(tiny(), *sets, epochs=2, progress=False)
    lines = repr(history).splitlines()
    assert len(lines) == 3
    assert "test accuracy" in lines[0]
    assert f"{history.test_accuracy[0]:.1%}" in lines[1]
    assert history.to_dict()["step_loss"] == history.step_loss
    assert "test" not in repr(training.fit(tiny(), sets[0], epochs=1, progress=False))


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_bar_obeys(sets, capfd, monkeypatch, quiet):
    monkeypatch.setenv("TQDM_DISABLE", "1" if quiet else "")
    training.fit(tiny(), sets[0], epochs=1)
    assert ("img/s" in capfd.readouterr().err) is not quiet


def test_evaluation_against_a_loop(sets):
    _, test = sets
    model = tiny().train()
    result = training.evaluate(model, test, batch_size=33, device="cpu")
    assert model.training

    model.eval()
    right, total = 0, 0.0
    for x, y in data.Batches(test, 1, shuffle=False, device="cpu").epoch(0):
        scores = model(x)
        right += int(scores.argmax() == y)
        total += F.cross_entropy(scores, y).item()
    assert result.accuracy == right / 100
    assert result.loss == pytest.approx(total / 100, rel=1e-5)
    assert torch.equal(result.labels, test.labels)
    assert f"{right / 100:.2%}" in repr(result)


def test_evaluation_restores_the_mode_after_an_error(sets):
    model = nn.Sequential(nn.Linear(3, 3)).train()
    with pytest.raises(RuntimeError):
        training.evaluate(model, sets[1])
    assert model.training


def test_narrow_strided_1x1_convolutions_are_trained_in_the_safe_layout(sets):
    # With channels innermost in memory, oneDNN on AVX2 damages memory in the second layer.
    def losses(**options):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 8, 1, stride=2), nn.Flatten())
        model = nn.Sequential(*layers, nn.Linear(8 * 64, 10))
        options |= {"epochs": 2, "batch_size": 4, "lr": 1e-3, "device": "cpu", "progress": False}
        return training.fit(model, sets[0], **options).step_loss

    assert losses() == losses(channels_last=False)


@pytest.mark.parametrize(
    ("layer", "safe"),
    [
        (nn.Conv2d(4, 8, 1, stride=2), False),
        (nn.Conv2d(8, 12, 1, stride=2), True),
        (nn.Conv2d(4, 8, 1), True),
        (nn.Conv2d(4, 8, 3, stride=2), True),
        (nn.Conv2d(16, 8, 1, stride=2, groups=4), False),
    ],
)
def test_layouts_that_damage_memory_are_avoided(layer, safe):
    model = nn.Sequential(nn.ReLU(), layer)
    assert suits_channels_last(model, torch.device("cpu")) is safe
    assert suits_channels_last(model, torch.device("cuda"))
    assert not suits_channels_last(model, torch.device("mps"))


def test_an_average_counts_shared_weights_once(sets):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
            self.b.weight = self.a.weight
            self.out = nn.Linear(16, 10)

        def forward(self, x):
            x = F.adaptive_avg_pool2d(x, 4).flatten(1)
            return self.out(self.b(self.a(x).relu()).relu())

    torch.manual_seed(0)
    net = Tied()
    average = {name: p.detach().clone() for name, p in net.named_parameters()}

    def follow(step):
        decay = min(0.9, (1 + step.number) / (10 + step.number))
        for name, p in step.model.named_parameters():
            average[name].lerp_(p.detach(), 1 - decay)

    options = {"device": "cpu", "progress": False}
    training.fit(net, sets[0], epochs=2, ema_decay=0.9, callback=follow, **options)
    for name, p in net.named_parameters():
        assert torch.allclose(p, average[name], atol=1e-6), name


def test_a_training_of_one_step_has_the_full_rate(sets):
    net = tiny()
    before = net[2].bias.detach().clone()
    options = {"epochs": 1, "batch_size": 300, "weight_decay": 0, "device": "cpu"}
    training.fit(net, sets[0], lr=0.1, progress=False, **options)
    # The gradient of the biases at the start is about 0.1 and less; Nesterov's first step is 1.9
    # times as long as a plain one.
    assert 1e-4 < (net[2].bias - before).abs().max() < 0.1


@pytest.mark.parametrize("batches", [0, 1])
def test_a_source_with_fewer_batches_than_it_says_does_not_hang(sets, batches):
    x, y = next(data.Batches(sets[0], 8, device="cpu").epoch(0))

    class Source:
        batch_size, images_per_epoch = 8, 16

        def __len__(self):
            return 2

        def epoch(self, number, start=0):
            return iter([(x, y)] * max(0, batches - start))

    with pytest.raises(ValueError, match="announces 2 batches in an epoch, but yields none"):
        training.fit(tiny(), Source(), epochs=1, device="cpu", progress=False)


def test_evaluation_leaves_frozen_layers_frozen(sets):
    net = nn.Sequential(nn.BatchNorm2d(1), tiny()).train()
    net[0].eval()
    training.evaluate(net, sets[1], device="cpu")
    assert [net.training, net[0].training, net[1].training] == [True, False, True]
