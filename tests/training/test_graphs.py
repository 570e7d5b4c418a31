"""Steps from a recording are the steps that a plain loop takes, to the bit."""

import functools
import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_map

from cnnbook import data, models, training
from cnnbook.training import graphs, loop
from cnnbook.training.fitting import fit
from tests.training.oplog import OpLog, Waiting, tensors


@pytest.fixture
def recording(monkeypatch):
    """Let runs on the CPU record their steps in an operation log; return those of each run."""
    runs = []

    class Noted(graphs.Steps):
        def __init__(self, *args):
            super().__init__(*args)
            runs.append(self)

    monkeypatch.setitem(graphs.RECORDERS, "cpu", OpLog)
    monkeypatch.setattr(loop, "Steps", Noted)
    graphs._SAID.clear()
    return runs


@pytest.fixture(scope="session")
def images():
    return data.load("digits")[0][:150]  # in batches of 20, the last one of an epoch has 10


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


def nothing(model):
    return {}


def sgd(model):
    return {"optimizer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)}


def adam(model):
    return {"optimizer": torch.optim.Adam(model.parameters(), lr=0.003)}


def adamw(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    return {"optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)}


def fused(model):
    rate = torch.tensor(0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, fused=True)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return {"optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)}


def frozen(model):
    model[0].requires_grad_(False)
    model[1].eval()
    return {}


def stopping(model):
    return {
        "val": data.load("digits")[1][:50],
        "callbacks": [training.EarlyStopping("val_loss", patience=1)],
        "lr": 1.0,
        "epochs": 8,
    }


def plateau(model):
    optimizer = sgd(model)["optimizer"]
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    return {"optimizer": optimizer, "scheduler": scheduler, "val": data.load("digits")[1][:50]}


def loader(model):
    set_ = data.load("digits")[0][:150]
    pairs = torch.utils.data.TensorDataset((set_.images / 255 - 0.3) / 0.3, set_.labels)
    return {"train": torch.utils.data.DataLoader(pairs, 20), "batch_size": None}


def keeping(model):
    """Keep averages in every way that a layer or a loss can."""

    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("correct", torch.zeros(10))
            self.register_buffer("loss", torch.zeros(1).expand(10))
            self.mean = torch.zeros(10)

        def forward(self, x):
            for kept in (self.correct, self.mean):
                kept.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
            return x - self.correct - self.mean - self.loss

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.ones(()))

        def forward(self, scores, labels):
            value = F.cross_entropy(scores, labels)
            self.mean.mul_(0.9).add_(value.detach(), alpha=0.1)
            return value / self.mean

    model.append(Keeps())
    return {"loss": Loss()}


def outer(model):
    mean = torch.ones(())

    def loss(scores, labels):
        value = F.cross_entropy(scores, labels)
        mean.mul_(0.9).add_(value.detach(), alpha=0.1)
        return value / mean

    return {"loss": loss}


def sparse(model):
    class Offsets(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(3, 10, sparse=True)

        def forward(self, x):
            return x + self.table(x.detach().argmax(1) % 3)

    torch.manual_seed(1)
    model.append(Offsets())
    return {"optimizer": torch.optim.SGD(model.parameters(), lr=0.05)}


CASES = {
    "averages": keeping,
    "average outside": outer,
    "one cycle": nothing,
    "weight decay": lambda model: {"weight_decay": 5e-4},
    "sgd": sgd,
    "adam": adam,
    "adamw, halved": adamw,
    "fused sgd, halved": fused,
    "average": lambda model: {"ema_decay": 0.9},
    "label smoothing": lambda model: {"label_smoothing": 0.1},
    # Not 3: the batches that are compared have as many of it, so a lost mask changes no sum.
    "weights of classes": lambda model: {
        "loss": nn.CrossEntropyLoss(torch.linspace(0.5, 2, 10), ignore_index=5)
    },
    "augmentation": lambda model: {"augment": data.Augment(rotate=10, translate=0.1)},
    "bfloat16": lambda model: {"precision": "bfloat16"},
    "float16": lambda model: {"precision": "float16"},
    "frozen": frozen,
    "stopping": stopping,
    "plateau": plateau,
    "loader": loader,
}


def run(images, options, **more):
    model = network()
    given = {"train": images, "epochs": 5, "batch_size": 20, "lr": None, **options(model), **more}
    train = given.pop("train")
    history = fit(model, train, device="cpu", progress=False, **given)
    return history, model.state_dict()


def assert_same(one, other):
    (a, weights), (b, others) = one, other
    for name in ("step_loss", "train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.stopped == b.stopped
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_run_is_a_plain_one_to_the_bit(recording, images, case):
    plain = run(images, CASES[case], cuda_graph=False)
    assert_same(plain, run(images, CASES[case], cuda_graph=True))
    none, some = recording
    assert none.run.replayed == 0
    # All but four of warming up and checking, and each epoch's last one, which is smaller.
    assert some.run.replayed == len(plain[0].step_loss) - 4 - len(plain[0].train_loss)


class Halt(Exception):
    """What ends a run in the middle of a step."""


class Killed:
    """A callback that ends a run after a given number of steps."""

    def __init__(self, after):
        self.after = after

    def on_step(self, run):
        if run.step == self.after:
            raise Halt


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 7, 8, 9, 13, 16])
def test_a_recorded_run_is_resumed_to_the_same_losses(recording, images, tmp_path, after):
    options = {"epochs": 3, "checkpoint": tmp_path / "run", "checkpoint_every": 1, "ema_decay": 0.9}
    whole = run(images, nothing, epochs=3, ema_decay=0.9, cuda_graph=False)
    with pytest.raises(Halt):
        run(images, nothing, callbacks=[Killed(after)], cuda_graph=True, **options)
    assert_same(whole, run(images, nothing, cuda_graph=True, **options))


def test_a_run_recorded_is_resumed_without_recording(recording, images, tmp_path):
    options = {"epochs": 3, "checkpoint": tmp_path / "run", "checkpoint_every": 1}
    whole = run(images, nothing, epochs=3, cuda_graph=False)
    with pytest.raises(Halt):
        run(images, nothing, callbacks=[Killed(10)], cuda_graph=True, **options)
    assert_same(whole, run(images, nothing, cuda_graph=False, **options))


def test_a_run_of_a_gpu_is_resumed_where_nothing_is_recorded(recording, images, tmp_path):
    options = {"epochs": 2, "checkpoint": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(Halt):
        run(images, nothing, callbacks=[Killed(10)], **options)
    del graphs.RECORDERS["cpu"]  # as on a machine without a GPU: one weight after the other
    history, _ = run(images, nothing, **options)
    plain, _ = run(images, nothing, epochs=2)
    assert history.step_loss == pytest.approx(plain.step_loss, rel=1e-4)
    graphs.RECORDERS["cpu"] = OpLog


def test_callbacks_see_the_loss_and_the_gradients_of_their_step(recording, images):
    class Watch:
        def __init__(self):
            self.seen = []

        def on_step(self, run):
            norms = [float(p.grad.norm()) for p in run.model.parameters()]
            self.seen.append((run.loss, norms, float(run.optimizer.param_groups[0]["lr"])))

    plain, recorded = Watch(), Watch()
    history, _ = run(images, nothing, callbacks=[plain], cuda_graph=False)
    run(images, nothing, callbacks=[recorded], cuda_graph=True)
    assert recording[1].run.replayed > 20
    assert plain.seen == recorded.seen
    # Kept, they are not overwritten by later steps.
    assert [float(loss) for loss, _, _ in recorded.seen] == history.step_loss


def counting(model):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x / self.calls

    model.append(Counts())
    return {}


def drawing(model):
    class Draws(nn.Module):
        def forward(self, x):
            return x * random.random()

    model.append(Draws())
    return {}


def deciding(model):
    class Decides(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    model.append(Decides())
    return {}


def replacing(model):
    class Replaces(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("center", torch.zeros(10))

        def forward(self, x):
            self.center = 0.9 * self.center + 0.1 * x.detach().mean(0)
            return x - self.center

    model.append(Replaces())
    return {}


def masking(model):
    return {"loss": lambda scores, labels: F.cross_entropy(scores[labels > 2], labels[labels > 2])}


def annealing(model):
    temperature = 1.0

    def loss(scores, labels):
        nonlocal temperature
        temperature *= 0.99
        return F.cross_entropy(scores / temperature, labels)

    return {"loss": loss}


def hooked(model):
    model[2].register_forward_hook(lambda layer, inputs, output: output * 2)
    return {}


def hooked_weight(model):
    model[5].weight.register_hook(lambda gradient: gradient * 2)
    return {}


def hooked_later(model):
    class Hooks:
        def on_step(self, run):
            if run.step == 12:
                run.model[2].register_forward_hook(lambda layer, inputs, output: output * 2)

    return {"callbacks": [Hooks()]}


REASONS = {
    sparse: "the gradient of '6.table.weight' is sparse",
    counting: "each step changes 6.calls",
    drawing: "each step draws random numbers in Python",
    deciding: "Python waits for the GPU",
    replacing: "each step replaces 6.center",
    masking: "Python waits for the GPU",
    annealing: "each step changes loss.temperature",
    hooked: "'2' has a hook",
    hooked_weight: "'5.weight' has a hook",
    hooked_later: "'2' has a hook",
}


@pytest.mark.parametrize("case", REASONS)
def test_what_a_recording_would_get_wrong_is_not_recorded(recording, images, case, capsys):
    def same_draws(model):
        random.seed(1)
        return case(model)

    plain = run(images, same_draws, cuda_graph=False)
    for _ in range(2):
        assert_same(plain, run(images, same_draws, epochs=5, cuda_graph=None))
        assert recording[-1].run.replayed == 0
    said = capsys.readouterr().err
    if case not in (hooked, hooked_weight):  # whoever hooks knows
        assert said.count("\n") == 1  # once for both
        assert said.startswith("training without a CUDA graph: ")
        assert "of your own, which may do something else in each step" in said
    else:
        assert not said
    with pytest.raises(ValueError, match=rf"cuda_graph=True, but {REASONS[case]}.*; leave out"):
        run(images, same_draws, cuda_graph=True)


class Chosen(nn.Module):
    """Multiplies by what a function returns."""

    def __init__(self, choose):
        super().__init__()
        self.choose = choose

    def forward(self, x):
        return x * self.choose()


def dropping_by_own_generator(model):
    draw = random.Random(0).random
    model.append(Chosen(lambda: draw() > 0.2))
    return {}


def counting_in_a_list(model):
    counter = itertools.count()
    model.append(Chosen(lambda: 1 if next(counter) < 15 else 3))
    return {}


class Counter:
    def __init__(self):
        self.calls = 0

    def loss(self, scores, labels):
        self.calls += 1
        return F.cross_entropy(scores, labels) * (1 if self.calls < 15 else 3)

    __call__ = loss


def bound_loss(model):
    return {"loss": Counter().loss}


def loss_object(model):
    return {"loss": Counter()}


def loss_with_a_part_of_its_own(model):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = []

        def forward(self, scores, labels):
            self.calls.append(1)
            return F.cross_entropy(scores, labels) * (1 if len(self.calls) < 15 else 3)

    class Loss(nn.Sequential):
        def forward(self, scores, labels):
            return self[0](scores, labels)

    Loss.__module__ = "torch.nn"
    return {"loss": Loss(Part())}


def own_output(model):
    calls = itertools.count()
    return {"output": lambda scores: scores if next(calls) < 15 else 3 * scores}


def own_forward(model):
    calls = itertools.count()
    model[2].forward = lambda x: x.relu() if next(calls) < 15 else x.tanh()
    return {}


@pytest.mark.parametrize(
    "case",
    [
        dropping_by_own_generator,
        counting_in_a_list,
        bound_loss,
        loss_object,
        loss_with_a_part_of_its_own,
        own_output,
        own_forward,
    ],
)
def test_nothing_is_recorded_of_itself_whose_state_cannot_be_seen(recording, images, case):
    plain = run(images, case, epochs=5, cuda_graph=False)
    assert_same(plain, run(images, case, epochs=5, cuda_graph=None))
    assert "of your own" in recording[-1].run.not_recorded


def test_what_is_known_is_recorded_of_itself(recording, images):
    def known(model):
        val = data.load("digits")[1][:50]
        watching = training.EarlyStopping("val_loss", patience=9)
        return {"loss": nn.CrossEntropyLoss(), "val": val, "callbacks": [watching]}

    for case in (nothing, known, lambda model: {"loss": F.cross_entropy}):
        run(images, case, epochs=6, cuda_graph=None)
        assert recording[-1].run.replayed > 20


def at_epoch_two(change):
    """Return options with a callback that changes a run after its second epoch."""

    class Changes(training.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                change(run)

    return lambda model: {"callbacks": [Changes()]}


def other_loss(run):
    run.loss_fn = lambda scores, labels: 3 * F.cross_entropy(scores, labels)


def other_images(run):
    run.batches = data.Batches(data.load("digits")[0][300:450], 20, device="cpu")


def flipped_images(run):
    run.batches.images = run.batches.images.flip(-1).contiguous()


def other_precision(run):
    run.precision = torch.bfloat16


def other_layer(run):
    run.model[2] = nn.Tanh()


def other_forward(run):
    run.model[2].forward = torch.tanh


@pytest.mark.parametrize(
    "change",
    [other_loss, other_images, flipped_images, other_precision, other_layer, other_forward],
)
def test_what_a_callback_replaces_is_used_from_then_on(recording, images, change):
    case = at_epoch_two(change)
    plain = run(images, case, epochs=5, cuda_graph=False)
    unchanged = run(images, nothing, epochs=5, cuda_graph=False)
    assert plain[0].step_loss[-1] != unchanged[0].step_loss[-1]
    assert_same(plain, run(images, case, epochs=5, cuda_graph=True))
    assert recording[-1].run.replayed > 15


def test_a_hook_set_on_a_callback_itself_is_seen(recording, images):
    def case(model):
        def on_step(run):
            if run.step == 11:
                run.model[3].p = 0.0

        callback = training.Callback()
        callback.on_step = on_step
        return {"callbacks": [callback]}

    plain = run(images, case, epochs=5, cuda_graph=False)
    assert_same(plain, run(images, case, epochs=5, cuda_graph=True))
    assert_same(plain, run(images, case, epochs=5, cuda_graph=None))


def cycling_momentum(model):
    options = fused(model)
    options["scheduler"] = torch.optim.lr_scheduler.OneCycleLR(
        options["optimizer"], 0.1, total_steps=300
    )
    return options


def later_decay(model):
    class Decays(torch.optim.lr_scheduler.LambdaLR):
        def step(self):
            super().step()
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.0 if self.last_epoch < 21 else 0.1

    options = fused(model)
    options["scheduler"] = Decays(options["optimizer"], lambda step: 1.0)
    return options


@pytest.mark.parametrize("case", [cycling_momentum, later_decay])
def test_an_optimizer_whose_numbers_vary_is_not_part_of_the_recording(recording, images, case):
    options = {"epochs": 6, "batch_size": 10}
    plain = run(images, case, cuda_graph=False, **options)
    assert_same(plain, run(images, case, cuda_graph=None, **options))
    assert recording[-1].run.replayed > 40


def unfrozen(model):
    class Unfreezes(training.Callback):
        def on_epoch_end(self, run):
            run.model[0].requires_grad_(True)

    model[0].requires_grad_(False)
    return {"callbacks": [Unfreezes()]}


def unfrozen_adam(model):
    return {**unfrozen(model), **adam(model)}


def unfrozen_fused(model):
    # It makes its momentum in the first step in which a weight has a gradient.
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1), momentum=0.9, fused=True)
    groups = [{"params": [p]} for p in model.parameters()]
    optimizer.param_groups.clear()
    for group in groups:
        optimizer.add_param_group(group)
    return {**unfrozen(model), "optimizer": optimizer}


def less_dropout(model):
    class Changes(training.Callback):
        def on_epoch_end(self, run):
            run.model[3].p /= 2

    return {"callbacks": [Changes()]}


def evaluation_mode(model):
    class Changes(training.Callback):
        def on_epoch_end(self, run):
            run.in_evaluation.add(run.model[1])

    return {"callbacks": [Changes()]}


def momentum(model):
    class Changes:
        def on_step(self, run):
            if run.step in (9, 20):
                run.optimizer.param_groups[0]["momentum"] = 0.5

    return {"callbacks": [Changes()]}


def rate(model):
    class Changes:
        def on_step(self, run):
            if run.step > 9:
                run.optimizer.param_groups[0]["lr"] = 0.01 / run.step

    return {"callbacks": [Changes()]}


CHANGES = [unfrozen, unfrozen_adam, unfrozen_fused, less_dropout, evaluation_mode, momentum, rate]


@pytest.mark.parametrize("case", CHANGES)
def test_what_callbacks_change_is_recorded_anew(recording, images, case):
    plain = run(images, case, cuda_graph=False)
    assert_same(plain, run(images, case, cuda_graph=True))
    assert recording[1].run.replayed > 10


def test_a_recording_that_fails_leaves_the_run_as_it_was(recording, images, monkeypatch, capsys):
    class Broken(OpLog):
        def record(self, work):
            super().record(work)
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    options = {"precision": "float16", "ema_decay": 0.9}
    plain = run(images, nothing, cuda_graph=False, **options)
    monkeypatch.setitem(graphs.RECORDERS, "cpu", Broken)
    assert_same(plain, run(images, nothing, **options))
    why = "training without a CUDA graph: recording failed: operation not permitted\n"
    assert capsys.readouterr().err == why


def kept(log, op, name):
    """Let operations of a kind go on with what one of their arguments was while recording."""
    for i, (func, args, kwargs, outputs) in enumerate(log):
        if op in str(func):
            arguments = [*args, *kwargs.values()] if name is None else [kwargs[name]]
            copies = {id(t): t.clone() for t in tensors(arguments)}
            copy = functools.partial(tree_map, lambda t, copies=copies: copies.get(id(t), t))
            log[i] = func, copy(args), copy(kwargs), outputs


def without_update(log):
    del log[[i for i, (func, *_) in enumerate(log) if "backward" in str(func)][-1] + 1 :]


FAULTS = {
    "nothing is replayed": list.clear,
    "keeps the images and labels": lambda log: kept(log, "aten.index.Tensor", None),
    "keeps the learning rate": lambda log: kept(log, "_fused_sgd_", "lr"),
    "takes the mask of another seed": lambda log: log.insert(
        0, (torch.manual_seed, (1,), {}, None)
    ),
    "neither updates nor counts": without_update,
}


def faulty(monkeypatch, fault):
    class Faulty(OpLog):
        def record(self, work):
            result = super().record(work)
            fault(self.log)
            return result

    monkeypatch.setitem(graphs.RECORDERS, "cpu", Faulty)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_recording_that_is_not_the_step_is_found_out(
    recording, images, monkeypatch, capsys, name, precision
):
    options = {"precision": precision, "ema_decay": 0.9}
    plain = run(images, nothing, cuda_graph=False, **options)
    faulty(monkeypatch, FAULTS[name])
    assert_same(plain, run(images, nothing, **options))
    why = "a recorded step gave another result: "
    assert recording[1].run.replayed == 0
    assert recording[1].run.not_recorded.startswith(why)
    said = capsys.readouterr().err
    assert said == f"training without a CUDA graph: {recording[1].run.not_recorded}\n"
    with pytest.raises(ValueError, match=rf"cuda_graph=True, but {why}.*; leave out cuda_graph="):
        run(images, nothing, cuda_graph=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one cycle", "sgd", "adamw, halved", "weights of classes"])
def test_every_operation_that_a_recording_lacks_is_missed(
    recording, images, monkeypatch, capsys, case
):
    plain = run(images, CASES[case], cuda_graph=False)
    logs = []
    faulty(monkeypatch, logs.append)
    run(images, CASES[case], cuda_graph=True)
    found = []
    for i, (func, *_) in enumerate(logs[0]):
        if "aten.index.Tensor" in str(func):  # labels that are none would be an error
            continue

        def drop(log, i=i):
            del log[i]

        faulty(monkeypatch, drop)
        assert_same(plain, run(images, CASES[case]))  # also if it is not missed
        if recording[-1].run.not_recorded:
            found.append(str(func))
    kinds = ["convolution.", "batch_norm", "convolution_backward", "bernoulli_", "nll_loss_forward"]
    kinds += ["argmax", "copy_"] + ["_fused_sgd_"] * (case == "one cycle")
    for kind in kinds:
        assert any(kind in name for name in found), (kind, found)


def test_a_recording_may_differ_by_the_order_of_additions(recording, images, monkeypatch):
    class Noisy(OpLog):
        def replay(self):
            super().replay()
            for parameter in recording[-1].run.model.parameters():
                parameter.data.mul_(1 + 1e-7)

    monkeypatch.setitem(graphs.RECORDERS, "cpu", Noisy)
    run(images, nothing, cuda_graph=True)
    assert recording[0].run.replayed > 20


def test_few_steps_are_not_recorded_by_themselves(recording, images, capsys):
    run(images, nothing, epochs=2)
    run(images, nothing, epochs=5)
    assert [each.run.replayed for each in recording] == [0, 31]
    assert not capsys.readouterr().err


NETWORKS = {
    "lenet5": {},
    "lenet5_1998": {},
    "alexnet": {"width": 1 / 8},
    "vgg11": {"width": 1 / 16},
    "googlenet": {"width": 1 / 8, "auxiliary": True, "input_size": 32},
    "resnet20": {"width": 1 / 4},
    "resnet18": {"width": 1 / 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_book_can_be_recorded(recording, sets, name):
    def run(cuda_graph):
        torch.manual_seed(0)
        net = models.create_for(name, (1, 32, 32), 10, **NETWORKS[name])
        options = {"epochs": 2, "batch_size": 8, "lr": 0.01, "loss": models.model_spec(name).loss}
        options |= {"device": "cpu", "progress": False, "channels_last": True}
        return fit(net, sets[0][:36], cuda_graph=cuda_graph, **options), net.state_dict()

    assert_same(run(False), run(True))
    assert recording[1].run.replayed == 4


@pytest.mark.parametrize("cuda_graph", [1, "yes"])
def test_cuda_graph_is_a_decision(small, fit, cuda_graph):
    with pytest.raises(TypeError, match="cuda_graph is True, False or None, got"):
        fit(small, cuda_graph=cuda_graph)


def test_a_cpu_cannot_be_asked_for_a_cuda_graph(small, fit):
    with pytest.raises(ValueError, match=r"CUDA graphs need a CUDA GPU, and the device is cpu"):
        fit(small, cuda_graph=True)
    with pytest.raises(ValueError, match="cannot record a compiled network: leave out compile="):
        fit(small, cuda_graph=True, compile=True)


class WaitingSteps:
    """Notes in each step what would make Python wait for a GPU."""

    def __init__(self):
        self.found, self._mode = [], None

    def on_fit_begin(self, run):
        self._mode = Waiting()
        self._mode.__enter__()

    def on_step(self, run):
        self.found.append(self._mode.found)
        self._mode.found = []

    def on_epoch_end(self, run):
        self._mode.found = []  # of the epoch's numbers and its validation

    def on_fit_end(self, run):
        self._mode.__exit__(None, None, None)


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"adam", "adamw, halved"}))
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_no_step_waits_for_the_gpu(recording, images, case, cuda_graph):
    watch = WaitingSteps()

    def options(model):
        given = CASES[case](model)
        return {**given, "callbacks": [*given.get("callbacks", []), watch]}

    run(images, options, cuda_graph=cuda_graph)
    per_epoch = 8
    for number, found in enumerate(watch.found):
        # The first step looks at the labels; the first of an epoch draws its order; the one after
        # a recording checks it.
        if number % per_epoch and not (cuda_graph and number == graphs.WARM_UP):
            assert not found, (number, found)


def test_probabilities_as_labels_are_counted_without_waiting(recording, images):
    watch = WaitingSteps()
    labels = F.one_hot(images.labels, 10).float()
    train = (images.images / 255, labels)
    options = {"loss": nn.CrossEntropyLoss(), "callbacks": [watch], "epochs": 5, "batch_size": 30}
    history = fit(network(), train, device="cpu", progress=False, cuda_graph=True, **options)
    assert history.train_accuracy[-1] > history.train_accuracy[0] > 0
    assert recording[0].run.replayed > 10
    expected = {0, graphs.WARM_UP}
    found = {number for number, found in enumerate(watch.found) if found and number % 5}
    assert found <= expected
