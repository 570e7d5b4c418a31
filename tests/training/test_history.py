"""What a history prints."""

import pytest

from cnnbook import training


def test_history_prints_a_row_per_epoch(tiny, sets):
    history = training.fit(tiny(), *sets, epochs=2, progress=False)
    lines = repr(history).splitlines()
    assert len(lines) == 3
    assert "validation accuracy" in lines[0]
    assert f"{history.val_accuracy[0]:.1%}" in lines[1]
    assert history.to_dict()["step_loss"] == history.step_loss
    assert "validation" not in repr(training.fit(tiny(), sets[0], epochs=1, progress=False))


def test_history_draws_itself():
    history = training.History(train_loss=[2.0, 1.5], val_accuracy=[0.5, 0.75])
    assert "Validation accuracy (%) by epoch. this run ends at 75" in history.plot().alt
    assert history.plot("train_loss", alt="mine").alt == "mine"
    with pytest.raises(ValueError, match="has no val_loss"):
        history.plot("val_loss")
    with pytest.raises(ValueError, match="unknown metric 'accuracy'"):
        history.plot("accuracy")
