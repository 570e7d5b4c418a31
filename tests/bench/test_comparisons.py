"""That the comparisons compare the same thing. How fast things are is not tested."""

import pytest
import torch

from cnnbook import bench, data, models, training
from cnnbook.bench import comparisons
from cnnbook.bench.peers import PEERS


@pytest.mark.slow
def test_augmenters_make_images_of_the_same_kind():
    train, _ = data.load("fashion-mini")
    images = train.images[:64]
    contenders, notes = comparisons._augmenters(images)
    assert len(contenders) >= 5
    assert len(contenders) + len(notes) == 6  # kornia, or a note that it is missing
    assert contenders.keys() - comparisons._augmenters(images, one_by_one=False)[0].keys() == {
        "torchvision, per PIL image",
        "torchvision, per tensor",
    }
    torch.manual_seed(0)
    for name, augment in contenders.items():
        changed = augment().cpu()
        assert changed.shape == images.shape, name
        assert changed.dtype == torch.float32, name
        # A pixel from 0 to 1, less a mean of 0.5, over a standard deviation of 0.25.
        assert -2 - 1e-5 <= changed.min() < -1.9, name
        assert 1.5 < changed.max() <= 2.5, name
        assert (changed != (images / 255 - 0.5) / 0.25).any((1, 2, 3)).all(), name


def test_the_share_of_bandwidth_counts_a_byte_and_a_float_for_each_color(monkeypatch):
    def race(contenders, repeats):
        return dict.fromkeys(contenders, [2.0, 4.0, 3.0][:repeats])

    monkeypatch.setattr(comparisons, "race", race)
    monkeypatch.setattr(comparisons, "AUGMENTED", ((4, 3, 2, 8, 10),))
    rows = [*comparisons.augment(quick=False, repeats=3)]
    tasks = dict.fromkeys(row.task for row in rows)
    assert [*tasks] == ["2 × 4 px, 3 channels", "8 × 4 px, 3 channels"]
    assert not any("bandwidth" in row.note for row in rows)
    # On a GPU, played by the CPU.
    monkeypatch.setattr(comparisons, "memory_bandwidth", lambda device: 10 * 3 * 16 * 5.0)
    monkeypatch.setattr(comparisons.settings, "device", lambda: torch.device("cuda"))
    contenders = dict.fromkeys([bench.CNNBOOK, comparisons.DRAWN_BEFORE])
    monkeypatch.setattr(comparisons, "_augmenters", lambda *_, **__: (contenders, {}))
    rows = [*comparisons.augment(quick=False, repeats=3)]
    assert rows[-1].task == "10 × 4 px, 3 channels"
    assert rows[-1].contender == comparisons.DRAWN_BEFORE
    assert rows[-1].note == "33% of the memory's bandwidth"


@pytest.mark.slow
def test_the_recipe_learns():
    train, test = data.load("digits", size=32)
    torch.manual_seed(0)
    net, options = comparisons.fastest_lenet()
    assert sum(p.numel() for p in net.parameters()) == 61_706
    options |= {"epochs": 8}  # two passes over so few images are 16 steps
    history = training.fit(net, train, progress=False, **options)
    assert len(history.step_loss) == 8 * 8  # 1,000 digits in batches of 128
    assert training.evaluate(net, test).accuracy > 0.4  # guessing gets 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("target", "limit", "reached"),
    [(0.2, 60, [True, True]), (0.2, 0, [True, False]), (1.0, 0, [False, False])],
)
def test_time_to_accuracy(target, limit, reached, monkeypatch):
    digits, (net, options) = data.load("digits"), comparisons.fastest_lenet()
    peer = "ReLU LeNet, Adam, DataLoader"
    monkeypatch.setattr(data, "load", lambda name: digits)
    monkeypatch.setattr(comparisons, "fastest_lenet", lambda: (net, options | {"epochs": 8}))
    monkeypatch.setattr(comparisons, "PEERS", {peer: PEERS[peer]})
    monkeypatch.setattr(comparisons, "TARGET", target)
    ours, other = comparisons.accuracy(quick=True, limit=limit)
    assert [ours.contender, other.contender] == [bench.CNNBOOK, peer]
    assert {ours.unit, other.unit} == {"seconds"}
    assert ours.task == f"{target:.0%} of fashion-mini"
    assert ours.ratio == (1 if reached[0] else None)
    assert other.ratio == (other.value / ours.value if reached[1] else None)
    assert other.note.startswith("epoch " if reached[1] else "not reached in 0.06 epochs")


def test_networks_that_torchvision_has_too_are_raced_by_default(monkeypatch):
    raced = []

    def with_twin(name):
        raced.append(name)
        layers = [torch.nn.AvgPool2d(224), torch.nn.Flatten(), torch.nn.Linear(3, 1000)]
        return {bench.CNNBOOK: torch.nn.Sequential(*layers)}

    monkeypatch.setattr(comparisons, "with_twin", with_twin)
    rows = bench.run(["models"], repeats=1).rows
    assert raced == [name for name in models.list_models() if models.model_spec(name).torchvision]
    assert {"alexnet_2014", "vgg16_bn", "googlenet_bn", "resnet152"} < {*raced}
    assert [row.task.partition(",")[0] for row in rows] == raced
