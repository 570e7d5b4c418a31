"""The scaled-down models on clothes."""

import statistics
from types import SimpleNamespace

import pytest
import torch

from cnnbook import bench, models, training
from cnnbook.experiments import fashion, protocol
from cnnbook.models import registry


@pytest.mark.slow
def test_each_network_is_trained_once_for_each_seed():
    row, again = (
        bench.run(["fashion"], quick=True, seeds=seeds, networks=["lenet5"]).rows[0]
        for seeds in (2, 1)
    )
    assert (row.part, row.contender, row.unit) == ("fashion", "lenet5", "test accuracy")
    assert row.task == "scaled-down models, 640 images of fashion-mini, 1 epoch"
    assert row.ratio is None
    assert row.more["parameters"] == 61_706
    accuracies, losses = row.more["accuracies"], row.more["training_losses"]
    assert len(set(losses)) == len(losses) == len(accuracies) == 2  # the seeds differ
    assert row.value == statistics.mean(accuracies)
    assert (row.more["lowest"], row.more["highest"]) == (min(accuracies), max(accuracies))
    assert (again.value, again.more["training_losses"]) == (accuracies[0], losses[:1])


def test_all_have_a_scaled_down_model():
    for name in fashion.NETWORKS:
        assert models.model_spec(name).scaled_down is not None


def test_a_network_from_outside_is_trained_with_its_own_loss(monkeypatch):
    noted = []

    def build(num_classes, in_channels):
        noted.append((num_classes, in_channels))
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, num_classes))

    def loss(output, labels):
        noted.append(output.shape)
        return torch.nn.functional.multi_margin_loss(output, labels)

    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    spec = models.ModelSpec(build, "after nobody", (1, 32, 32), 7, loss=loss, scaled_down={})
    models.register_model("toy", spec)
    (row,) = fashion.run(quick=True, seeds=1, networks=["toy"])
    assert noted[1:] == [(10, 1), *[(64, 10)] * 10]
    assert row.more["parameters"] == 10_250
    assert row.value > 0.5  # of ten classes


def test_what_cannot_be_trained_is_refused_before_anything_is():
    with pytest.raises(ValueError, match="network with a scaled-down model 'vgg19'"):
        next(fashion.run(networks=["lenet5", "vgg19"]))
    with pytest.raises(ValueError, match="unknown data set 'mnist'"):
        next(fashion.run(data_set="mnist"))


def test_a_folder_is_no_set_in_memory(tmp_path):
    from PIL import Image

    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.new("L", (32, 32)).save(tmp_path / part / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"in memory, got 'imagefolder:.*fashion-mini"):
        protocol.load_images(f"imagefolder:{tmp_path}", quick=False)


def test_a_training_that_was_interrupted_is_not_a_result(monkeypatch):
    fit = training.fit

    def interrupted(*arguments, **options):
        stop = SimpleNamespace(on_step=lambda run: run.stop())
        return fit(*arguments, callbacks=[stop], **options)

    monkeypatch.setattr(training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(fashion.run(quick=True, seeds=1, networks=["lenet5"]))
