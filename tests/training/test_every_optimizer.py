"""Every optimizer and every schedule of torch continues from a checkpoint to the bit."""

import functools
import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from cnnbook import data, training

SGD = torch.optim.SGD
# Options that give an optimizer more state, by its name.
OPTIMIZERS = {
    "ASGD": {"t0": 1},
    "Adadelta": {},
    "Adafactor": {"lr": 0.01},
    "Adagrad": {"lr_decay": 0.1},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Adamax": {},
    "LBFGS": {},
    "Muon": {"lr": 0.01},
    "NAdam": {},
    "RAdam": {"lr": 0.01},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Rprop": {},
    "SGD": {"momentum": 0.9, "lr": 0.1},
    "SparseAdam": {},
}


def sequence(*schedulers, milestones):
    return lambda sgd: lr_scheduler.SequentialLR(
        sgd, [each(sgd) for each in schedulers], milestones
    )


def several_steps(sgd):
    return lr_scheduler.MultiStepLR(sgd, [1, 2, 2, 4], 0.5)


def warm_up(sgd):
    return lr_scheduler.LinearLR(sgd, 0.1, total_iters=3)


def half_of_each(epoch):
    return 0.5**epoch


SCHEDULERS = {
    "ChainedScheduler": lambda sgd: lr_scheduler.ChainedScheduler(
        [several_steps(sgd), warm_up(sgd)]
    ),
    "ConstantLR": lambda sgd: lr_scheduler.ConstantLR(sgd, total_iters=4),
    "CosineAnnealingLR": lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, 4),
    "CosineAnnealingWarmRestarts": lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, 2, 2),
    "CyclicLR": lambda sgd: lr_scheduler.CyclicLR(sgd, 0.01, 0.1, 2),
    "CyclicLR, own function": lambda sgd: lr_scheduler.CyclicLR(
        sgd, 0.01, 0.1, 2, scale_fn=half_of_each
    ),
    "ExponentialLR": lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.8),
    "LambdaLR": lambda sgd: lr_scheduler.LambdaLR(sgd, half_of_each),
    "LinearLR": warm_up,
    "MultiStepLR": several_steps,
    "MultiplicativeLR": lambda sgd: lr_scheduler.MultiplicativeLR(sgd, lambda _: 0.9),
    "OneCycleLR": lambda sgd: lr_scheduler.OneCycleLR(sgd, 0.1, 6),
    "PolynomialLR": lambda sgd: lr_scheduler.PolynomialLR(sgd, 8),
    "ReduceLROnPlateau": lambda sgd: lr_scheduler.ReduceLROnPlateau(sgd, patience=0),
    "SWALR": lambda sgd: swa_utils.SWALR(sgd, 0.01, 5),
    "SequentialLR": sequence(warm_up, several_steps, milestones=[2]),
    "SequentialLR, of steps": sequence(warm_up, several_steps, milestones=[4]),
    "StepLR": lambda sgd: lr_scheduler.StepLR(sgd, 2, 0.5),
}


