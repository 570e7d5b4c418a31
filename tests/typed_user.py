"""What a type checker tells who uses the package. `make lint` checks this file; nothing runs it.

Each ``type: ignore`` is a mistake that must be found: mypy reports those that ignore nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import cnnbook
from cnnbook import analysis, data, models, plots, training


def settings() -> None:
    assert_type(cnnbook.preset(), str)
    assert_type(cnnbook.device(), torch.device)
    assert_type(cnnbook.choose(cpu=1, gpu=2), int)
    cnnbook.seed("3")  # type: ignore[arg-type]


def networks_by_name() -> None:
    spec = models.model_spec("resnet18")
    assert_type(spec, models.ModelSpec)
    models.register_model("mine", spec)
    assert_type(models.list_models(), list[str])
    assert_type(models.create_scaled_down("resnet18"), nn.Module)
    assert_type(models.torchvision_model("resnet18"), nn.Module)
    models.register_model("mine", nn.Linear)  # type: ignore[arg-type]


def a_trained_network() -> None:
    trained = training.load("net.safetensors")
    assert_type(trained, training.TrainedModel)
    assert_type(trained.network, nn.Module)
    assert_type(trained.classes, tuple[str, ...])
    rows = training.predict(trained, ["boot.png"], top=1).to_dicts()
    assert_type(rows, list[dict[str, object]])
    assert_type(cnnbook.load("efficientnet_lite0"), training.TrainedModel)
    assert_type(trained.preprocessing, models.Preprocessing)
    training.predict("efficientnet_lite0", data.photo("cat"))
    training.predict(nn.Linear(2, 2), ["boot.png"])  # type: ignore[arg-type]


def data_of_any_kind(x: Tensor, y: Tensor, mine: torch.utils.data.Dataset[Any]) -> None:
    train, _ = data.load("cifar10")
    assert_type(train[0], tuple[Tensor, int])
    assert_type(train[[0, 1]], data.Dataset)
    assert_type(train.split(0.1), tuple[data.Dataset, data.Dataset])
    folder, _ = data.load("imagenette")
    assert_type(folder[0], tuple[Tensor, int])
    assert_type(folder[:9].split(), tuple[data.ImageFolder, data.ImageFolder])
    loader = torch.utils.data.DataLoader(train, batch_size=64)
    endless = ((x, y) for _ in range(9))
    assert_type(data.make_batches(loader), data.BatchSource)
    given: list[data.DataLike] = [train, folder, loader, mine, (x, y), [(x, y)], endless]
    data.make_batches(given[0], 64, steps_per_epoch=3)
    data.make_batches("cifar10")  # type: ignore[arg-type]


def results_that_draw_themselves(x: Tensor, y: Tensor) -> None:
    net = models.lenet5()
    assert_type(analysis.grad_cam(net, x, "s4"), analysis.Attribution)
    assert_type(analysis.grad_cam(net, x, "s4").plot(), plots.Figure)
    counts = analysis.confusion_matrix(y, y, 10)
    assert_type(counts, analysis.ConfusionMatrix)
    assert_type(counts.plot(), plots.Figure)
    assert_type(analysis.activation_statistics(net, x).plot(), plots.Figure)
    assert_type(analysis.gradient_flow({"LeNet-5": net}, x, y).plot(), plots.Figure)
    assert_type(cnnbook.results.find("recipe"), list[cnnbook.results.Recorded])
    recorder = analysis.GradientRecorder(x, y)
    training.fit(net, data.load("digits")[0], callbacks=[recorder])


def from_data_to_a_figure() -> None:
    train, test = data.load("fashion-mini", size=32)
    assert_type(train[:100], data.Dataset)
    assert_type(test.images, Tensor)
    net = models.create("resnet20", in_channels=1, width=0.5)
    assert_type(net, nn.Module)
    history = training.fit(net, train, test, epochs=1, augment=data.Augment(flip=0.5))
    assert_type(history, training.History)
    assert_type(history.val_accuracy, list[float])
    assert_type(training.evaluate(net, test).accuracy, float)

    shape = (1, 32, 32)
    layers = analysis.summary(net, shape)
    assert_type(layers, analysis.Summary)
    assert_type(layers.total_macs, int | None)
    assert_type(layers.plot(), plots.Figure)
    assert_type(analysis.receptive_field(net, shape, "conv1").size, tuple[int, ...])
    seen = analysis.activations(net, test.images[:1] / 255)
    assert_type(seen["conv1"], Tensor)
    figure = seen.plot("conv1")
    assert_type(figure, plots.Figure)
    figure.save("maps.png")

    training.fit(net, train, epoch=3)  # type: ignore[call-arg]
    analysis.summary(net, 32)  # type: ignore[arg-type]
    figure.save(3)  # type: ignore[arg-type]


def an_operation_of_your_own() -> None:
    @analysis.operation("mylib::blur", role="pooling")
    def follow_blur(call: analysis.OperationCall) -> analysis.Reach:
        return call.x.windows(call.shape, kernel=call["size"])

    @analysis.operation("mylib::blur", role="pool")  # type: ignore[arg-type]
    def of_no_known_role(call: analysis.OperationCall) -> analysis.Reach:
        return call.x


def a_source_of_your_own(batches: data.BatchSource) -> None:
    training.fit(models.lenet5(), batches)
    for x, y in batches.epoch(0):
        assert_type(x, Tensor)
        assert_type(y, Tensor)


class StopEarly(training.Callback):
    def on_step(self, run: training.Run) -> None:
        assert_type(run.history.train_loss, list[float])
        if run.step == 100:
            run.stop("enough")


def a_callback_of_your_own() -> None:
    training.fit(models.lenet5(), data.load("digits")[0], callbacks=[StopEarly()])
    training.fit(models.lenet5(), data.load("digits")[0], callbacks=3)  # type: ignore[arg-type]
