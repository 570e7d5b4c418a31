"""Recording a run of a network: every operation, and what its result depends on."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cnnbook._networks import device_of, evaluating, is_lazy_network, unwrapped
from cnnbook.analysis._hooks import check_model
from cnnbook.analysis._unchanged import unchanged
from cnnbook.analysis.graph.copies import meta_copy
from cnnbook.analysis.graph.inputs import InputLike, choose, does_not_run, materialized
from cnnbook.analysis.graph.leaks import Leaks, values_that_leave
from cnnbook.analysis.graph.operations import (
    NeedsValues,
    OperationCall,
    count_macs,
    is_known,
    name_of,
    propagate,
    role_of,
    tensors_in,
)
from cnnbook.analysis.graph.reach import Reach, Untraceable
from cnnbook.analysis.graph.traces import IMAGE, Call, Operation, Trace


def trace(model: nn.Module, input_shape: InputLike, *, training: bool = False) -> Trace:
    """Run a network once and record what depends on what.

    The network runs without gradients, and in evaluation mode unless `training` is set: a copy of
    it, on tensors that have shapes but no values (torch's "meta" device), so that even the largest
    networks cost nothing. A network that needs values along the way is run on zeros, or on the
    example, instead.

    Parameters
    ----------
    model
        Any network; left unchanged. Its parameters may be on the meta device. A wrapper, as of
        torch.compile or ``nn.DataParallel``, is taken off. Of a scripted network
        (``torch.jit.script``), only the whole is seen, not its layers.
    input_shape
        What the network takes:

        * the shape of one image, ``(C, H, W)``, with any number of spatial dimensions. A batch
          dimension before it, ``(N, C, H, W)``, is dropped if the network does not run on it;
        * an example tensor, ``(N, C, H, W)`` or one image. It keeps its type, as the integers of
          words do; of several images, the first is taken;
        * a tuple of shapes or tensors for a network with several inputs. "The image", for
          receptive fields, is the first that has four dimensions with N.
    training
        Whether to run it as in training. GoogLeNet runs its auxiliary classifiers only then. Batch
        normalization needs more than one value per channel in that mode, so give an example
        of several pixels.

    Returns
    -------
    Trace
        For one image.

    Raises
    ------
    ValueError
        If `input_shape` is none of these, or the network does not run on it.
    TypeError
        If `model` is not a network.

    Examples
    --------
    No numbers are computed, so even VGG-16 costs neither time nor memory:

    >>> from cnnbook.models import create
    >>> with torch.device("meta"):  # shapes without values
    ...     net = create("vgg16")
    >>> whole = trace(net, (3, 224, 224)).calls[0]
    >>> f"{whole.macs:,}", whole.shape
    ('15,470,264,320', (1000,))

    Two inputs, of which the second is an example:

    >>> class Shifted(torch.nn.Module):
    ...     def forward(self, x, offset):
    ...         return x + offset[:, None, None, None]
    >>> trace(Shifted(), ((3, 8, 8), torch.zeros(1))).calls[0].shape
    (3, 8, 8)
    """
    check_model(model)
    network = unwrapped(model)
    errors = []
    for inputs in choose(network, input_shape):
        try:
            return _run(network, inputs, training)
        except Exception as error:  # whatever a network says to an input it does not take
            errors.append(error)
    raise does_not_run(network, input_shape, errors[0]) from errors[0]


@contextlib.contextmanager
def _in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a network into training or evaluation mode, while the block runs."""
    with evaluating(model):
        if training:
            model.train()
        yield


def _run(model: nn.Module, inputs: Sequence[Tensor | tuple[int, ...]], training: bool) -> Trace:
    device = device_of(model)
    # The copy shares with the network whatever refuses to be copied. Its weights are no such thing.
    with unchanged(model, weights=False), torch.no_grad(), _plain_kernels(model):
        found = None
        if not any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
            try:
                with meta_copy(model) as copy, _in_mode(copy, training), torch.device("meta"):
                    found = _record(model, copy, materialized(model, inputs, torch.device("meta")))
            except Exception:  # whatever a network does with missing values
                if device.type == "meta":
                    raise
            if found is not None and (device.type == "meta" or not _lacks_values(found)):
                return found
        try:
            with unchanged(model), _in_mode(model, training):
                return _record(model, model, materialized(model, inputs, device))
        except Exception:
            if found is None:
                raise
            return found


def _lacks_values(found: Trace) -> bool:
    """Return whether something could not be followed only because there were no values."""
    return any(isinstance(call.reach, NeedsValues) for call in found.calls)


def _record(model: nn.Module, running: nn.Module, inputs: Sequence[Tensor]) -> Trace:
    """Run a network, or a copy of it, and record the layers of the network."""
    image = next((x for x in inputs if x.ndim == 4 and not _is_integer(x)), None)
    if image is None:
        image = next((x for x in inputs if x.ndim > 2 and not _is_integer(x)), inputs[0])
    recorder = Recorder(inputs, image)
    names = [name for name, _ in running.named_modules()]
    # Layers without weights yet get them in the copy only.
    modules = list((running if is_lazy_network(model) else model).modules())
    with (
        torch.no_grad(),  # unchanged() turns gradients on again
        _boundaries(dict(zip(names, modules, strict=True)), running, recorder),
        _EagerCircularPadding(),
        Leaks(recorder),
        recorder,
    ):
        if isinstance(running, torch.jit.ScriptModule):  # scripts do not call Python's hooks
            recorder.begin("", model)
            recorder.end(running(*inputs))
        else:
            running(*inputs)
    return Trace(tuple(image.shape[1:]), tuple(recorder.calls), tuple(recorder.operations))


def _is_integer(x: Tensor) -> bool:
    return not x.is_floating_point() and not x.is_complex()


@contextlib.contextmanager
def _plain_kernels(model: nn.Module) -> Iterator[None]:
    """Let attention and recurrent layers run as products of matrices, which can be counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with contextlib.ExitStack() as stack:
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        math = torch.nn.attention.SDPBackend.MATH
        stack.enter_context(torch.nn.attention.sdpa_kernel(math))
        if recurrent:
            # torch.backends.mkldnn.flags would also touch settings that warn on some machines.
            stack.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())
            stack.callback(torch._C._set_cudnn_enabled, torch._C._get_cudnn_enabled())
            torch._C._set_mkldnn_enabled(False)
            torch._C._set_cudnn_enabled(False)
        # What torch.compile has already compiled does not call hooks that are added later.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


class _EagerCircularPadding(TorchFunctionMode):
    """Pads circularly by joining slices; torch writes into an empty tensor instead."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.pad, torch._C._nn.pad):
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            if given.get("mode") == "circular":
                return _pad_circular(given["input"], given["pad"])
        return func(*args, **kwargs)


def _pad_circular(x: Tensor, pad: Sequence[int]) -> Tensor:
    for i, (first, last) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = x.ndim - 1 - i
        length = x.shape[dim]
        if max(first, last) > length:
            raise ValueError(f"circular padding {tuple(pad)} of {length} positions wraps twice")
        before = [x.narrow(dim, length - first, first)] if first > 0 else []
        after = [x.narrow(dim, 0, last)] if last > 0 else []
        cut = max(-first, 0)
        middle = x.narrow(dim, cut, length - cut - max(-last, 0))
        x = torch.cat([*before, middle, *after], dim) if before or after else middle
    return x


@contextlib.contextmanager
def _boundaries(
    modules: Mapping[str, nn.Module], running: nn.Module, recorder: "Recorder"
) -> Iterator[None]:
    """Tell the recorder when layers begin and end, while the block runs."""
    with contextlib.ExitStack() as stack:
        for name, module in running.named_modules():
            shown = modules[name]
            if isinstance(module, torch.jit.ScriptModule):
                continue

            def begin(
                _module: nn.Module, _inputs: object, name: str = name, shown: nn.Module = shown
            ) -> None:
                recorder.begin(name, shown)

            def end(_module: nn.Module, _inputs: object, output: object) -> None:
                recorder.end(output)

            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end).remove)
        yield


