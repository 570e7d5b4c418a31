"""What a type checker tells who uses the package. `make lint` checks this file; nothing runs it.

Each ``type: ignore`` is a mistake that must be found: mypy reports those that ignore nothing.
"""

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
    assert_type(layers.total_macs, int)
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


@analysis.operation("mylib::blur", role="pooling")
def follow_blur(call: analysis.OperationCall) -> analysis.Reach:
    return call.x.windows(call.shape, kernel=call["size"])


@analysis.operation("mylib::blur", role="pool")  # type: ignore[arg-type]
def returns_no_reach(call: analysis.OperationCall) -> analysis.Reach:
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
