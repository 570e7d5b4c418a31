"""Checkpoints: everything a run needs to continue, in one safetensors file.

Weights keep their own names, so that any safetensors reader finds them; what only training needs
(momentum, history, …) is under names that begin with ``training/`` and in the file's metadata, as
JSON. Nothing is pickled: opening a file from a stranger runs no code of theirs. The header has a
checksum of all other bytes of the file, so that no change goes unnoticed.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnnbook._checks import memory_of_this_machine
from cnnbook._files import expanded, write_whole
from cnnbook._networks import device_of
from cnnbook.training._checks import check_network, shortened

_FORMAT = "cnnbook checkpoint 3"
_TRAINING = "training/"  # longer, if a weight's name begins with it
_OWN_TENSOR = re.compile(rb'"_*training/[0-9]+"')
_SHA256 = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_NO_SHA256 = b'"sha256":"' + b"0" * 64 + b'"'  # what stands there while the checksum is computed


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, is damaged or foreign, or belongs to another run.

    Examples
    --------
    A pickle can run any code when it is read, so it is refused:

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.ones(1)}, Path(folder, "net.pt"))
    ...     try:
    ...         load_weights(nn.Linear(1, 1), Path(folder, "net.pt"))
    ...     except CheckpointError as error:
    ...         print("is a pickle" in str(error))
    True
    """


def save_checkpoint(path: str | Path, weights: Mapping[str, Tensor], state: Any) -> Path:
    """Write a checkpoint; an existing file is replaced only when the new one is complete.

    Parameters
    ----------
    path
        File to write, in the safetensors format whatever its suffix. Folders above it are created.
    weights
        What ``model.state_dict()`` returns.
    state
        Nested dicts, lists and tuples of tensors, numbers, strings, booleans and None. Tuples come
        back as lists. A tensor that is also among the weights is not written twice.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    CheckpointError
        If the file cannot be written, for example because the disk is full.
    TypeError
        If `state` holds anything else, or a tensor is of a kind that such a file does not have:
        sparse, quantized, complex128. The message says where.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> net = nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(Path(folder, "net.safetensors"), net.state_dict(), {"epoch": 4})
    ...     weights, state = load_checkpoint(path)
    >>> state, sorted(weights)
    ({'epoch': 4}, ['bias', 'weight'])
    """
    from safetensors.torch import save

    path = as_path(path)
    refuse_folder(path)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights is what model.state_dict() returns, got {type(weights).__name__}")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                "weights is what model.state_dict() returns, got dict of "
                f"{type(value).__name__} ({name!r}); other things belong into state"
            )
    check_tensors(weights)
    check_storable("state", state)
    start = _TRAINING
    while any(name.startswith(start) for name in weights):
        start = f"_{start}"
    tensors = {name: _copy(t) for name, t in weights.items()}
    plain = _to_json(state, start, tensors, {_memory(t): name for name, t in weights.items()})
    described = json.dumps({"format": _FORMAT, "tensors": start, "state": plain})
    content = save(tensors, metadata={"cnnbook": described, "sha256": "0" * 64})
    content = content.replace(_NO_SHA256, b'"sha256":"%s"' % _checksum(content), 1)
    try:
        write_whole(path, content)
    except OSError as error:
        before = " The file there before is unchanged." if path.exists() else ""
        raise CheckpointError(
            f"could not write {len(content):,} bytes to {path} ({error.strerror}).{before} Free "
            "some space or choose another name or folder."
        ) from error
    return path


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`save_checkpoint` wrote.

    Parameters
    ----------
    path
        File to read.

    Returns
    -------
    weights : dict of str to Tensor
        For ``model.load_state_dict``.
    state : object
        As it was saved.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not such a checkpoint.

    Examples
    --------
    A damaged file is refused, not read as something else:

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(Path(folder, "net.safetensors"), {"w": torch.zeros(4)}, {})
    ...     content = path.read_bytes()
    ...     _ = path.write_bytes(content[:-1] + b"1")  # one byte of a weight
    ...     try:
    ...         load_checkpoint(path)
    ...     except CheckpointError as error:
    ...         print(str(error).partition("is damaged")[2])
    : its checksum does not match its content
    """
    tensors, metadata = _read(as_path(path))
    described = _described(metadata)
    if described.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} holds tensors but no training state of this version of cnnbook; "
            "load_weights() reads weights alone, but training cannot continue from them"
        )
    weights = _weights_among(tensors, described)
    try:
        return weights, _from_json(described["state"], tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} does not hold what save_checkpoint() writes ({error!r:.80})"
        ) from None


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Load the weights of a checkpoint, or of any safetensors file, into a network.

    The file may be of a network that ``torch.compile`` or ``DataParallel`` wrapped, and so may
    `model`. Weights that several layers share may be in the file once, as
    ``safetensors.torch.save_model`` writes them, or under each name.

    Parameters
    ----------
    model
        Network of the same architecture.
    path
        File to read.

    Returns
    -------
    torch.nn.Module
        `model`.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, is a pickle, or has other layers than `model`, or other
        kinds of numbers: whole numbers for real ones, complex ones for real ones.
    TypeError
        If `model` is not a network, or `path` not the name of a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> trained, fresh = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_checkpoint(Path(folder, "net.safetensors"), trained.state_dict(), {})
    ...     _ = load_weights(fresh, path)
    >>> torch.equal(fresh.weight, trained.weight)
    True
    """
    check_network(model, "load_weights(model, path)")
    tensors, metadata = _read(as_path(path))
    weights = _weights_among(tensors, _described(metadata))
    expected = model.state_dict()
    weights = _renamed(weights, expected, metadata)
    missing, extra = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    other = [
        name
        for name in expected.keys() & weights.keys()
        if not is_lazy(expected[name]) and expected[name].shape != weights[name].shape
    ]
    kinds = [
        name
        for name in expected.keys() & weights.keys()
        if kind_of(expected[name]) != kind_of(weights[name])
    ]
    if missing or extra or other or kinds:
        parts = [
            ("it lacks", missing),
            ("it also has", extra),
            ("other shapes", set(other)),
            ("other kinds of numbers", {_two_kinds(n, weights, expected) for n in kinds}),
        ]
        what = "; ".join(
            f"{label}: {', '.join(sorted(names)[:5])}{' …' * (len(names) > 5)}"
            for label, names in parts
            if names
        )
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {what}")
    model.load_state_dict(weights)
    return model


