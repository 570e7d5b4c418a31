"""The layers of a network as a table."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypedDict, cast

from torch import nn

from cnnbook._draw import draw
from cnnbook._networks import unwrapped
from cnnbook.analysis._hooks import check_model
from cnnbook.analysis.graph import Call, InputLike, Reach, Untraceable, trace
from cnnbook.analysis.receptive import field_of, times
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure


class _Row(TypedDict):
    layer: str
    kind: str
    output: str
    parameters: int
    macs: int | None
    receptive_field: int | Fraction | str | None
    jump: int | Fraction | str | None
    activation_kib: float


class Summary(Table):
    """The layers of a network as a table, with totals; made by :func:`summary`.

    Parameters
    ----------
    rows
        One mapping per layer, with the keys that :func:`summary` lists.
    trainable_parameters
        How many of the parameters are trained.
    activation_kib
        Memory, in KiB, of all tensors that the network creates, also outside the layers listed;
        the sum of the rows if not given.
    notes
        Lines of text below the totals.

    Examples
    --------
    >>> from cnnbook import analysis, models
    >>> net = models.lenet5()
    >>> _ = net.c1.requires_grad_(False)
    >>> table = analysis.summary(net, (1, 32, 32))
    >>> table.total_parameters, table.trainable_parameters, table.total_macs
    (61706, 61550, 416520)
    >>> table.plot()  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Two bar charts of 5 layers: most parameters are in c5, 78% and most MACs
    are in c3, 58%.>
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, object]],
        *,
        trainable_parameters: int,
        activation_kib: float | None = None,
        notes: Sequence[str] = (),
    ):
        super().__init__(rows, formats={"activation_kib": ",.1f"})
        self.trainable_parameters = trainable_parameters
        listed = sum(cast("float", row["activation_kib"]) for row in self.rows)
        self.total_activation_kib = listed if activation_kib is None else activation_kib
        outside = self.total_activation_kib - listed
        between = f", {outside:,.1f} of them outside the layers listed" if outside > 0.05 else ""
        macs = "?" if self.total_macs is None else f"{self.total_macs:,}"
        self.notes = [
            f"total parameters: {self.total_parameters:,} (trainable: {trainable_parameters:,}, "
            f"non-trainable: {self.non_trainable_parameters:,})",
            f"total MACs: {macs}",
            f"activations: {self.total_activation_kib:,.1f} KiB{between}",
            *notes,
        ]

    @property
    def total_parameters(self) -> int:
        """Parameters of the network, as in ``model.parameters()``: each once, used or not."""
        return sum(cast("int", row["parameters"]) for row in self.rows)

    @property
    def non_trainable_parameters(self) -> int:
        """Parameters that are frozen."""
        return self.total_parameters - self.trainable_parameters

    @property
    def total_macs(self) -> int | None:
        """Multiply–adds (MACs) of all layers; None if those of any layer cannot be counted."""
        macs = [cast("int | None", row["macs"]) for row in self.rows]
        return None if None in macs else sum(each for each in macs if each is not None)

    def _cell(self, column: str, value: object) -> str:
        return "?" if column == "macs" and value is None else super()._cell(column, value)

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


