"""The record of a network's run: its operations, the calls of its layers, its graph."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from cnnbook._checks import check_count
from cnnbook._draw import draw
from cnnbook.analysis.graph.operations import Role
from cnnbook.analysis.graph.reach import Reach, Untraceable

if TYPE_CHECKING:
    from cnnbook.plots import Figure

#: Stands for the network's input among the inputs of operations and blocks.
IMAGE = -1


@dataclass(frozen=True)
class Operation:
    """One operation of torch on something that depends on the image.

    Attributes
    ----------
    name
        torch's name, for example ``"convolution"`` or ``"add"``.
    inputs
        Numbers of the operations whose results it reads;
        :data:`~cnnbook.analysis.graph.IMAGE` is the network's input.
    calls
        Numbers of the layers' calls in which it runs, outermost first.
    shape
        Shape of its result, with N.
    role
        How a drawing shows it, for example ``"convolution"``, see
        :func:`~cnnbook.analysis.operation`; None if it has no role.
    """

    name: str
    inputs: tuple[int, ...]
    calls: tuple[int, ...]
    shape: tuple[int, ...]
    role: Role | None = None


@dataclass
class Call:
    """One run of a layer.

    Attributes
    ----------
    name
        Name of the layer as in ``model.named_modules()``; ``""`` is the network itself.
    module
        The layer.
    calls
        Numbers of the calls around it, outermost first, and its own.
    shape
        Shape of its output without N; of the first tensor if it returns several.
    reach
        What each element of its output depends on; None if it does not depend on the image; an
        exception that says why if it could not be followed.
    macs
        Multiply–adds of the convolutions and matrix products in it; None if it has an operation
        whose number of products is not known.
    memory
        Bytes of all floating-point tensors created in it. Views and in-place operations take none.
    channels_last
        Whether the output is ``(N, H, W, C)``; None if it is no feature map, or not known.
    """

    name: str
    module: nn.Module = field(repr=False)
    calls: tuple[int, ...]
    shape: tuple[int, ...] = ()
    reach: Reach | Untraceable | None = field(default=None, repr=False)
    macs: int | None = 0
    memory: int = 0
    channels_last: bool | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Block:
    """A node of the network's graph: a layer, or a function that joins several paths.

    Attributes
    ----------
    name
        Name of the layer; ``""`` for a function.
    kind
        Class of the layer, or torch's name of the function, for example ``"add"`` or ``"cat"``.
    shape
        Shape of the output without N.
    inputs
        Numbers of the blocks it reads; :data:`~cnnbook.analysis.graph.IMAGE` is the
        network's input.
    call
        The layer's call, None for a function.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    call: Call | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Trace:
    """What one run of a network computed.

    Attributes
    ----------
    input_shape
        Shape of the image, ``(C, H, W)``.
    calls
        All runs of layers in the order in which they began; the first is the network's own.
    operations
        All operations that depend on the image, in the order in which they ran.

    Examples
    --------
    A block of a residual network reads two others, the last convolution and the shortcut:

    >>> from cnnbook import analysis, models
    >>> found = analysis.trace(models.create("resnet20"), (3, 32, 32))
    >>> block = next(b for b in found.blocks(depth=3) if b.kind == "add")
    >>> len(block.inputs), block.shape
    (2, (16, 32, 32))
    """

    input_shape: tuple[int, ...]
    calls: tuple[Call, ...] = field(repr=False)
    operations: tuple[Operation, ...] = field(repr=False)

    def layers(self, depth: int) -> list[int]:
        """Return the numbers of the calls `depth` levels below the network.

        Layers that call no others are taken at their own level. A container that is never called
        itself, like ``nn.ModuleList``, does not count as a level.

        Raises
        ------
        ValueError
            If `depth` is not positive.
        """
        check_count("depth", depth)
        inner = {call.calls[-2] for call in self.calls if len(call.calls) > 1}
        return [
            number
            for number, call in enumerate(self.calls)
            if len(call.calls) - 1 == depth or (len(call.calls) - 1 < depth and number not in inner)
        ]

    def blocks(self, depth: int = 1) -> list[Block]:
        """Return the network's graph, with the layers at a depth as its nodes.

        Functions between the layers are nodes where they join several paths, like the addition of a
        shortcut; others, like a ReLU or ``flatten``, are skipped, and so are layers that compute
        nothing, like ``nn.Identity``.

        Parameters
        ----------
        depth
            As for :func:`~cnnbook.analysis.summary`.

        Returns
        -------
        list of Block
            In the order in which they run.

        Raises
        ------
        ValueError
            If `depth` is not positive.
        """
        chosen = set(self.layers(depth))
        # Number of the layer's call, None for a function; its first operation.
        nodes: list[tuple[int | None, Operation]] = []
        reads: list[list[int]] = []
        node_of_call: dict[int, int] = {}
        node_of = {IMAGE: IMAGE}  # by the number of the operation
        for number, operation in enumerate(self.operations):
            owner = next((call for call in operation.calls if call in chosen), None)
            sources = list(dict.fromkeys(node_of[i] for i in operation.inputs))
            if owner in node_of_call:
                node = node_of_call[owner]
            elif owner is None and len(sources) == 1:
                node_of[number] = sources[0]
                continue
            else:
                node = len(nodes)
                nodes.append((owner, operation))
                reads.append([])
                if owner is not None:
                    node_of_call[owner] = node
            node_of[number] = node
            reads[node] += [s for s in sources if s != node and s not in reads[node]]

        blocks = []
        for (owner, operation), read in zip(nodes, reads, strict=True):
            if owner is None:
                block = Block("", operation.name, operation.shape[1:], tuple(read))
            else:
                call = self.calls[owner]
                block = Block(call.name, type(call.module).__name__, call.shape, tuple(read), call)
            blocks.append(block)
        return blocks

    def roles(self, call: Call) -> set[Role | None]:
        """Return the roles of the operations that run in a call, None for those without."""
        depth = len(call.calls)
        return {o.role for o in self.operations if o.calls[:depth] == call.calls}

    def plot(self, *, depth: int = 1, alt: str | None = None) -> "Figure":
        """Draw the network, boxes to scale: see :func:`cnnbook.plots.architecture`.

        Parameters
        ----------
        depth
            As for :func:`~cnnbook.analysis.summary`.
        alt
            Text alternative; lists the blocks and what they read if not given.

        Returns
        -------
        cnnbook.plots.Figure

        Raises
        ------
        ValueError
            If `depth` is not positive, or nothing in the network depends on its input.

        Examples
        --------
        >>> from cnnbook import analysis, models
        >>> analysis.trace(models.lenet5(), (1, 32, 32)).plot()  # doctest: +NORMALIZE_WHITESPACE
        <Figure: Drawing of LeNet5, boxes to scale: input 1×32×32, c1 6×28×28, s2 6×14×14,
        c3 16×10×10, s4 16×5×5, c5 120×1×1, f6 84, output 10.>
        """
        return draw("architecture", self, depth=depth, alt=alt)
