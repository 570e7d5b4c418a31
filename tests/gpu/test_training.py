"""Training, evaluation, checkpoints and batches on a GPU, compared with the CPU."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnbook import data, models, training

pytestmark = pytest.mark.gpu

CUDA = "cuda"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fashion():
    train, test = data.load("fashion-mini", size=32)
    return train[:512], test[:200]


def small(name="lenet5", **options):
    torch.manual_seed(0)
    if name == "lenet5":
        return models.create("lenet5", activation="relu", **options)
    return models.create(name, num_classes=10, in_channels=1, width=0.25, **options)


def fitted(net, train, device, **options):
    options = {"epochs": 2, "batch_size": 64, "progress": False, **options}
    return training.fit(net, train, device=device, **options)


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_training_is_that_of_the_cpu(name, fashion):
    train, test = fashion
    nets, histories = {}, {}
    for device in ("cpu", CUDA):
        nets[device] = small(name)
        histories[device] = fitted(nets[device], train, device, precision="float32", lr=0.01)
    torch.testing.assert_close(
        torch.tensor(histories[CUDA].step_loss),
        torch.tensor(histories["cpu"].step_loss),
        rtol=5e-3,
        atol=5e-3,
    )
    evaluated = {device: training.evaluate(nets[device], test, device=device) for device in nets}
    assert abs(evaluated[CUDA].accuracy - evaluated["cpu"].accuracy) <= 0.05
    assert evaluated[CUDA].loss == pytest.approx(evaluated["cpu"].loss, rel=0.05)
    assert next(nets[CUDA].parameters()).device.type == CUDA


@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float16", "float32"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_every_precision_and_layout_learns(precision, channels_last, fashion):
    net = small("resnet20")
    history = fitted(
        net, fashion[0], CUDA, epochs=4, precision=precision, channels_last=channels_last
    )
    assert history.train_loss[-1] < history.train_loss[0]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    kernels = [p for p in net.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert all(kernel.is_contiguous(memory_format=layout) for kernel in kernels)
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_everything_at_once_runs(fashion):
    train, test = fashion
    net = small("resnet20")
    augment = data.Augment(rotate=10, translate=0.1, scale=(0.9, 1.1), flip=0.5, erase=0.2)
    history = fitted(
        net, train, CUDA, val=test, augment=augment, ema_decay=0.9, label_smoothing=0.1
    )
    assert len(history.val_accuracy) == 2
    assert all(loss < 10 for loss in history.step_loss)


def test_a_data_loader_is_moved_to_the_gpu(fashion):
    loader = torch.utils.data.DataLoader(fashion[0], batch_size=64)
    net = small()
    assert len(training.fit(net, loader, epochs=1, device=CUDA, progress=False).step_loss) == 8
    assert next(net.parameters()).device.type == CUDA


def test_a_checkpoint_from_the_gpu_is_read_on_the_cpu(fashion, tmp_path):
    train, test = fashion
    net, file = small(), tmp_path / "run.safetensors"
    info = training.model_info(net, train)
    fitted(net, train, CUDA, checkpoint=file, checkpoint_info=info)
    loaded = training.load(file)
    assert {p.device.type for p in loaded.network.parameters()} == {"cpu"}
    here = copy.deepcopy(net).cpu()
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, here.state_dict()[name]), name
    on_cpu = training.evaluate(loaded, test, device="cpu")
    on_gpu = training.evaluate(net, test, device=CUDA)
    assert on_cpu.accuracy == pytest.approx(on_gpu.accuracy, abs=0.01)


def test_an_interrupted_run_resumes_on_the_gpu(fashion, tmp_path):
    class Stop(training.Callback):
        def on_step(self, run):
            if run.step == 5:
                run.stop("enough")

    whole = fitted(small(), fashion[0], CUDA)
    file = tmp_path / "run.safetensors"
    options = {"checkpoint": file, "checkpoint_every": 1}
    assert len(fitted(small(), fashion[0], CUDA, callbacks=[Stop()], **options).step_loss) == 5
    resumed = fitted(small(), fashion[0], CUDA, checkpoint=file)
    assert len(resumed.step_loss) == len(whole.step_loss)
    torch.testing.assert_close(
        torch.tensor(resumed.step_loss), torch.tensor(whole.step_loss), rtol=0.02, atol=0.02
    )


def test_pictures_are_classified(fashion):
    train, _ = fashion
    net = small()
    fitted(net, train, CUDA, epochs=1)
    trained = training.TrainedModel(net, train.classes, training.model_info(net, train))
    shown = [training.predict(trained, train.images[:3], device=device) for device in ("cpu", CUDA)]
    assert len(shown[1]) == len(shown[0])
    assert [row["class"] for row in shown[1]] == [row["class"] for row in shown[0]]


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_those_of_the_cpu(shuffle, fashion):
    augment = data.Augment(flip=0.5, translate=0.1)
    epochs = [
        list(data.Batches(fashion[0], 100, shuffle=shuffle, augment=augment, device=d).epoch(1))
        for d in ("cpu", CUDA)
    ]
    assert [len(epoch) for epoch in epochs] == [6, 6]
    for (x, y), (x_gpu, y_gpu) in zip(*epochs, strict=True):
        assert x_gpu.device.type == y_gpu.device.type == CUDA
        assert torch.equal(y_gpu.cpu(), y)
        torch.testing.assert_close(x_gpu.cpu(), x, rtol=1e-3, atol=2e-2)


def test_scores_and_losses_of_evaluation_come_to_the_cpu(fashion):
    net = small().to(CUDA)
    found = training.evaluate(net, fashion[1], device=CUDA)
    assert found.predictions.device.type == "cpu"
    assert found.labels.device.type == "cpu"


def test_one_process_under_torchrun(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        "import json\nfrom cnnbook import data, models, training\n"
        "with training.join_processes() as device:\n"
        "    train, _ = data.load('fashion-mini', size=32)\n"
        "    net = models.lenet5(activation='relu')\n"
        "    history = training.fit(net, train[:256], epochs=1, device=device, progress=False)\n"
        "    print(json.dumps({'device': str(device), 'steps': len(history.step_loss)}))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", "--master-port=29517", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"device": "cuda:0", "steps": 4}


def test_a_batch_too_large_says_what_would_fit():
    total = torch.cuda.get_device_properties(0).total_memory
    side, count = 256, 1024
    channels = total // (count * side * side * 4) + 1  # one feature map of the batch is too large
    net = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 2),
    )
    images = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    with pytest.raises(MemoryError, match=r"batch_size=\d+ fits"):
        training.fit(
            net,
            (images, labels),
            epochs=1,
            batch_size=count,
            precision="float32",
            device=CUDA,
            progress=False,
        )
    torch.cuda.empty_cache()
