"""Where values of the image leave torch's operations during a run, or come in past them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from cnnbook.analysis.graph.recorder import Recorder

# These make of a tensor what torch does not follow: numbers, arrays, the memory itself.
_READS = {
    *(Tensor.item, Tensor.__bool__, Tensor.__int__, Tensor.__index__, Tensor.__float__),
    *(Tensor.__complex__, Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__),
    *(Tensor.untyped_storage, Tensor.storage, Tensor.data_ptr),
}
# Of a list of tensors, these read the numbers without any operation.
_FROM_LISTS = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}
# What they return is a text.
_PRINTS = {Tensor.__repr__, Tensor.__format__}
# The descriptor's attribute is a new object at every access.
_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]

# Operations whose results have a shape that depends on the values of some of their arguments.
_SHAPE_OF = {"index": ("indices",), "masked_select": ("mask",)}
_LONG_AS_VALUES = {"torchvision::nms"}
_MASKS = (torch.bool, torch.uint8)
_NUMBERS = {"number", "float", "int", "bool", "SymInt", "List[float]", "List[int]", "List[bool]"}


class Leaks(TorchFunctionMode):
    """Tells a recorder of what its operations do not show."""

    def __init__(self, recorder: "Recorder"):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function; tell what it reads, and what its result depends on."""
        kwargs = kwargs or {}
        recorder = self.recorder
        if recorder.inside:  # an operation is followed as a whole, whatever it does
            return function(*args, **kwargs)
        if function in _PRINTS:
            before = recorder.lost
            result = function(*args, **kwargs)
            recorder.lost = before
            return result
        if function in _READS:
            recorder.lose(args[:1], f"are read past torch's operations, by {function.__name__!r}")
        result = function(*args, **kwargs)
        if function == _SET_DATA:
            recorder.equate(args[0], args[1])
        elif function is Tensor.__deepcopy__:
            recorder.equate(result, args[0])
        elif function in _FROM_LISTS and id(result) not in recorder.known:
            read = tree_leaves((args, kwargs))
            recorder.lose(read, f"are read one by one, by {function.__name__!r}")
        return result


def values_that_leave(
    operation: torch._ops.OpOverload, name: str, arguments: Any
) -> tuple[list[Any], str]:
    """Return the tensors whose values an operation lets out of torch, and in which form.

    That is as numbers, or as the length of what it returns.
    """
    tags = operation.tags
    # Of torch's own operations that return numbers, most return sizes and choices of kernels.
    numbers = any(str(each.type) in _NUMBERS for each in operation._schema.returns)
    if torch.Tag.data_dependent_output in tags or (numbers and "::" in name):
        return tree_leaves(list(arguments.values())), f"are read as numbers, by {name!r}"
    if torch.Tag.dynamic_output_shape in tags or name in _LONG_AS_VALUES:
        read = tree_leaves([arguments[each] for each in _SHAPE_OF.get(name, arguments)])
        if name == "index":
            read = [x for x in read if isinstance(x, Tensor) and x.dtype in _MASKS]
        return read, f"decide how much {name!r} returns"
    return [], ""
