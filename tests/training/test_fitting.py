"""What ``fit`` makes of its options, and which it refuses."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cnnbook import data, training
from cnnbook.models import GoogLeNet, googlenet_loss


def test_too_few_outputs(fit, small):
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 5))
    with pytest.raises(ValueError, match="10 classes, the network has 5 outputs"):
        fit((net, *small[1:]), epochs=1)


def test_precision_and_smoothing(fit, small):
    half = fit(small, epochs=1, precision="bfloat16", label_smoothing=0.1)
    assert half.step_loss[0] == pytest.approx(2.4, abs=0.5)
    with pytest.raises(ValueError, match="unknown precision"):
        fit(small, precision="int8")
    with pytest.raises(ValueError, match="label_smoothing=2"):
        fit(small, label_smoothing=2)


def test_default_recipe_learns(tiny, sets):
    history = training.fit(tiny(), *sets, epochs=8, lr=0.01, progress=False)
    assert history.train_loss[-1] < 0.7 * history.train_loss[0]
    assert history.val_accuracy[-1] > 0.5
    assert len(history.seconds) == 8
    assert history.seconds == sorted(history.seconds)
    assert len(history.step_loss) == 8 * 5


def test_scheduler_steps_with_every_batch(tiny, sets):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    training.fit(model, sets[0], epochs=2, optimizer=optimizer, scheduler=scheduler, progress=False)
    assert optimizer.param_groups[0]["lr"] == 0.5**10


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_there_are_ten_epochs_under_every_preset(tiny, sets, monkeypatch, preset):
    monkeypatch.setenv("CNNBOOK_PRESET", preset)
    assert len(training.fit(tiny(), sets[0][:10], progress=False).train_loss) == 10


def test_a_network_with_auxiliary_classifiers(sets):
    torch.manual_seed(0)
    train, test = sets
    net = GoogLeNet(10, 1, stem="small", width=0.05, auxiliary=True, dropout=0)
    before = copy.deepcopy(net)
    history = training.fit(net, train[:64], test, epochs=1, loss=googlenet_loss, progress=False)
    # 1.6 times ln 10 at the start of training; the validation loss is the main classifier's alone.
    assert history.step_loss[0] == pytest.approx(1.6 * 2.3026, rel=0.05)
    assert history.val_loss[0] == training.evaluate(net, test).loss
    x, y = next(data.Batches(train[:64], 64, device="cpu").epoch(0))
    assert history.train_accuracy == [(before(x).scores.argmax(1) == y).double().mean().item()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": -0.1}, "lr=-0.1"),
        ({"weight_decay": 2}, "weight_decay=2"),
        ({"ema_decay": -1}, "ema_decay=-1"),
        ({"target_accuracy": 85}, "target_accuracy=85"),
        ({"checkpoint": "x", "checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range(fit, small, options, message):
    with pytest.raises(ValueError, match=message):
        fit(small, **options)


def sgd_and_scheduler():
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    return sgd, torch.optim.lr_scheduler.StepLR(sgd, 1)


# For each refusal: options, made for a network, and what the message says.
CONTRADICTIONS = {
    "lr beside optimizer": (
        lambda net: {"lr": 0.1, "optimizer": torch.optim.SGD(net.parameters(), 0.2)},
        "lr=0.1 is for the default optimizer, .* leave out lr=",
    ),
    "weight_decay beside optimizer": (
        lambda net: {"weight_decay": 0.0, "optimizer": torch.optim.SGD(net.parameters(), 0.2)},
        "weight_decay=0.0 is for the default optimizer",
    ),
    "scheduler alone": (lambda net: {"scheduler": sgd_and_scheduler()[1]}, "pass optimizer= too"),
    "scheduler of another optimizer": (
        lambda net: {
            "optimizer": torch.optim.SGD(net.parameters(), 0.2),
            "scheduler": sgd_and_scheduler()[1],
        },
        "made for a different optimizer",
    ),
    "optimizer of another network": (
        lambda net: {"optimizer": sgd_and_scheduler()[0]},
        "none of the model's parameters",
    ),
    "label_smoothing beside loss": (
        lambda net: {"loss": nn.CrossEntropyLoss(), "label_smoothing": 0.1},
        "label_smoothing=0.1 is an option of cross-entropy: leave out loss=",
    ),
    "checkpoint_every alone": (
        lambda net: {"checkpoint_every": 5},
        "checkpoint_every=5 only makes sense with a file: pass checkpoint= too",
    ),
    "checkpoint_info alone": (
        lambda net: {"checkpoint_info": {"a": 1}},
        "checkpoint_info={'a': 1} only makes sense with a file",
    ),
    "two averages": (
        lambda net: {"ema_decay": 0.9, "callbacks": [training.EMA(0.99)]},
        "2 callbacks of the kind EMA, but there can be only one; ema_decay= adds one",
    ),
    "two targets": (
        lambda net: {"target_accuracy": 0.9, "callbacks": [training.TargetAccuracy(0.99)]},
        "2 callbacks of the kind TargetAccuracy",
    ),
    "two checkpoints into a file": (
        lambda net: {"checkpoint": "x", "callbacks": [training.Checkpoint("x", every=5)]},
        "both write x",
    ),
}


@pytest.mark.parametrize(("options", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contradictory_options_are_refused(fit, small, options, message):
    before = {name: value.clone() for name, value in small[0].state_dict().items()}
    with pytest.raises(ValueError, match=message):
        fit(small, epochs=1, **options(small[0]))
    assert all(torch.equal(before[name], value) for name, value in small[0].state_dict().items())


# For each refusal: options, made for a network, and what the message says.
OF_THE_WRONG_TYPE = {
    "half an epoch": (lambda net: {"epochs": 1.5}, r"epochs must be an integer, got 1\.5"),
    "a string for lr": (lambda net: {"lr": "0.1"}, "lr must be a number, got lr='0.1' of type str"),
    "a string for batch_size": (lambda net: {"batch_size": "64"}, "batch_size must be an integer"),
    "a string for seed": (lambda net: {"seed": "a"}, "seed must be a number, got seed='a' of type"),
    "yes for a target": (lambda net: {"target_accuracy": True}, "target_accuracy must be a number"),
    "optimizer's class": (
        lambda net: {"optimizer": torch.optim.Adam},
        r"got Adam; create one, for example torch\.optim\.Adam\(model\.parameters\(\)",
    ),
    "optimizer's name": (lambda net: {"optimizer": "adam"}, "got 'adam'; create one"),
    "scheduler's class": (
        lambda net: {
            "optimizer": torch.optim.SGD(net.parameters(), 0.1),
            "scheduler": torch.optim.lr_scheduler.StepLR,
        },
        r"got StepLR; create one, .*StepLR\(optimizer, 100\)",
    ),
    "loss's class": (
        lambda net: {"loss": nn.CrossEntropyLoss},
        r"the class CrossEntropyLoss; .*\(\)",
    ),
    "loss's name": (lambda net: {"loss": "mse"}, r"called as loss\(output, labels\), got 'mse'"),
    "augment": (lambda net: {"augment": True}, r"data\.Augment\(flip=0\.5\), got True"),
    "checkpoint": (lambda net: {"checkpoint": net}, "path is the name of a file, got Sequential"),
}


@pytest.mark.parametrize(
    ("options", "message"), OF_THE_WRONG_TYPE.values(), ids=OF_THE_WRONG_TYPE.keys()
)
def test_options_of_the_wrong_type_are_refused(fit, small, options, message):
    with pytest.raises(TypeError, match=message):
        fit(small, **{"epochs": 1, **options(small[0])})


def test_numbers_may_be_numpys(fit, small, tmp_path):
    options = {"epochs": np.int64(1), "lr": np.float32(0.1), "batch_size": np.int32(64)}
    fit(small, **options, seed=np.int64(3), weight_decay=np.float64(0), checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnet18", r"the string 'resnet18'; .* models\.create\('resnet18'\)"),
        (nn.Linear, r"the class Linear; create one: Linear\(\.\.\.\)"),
        (SimpleNamespace(network=nn.Linear(1, 1)), r"SimpleNamespace; pass its \.network"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_network_is_refused(fit, small, tmp_path, model, message):
    calls = [lambda: fit((model, *small[1:])), lambda: training.load_weights(model, tmp_path / "x")]
    if not hasattr(model, "network"):  # evaluate takes it
        calls.append(lambda: training.evaluate(model, small[1]))
    for call in calls:
        with pytest.raises(TypeError, match=f"needs a network, .*{message}"):
            call()


def test_a_network_without_parameters_cannot_be_trained(fit, small):
    with pytest.raises(ValueError, match="Flatten has no parameters to train"):
        fit((nn.Flatten(), *small[1:]))


def test_a_target_needs_validation_images(fit, small):
    with pytest.raises(ValueError, match=r"target_accuracy=0\.5 is measured on .* pass val= too"):
        fit((*small[:2], None), target_accuracy=0.5)


@pytest.mark.parametrize("options", [{"batch_size": 32}, {"augment": data.Augment(flip=0.5)}])
def test_a_source_of_batches_has_its_own_size_and_augmentation(fit, small, options):
    net, train, _ = small
    source = data.Batches(train, 32, device="cpu")
    assert len(fit((net, source), epochs=1).step_loss) == 8
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}=.* is for images; .* leave out {name}="):
        fit((net, source), epochs=1, **options)


def test_the_models_optimizer_may_train_a_part_of_it(fit, small):
    net, train, _ = small
    before = net[1].weight.detach().clone()
    fit((net, train), epochs=1, optimizer=torch.optim.SGD([net[1].bias], lr=0.1))
    assert torch.equal(net[1].weight, before)


def test_a_training_of_one_step_has_the_full_learning_rate(tiny, sets):
    net = tiny()
    before = net[2].bias.detach().clone()
    options = {"epochs": 1, "batch_size": 300, "weight_decay": 0, "device": "cpu"}
    training.fit(net, sets[0], lr=0.1, progress=False, **options)
    # The gradient of the biases at the start is about 0.1 and less; Nesterov's first step is 1.9
    # times as long as a plain one.
    assert 1e-4 < (net[2].bias - before).abs().max() < 0.1


@pytest.mark.slow
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
        return history.step_loss, history.val_accuracy

    plain = run()
    assert backends == []
    assert run(compile=True) == plain  # 300 images: the last batch of an epoch is smaller
    assert backends