def _renamed(
    weights: dict[str, Tensor], expected: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    """Return a file's weights under the names that a network has for them, where it has any."""
    # save_model of safetensors notes under which name it kept a tensor that has several.
    given = {name: weights[kept] for name, kept in metadata.items() if kept in weights} | weights
    own = {_unwrapped_name(name): name for name in expected}
    plain = {_unwrapped_name(name): name for name in given}
    names = {name: name for name in given}
    if len(own) == len(expected) and len(plain) == len(given):  # no two of them become one
        names = {own.get(short, name): name for short, name in plain.items()}
    found = {new: given[name] for new, name in names.items() if new in expected or name in weights}
    shared = {
        _memory(expected[name]): found[name]
        for name in expected.keys() & found.keys()
        if not is_lazy(expected[name])
    }
    for name in expected.keys() - found.keys():
        if not is_lazy(expected[name]) and _memory(expected[name]) in shared:
            found[name] = shared[_memory(expected[name])]
    return found


def _unwrapped_name(name: str) -> str:
    """Return a weight's name without what torch.compile and data-parallel wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights under the names they have without wrappers."""
    weights = model.state_dict()
    names = plain_names(model, weights)
    return {names[name]: value for name, value in weights.items()}


def set_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load what :func:`weights_of` returned."""
    names = {plain: name for name, plain in plain_names(model, model.state_dict()).items()}
    model.load_state_dict({names.get(name, name): value for name, value in weights.items()})


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return what ``state_dict()`` returns, and the buffers that it leaves out."""
    return {**model.state_dict(), **_other_buffers(model)}


def set_state(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load what :func:`state_of` returned."""
    own = _other_buffers(model)
    model.load_state_dict({name: value for name, value in state.items() if name not in own})
    _set_buffers(model, {name: value for name, value in state.items() if name in own})


def other_buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that :func:`weights_of` leaves out, under names without wrappers."""
    names = plain_names(model, _other_buffers(model))
    return {names[name]: value for name, value in _other_buffers(model).items()}


def set_other_buffers(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Load what :func:`other_buffers_of` returned."""
    plain = plain_names(model, _other_buffers(model))
    names = {new: name for name, new in plain.items()}
    _set_buffers(model, {names.get(name, name): value for name, value in buffers.items()})


def _other_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers made with ``persistent=False``, which ``state_dict()`` leaves out."""
    return {
        f"{path}." * bool(path) + key: buffer
        for path, module in model.named_modules()
        for key, buffer in module._buffers.items()
        if key in module._non_persistent_buffers_set and buffer is not None
    }


def _set_buffers(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    for name, value in buffers.items():
        path, _, key = name.rpartition(".")
        owner = model.get_submodule(path)
        if key not in owner._buffers:
            raise KeyError(f"the network has no buffer {name}")
        own = owner._buffers[key]
        if own is None or own.shape != value.shape:
            owner._buffers[key] = value.to(device_of(model), copy=True)
        else:
            with torch.no_grad():
                own.copy_(value)


def plain_names(model: nn.Module, given: Iterable[str]) -> dict[str, str]:
    """Return each name in a network's ``state_dict()`` with what it is without wrappers."""
    wrappers = {}
    for path, module in model.named_modules(remove_duplicate=False):
        start = f"{path}." if path else ""
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            wrappers[f"{start}module."] = start
        elif isinstance(getattr(module, "_orig_mod", None), nn.Module):  # torch.compile's
            wrappers[f"{start}_orig_mod."] = start
    names = {}
    for name in given:
        plain = name
        for wrapped in sorted(wrappers, key=len, reverse=True):  # from the inside out
            if plain.startswith(wrapped):
                plain = wrappers[wrapped] + plain.removeprefix(wrapped)
        names[name] = plain
    return names


def _two_kinds(name: str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    kept, own = (str(each[name].dtype).removeprefix("torch.") for each in (weights, expected))
    return f"{name} ({kept} in the file, {own} in the network)"


def kind_of(tensor: Tensor) -> str:
    """Return a kind of numbers; converting between two of them changes what numbers mean."""
    if tensor.is_complex():
        return "complex"
    return "real" if tensor.is_floating_point() else "whole"


def _described(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what a checkpoint says about itself; nothing if it is another file."""
    try:
        described = json.loads(metadata["cnnbook"])
    except (KeyError, ValueError, RecursionError):
        return {}
    return described if isinstance(described, dict) else {}


def _weights_among(tensors: Mapping[str, Tensor], described: dict[str, Any]) -> dict[str, Tensor]:
    start = str(described.get("tensors", _TRAINING))
    own = described.get("format") == _FORMAT
    return {name: t for name, t in tensors.items() if not (own and name.startswith(start))}


def as_path(path: object) -> Path:
    """Return a path, ``~`` expanded; raise if something is not the name of a file."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is the name of a file, got {type(path).__name__}")
    if "\0" in str(path):
        raise ValueError(f"path is the name of a file, got {str(path)!r}, with a zero byte")
    return expanded(path)


def refuse_folder(path: Path) -> None:
    """Raise CheckpointError if a path is a folder's, or that of no possible file."""
    try:
        folder = path.is_dir()
    except OSError as error:  # of a name that is too long, for example
        raise CheckpointError(
            f"{shortened(path)} cannot be a file ({error.strerror}); choose another name"
        ) from None
    if folder:
        raise CheckpointError(
            f"{path} is a folder; give the name of a file, for example {path / 'run.safetensors'}"
        )


def check_storable(where: str, value: Any) -> None:
    """Raise TypeError if a checkpoint cannot hold a value; `where` is its name in the message."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not _is_plain(key):
                raise TypeError(
                    f"a checkpoint cannot hold a key of {where}: {key!r} of type "
                    f"{type(key).__name__}; {_cure(key)}"
                )
            check_storable(f"{where}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_storable(f"{where}[{number}]", item)
    elif isinstance(value, Tensor):
        if why := _unstorable(value):
            raise TypeError(f"a checkpoint cannot hold {where}, {why}")
    elif not _is_plain(value):
        raise TypeError(
            f"a checkpoint cannot hold {where}: {value!r} of type {type(value).__name__}; "
            f"{_cure(value)}"
        )


def check_tensors(weights: Mapping[str, Tensor]) -> None:
    """Raise TypeError if a checkpoint cannot hold a network's weights, or their names."""
    for name, value in weights.items():
        if why := _unstorable(value):
            raise TypeError(f"a checkpoint cannot hold {name} of the network, {why}")
        # safetensors uses this one itself, and stores names as UTF-8.
        if name == "__metadata__" or name != name.encode(errors="replace").decode():
            raise TypeError(f"a checkpoint cannot hold a weight of the name {name!r}; rename it")


def _unstorable(tensor: Tensor) -> str:
    """Return why a tensor cannot be stored, and what to do; nothing if it can."""
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else "sparse"
        return f"a {kind} tensor: make it dense, or keep it as an attribute that is no buffer"
    if tensor.is_quantized:
        return "a quantized tensor: store int_repr() and its scale instead"
    if not _keeps(tensor.dtype):
        return f"a tensor of {tensor.dtype}: convert it to another type"
    return ""


@functools.cache
def _keeps(kind: torch.dtype) -> bool:
    """Return whether a safetensors file gives tensors of a type back."""
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    try:
        return load(save({"x": torch.empty(1, dtype=kind)}))["x"].dtype == kind
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return False


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _cure(value: object) -> str:
    """Say what to store instead of a value."""
    if isinstance(value, np.generic):
        return f"use {type(value.item()).__name__}(...)"
    if isinstance(value, np.ndarray):
        return "use torch.from_numpy(...)"
    if isinstance(value, os.PathLike | torch.device | torch.dtype):
        return "use str(...)"
    if isinstance(value, set | frozenset):
        return "use sorted(...)"
    return "use numbers, strings, booleans, None, tensors, and lists and dicts of them"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, in memory of their own, and its metadata.

    The file is read once, as it may be replaced at any moment; and mapped tensors would change
    with it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    refuse_folder(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is a device or a pipe, not a file; choose another name"
            if path.exists()
            else f"there is no file {path}"
        )
    try:
        content, size = _content(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror})") from None
    try:
        tensors = load(content)
    # A tensor of a type or size that torch does not have is no SafetensorError.
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if content[:2] in (b"PK", b"\x80\x02"):
            raise CheckpointError(
                f"{path} is a pickle, as torch.save writes it, and loading one can run any code "
                "in it. If you trust it, convert it: safetensors.torch.save_file(torch.load("
                "file, weights_only=True), new_file)"
            ) from None
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({error}); its size is {size:,} bytes"
        ) from None
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    metadata = json.loads(header).get("__metadata__") or {}
    if {"cnnbook", "sha256"} & metadata.keys() or _OWN_TENSOR.search(header):
        checksum = _SHA256.search(header)
        if checksum is None or checksum[1] != _checksum(content):
            raise CheckpointError(f"{path} is damaged: its checksum does not match its content")
    return tensors, metadata


def _content(path: Path) -> tuple[bytes, int]:
    """Return what is in a file, and its size; only the start of what cannot be a checkpoint.

    A file may be larger than the memory and take up no space.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if start[8:] != b"{" or length > size:
            return start, size
        memory = memory_of_this_machine()
        if memory is not None and size > memory:
            raise CheckpointError(
                f"{path} has {size / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} GB of "
                "memory"
            )
        return start + file.read(), size


def _checksum(content: bytes) -> bytes:
    """Return the SHA-256 of a file's content, with zeros where its header has the checksum."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = _SHA256.sub(_NO_SHA256, content[:end], count=1)
    digest = hashlib.sha256(header)
    digest.update(memoryview(content)[end:])
    return digest.hexdigest().encode()


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """Return a key that two tensors share only if they are the same memory, seen the same way."""
    where = tensor.device, tensor.data_ptr() if tensor.numel() else id(tensor)
    seen = tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()
    return *where, tensor.dtype, *seen


def _copy(tensor: Tensor) -> Tensor:
    """Return a tensor as safetensors takes it: its values, in memory that no other shares."""
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().clone()


def _to_json(
    value: Any, start: str, tensors: dict[str, Tensor], names: dict[tuple[object, ...], str]
) -> Any:
    """Replace tensors by names, adding them to `tensors`, and dicts by lists of their items."""
    if isinstance(value, Tensor):
        name = names.get(_memory(value))
        if name is None:
            name = f"{start}{len(tensors)}"
            tensors[name] = _copy(value)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[k, _to_json(v, start, tensors, names)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_to_json(item, start, tensors, names) for item in value]
    return value


def _from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors) for item in value]
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: _from_json(item, tensors) for key, item in value["items"]}
    return value
