"""One training step as a function, launched operation by operation or as one CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook.training.device import autocast


class CaptureError(RuntimeError):
    """A step does something that a CUDA graph cannot hold."""


def training_step(
    network: Callable[[Tensor], Any],
    loss: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    precision: torch.dtype,
) -> Callable[[], None]:
    """Return a function that trains on one batch once: forward, loss, backward, update.

    Nothing else: no schedule, no loss scaling, nothing recorded, always the same images.
    """

    def step() -> None:
        with autocast(x.device, precision):
            value = loss(network(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def capture(step: Callable[[], None]) -> Callable[[], None]:
    """Record a step as a CUDA graph, and return what launches it.

    A launch costs the processor one call instead of hundreds, so that the GPU never waits: the rate
    of launches is the ceiling of any training loop with this step.

    Raises
    ------
    CaptureError
        If the step waits for the GPU, for example, or copies from memory that is not pinned.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # the momentum's buffers are made, the fastest kernels chosen
            step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error.__context__ or error).partition("\n")[0]
        raise CaptureError(f"no CUDA graph of this step: {reason}") from error
    return graph.replay


def sgd(net: nn.Module, lr: float) -> torch.optim.SGD:
    """Return the optimizer of ``fit``; on a GPU, as there: fused, its rate in the GPU's memory."""
    device = next(net.parameters()).device
    fused = device.type == "cuda"
    rate = torch.tensor(lr, device=device) if fused else lr
    return torch.optim.SGD(
        net.parameters(), lr=rate, momentum=0.9, nesterov=True, fused=fused or None
    )


def repeated(step: Callable[[], None], times: int) -> Callable[[], None]:
    """Return a function that calls another a number of times."""

    def run() -> None:
        for _ in range(times):
            step()

    return run


def random_batch(
    batch_size: int,
    shape: tuple[int, ...],
    classes: int,
    device: torch.device,
    layout: torch.memory_format,
) -> tuple[Tensor, Tensor]:
    """Return a batch of noise, and labels that count up."""
    x = torch.randn(batch_size, *shape, device=device).contiguous(memory_format=layout)
    return x, torch.arange(batch_size, device=device) % classes


def prepared(net: nn.Module, device: torch.device, layout: torch.memory_format) -> nn.Module:
    """Return a network ready to be trained on a device."""
    return net.to(device, memory_format=layout).train()
