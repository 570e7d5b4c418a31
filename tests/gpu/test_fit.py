"""Training on a GPU: no step waits, and a CUDA graph gives the same result."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from cnnbook import data, models
from cnnbook.training import Callback, fit

pytestmark = pytest.mark.gpu

WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy"}
PER_EPOCH = 60  # steps of 32 images; the last one has fewer


@pytest.fixture(scope="module")
def images():
    train, _ = data.load("fashion-mini", size=32)
    return train[: 32 * (PER_EPOCH - 1) + 20]


def network(name):
    torch.manual_seed(0)
    return models.create_for(name, (1, 32, 32), 10)


class Seen(Callback):
    """Keeps how many steps were replayed, or why none was."""

    def on_fit_end(self, run):
        self.replayed, self.reason = run.replayed, run.not_recorded


def run(name, images, **options):
    seen, net = Seen(), network(name)
    given = {"epochs": 2, "batch_size": 32, "lr": 0.02, "seed": 1, "progress": False, **options}
    given["callbacks"] = [seen, *given.get("callbacks", [])]
    make = given.pop("make_optimizer", None)
    if make is not None:
        del given["lr"]
        given["optimizer"] = make(net.cuda())
    return fit(net, images, device="cuda", **given), seen


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_a_graph_gives_the_losses_of_single_steps(images, name, precision):
    plain, _ = run(name, images, precision=precision, cuda_graph=False)
    history, seen = run(name, images, precision=precision, cuda_graph=True)
    assert seen.replayed == 2 * PER_EPOCH - 4 - 2
    # Atomic additions differ in their order from run to run, and training magnifies it.
    early = slice(0, 20)
    assert history.step_loss[early] == pytest.approx(plain.step_loss[early], rel=0.03, abs=0.01)
    assert history.train_loss[-1] == pytest.approx(plain.train_loss[-1], rel=0.1)
    assert history.train_accuracy[-1] == pytest.approx(plain.train_accuracy[-1], abs=0.05)


def test_it_is_used_by_itself(images):
    _, seen = run("lenet5", images)
    assert seen.replayed > 100, seen.reason


def linear(images, **options):
    """A network without atomic additions, whose numbers are the same in each run."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1024, 64), nn.ReLU())
    net.extend([nn.Dropout(0.2), nn.Linear(64, 10)])
    seen = Seen()
    given = {"epochs": 2, "batch_size": 32, "device": "cuda", "progress": False, **options}
    history = fit(net, images, precision="float32", callbacks=[seen], **given)
    return history, net.state_dict(), seen


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.99}, {"label_smoothing": 0.1}])
def test_a_graph_draws_the_masks_of_single_steps(images, options):
    plain, weights, _ = linear(images, cuda_graph=False, **options)
    history, others, seen = linear(images, cuda_graph=True, **options)
    assert seen.replayed == 2 * PER_EPOCH - 4 - 2
    assert history.step_loss == pytest.approx(plain.step_loss, rel=1e-4)
    assert history.train_accuracy == pytest.approx(plain.train_accuracy, abs=2e-3)
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-3, atol=1e-4)


def test_a_resumed_run_has_the_same_losses(images, tmp_path):
    class Halt(Exception):
        pass

    class Killed:
        def on_step(self, run):
            if run.step == 50:
                raise Halt

    whole, _, _ = linear(images, cuda_graph=True)
    options = {"checkpoint": tmp_path / "run", "checkpoint_every": 10}
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1024, 64), nn.ReLU())
    net.extend([nn.Dropout(0.2), nn.Linear(64, 10)])
    with pytest.raises(Halt):
        fit(net, images, epochs=2, batch_size=32, device="cuda", progress=False,
            precision="float32", callbacks=[Seen(), Killed()], **options)  # fmt: skip
    resumed, _, seen = linear(images, **options)
    assert seen.replayed > 50, seen.reason
    assert resumed.step_loss == pytest.approx(whole.step_loss, rel=1e-4)


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=torch.tensor(0.001).cuda(), capturable=True)


