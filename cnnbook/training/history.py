"""What happened during a training run."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from cnnbook._draw import draw
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure

_LABELS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
}


@dataclass
class History:
    """What happened during training. Every list but `step_loss` has one entry per epoch.

    Parameters
    ----------
    train_loss, train_accuracy
        Means over the epoch's batches *while* the weights change.
    val_loss, val_accuracy
        On the validation images after the epoch; empty if there were none.
    seconds
        Training time since the start, excluding evaluations and the time between an interruption
        and its resumption.
    step_loss
        Loss of each batch.
    stopped
        Why training ended before its last epoch, if it did.

    Examples
    --------
    >>> history = History(val_accuracy=[0.62, 0.81, 0.84], seconds=[1.5, 3.0, 4.5])
    >>> history.time_to(0.8)
    3.0
    >>> print(history.time_to(0.9))
    None
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    stopped: str = ""

    def to_dict(self) -> dict[str, list[float] | str]:
        """Return everything by name."""
        return asdict(self)

    def time_to(self, accuracy: float) -> float | None:
        """Return the seconds of training after which the validation accuracy first reached a value.

        Parameters
        ----------
        accuracy
            Fraction, 0 to 1.

        Returns
        -------
        float or None
            Until the end of that epoch; None if the accuracy was never reached.
        """
        epochs = zip(self.seconds, self.val_accuracy, strict=False)
        return next((seconds for seconds, reached in epochs if reached >= accuracy), None)

    def table(self) -> Table:
        """Return one row per epoch."""
        columns = {
            k: v for k, v in self.to_dict().items() if k not in ("step_loss", "stopped") and v
        }
        rows = [
            {"epoch": epoch, **{name: values[epoch - 1] for name, values in columns.items()}}
            for epoch in range(1, 1 + len(self.train_loss))
        ]
        formats = {name: ".1%" if name.endswith("accuracy") else ".3f" for name in _LABELS}
        return Table(rows, formats=formats | {"seconds": ".1f"}, labels=_LABELS)

    def plot(self, metric: str = "val_accuracy", *, alt: str | None = None) -> "Figure":
        """Draw a metric against epochs; :func:`cnnbook.plots.curves` compares several runs.

        Parameters
        ----------
        metric
            ``"val_accuracy"``, ``"train_accuracy"``, ``"val_loss"`` or ``"train_loss"``.
        alt
            Text alternative; made from the final value if not given.

        Returns
        -------
        cnnbook.plots.Figure

        Raises
        ------
        ValueError
            If the metric is unknown, or the history has no values of it.

        Examples
        --------
        >>> History(val_accuracy=[0.62, 0.81, 0.84]).plot()
        <Figure: Validation accuracy (%) by epoch. this run ends at 84.>
        """
        return draw("curves", {"this run": [self]}, metric, alt=alt)

    def __repr__(self) -> str:
        """Return the table of epochs as text."""
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
