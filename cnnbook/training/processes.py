"""Several training processes, one per device, started by ``torchrun``."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cnnbook._checks import check_positive

# What gloo says when another process is gone; NCCL and torch's store have errors of their own.
_LOST = re.compile("gloo|connection (closed|reset|refused)|broken pipe|socket", re.IGNORECASE)
_NO_ANSWER = re.compile("time[ds]?.?out", re.IGNORECASE)

# Groups that were left by an error, kept until the process ends. The error keeps the network that
# torch wrapped, which keeps the group. If the network is the last to keep it, torch waits for the
# group's threads while it keeps Python locked; and a thread that is just letting go of a tensor
# waits for Python: forever. See https://github.com/pytorch/pytorch/issues/56297
_left: list[object] = []


@contextmanager
def join_processes(timeout: float = 600.0) -> Iterator[torch.device | None]:
    """Join the other processes that ``torchrun`` started; do nothing without it.

    Inside, :func:`cnnbook.training.fit` divides each batch among the processes.

    Parameters
    ----------
    timeout
        Seconds that a process waits for the others, at the start and in every step, before it
        gives up. Everything that only one of them does must take less.

    Yields
    ------
    torch.device or None
        This process's device, or None where there is only one process.

    Raises
    ------
    ValueError
        If there are GPUs on this machine, but fewer than processes, or `timeout` is not positive
        and finite.
    ConnectionError
        If another process has ended: by an error, which it prints itself, or killed.
    TimeoutError
        If another process does not answer.

    Examples
    --------
    >>> with join_processes() as device:
    ...     print(device)
    None
    """
    check_positive("timeout", timeout)
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        yield None
        return
    cuda = torch.cuda.is_available()
    if cuda:
        _check_gpus(torch.cuda.device_count())
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    with losses_explained():
        dist.init_process_group(
            "nccl" if cuda else "gloo", timeout=timedelta(seconds=float(timeout))
        )
        try:
            yield device
        except BaseException:
            _left.append(dist.group.WORLD)
            raise
        finally:
            dist.destroy_process_group()


@contextmanager
def losses_explained() -> Iterator[None]:
    """Say in a sentence that another process is gone, instead of what the network says about it.

    Raises
    ------
    ConnectionError
        If one has ended.
    TimeoutError
        If one does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError and not isinstance(error, dist.DistError):
            raise  # a CheckpointError, for example, whose file may be in a folder named gloo
        here = f"process {rank()} of {world_size()}" if dist.is_initialized() else "this process"
        of_gloo = dist.is_initialized() and _LOST.search(str(error))
        cure = "Start all of them again: from a checkpoint, if there is one, training continues"
        if of_gloo or isinstance(error, dist.DistError):
            if _NO_ANSWER.search(str(error)):
                raise TimeoutError(
                    f"{here} has waited too long for another one, which hangs or is far behind. "
                    f"{cure}; join_processes(timeout=...) sets how many seconds to wait"
                ) from error
            raise ConnectionError(
                f"{here} has lost another one, which was killed, or ended by an error that it has "
                f"printed itself. {cure}"
            ) from error
        raise


def _check_gpus(gpus: int) -> None:
    # NCCL would fail without a word about this, or hang. Other launchers may not tell how many
    # processes there are, but every one knows its number.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", int(os.environ["LOCAL_RANK"]) + 1))
    if here > gpus:
        plural = "s" * (gpus != 1)
        raise ValueError(
            f"{here} processes on {gpus} GPU{plural}: each needs one of its own. Start torchrun "
            f"with --nproc-per-node={gpus}, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Return whether this is the process that writes files and shows progress."""
    return rank() == 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce(values: Tensor) -> Tensor:
    """Return `values` summed over all processes, in every one of them."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def sum_numbers(values: list[float]) -> list[float]:
    """Return each of several numbers summed over all processes, in double precision."""
    if world_size() == 1:
        return values
    on_device = dist.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_device else "cpu"
    summed = all_reduce(torch.tensor(values, dtype=torch.float64, device=device))
    return [float(value) for value in summed.tolist()]


def gather(values: list[Any]) -> list[list[Any]]:
    """Return the lists of all processes, in every one of them, with tensors on its own device.

    Lists are gathered only if every process has something to gather or none has; without several
    processes, the only list is this one's.
    """
    if world_size() == 1:
        return [values]
    if not sum_numbers([float(len(values))])[0]:
        return [values]
    file = io.BytesIO()
    torch.save(values, file)
    every: list[Any] = [None] * world_size()
    dist.all_gather_object(every, file.getvalue())
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return [torch.load(io.BytesIO(each), map_location=device, weights_only=False) for each in every]


def wrap_ddp(module: nn.Module, *, find_unused: bool = False) -> nn.Module:
    """Wrap a network so that gradients are averaged over the processes, if there are several.

    Parameters
    ----------
    module
        The network.
    find_unused
        Whether some parameters get no gradient. Looking for them takes time in every step.
    """
    if world_size() == 1 or isinstance(module, nn.parallel.DistributedDataParallel):
        return module
    device = next(module.parameters()).device
    return nn.parallel.DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=find_unused,
    )


def broadcast_buffers(module: nn.Module) -> None:
    """Give every process the running statistics of the first one."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def barrier() -> None:
    """Wait until every process has reached this point."""
    if world_size() > 1:
        dist.barrier()
