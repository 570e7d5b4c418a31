"""What a device is good at: number format, memory layout, memory limits."""

import ctypes
import os
import platform
import random
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._errors import unknown
from cnnbook._networks import Selector, input_type, scores_of
from cnnbook.training import processes
from cnnbook.training._checks import explain_images

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format for activations in training.

    Parameters
    ----------
    precision
        ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``: bfloat16 on GPUs that support it
        in hardware, float16 on older ones, float32 on everything else.
    device
        Where training runs.

    Raises
    ------
    ValueError
        For any other name.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bfloat16 else torch.float16
    if precision not in PRECISIONS:
        raise unknown("precision", precision, ["auto", *PRECISIONS])
    return PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context in which forward passes compute in `dtype`."""
    if dtype == torch.float32:
        return nullcontext()
    # Without its cache: what a CUDA graph has recorded must convert the weights each time, also if
    # the caller is in a context of the same kind, which would keep them.
    return torch.autocast(device.type, dtype, cache_enabled=False)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that a training step on `device` draws from.

    Networks and losses may draw from Python's and NumPy's, too: mixup by ``np.random.beta``, for
    example, or layers left out by ``random.random()``.

    :func:`torch.manual_seed` would seed those of every type of device in every step, even if the
    network needs none of them: a few percent of a small network's time on a CPU.
    """
    if device.type == "cuda":
        torch.default_generator.manual_seed(seed)  # of losses that draw on the CPU
        # Only this one. A CUDA graph reads its seed whenever it is replayed.
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
    random.seed(seed % 2**64)  # a negative one would be that of its absolute value
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that others use)


def keep_freed_memory(device: torch.device) -> None:
    """Let the C library keep the memory that a training step frees, for the next step to reuse.

    By default, glibc returns large blocks to the system, which then clears every page again in
    every step: up to a third of a small network's time on a CPU. The setting applies to the whole
    process. It is left alone if the user has set ``MALLOC_…`` variables, and on other systems.

    Parameters
    ----------
    device
        Where training runs; only the CPU is affected.
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if device.type != "cpu" or chosen or platform.libc_ver()[0] != "glibc":
        return
    set_option = ctypes.CDLL(None).mallopt
    # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (of which this is the largest allowed)
    for option, value in ((-1, 512 << 20), (-2, 64 << 20), (-3, 32 << 20)):
        set_option(option, value)


def suits_channels_last(model: nn.Module, device: torch.device) -> bool:
    """Return whether a network trains faster, and safely, with channels innermost in memory.

    Parameters
    ----------
    model
        The network.
    device
        Where training runs.

    Returns
    -------
    bool
        False if the network has no convolution in two dimensions, or on other devices than CUDA and
        the CPU. True on CUDA; on the CPU unless the network has a 1×1 convolution with a stride
        whose input channels are not a multiple of 8.
    """
    if not any(p.ndim == 4 for p in model.parameters()):
        return False  # what it is given may have other dimensions than images have
    if device.type != "cpu":
        return device.type == "cuda"
    # On processors with AVX2 but without AVX-512, oneDNN as shipped with torch 2.12 writes past the
    # end of a buffer in the backward pass of such a layer: wrong gradients, a crash, or threads
    # that wait forever. Narrow ResNets with projection shortcuts have such layers.
    return not any(
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and set(layer.stride) != {1}
        and layer.in_channels // layer.groups % 8
        for layer in model.modules()
    )


def memory_format(model: nn.Module) -> torch.memory_format:
    """Return the memory layout of the network's kernels, which its inputs should share."""
    kernels = [p for p in model.parameters() if p.ndim == 4]
    last = all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
    return torch.channels_last if kernels and last else torch.contiguous_format


@contextmanager
def explain_errors(model: nn.Module, x: Tensor, output: Selector = None) -> Iterator[None]:
    """Turn torch's errors of a training step into ones that say what to do.

    Parameters
    ----------
    model
        Network being trained.
    x
        The batch, ``(N, C, H, W)``.
    output
        Which part of what the network returns are its scores.

    Raises
    ------
    MemoryError
        If torch is out of memory. The message names a batch size that would fit.
    ValueError
        If the images are of a type that the network does not take, or there is a single one and
        batch normalization needs more.
    RuntimeError
        If parameters go without a gradient in some steps only, with several processes.
    """
    try:
        yield
    except ValueError as error:
        if len(x) == 1 and "more than 1 value per channel" in str(error):
            raise one_image_error("a batch has a single image") from error
        raise
    except RuntimeError as error:
        if not is_out_of_memory(error):
            explain_images(model, x, error)
            if "find_unused_parameters" in str(error):
                raise RuntimeError(
                    f"{type(model).__name__}: the step before left some parameters without a "
                    "gradient in one of the processes, the first step did not. Wrap the network "
                    "yourself: torch.nn.parallel.DistributedDataParallel(model, "
                    "find_unused_parameters=True)"
                ) from error
            raise
        # The frames of its traceback keep the failed step's activations alive.
        traceback.clear_frames(error.__traceback__)
        reason = str(error).splitlines()[0]
    else:
        return
    # Trying sizes would disrupt the other processes, which wait for this one's gradients.
    alone = processes.world_size() == 1
    fits = largest_batch(model, x.shape, x.device, output) if alone else None
    advice = {None: "try a smaller batch_size or more processes", 0: "not even one image fits"}
    raise MemoryError(
        f"a batch of {len(x)} images of {tuple(x.shape[1:])} does not fit into the memory of "
        f"{x.device}: {advice.get(fits, f'batch_size={fits} fits')} ({reason})"
    ) from None


def one_image_error(which: str, cure: str = "") -> ValueError:
    """Build the error for a network that cannot be trained on one image at a time."""
    cure = cure or "choose another batch_size, or drop_last=True in a DataLoader"
    return ValueError(
        f"{which}, and this network cannot be trained on one: batch normalization needs at least "
        f"two values for each channel; {cure}"
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch ran out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def largest_batch(
    model: nn.Module, shape: torch.Size, device: torch.device, output: Selector = None
) -> int:
    """Halve a batch size that is too large until a step fits into memory, and return it.

    Parameters
    ----------
    model
        Network in training mode, on `device`.
    shape
        ``(N, C, H, W)`` of the batch that was too large.
    device
        Where it runs.
    output
        Which part of what the network returns are its scores.

    Returns
    -------
    int
        N/2, N/4, …; 0 if not even one image fits.
    """
    n = shape[0] // 2
    while n:
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            images = torch.zeros(n, *shape[1:], device=device, dtype=input_type(model))
            scores = scores_of(model(images), output)
            F.cross_entropy(scores, scores.new_zeros(n, dtype=torch.long)).backward()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            n //= 2
        else:
            break
        finally:
            model.zero_grad(set_to_none=True)
    return n
