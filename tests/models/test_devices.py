"""No network makes tensors on the CPU by mistake: checked with stand-ins for a GPU's tensors.

Tensors of torch's FakeTensorMode have a shape, a type and a device, but no values: whatever mixes
devices is refused, and no GPU is needed.
"""

import pytest
import torch
from helpers import SMALL
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cnnbook import models


class Devices(TorchDispatchMode):
    """Notes the devices of all results."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(each, torch.Tensor):
                self.seen.add(each.device.type)
        return result


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models())
def test_every_network_stays_on_its_device(name):
    with FakeTensorMode():
        with torch.device("cuda"):
            net = models.create(name, num_classes=4, in_channels=1, **SMALL[name])
            side = 224 if name == "alexnet_2014" else 32
            x, y = torch.empty(2, 1, side, side), torch.zeros(2, dtype=torch.long)
        with Devices() as devices:
            models.model_spec(name).loss(net(x), y)
    assert devices.seen == {"cuda"}


def test_a_tensor_made_on_the_cpu_would_be_noticed():
    class Careless(torch.nn.Module):
        def forward(self, x):
            return x * torch.ones(x.shape[1])

    with FakeTensorMode():
        x = torch.empty(2, 3, device="cuda")
        with pytest.raises(RuntimeError, match="device"):
            Careless()(x)
        with Devices() as devices:
            x + torch.tensor(1.0)  # a scalar may be mixed, and makes the GPU wait
    assert devices.seen == {"cuda", "cpu"}
