"""A stand-in for a CUDA graph: records operations on the CPU, and replays just these."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

# On a GPU, these make Python wait: it needs a number, a size, or to copy one from its own memory.
WAITING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.lift_fresh,  # torch.tensor(a number)
    aten._unique2,
    aten.bincount,
    aten.repeat_interleave,
}


def waits(func, args) -> bool:
    """Whether a GPU would make Python wait for the result of an operation, or for a copy."""
    if func.overloadpacket in WAITING:
        return True
    if func.overloadpacket in (aten.index, aten.index_put_, aten.index_put):  # x[mask]
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    return False


class Waiting(TorchDispatchMode):
    """Lists the operations of a block that would make Python wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if waits(func, args):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def tensors(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def storage(tensor):
    return tensor.untyped_storage().data_ptr()


class OpLog:
    """Records every operation with its arguments; replaying repeats them on the same memory.

    As in a CUDA graph, a number that Python has computed stays what it was, nothing is computed
    while recording, and an operation that would wait for the GPU is an error.
    """

    def __init__(self, device):
        self.log = []

    def aside(self, work):
        return work()

    def watch(self, work, more=0):
        with Waiting() as waiting:
            result = work()
        found = waiting.found
        return result, f"Python waits for the GPU in {found[0]}" if found else ""

    def record(self, work):
        self.log = []
        state = torch.default_generator.get_state()
        mode = _Recording(self.log)
        try:
            with mode:
                return work()
        finally:
            torch.default_generator.set_state(state)
            mode.undo()

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, outputs in self.log:
            new = func(*args, **kwargs)
            for old, value in zip(tensors(outputs), tensors(new), strict=True):
                if storage(old) != storage(value):
                    old.copy_(value)


class _Recording(TorchDispatchMode):
    def __init__(self, log):
        super().__init__()
        self.log = log
        self.before = {}  # memory from before the recording, and what was in it
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if waits(func, args):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        made = {storage(t) for t in self.made}
        for tensor in tensors((args, kwargs)):
            if storage(tensor) not in made | self.before.keys():
                whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
                self.before[storage(tensor)] = whole, whole.clone()
        outputs = func(*args, **kwargs)
        self.made += [t for t in tensors(outputs) if storage(t) not in self.before]
        self.log.append((func, args, kwargs, outputs))
        return outputs

    @torch.no_grad()
    def undo(self):
        """Leave what was there as it was, and nonsense in what was made."""
        for memory, content in self.before.values():
            memory.copy_(content)
        for tensor in self.made:
            tensor.detach().fill_(float("nan") if tensor.is_floating_point() else 99)