def adamw_in_python(net):
    return torch.optim.AdamW(net.parameters(), lr=0.001)


@pytest.mark.parametrize("make", [adam, adamw_in_python])
def test_other_optimizers_are_replayed_too(images, make):
    plain, _ = run("lenet5", images, make_optimizer=make, cuda_graph=False)
    history, seen = run("lenet5", images, make_optimizer=make, cuda_graph=True)
    assert seen.replayed == 2 * PER_EPOCH - 4 - 2
    assert history.step_loss[:20] == pytest.approx(plain.step_loss[:20], rel=0.03, abs=0.01)


class Strict(Callback):
    """Makes an error of whatever waits for the GPU, in the middle of each epoch."""

    def on_step(self, run):
        position = run.step % run.steps_per_epoch
        if position == 8:  # after the recording, and after an epoch's start
            torch.cuda.set_sync_debug_mode("error")
        elif position == run.steps_per_epoch - 2:
            torch.cuda.set_sync_debug_mode("default")

    def on_exception(self, run, error):
        torch.cuda.set_sync_debug_mode("default")


AUGMENT = data.Augment(rotate=10, translate=0.1, flip=0.5, erase=0.2)


@pytest.mark.parametrize("cuda_graph", [False, None])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.99}, {"augment": AUGMENT}])
def test_no_step_waits_for_the_gpu(images, cuda_graph, precision, options):
    net = network("resnet20")
    given = {"epochs": 2, "batch_size": 32, "device": "cuda", "progress": False, **options}
    fit(net, images, precision=precision, cuda_graph=cuda_graph, callbacks=[Strict()], **given)


class Profile(Callback):
    """Counts the calls of the driver in twenty steps."""

    def on_step(self, run):
        if run.step == 20:
            torch.cuda.synchronize()
            self._profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
            self._profile.__enter__()
        if run.step == 40:
            self._profile.__exit__(None, None, None)
            self.counts = Counter()
            for event in self._profile.key_averages():
                self.counts[event.key] += event.count


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_twenty_steps_have_no_blocking_copy(images, cuda_graph):
    counted = Profile()
    run("resnet20", images, precision="bfloat16", cuda_graph=cuda_graph, callbacks=[counted])
    # The profiler itself synchronizes once when it ends.
    waits = {name: count for name, count in counted.counts.items() if name in WAITS}
    assert sum(waits.values()) <= 3, waits
    assert counted.counts["cudaMemcpyAsync"] <= 60, counted.counts
    if cuda_graph:
        assert counted.counts["cudaGraphLaunch"] == 20
        assert counted.counts["cudaLaunchKernel"] <= 20 * 12


class Decides(nn.Module):
    """Looks at a number, which makes Python wait for the GPU."""

    def forward(self, x):
        return x if x.mean() > 0 else -x


def test_what_waits_is_not_recorded_and_leaves_dropout_working(images, capsys):
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), Decides(), nn.Linear(1024, 10))
    seen = Seen()
    fit(net, images, epochs=1, batch_size=32, device="cuda", progress=False, callbacks=[seen])
    assert seen.replayed == 0
    assert "Python waits for the GPU in" in seen.reason
    assert "test_fit.py" in seen.reason
    assert capsys.readouterr().err.startswith("training without a CUDA graph: Python waits")


def test_a_failed_recording_leaves_the_gpu_working(images, capsys):
    class Fails(nn.Module):
        """Waits for the GPU only while something is recorded, unlike any step before."""

        def forward(self, x):
            if torch.cuda.is_current_stream_capturing():
                x.sum().item()
            return x

    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), Fails(), nn.Linear(1024, 10))
    seen = Seen()
    given = {"epochs": 2, "batch_size": 32, "device": "cuda", "progress": False}
    history = fit(net, images, callbacks=[seen], **given)
    assert seen.replayed == 0
    assert seen.reason.startswith("recording failed: ")
    assert history.train_loss[-1] < history.train_loss[0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    _, after = run("lenet5", images)  # another network can be recorded
    assert after.replayed > 100, after.reason
