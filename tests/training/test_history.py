"""What a history prints."""

from cnnbook import training


def test_history_prints_a_row_per_epoch(tiny, sets):
    history = training.fit(tiny(), *sets, epochs=2, progress=False)
    lines = repr(history).splitlines()
    assert len(lines) == 3
    assert "validation accuracy" in lines[0]
    assert f"{history.val_accuracy[0]:.1%}" in lines[1]
    assert history.to_dict()["step_loss"] == history.step_loss
    assert "validation" not in repr(training.fit(tiny(), sets[0], epochs=1, progress=False))