def summary(model: nn.Module, input_shape: InputLike, *, depth: int = 1) -> Summary:
    """Run a network once and list its layers.

    Parameters
    ----------
    model
        Any network; left unchanged. Its parameters may be on the meta device.
    input_shape
        Shape of one image, ``(C, H, W)``, or what else :func:`trace` takes.
    depth
        How far to descend: 1 lists the layers that `model` itself calls, 2 those that they call,
        and so on; torchvision's MobileNet and EfficientNet, for example, show their blocks with
        2. Layers are listed in the order in which they run; one that runs more than once
        has one row, with the output of its last run.

    Returns
    -------
    Summary
        A table with one row per layer, for one image in evaluation mode. The totals of the network,
        the same at any depth, are shown below it; they are its `total_parameters`,
        `trainable_parameters`, `non_trainable_parameters`, `total_macs` and `total_activation_kib`.
        The keys:

        * `layer`: its name, as in ``model.named_modules()``;
        * `kind`: its class; for a sequence, those of its members, or their number if that would be
          long;
        * `output`: shape without N;
        * `parameters`: trainable or not; one that several layers share counts only in the first;
        * `macs`: multiply–adds, half the floating-point operations that torch's own counter reports
          for convolutions and matrix products. Additions of biases, activations and pooling are not
          counted; weights that are always zero are, as in C3 of the 1998 LeNet-5. A product of
          complex numbers counts as three, and ``torch.cdist`` with p = 2 as the product of matrices
          by which torch computes many distances. None, displayed as "?", if they cannot be counted,
          as those of quantized layers;
        * `receptive_field`: side of the box of pixels that a unit can depend on, or height ×
          width; see :func:`receptive_field`. None if it cannot be followed;
        * `jump`: pixels between the boxes of neighboring units, such as ``"1/2"`` after
          upsampling. None if all units see the same, or lie at uneven distances;
        * `activation_kib`: memory, in KiB, of all tensors that the layer creates, most of which
          training keeps for the gradient. Views and in-place operations take none. Tensors created
          between the layers listed, as where branches are joined, count in the total only.

        If a layer is expanded but has parameters or multiply–adds outside the layers it calls,
        these get a separate row, marked with a star. So do layers that are not called, marked
        ``(not called)``: auxiliary classifiers, which run only in training, and those whose
        parameters others use. The column `parameters` therefore always adds up to those of the
        network. Quantized weights are no parameters; a line below the table says if there are any.

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
    check_model(model)
    found = trace(unwrapped(model), input_shape)
    chosen = found.layers(depth)
    # Those of lazy networks have weights in the run only.
    network = found.calls[0].module
    modules = dict(network.named_modules())
    counted: set[int] = set()
    rows: dict[str, _Row] = {}
    for number in chosen:
        call = found.calls[number]
        module = modules[call.name]
        size, jump = _field(call, found.input_shape[1:])
        row: _Row = {
            "layer": call.name or type(network).__name__,
            "kind": _kind(module),
            "output": times(call.shape),
            "parameters": _new_parameters(module, counted),
            "macs": None if any(map(_is_quantized, module.modules())) else call.macs,
            "receptive_field": size,
            "jump": jump,
            "activation_kib": call.memory / 1024,
        }
        _enter(rows, row)

    # The remainder of the layers around the chosen ones.
    around = dict.fromkeys(outer for number in chosen for outer in found.calls[number].calls[:-1])
    for number in around:
        call = found.calls[number]
        module = modules[call.name]
        inside = [c for c in found.calls if c.calls[:-1] == call.calls]
        own = _difference(call.macs, [c.macs for c in inside])
        parameters = _new_parameters(module, counted, recurse=False)
        if parameters or own != 0:
            row = {
                "layer": f"{call.name or type(network).__name__}*",
                "kind": f"{type(module).__name__} itself",
                "output": times(call.shape),
                "parameters": parameters,
                "macs": own,
                "receptive_field": None,
                "jump": None,
                "activation_kib": (call.memory - sum(c.memory for c in inside)) / 1024,
            }
            _enter(rows, row)
    for row in _not_called(modules, {call.name for call in found.calls}, counted):
        _enter(rows, row)

    quantized = sum(map(_is_quantized, modules.values()))
    layers = "1 layer has" if quantized == 1 else f"{quantized} layers have"
    return Summary(
        list(rows.values()),
        trainable_parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        activation_kib=found.calls[0].memory / 1024,
        notes=[f"{layers} quantized weights, which are not counted"] if quantized else [],
    )


def _difference(whole: int | None, parts: list[int | None]) -> int | None:
    """Return what is left of the MACs of a layer without those of the layers that it calls."""
    if whole is not None and None not in parts:
        return whole - sum(part for part in parts if part is not None)
    return 0 if None in parts else None  # theirs are unknown, and have a row


def _not_called(
    modules: Mapping[str, nn.Module], called: set[str], counted: set[int]
) -> Iterator[_Row]:
    """Yield a row for each module whose parameters no row counts: the outermost one not called."""
    busy = {""} | {name[:end] for name in called for end in _ends(name)}
    for name, module in modules.items():
        # A module that is called, or holds one that is, has only its own parameters here: the
        # others that it holds get rows themselves.
        parameters = _new_parameters(module, counted, recurse=name not in busy)
        if parameters:
            yield {
                "layer": f"{name} ({'called by others' if name in called else 'not called'})",
                "kind": _kind(module),
                "output": "",
                "parameters": parameters,
                "macs": 0,
                "receptive_field": None,
                "jump": None,
                "activation_kib": 0.0,
            }


def _ends(name: str) -> list[int]:
    """Return where the names of the layers around a layer end, and its own."""
    return [place for place, letter in enumerate(name) if letter == "."] + [len(name)]


def _is_quantized(module: nn.Module) -> bool:
    """Whether a layer holds weights in torch's quantized form, which are no parameters."""
    holders = ("_packed_params", "_all_weight_values")
    own = any(hasattr(module, holder) for holder in holders)
    # What holds them for a layer, of torch's own classes, is a module as well.
    return own and not type(module).__name__.endswith("PackedParams")


def _enter(rows: dict[str, _Row], row: _Row) -> None:
    """Add a layer's row; if the layer has run before, its earlier cost is added."""
    earlier = rows.get(row["layer"])
    if earlier is not None:
        row["parameters"] += earlier["parameters"]
        if row["macs"] is not None:
            row["macs"] = None if earlier["macs"] is None else row["macs"] + earlier["macs"]
        row["activation_kib"] += earlier["activation_kib"]
    rows[row["layer"]] = row


def _new_parameters(module: nn.Module, counted: set[int], *, recurse: bool = True) -> int:
    """Count the parameters that have not been counted yet, and remember them."""
    new = [p for p in module.parameters(recurse) if id(p) not in counted]
    counted.update(map(id, new))
    return sum(p.numel() for p in new)


def _field(
    call: Call, image: Sequence[int]
) -> tuple[int | Fraction | str | None, int | Fraction | str | None]:
    """Return the size and jump of the receptive field, one number each if it is square."""
    try:
        if not isinstance(call.reach, Reach) or not image:
            return None, None
        field = field_of(call.name, call.reach, image)
    except Untraceable:
        return None, None
    size, jump = _one(field.size), _one(field.jump)
    return size, jump or None


def _one(sides: Sequence[int | Fraction | None]) -> int | str | None:
    """Return one number for a square, otherwise all of them: 3×5."""
    if len(set(sides)) > 1:
        return times(sides)
    side = sides[0]
    return str(side) if isinstance(side, Fraction) else side


_LONGEST_KIND = 44  # characters


def _kind(module: nn.Module) -> str:
    """Return a module's class; of a sequence, those of its members if that is short."""
    if isinstance(module, nn.Sequential) and len(module):
        whole = " + ".join(_repeats([_kind(member) for member in module]))
        if len(whole) <= _LONGEST_KIND:
            return whole
        return f"{type(module).__name__} of {len(module)}"
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
