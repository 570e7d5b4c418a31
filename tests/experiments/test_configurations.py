"""VGG's configurations, alike in everything but depth."""

import pytest

from cnnbook import models
from cnnbook.experiments import configurations, protocol


def test_all_five_are_trained_alike(monkeypatch):
    trained = []

    def note(part, task, column, build, train, test, **options):
        net = build()
        trained.append((column, [p.shape[0] for p in net.parameters() if p.ndim == 4], options))
        return part, task, len(train), len(test)

    monkeypatch.setattr(configurations, "train_and_test", note)
    rows = list(configurations.run(seeds=2))
    task = "VGG, width 1/16, 10,000 images of fashion-mini, 6 epochs"
    assert rows == [("configurations", task, 10_000, 2_000)] * 5
    columns, widths, options = zip(*trained, strict=True)
    assert columns == tuple("ABCDE")
    assert [len(layers) for layers in widths] == [8, 10, 13, 13, 16]  # Simonyan & Zisserman
    assert all(max(layers) == 512 // 16 for layers in widths)
    assert options == ({"epochs": 6, "seeds": 2},) * 5


@pytest.mark.slow
def test_a_column_is_trained(monkeypatch):
    train, test = protocol.load_images("fashion-mini", quick=True)
    assert (len(train), len(test)) == (640, 200)
    row = protocol.train_and_test(
        "configurations",
        protocol.amount(train, "fashion-mini", 2),
        "A",
        lambda: models.VGG("A", 10, 1, width=1 / 16, input_size=32, dropout=0),
        train,
        test,
        epochs=2,
        seeds=1,
    )
    assert row.task == "640 images of fashion-mini, 2 epochs"
    assert row.more["parameters"] == 113_018
    assert row.more["training_losses"][0] < 2.303  # less than guessing one class of ten