class Looked(nn.Module):
    """A classifier with sparse gradients: rows looked up by the brightness of each pixel."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(64 * 17, 10, sparse=True)

    def forward(self, x):
        levels = (x.flatten(1) - x.min()).mul(4).long().clamp(0, 16)
        return self.rows(levels + 17 * torch.arange(64)).mean(1)


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(dtype)


def optimizer_of(name, net):
    # Muon is for matrices.
    weights = [p for p in net.parameters() if name != "Muon" or p.ndim == 2]
    return getattr(torch.optim, name)(weights, **OPTIMIZERS[name])


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:40]


def runs_alike(digits, tmp_path, make):
    """Train six steps at once, and three and three; `make` returns a network and options."""

    def run(path, *callbacks):
        net, options = make()
        history = training.fit(
            net, *digits, epochs=3, checkpoint=tmp_path / path, callbacks=callbacks, device="cpu",
            progress=False, **options,
        )  # fmt: skip
        return net, history

    def stop(run):
        if run.step == 3:
            run.stop()

    whole, expected = run("whole")
    run("parts", SimpleNamespace(on_step=stop))
    resumed, history = run("parts")
    assert len(history.step_loss) == 6
    assert history.step_loss == expected.step_loss
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    states = [training.load_checkpoint(tmp_path / path)[1] for path in ("whole", "parts")]
    for key in ("optimizer", "scheduler", "callbacks"):
        assert repr(states[0].get(key)) == repr(states[1].get(key)), key
    return expected


def test_none_is_left_out():
    def classes(module, kind):
        found = {name for name, each in vars(module).items() if inspect.isclass(each)}
        return {n for n in found if issubclass(getattr(module, n), kind) and n[0] != "_"}

    assert classes(torch.optim, torch.optim.Optimizer) - {"Optimizer"} == OPTIMIZERS.keys()
    known = {name.partition(",")[0] for name in SCHEDULERS}
    schedulers = classes(lr_scheduler, lr_scheduler.LRScheduler) | {"SWALR"}
    assert schedulers - {"LRScheduler"} == known


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"LBFGS", "SparseAdam"}))
def test_every_optimizer_is_resumed_to_the_bit(digits, tmp_path, name, dtype):
    def make():
        net = network(dtype)
        return net, {"optimizer": optimizer_of(name, net)}

    runs_alike(digits, tmp_path, make)


class Plain(torch.optim.Optimizer):
    """An optimizer without a learning rate, whose state is nested and of other types."""

    def __init__(self, params):
        super().__init__(params, {"size": 0.1})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["sums"] = [torch.zeros_like(p, dtype=torch.float64)]
                    state["seen"] = {"steps": torch.zeros((), dtype=torch.int64)}
                sums, steps = state["sums"][0], state["seen"]["steps"]
                sums.mul_(0.9).add_(p.grad.double() * 1.0001)
                steps += 1
                assert (sums.dtype, steps.dtype) == (torch.float64, torch.int64)
                p.sub_((group["size"] * sums).to(p.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_optimizer_of_ones_own_is_resumed_to_the_bit(digits, tmp_path, dtype):
    def make():
        net = network(dtype)
        return net, {"optimizer": Plain(net.parameters())}

    runs_alike(digits, tmp_path, make)


class Learned(nn.Module):
    """Cross-entropy with a learned temperature, and a buffer that changes in training."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("mean", torch.tensor(1.0))

    def forward(self, scores, labels):
        if torch.is_grad_enabled():
            self.mean.mul_(0.9).add_(scores.detach().square().mean(), alpha=0.1)
        return nn.functional.cross_entropy(scores * self.scale / self.mean.detach(), labels)


class Unlearned(Learned):
    """Without the buffer, which is seen in modules only."""

    def forward(self, scores, labels):
        return nn.functional.cross_entropy(scores * self.scale, labels)


LOSSES = {
    "module": (Learned, lambda learned: learned),
    "method": (Learned, lambda learned: learned.forward),
    "partial": (Learned, lambda learned: functools.partial(learned)),
    "partial of a method": (Learned, lambda learned: functools.partial(learned.forward)),
    "function": (Unlearned, lambda learned: lambda scores, labels: learned(scores, labels)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_learns_is_resumed_to_the_bit(digits, tmp_path, name):
    kind, as_loss = LOSSES[name]
    scales = []

    def make():
        net, learned = network(), kind()
        scales.append(learned.scale)
        sgd = SGD([*net.parameters(), learned.scale], lr=0.1, momentum=0.9)
        return net, {"optimizer": sgd, "loss": as_loss(learned)}

    runs_alike(digits, tmp_path, make)
    whole, _, resumed = (scale.item() for scale in scales)
    assert whole == resumed != 3


def test_another_number_of_learned_values_is_refused(digits, tmp_path):
    for count in (1, 2):
        net = network()
        extra = nn.Parameter(torch.ones(count))
        options = {
            "optimizer": SGD([*net.parameters(), extra], lr=0.1),
            "loss": lambda s, y, extra=extra: nn.functional.cross_entropy(s * extra.sum(), y),
            "checkpoint": tmp_path / "run",
        }
        if count == 1:
            training.fit(net, digits[0], epochs=1, device="cpu", progress=False, **options)
            continue
        before = net[1].weight.detach().clone()
        with pytest.raises(training.CheckpointError, match="not the network's are different"):
            training.fit(net, digits[0], epochs=2, device="cpu", progress=False, **options)
        assert torch.equal(net[1].weight, before)


def test_sparse_gradients_are_resumed_to_the_bit(digits, tmp_path):
    def make():
        torch.manual_seed(0)
        net = Looked()
        return net, {"optimizer": optimizer_of("SparseAdam", net)}

    runs_alike(digits, tmp_path, make)


@pytest.mark.parametrize(
    ("name", "said"),
    [("LBFGS", "evaluates the loss several times"), ("SparseAdam", "does not support dense")],
)
def test_others_are_refused_before_training(digits, name, said):
    net = network()
    before = net[1].weight.detach().clone()
    with pytest.raises((ValueError, RuntimeError), match=said):
        training.fit(
            net, digits[0], optimizer=optimizer_of(name, net), device="cpu", progress=False
        )
    assert torch.equal(net[1].weight, before)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_schedule_is_resumed_to_the_bit(digits, tmp_path, name):
    def make():
        net = network()
        sgd = SGD(net.parameters(), lr=0.1, momentum=0.9)
        return net, {"optimizer": sgd, "scheduler": SCHEDULERS[name](sgd)}

    runs_alike(digits, tmp_path, make)
