"""What happened during a training run."""

from dataclasses import asdict, dataclass, field

from cnnbook.tables import Table


@dataclass
class History:
    """What happened during training. Every list but `step_loss` has one entry per epoch.

    Parameters
    ----------
    train_loss, train_accuracy
        Means over the epoch's batches *while* the weights change.
    test_loss, test_accuracy
        On the test set after the epoch; empty if there was none.
    seconds
        Training time since the start, without the evaluations and without the time between an
        interruption and its resumption.
    step_loss
        Loss of each batch.
    stopped
        Why training ended before its last epoch, if it did.

    Examples
    --------
    >>> history = History(test_accuracy=[0.62, 0.81, 0.84], seconds=[1.5, 3.0, 4.5])
    >>> history.time_to(0.8)
    3.0
    >>> print(history.time_to(0.9))
    None
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)
    stopped: str = ""

    def to_dict(self) -> dict[str, list[float] | str]:
        """Return everything by name."""
        return asdict(self)

    def time_to(self, accuracy: float) -> float | None:
        """Return the seconds of training after which the test accuracy first reached a value.

        Parameters
        ----------
        accuracy
            Fraction, 0 to 1.

        Returns
        -------
        float or None
            Until the end of that epoch; None if the accuracy was never reached.
        """
        epochs = zip(self.seconds, self.test_accuracy, strict=False)
        return next((seconds for seconds, reached in epochs if reached >= accuracy), None)

    def table(self) -> Table:
        """Return one row per epoch."""
        columns = {
            k: v for k, v in self.to_dict().items() if k not in ("step_loss", "stopped") and v
        }
        rows = [
            {"epoch": epoch, **{k.replace("_", " "): v[epoch - 1] for k, v in columns.items()}}
            for epoch in range(1, 1 + len(self.train_loss))
        ]
        formats = {"train accuracy": ".1%", "test accuracy": ".1%", "seconds": ".1f"}
        return Table(rows, formats={**formats, "train loss": ".3f", "test loss": ".3f"})

    def __repr__(self) -> str:
        """Return the table of epochs as text."""
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
