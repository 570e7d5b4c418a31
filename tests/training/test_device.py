"""Memory: layouts that damage it, batches that do not fit into it."""

import pytest
import torch
from torch import nn

from cnnbook import training
from cnnbook.training.device import suits_channels_last


def test_out_of_memory_names_a_batch_that_fits(fit, small):
    class Hungry(nn.Sequential):
        def forward(self, x):
            if len(x) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    net = Hungry(nn.Flatten(), nn.Linear(1024, 10))
    with pytest.raises(MemoryError, match=r"batch of 64 .* batch_size=16 fits"):
        fit((net, *small[1:]), epochs=1)


@pytest.mark.slow
def test_narrow_strided_1x1_convolutions_are_trained_in_the_safe_layout(sets):
    # With channels innermost in memory, oneDNN on AVX2 damages memory in the second layer.
    def losses(**options):
        torch.manual_seed(0)
        layers = (nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 8, 1, stride=2), nn.Flatten())
        model = nn.Sequential(*layers, nn.Linear(8 * 64, 10))
        options |= {"epochs": 2, "batch_size": 4, "lr": 1e-3, "device": "cpu", "progress": False}
        return training.fit(model, sets[0], **options).step_loss

    assert losses() == losses(channels_last=False)


@pytest.mark.parametrize(
    ("layer", "safe"),
    [
        (nn.Conv2d(4, 8, 1, stride=2), False),
        (nn.Conv2d(8, 12, 1, stride=2), True),
        (nn.Conv2d(4, 8, 1), True),
        (nn.Conv2d(4, 8, 3, stride=2), True),
        (nn.Conv2d(16, 8, 1, stride=2, groups=4), False),
    ],
)
def test_layouts_that_damage_memory_are_avoided(layer, safe):
    model = nn.Sequential(nn.ReLU(), layer)
    assert suits_channels_last(model, torch.device("cpu")) is safe
    assert suits_channels_last(model, torch.device("cuda"))
    assert not suits_channels_last(model, torch.device("mps"))
