"""The layers of a network as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from torch import nn

from cnnbook._draw import draw
from cnnbook.analysis.graph import Call, Reach, Untraceable, trace
from cnnbook.analysis.receptive import field_of, times
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure


class _Row(TypedDict):
    layer: str
    kind: str
    output: str
    parameters: int
    macs: int
    receptive_field: int | str | None
    jump: int | str | None
    activation_kib: float


class Summary(Table):
    """The layers of a network as a table, with totals; made by :func:`summary`.

    Layers used only in training, like auxiliary classifiers, are not included.

    Examples
    --------
    >>> from cnnbook import analysis, models
    >>> table = analysis.summary(models.lenet5(), (1, 32, 32))
    >>> table.total_parameters, table.total_macs
    (61706, 416520)
    >>> table.plot()  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Two bar charts of 5 layers: most parameters are in c5, 78% and most MACs
    are in c3, 58%.>
    """

    @property
    def total_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(cast("int", row["parameters"]) for row in self.rows)

    @property
    def total_macs(self) -> int:
        """Multiply–adds (MACs) of all layers, for one image."""
        return sum(cast("int", row["macs"]) for row in self.rows)

    def plot(self, *, alt: str | None = None) -> "Figure":
        """Draw parameters and multiply–adds of every layer side by side.

        Parameters
        ----------
        alt
            Text alternative; names the largest if not given.

        Returns
        -------
        cnnbook.plots.Figure
            See :func:`cnnbook.plots.layer_costs`, which draws any table with these columns.
        """
        return draw("layer_costs", self, alt=alt)


def summary(model: nn.Module, input_shape: Sequence[int], *, depth: int = 1) -> Summary:
    """Run a network once and list its layers.

    Parameters
    ----------
    model
        Any network; left unchanged. Its parameters may be on the meta device.
    input_shape
        Shape of one image, ``(C, H, W)``, without the batch dimension.
    depth
        How far to descend: 1 lists the layers that `model` itself calls, 2 those that they call,
        and so on; torchvision's MobileNet and EfficientNet, for example, show their blocks with
        2. Layers are listed in the order in which they run; one that runs more than once
        has one row, with the output of its last run; one that does not run, like an auxiliary
        classifier, has none, and its parameters are not counted.

    Returns
    -------
    Summary
        A table with one row per layer, for one image in evaluation mode; the sums are its
        `total_parameters` and `total_macs`. The keys:

        * `layer`: its name, as in ``model.named_modules()``;
        * `kind`: its class; for a sequence, those of its members;
        * `output`: shape without N;
        * `parameters`: trainable or not; one that several layers share counts only in the first;
        * `macs`: multiply–adds, half the floating-point operations that torch's own counter reports
          for convolutions and matrix products. Additions of biases, activations and pooling are not
          counted; weights that are always zero are, as in C3 of the 1998 LeNet-5;
        * `receptive_field`: side of the box of pixels that a unit can depend on, or height ×
          width; see :func:`receptive_field`. None if it cannot be followed;
        * `jump`: pixels between the boxes of neighboring units. None if all units see the same;
        * `activation_kib`: memory, in KiB, of all tensors that the layer creates, most of which
          training keeps for the gradient. Views and in-place operations take none.

        If a layer is expanded but has parameters or multiply–adds outside the layers it calls,
        these get a separate row, marked with a star.

    Raises
    ------
    ValueError
        If `depth` is not positive, or `input_shape` is not the shape of an image.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> table = summary(lenet5(), (1, 32, 32))
    >>> table[2]["layer"], table[2]["output"], table[2]["receptive_field"]
    ('c3', '16×10×10', 14)
    >>> table.total_macs
    416520
    """
    found = trace(model, input_shape)
    chosen = found.layers(depth)
    counted: set[int] = set()
    rows: dict[str, _Row] = {}
    for number in chosen:
        call = found.calls[number]
        size, jump = _field(call, found.input_shape[1:])
        row: _Row = {
            "layer": call.name or type(model).__name__,
            "kind": _kind(call.module),
            "output": times(call.shape),
            "parameters": _new_parameters(call.module, counted),
            "macs": call.macs,
            "receptive_field": size,
            "jump": jump,
            "activation_kib": call.memory / 1024,
        }
        _enter(rows, row)

    # The remainder of the layers around the chosen ones.
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
                "output": times(call.shape),
                "parameters": parameters,
                "macs": own,
                "receptive_field": None,
                "jump": None,
                "activation_kib": (call.memory - sum(c.memory for c in inside)) / 1024,
            }
            _enter(rows, row)
    return Summary(list(rows.values()), formats={"activation_kib": ",.1f"})


def _enter(rows: dict[str, _Row], row: _Row) -> None:
    """Add a layer's row; if the layer has run before, its earlier cost is added."""
    earlier = rows.get(row["layer"])
    if earlier is not None:
        row["parameters"] += earlier["parameters"]
        row["macs"] += earlier["macs"]
        row["activation_kib"] += earlier["activation_kib"]
    rows[row["layer"]] = row


def _new_parameters(module: nn.Module, counted: set[int], *, recurse: bool = True) -> int:
    """Count the parameters that have not been counted yet, and remember them."""
    new = [p for p in module.parameters(recurse) if id(p) not in counted]
    counted.update(map(id, new))
    return sum(p.numel() for p in new)


def _field(call: Call, image: Sequence[int]) -> tuple[int | str | None, int | str | None]:
    """Return the size and jump of the receptive field, one number each if it is square."""
    try:
        if not isinstance(call.reach, Reach) or not image:
            return None, None
        field = field_of(call.name, call.reach, image)
    except Untraceable:
        return None, None
    size, jump = (
        sides[0] if len(set(sides)) == 1 else times(sides) for sides in (field.size, field.jump)
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
        best, repeated = 1, 1
        for period in range(1, len(kinds) // 2 + 1):
            count = 1
            while kinds[count * period : (count + 1) * period] == kinds[:period]:
                count += 1
            if (count - 1) * period > (repeated - 1) * best:
                best, repeated = period, count
        unit = " + ".join(kinds[:best])
        if repeated > 1:
            unit = f"{repeated}×({unit})" if " + " in unit else f"{repeated}×{unit}"
        out.append(unit)
        kinds = kinds[repeated * best :]
    return out
