"""The layers of a network as a table."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbook.analysis._hooks import device_of, evaluation, forward_hooks
from cnnbook.tables import Table


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Sequential):
        return " + ".join(map(_kind, module))
    return type(module).__name__


def layer_table(model: nn.Module, input_shape: Sequence[int], *, depth: int = 1) -> Table:
    """Run a network once and list its layers.

    Parameters
    ----------
    model
        Any network; left unchanged.
    input_shape
        Shape of one input, ``(C, H, W)``.
    depth
        How far to descend: 1 lists the direct children of `model`, 2 their children too, and so
        on. Layers are listed in the order in which they run.

    Returns
    -------
    Table
        Columns layer, kind, output (shape without N), parameters, multiply–adds. Multiply–adds
        are half the floating-point operations that torch's own counter reports for convolutions
        and matrix products; additions of biases, activations and pooling are not counted.

    Raises
    ------
    ValueError
        If `depth` is not positive.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    wanted = {
        name: module
        for name, module in model.named_modules()
        if name
        and (
            name.count(".") == depth - 1
            or (name.count(".") < depth - 1 and not list(module.children()))
        )
    }
    outputs: dict[str, tuple[int, ...]] = {}

    def keeper(name: str):
        def hook(_module, _inputs, output):
            first = output if isinstance(output, Tensor) else output[0]
            outputs[name] = tuple(first.shape[1:])

        return hook

    counter = FlopCounterMode(display=False, depth=None)
    with forward_hooks(model, wanted, keeper), evaluation(model), torch.no_grad(), counter:
        model(torch.zeros(1, *input_shape, device=device_of(model)))

    flops = counter.get_flop_counts()
    root = type(model).__name__
    return Table(
        [
            {
                "layer": name,
                "kind": _kind(wanted[name]),
                "output": "×".join(map(str, shape)),
                "parameters": sum(p.numel() for p in wanted[name].parameters()),
                "multiply–adds": sum(flops.get(f"{root}.{name}", {}).values()) // 2,
            }
            for name, shape in outputs.items()
        ]
    )
