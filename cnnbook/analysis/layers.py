"""The layers of a network as a table."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from cnnbook.analysis._reach import Reach, Untraceable
from cnnbook.analysis.receptive import _times, field_of
from cnnbook.analysis.trace import Call, trace
from cnnbook.tables import Table


def summary(model: nn.Module, input_shape: Sequence[int], *, depth: int = 1) -> Table:
    """Run a network once and list its layers.

    Parameters
    ----------
    model
        Any network; left unchanged. Its parameters may be on the meta device.
    input_shape
        Shape of one input, ``(C, H, W)``.
    depth
        How far to descend: 1 lists the layers that `model` itself calls, 2 those that they call,
        and so on. Layers are listed in the order in which they run; one that runs more than once
        has one row, with the output of its last run.

    Returns
    -------
    Table
        One row per layer, for one image in evaluation mode:

        * layer: its name, as in ``model.named_modules()``;
        * kind: its class; for a sequence, those of its members;
        * output: shape without N;
        * parameters: trainable or not; one that several layers share counts in the first;
        * multiply–adds: half the floating-point operations that torch's own counter reports for
          convolutions and matrix products. Additions of biases, activations and pooling are not
          counted; weights that are always zero are, as in C3 of the LeNet-5 of 1998;
        * receptive field: side of the box of pixels that a unit can depend on, or height × width;
          see :func:`receptive_field`. Empty if it cannot be followed;
        * jump: pixels between the boxes of neighboring units. Empty where all see the same;
        * activations (KiB): memory of all tensors the layer makes on its way, of which training
          keeps most for the gradient. Views and work in place take none.

        A layer that is taken apart but has parameters or multiply–adds outside of the layers it
        calls gets a row of its own for those, named with a star.

    Raises
    ------
    ValueError
        If `depth` is not positive, or `input_shape` is no shape of an image.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> table = summary(lenet5(), (1, 32, 32))
    >>> table[2]["layer"], table[2]["output"], table[2]["receptive_field"]
    ('c3', '16×10×10', 14)
    >>> sum(row["macs"] for row in table.to_dicts())
    416520
    """
    found = trace(model, input_shape)
    chosen = found.layers(depth)
    counted: set[int] = set()
    rows: dict[str, dict[str, Any]] = {}
    for number in chosen:
        call = found.calls[number]
        size, jump = _field(call, found.input_shape[1:])
        row = {
            "layer": call.name or type(model).__name__,
            "kind": _kind(call.module),
            "output": _times(call.shape),
            "parameters": _new_parameters(call.module, counted),
            "macs": call.macs,
            "receptive_field": size,
            "jump": jump,
            "activation_kib": call.memory / 1024,
        }
        _enter(rows, row)

    # What is left of the layers around the chosen ones.
    around = dict.fromkeys(outer for number in chosen for outer in found.calls[number].calls[:-1])
    for number in around:
        call = found.calls[number]
        inside = [c for c in found.calls if c.calls[:-1] == call.calls]
        own = call.macs - sum(c.macs for c in inside)
        parameters = _new_parameters(call.module, counted, recurse=False)
        if parameters or own:
            row = {
                "layer": f"{call.name or type(model).__name__}*",
                "kind": f"{type(call.module).__name__} itself",
                "output": _times(call.shape),
                "parameters": parameters,
                "macs": own,
                "receptive_field": None,
                "jump": None,
                "activation_kib": (call.memory - sum(c.memory for c in inside)) / 1024,
            }
            _enter(rows, row)
    return Table(list(rows.values()), formats={"activation_kib": ",.1f"})


def _enter(rows: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    """Enter a layer's row; what the layer cost when it ran before is added to it."""
    earlier = rows.get(row["layer"], {})
    for cost in ("parameters", "macs", "activation_kib"):
        row[cost] += earlier.get(cost, 0)
    rows[row["layer"]] = row


def _new_parameters(module: nn.Module, counted: set[int], *, recurse: bool = True) -> int:
    """Count the parameters that were not counted before, and remember them."""
    new = [p for p in module.parameters(recurse) if id(p) not in counted]
    counted.update(map(id, new))
    return sum(p.numel() for p in new)


def _field(call: Call, image: Sequence[int]) -> tuple[int | str | None, int | str | None]:
    """Return size and jump of the receptive field, one number each if it is square."""
    try:
        if not isinstance(call.reach, Reach) or not image:
            return None, None
        field = field_of(call.name, call.reach, image)
    except Untraceable:
        return None, None
    size, jump = (
        sides[0] if len(set(sides)) == 1 else _times(sides) for sides in (field.size, field.jump)
    )
    return size, jump or None


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Sequential) and len(module):
        return " + ".join(_repeats([_kind(member) for member in module]))
    return type(module).__name__


def _repeats(kinds: list[str]) -> list[str]:
    """Shorten repetitions: A, B, A, B, C becomes 2×(A + B), C."""
    out = []
    while kinds:
        best, times = 1, 1
        for period in range(1, len(kinds) // 2 + 1):
            count = 1
            while kinds[count * period : (count + 1) * period] == kinds[:period]:
                count += 1
            if (count - 1) * period > (times - 1) * best:
                best, times = period, count
        unit = " + ".join(kinds[:best])
        if times > 1:
            unit = f"{times}×({unit})" if " + " in unit else f"{times}×{unit}"
        out.append(unit)
        kinds = kinds[times * best :]
    return out
