"""Values that training rarely meets: infinite buffers, complex weights, a loss that learns."""

import contextlib
import os
import re
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

from cnnbook import _files, data, models, training
from cnnbook.training import EMA, CheckpointError, fit, load_checkpoint

FAST = {"device": "cpu", "progress": False}


class Masked(nn.Module):
    """A linear classifier with the mask of attention, in which infinity means: not here."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.register_buffer("mask", torch.full((8, 8), float("-inf")).triu(1))

    def forward(self, x):
        return self.head((x[:, 0] @ self.mask.exp()).flatten(1))


class Rotated(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.turn = nn.ParameterList([nn.Parameter(torch.ones(10, dtype=torch.cfloat))])

    def forward(self, x):
        return (self.head(x.flatten(1)) * self.turn[0]).real


class Centers(nn.Module):
    """A loss with weights of its own."""

    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.zeros(10, 10))

    def forward(self, scores, labels):
        near = (scores - self.centers[labels]).square().mean()
        return nn.functional.cross_entropy(scores, labels) + near


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:256], test[:100]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_an_infinite_mask_stays_what_it_is(digits, tmp_path, ema_decay):
    net, path = Masked(), tmp_path / "net.safetensors"
    history = fit(net, *digits, epochs=1, ema_decay=ema_decay, checkpoint=path, **FAST)
    assert torch.equal(net.mask, Masked().mask)
    assert torch.equal(load_checkpoint(path)[0]["mask"], net.mask)
    assert history.val_loss[0] < 3


def test_the_average_of_complex_weights_is_their_mean(digits):
    net, seen = Rotated(), []

    class See(training.Callback):
        def on_step(self, run):
            seen.append(run.model.turn[0].detach().clone())

    ema = EMA(0.99)
    fit(net, digits[0], epochs=1, callbacks=[See(), ema], **FAST)
    mean = torch.ones(10, dtype=torch.cfloat)
    for step, value in enumerate(seen, 1):
        decay = min(0.99, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * value
    torch.testing.assert_close(ema.average.turn[0], mean)
    assert not torch.equal(ema.average.turn[0], seen[-1])


def run_with_centers(digits, path, stop=None):
    torch.manual_seed(0)
    net, loss = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Centers()
    optimizer = torch.optim.SGD([*net.parameters(), *loss.parameters()], lr=0.1)

    class Stop(training.Callback):
        def on_step(self, run):
            if run.step == stop:
                run.stop("for now")

    fit(
        *(net, digits[0]),
        epochs=3,
        loss=loss,
        optimizer=optimizer,
        checkpoint=path,
        callbacks=[Stop()],
        **FAST,
    )
    return net, loss


def test_a_loss_that_learns_is_resumed(digits, tmp_path):
    whole_net, whole = run_with_centers(digits, tmp_path / "whole.safetensors")
    path = tmp_path / "cut.safetensors"
    run_with_centers(digits, path, stop=4)
    net, loss = run_with_centers(digits, path)
    assert torch.equal(loss.centers, whole.centers)
    assert torch.equal(net[1].weight, whole_net[1].weight)
    assert loss.centers.abs().max() > 0


def test_a_file_that_another_run_wrote_after_it_was_read_is_not_overwritten(
    digits, tmp_path, monkeypatch
):
    path = tmp_path / "net.safetensors"
    run_with_centers(digits, path, stop=4)
    later = tmp_path / "later.safetensors"
    run_with_centers(digits, later, stop=8)
    read = training.fitting.resume_run

    def read_then_another_writes(run, file):
        read(run, file)
        path.write_bytes(later.read_bytes())

    monkeypatch.setattr(training.fitting, "resume_run", read_then_another_writes)
    with pytest.raises(CheckpointError, match="another run wrote"):
        run_with_centers(digits, path)
    assert load_checkpoint(path)[1]["step"] == 8


def test_a_claim_refused_within_its_process_still_keeps_others_out(tmp_path):
    path = tmp_path / "net.safetensors"
    claim = _files.Claim(path)
    with pytest.raises(_files.InUse, match="which is this one"):
        _files.Claim(path)
    script = "import sys; from cnnbook import _files; _files.Claim(_files.Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert "InUse" in other.stderr
    claim.release()
    other = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert other.returncode == 0, other.stderr


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def with_buffer(value, persistent=True):
    net = linear()
    net.register_buffer("extra", value, persistent=persistent)
    return net


def named(name):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module(name, nn.Linear(64, 10))

        def forward(self, x):
            return getattr(self, name)(x.flatten(1))

    return Named()


ONES = torch.ones(3)
UNSTORABLE = {
    "sparse": (lambda: ONES.to_sparse(), "a sparse tensor: make it dense"),
    "sparse rows": (lambda: torch.eye(3).to_sparse_csr(), "a sparse tensor"),
    "nested": (lambda: torch.nested.nested_tensor([ONES, torch.ones(2)]), "a nested tensor"),
    "quantized": (
        lambda: torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
        "a quantized tensor",
    ),
    "complex128": (lambda: ONES.to(torch.complex128), r"a tensor of torch\.complex128: convert"),
    "complex32": (lambda: ONES.to(torch.complex32), r"a tensor of torch\.complex32: convert"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("kind", UNSTORABLE)
def test_tensors_that_no_file_holds_are_refused_before_training(digits, tmp_path, kind, persistent):
    make, said = UNSTORABLE[kind]
    value, steps = make(), []
    see = training.Callback()
    see.on_step = steps.append
    with pytest.raises(TypeError, match=f"cannot hold extra of the network, {said}"):
        fit(
            with_buffer(value, persistent), digits[0], epochs=1, callbacks=[see],
            checkpoint=tmp_path / "run", **FAST,
        )  # fmt: skip
    assert not steps
    with pytest.raises(TypeError, match=said):
        training.save_checkpoint(tmp_path / "run", {"extra": value}, {})
    with pytest.raises(TypeError, match=rf"state\['x'\], {said}"):
        training.save_checkpoint(tmp_path / "run", {}, {"x": value})


def test_every_type_comes_back_or_is_refused(tmp_path):
    path, kept = tmp_path / "file", set()
    for kind in {value for value in vars(torch).values() if isinstance(value, torch.dtype)}:
        value = torch.empty(2, dtype=kind)
        try:
            training.save_checkpoint(path, {"w": value}, {"s": [value]})
        except TypeError:
            continue
        weights, state = load_checkpoint(path)
        assert weights["w"].dtype == state["s"][0].dtype == kind
        kept.add(kind)
    assert len(kept) >= 12


def test_conjugates_and_negatives_are_not_what_they_are_views_of(tmp_path):
    x = torch.tensor([1 + 2j, 3 - 1j])
    values = {"x": x, "conjugate": x.conj(), "part": x.imag, "negative": x.conj().imag}
    assert values["negative"].is_neg()
    for first in values:
        weights = {first: values[first]}
        training.save_checkpoint(tmp_path / "file", weights, dict(values))
        for part in load_checkpoint(tmp_path / "file"):
            assert all(torch.equal(value, values[name]) for name, value in part.items())


@pytest.mark.parametrize(
    ("kept", "own"),
    [
        (torch.uint8, torch.float32), (torch.int64, torch.float16),
        (torch.complex64, torch.float32), (torch.float32, torch.complex64),
        (torch.float32, torch.int64),
    ],
)  # fmt: skip
def test_other_kinds_of_numbers_are_not_converted(tmp_path, kept, own):
    def net(kind):
        return with_buffer(torch.ones(3, dtype=kind))

    training.save_checkpoint(tmp_path / "file", net(kept).state_dict(), {})
    said = f"numbers: extra ({kept} in the file, {own} in the network)".replace("torch.", "")
    with pytest.raises(CheckpointError, match=re.escape(said)):
        training.load_weights(net(own), tmp_path / "file")


def test_a_file_of_whole_numbers_is_not_read_as_weights(digits, tmp_path):
    net = models.create("lenet5")
    info = training.model_info("lenet5", digits[0].padded(32))
    path = tmp_path / "net"
    whole = {name: value.to(torch.uint8) for name, value in net.state_dict().items()}
    training.save_checkpoint(path, whole, {"info": info})
    with pytest.raises(CheckpointError, match=r"is torch\.uint8 in the file, torch\.float32 in"):
        training.load(path)


class Scaled(nn.Module):
    """A network whose first parameter is of another type than the others."""

    def __init__(self, mixes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.head, self.mixes = nn.Linear(64, 10), mixes

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x * self.scale.expand(64)) if self.mixes else self.head(x) * self.scale


def test_a_network_of_several_types_takes_images_of_most(digits):
    history = fit(Scaled(mixes=False), digits[0], epochs=1, **FAST)
    assert len(history.step_loss) == 4
    said = r"several types.*: torch\.float64 \(scale\), torch\.float32 \(head\.weight and 1 more\)"
    for use in (fit, training.evaluate):
        with pytest.raises(ValueError, match=said):
            use(Scaled(mixes=True), digits[0], **(FAST if use is fit else {"device": "cpu"}))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_trained(digits, mode):
    net = linear()
    with mode(), pytest.raises(ValueError, match=rf"under torch\.{mode.__name__}, where no grad"):
        fit(net, digits[0], epochs=1, **FAST)
    outside = training.evaluate(net, digits[1], device="cpu")
    with mode():
        inside = training.evaluate(net, digits[1], device="cpu")
    assert torch.equal(inside.scores, outside.scores)


def test_running_statistics_made_in_inference_mode_are_named(digits):
    net = nn.Sequential(*linear(), nn.BatchNorm1d(10))
    with torch.inference_mode():
        net[2].running_mean = torch.zeros(10)
    training.evaluate(net, digits[1], device="cpu")
    with pytest.raises(ValueError, match=r"2\.running_mean of Sequential was made under"):
        fit(net, digits[0], epochs=1, **FAST)


@pytest.mark.parametrize("part", ["whole", "last layer", "buffer"])
def test_shapes_without_values_are_refused(digits, tmp_path, part):
    net = linear()
    if part == "buffer":
        net = with_buffer(torch.ones(3, device="meta"))
    elif part == "whole":
        net = net.to("meta")
    else:
        net.append(nn.Linear(10, 10, device="meta"))
    training.save_checkpoint(tmp_path / "file", linear().state_dict(), {})
    trained = training.TrainedModel(net, tuple("0123456789"), {})
    for use in (
        lambda: fit(net, digits[0], **FAST),
        lambda: training.evaluate(net, digits[1], device="cpu"),
        lambda: training.load_weights(net, tmp_path / "file"),
        lambda: training.predict(trained, digits[1]),
    ):
        with pytest.raises(ValueError, match="on the device 'meta', where there are only shapes"):
            use()


@pytest.mark.parametrize(
    "name",
    [
        "training/head", "training/3", "_training/1", "__metadata__", "cnnbook", "sha256", "module",
        "x\0y", "\n", '"sha256":"' + "0" * 64 + '"', "é", "items", "tensor",
    ],
)  # fmt: skip
def test_names_of_layers_do_not_collide_with_those_of_a_checkpoint(digits, tmp_path, name):
    path, options = tmp_path / "run", {"epochs": 1, "ema_decay": 0.5, **FAST}
    net, again = named(name), named(name)
    history = fit(net, digits[0], checkpoint=path, **options)
    training.load_weights(again, path)
    for key, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert fit(again, digits[0], checkpoint=path, **options) == history
    safetensors.torch.save_file(net.state_dict(), path)  # of another program, without a checksum
    training.load_weights(again, path)


@pytest.mark.parametrize("name", ["__metadata__", "training/\udcff"])
def test_names_that_no_file_holds_are_refused_before_training(digits, tmp_path, name):
    net = linear()
    net.register_parameter(name, nn.Parameter(torch.ones(1)))
    with pytest.raises(TypeError, match="cannot hold a weight of the name"):
        fit(net, digits[0], epochs=1, checkpoint=tmp_path / "run", **FAST)


@pytest.fixture(params=["long", "long path", "long folder", "zero byte", "pipe", "below a file"])
def impossible(request, tmp_path):
    """A path that no file can have, and what is said about it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "file").write_text("")
    return {
        "long": (tmp_path / ("a" * 300), "too long"),
        "long path": (tmp_path.joinpath(*["a" * 200] * 30), "too long"),
        "long folder": (tmp_path / ("a" * 300) / "run", "too long"),
        "zero byte": (f"{tmp_path}/a\0b", "with a zero byte"),
        "pipe": (pipe, "not a file"),
        "below a file": (tmp_path / "file" / "run", "there is no file|File exists|Not a directory"),
    }[request.param]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.may_skip("Windows has no pipes with names")
def test_impossible_files_are_refused_in_a_sentence(digits, impossible):
    path, said = impossible
    for use in (
        lambda: fit(linear(), digits[0], epochs=1, checkpoint=path, **FAST),
        lambda: training.save_checkpoint(path, {}, {}),
        lambda: load_checkpoint(path),
        lambda: training.load_weights(linear(), path),
        lambda: training.load(path),
    ):
        with pytest.raises((CheckpointError, ValueError), match=said) as caught:
            use()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("start", [b"", b"\x02" + bytes(7) + b"{}", b"\xff" * 8, b"PK"])
def test_a_file_larger_than_the_memory_is_not_read(tmp_path, start):
    path = tmp_path / "huge"
    path.write_bytes(start)
    with contextlib.suppress(OSError):  # of a file system that has no holes
        os.truncate(path, 2**40)
    for read in (load_checkpoint, lambda path: training.load_weights(linear(), path)):
        with pytest.raises(CheckpointError, match=r"is damaged|is a pickle|has 1,099"):
            read(path)