class _Known(NamedTuple):
    """A tensor that depends on the image."""

    tensor: Tensor  # kept, so that no other tensor gets its id
    maker: int  # number of the operation
    reach: Reach | Untraceable


class Recorder(TorchDispatchMode):
    """Records every operation of a run."""

    def __init__(self, inputs: Sequence[Tensor], image: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]  # torch's class has no types
        self.calls: list[Call] = []
        self.operations: list[Operation] = []
        self.stack: list[int] = []
        seen = Reach.of_image(image.shape)
        self.known = {
            id(x): _Known(x, IMAGE, Reach.of_nothing(x.shape, len(seen.tables))) for x in inputs
        }
        self.known[id(image)] = _Known(image, IMAGE, seen)
        # By memory: the last operation that changed in place what its values depend on.
        self.written: dict[int, int] = {}
        # Why all that follows may depend on more than its operations show.
        self.lost: Untraceable | None = None
        self.inside = False  # an operation

    def begin(self, name: str, module: nn.Module) -> None:
        """Record that a layer starts to run."""
        self.stack.append(len(self.calls))
        self.calls.append(Call(name, module, tuple(self.stack)))

    def end(self, output: object) -> None:
        """Record what the layer that began last returns."""
        call = self.calls[self.stack.pop()]
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if tensors:
            call.shape = tuple(tensors[0].shape[1:])
            found = self.find(tensors[0])
            if found is not None and not _sees_nothing(found.reach):
                call.reach = found.reach
                if isinstance(found.reach, Reach):
                    call.channels_last = found.reach.channels_last
            if self.lost is not None:
                call.reach = self.lost

    def find(self, tensor: Tensor) -> _Known | None:
        """Return what is known of a tensor, None if it does not depend on the image."""
        tensor = _unwrapped(tensor)
        known = self.known.get(id(tensor))
        written = self.written.get(_memory(tensor))
        if written is None or (known is not None and known.maker >= written):
            return known
        return _Known(
            tensor, written, Untraceable("a tensor was written to in place through a view")
        )

    def lose(self, read: Iterable[object], how: str) -> None:
        """Note that values leave torch: what follows can depend on them if they do on the image."""
        found = [self.find(x) for x in read if isinstance(x, Tensor)]
        if self.lost is None and any(k is not None and not _sees_nothing(k.reach) for k in found):
            self.lost = Untraceable(
                f"values that depend on the image {how}, and what follows may depend on them"
            )

    def equate(self, tensor: Tensor, source: Tensor) -> None:
        """Note that a tensor has got the values of another without an operation."""
        known = self.find(source)
        self.known.pop(id(tensor), None)
        if known is not None:
            self.known[id(tensor)] = known._replace(tensor=tensor)

    def find_reach(self, tensor: Tensor) -> Reach | None:
        """Return the reach of a tensor that depends on the image, or raise Untraceable."""
        known = self.find(tensor)
        if known is None:
            return None
        if isinstance(known.reach, Untraceable):
            raise known.reach
        return known.reach

    def __torch_dispatch__(
        self,
        operation: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and record what it reads, returns and writes to."""
        self.inside = True
        try:
            return self.run(operation, args, kwargs or {})
        finally:
            self.inside = False

    def run(
        self, operation: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run an operation, and record it."""
        arguments = {
            parameter.name: args[i]
            if i < len(args)
            else kwargs.get(parameter.name, parameter.default_value)
            for i, parameter in enumerate(operation._schema.arguments)
        }
        read = tensors_in(arguments.values())
        makers = tuple(dict.fromkeys(k.maker for k in map(self.find, read) if k is not None))
        result = operation(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        name = name_of(operation)

        macs = count_macs(operation, arguments, args, kwargs, result)
        if macs != 0:
            self.add("macs", macs)
        # Those of torch that are known return all that matters: running averages do not.
        if "::" in name or not (outputs and is_known(name)):
            outputs += _only_written(operation, arguments, outputs)
        if makers and outputs:
            reaches = self.follow(operation, arguments, outputs)
            if reaches is not None:
                self.note(name, makers, read, outputs, reaches)
        if makers:
            self.lose(*values_that_leave(operation, name, arguments))
        return result

    def add(self, what: str, amount: int | None) -> None:
        """Add to a number of every layer that is running; None makes it unknown."""
        for number in self.stack:
            call, before = self.calls[number], getattr(self.calls[number], what)
            setattr(call, what, None if amount is None or before is None else before + amount)

    def follow(
        self,
        operation: torch._ops.OpOverload,
        arguments: Mapping[str, Any],
        outputs: Sequence[Tensor],
    ) -> Sequence[Reach | Untraceable] | None:
        """Work out what the outputs of an operation depend on; None if not on the image."""
        shapes = tuple(tuple(out.shape) for out in outputs)
        call = OperationCall(name_of(operation), arguments, shapes, self.find_reach)
        try:
            return propagate(call, elementwise=torch.Tag.pointwise in operation.tags)
        except Untraceable as lost:
            return [lost] * len(outputs)
        except Exception as error:  # called in a way that its function does not support
            return [
                Untraceable(f"the operation {call.name!r} is used in an unknown way ({error!r})")
            ] * len(outputs)

    def note(
        self,
        name: str,
        makers: tuple[int, ...],
        read: Sequence[Tensor],
        outputs: Sequence[Tensor],
        reaches: Sequence[Reach | Untraceable],
    ) -> None:
        """Record an operation, and the tensors that it creates or changes."""
        number = len(self.operations)
        shape = tuple(outputs[0].shape)
        self.operations.append(Operation(name, makers, tuple(self.stack), shape, role_of(name)))
        if outputs[0].is_floating_point() and _memory(outputs[0]) not in map(_memory, read):
            self.add("memory", outputs[0].nbytes)
        for i, tensor in enumerate(outputs):
            reach = (
                reaches[i] if i < len(reaches) else Untraceable("a second result of an operation")
            )
            before = self.known.get(id(tensor))
            in_place = any(tensor is other for other in read)
            self.known[id(tensor)] = _Known(tensor, number, reach)
            if in_place and (before is None or before.reach != reach):
                self.written[_memory(tensor)] = number


def _sees_nothing(reach: Reach | Untraceable) -> bool:
    return isinstance(reach, Reach) and reach.sees_nothing


def _only_written(
    operation: torch._ops.OpOverload, arguments: Mapping[str, Any], outputs: Sequence[Tensor]
) -> list[Tensor]:
    """Return the tensors that an operation writes to without returning them."""
    changed = (
        arguments[parameter.name]
        for parameter in operation._schema.arguments
        if parameter.alias_info is not None and parameter.alias_info.is_write
    )
    return [x for x in tensors_in(changed) if not any(x is out for out in outputs)]


def _memory(tensor: Tensor) -> int:
    """Return the identity of the memory that a tensor shares with its views."""
    if tensor.layout != torch.strided:  # sparse tensors have no memory of that kind
        return -id(tensor)
    with torch._C.DisableTorchFunction():  # not one of the network's own calls
        identity: int = tensor.untyped_storage()._cdata
    return identity


def _unwrapped(tensor: Tensor) -> Tensor:
    """Return the tensor that operations see inside a transform of torch.func."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor
